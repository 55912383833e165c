import type { Socket } from 'node:net';

/** What is kept of a report; a shim says some lines. */
const MAX_REPORT_BYTES = 64 * 1024;

/** One record of a shim's or an anchor's report (init/control.h), split into words. */
export type ReportRecord = readonly string[];

/**
 * Hands `spec` over the control socket and reads records until the other side closes it or has ended.
 * `onRecord` sees each as it comes.
 */
export async function readRecords(
  control: Socket,
  spec: Buffer,
  ended: Promise<unknown>,
  onRecord: (record: ReportRecord) => void = () => undefined,
): Promise<readonly ReportRecord[]> {
  const records: ReportRecord[] = [];
  let text = '';
  let size = 0;
  control.on('error', () => undefined); // a shim that died early; its exit says so
  control.write(spec);
  await new Promise<void>((resolve) => {
    control.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > MAX_REPORT_BYTES) return;
      text += chunk.toString('utf8');
      for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n')) {
        const record = text.slice(0, at).split(' ');
        text = text.slice(at + 1);
        records.push(record);
        onRecord(record);
      }
    });
    control.once('close', () => resolve());
    control.once('end', () => control.end());
    void ended.then(() => control.destroy());
  });
  return records;
}
