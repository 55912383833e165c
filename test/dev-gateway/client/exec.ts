import { constants } from 'node:os';
import type { ExecSandboxEvent, ExecSandboxInput } from '../../../proto/generated/openshell/v1/openshell.ts';
import { Fault } from '../../../supervisor/fault.ts';
import { GatewayClient } from './gateway-client.ts';
import type { Place } from './place.ts';

export interface ExecFlags extends Place {
  readonly command: readonly string[];
  readonly tty: boolean;
  readonly workdir: string;
  /** NAME=value, each. */
  readonly env: readonly string[];
  readonly timeout: number;
}

/** What a terminal takes for the end of its input, at the beginning of a line. */
const END_OF_INPUT = '\x04';
const NEWLINE = 0x0a;
/** The exit code of the signal that a terminal sends as it goes. */
const HUNG_UP = 128 + constants.signals.SIGHUP;

/** Runs a command in a sandbox with this process's streams; resolves with its exit code. */
export async function execCommand(flags: ExecFlags): Promise<number> {
  const environment = Object.fromEntries(flags.env.map(variableOf));
  const client = new GatewayClient(flags.gateway);
  const { stdin, stdout, stderr } = process;
  const raw = flags.tty && stdin.isTTY;
  const call = client.execInteractive();
  const send = (payload: ExecSandboxInput['payload']): boolean =>
    call.writableEnded || call.write({ payload } as ExecSandboxInput);
  send({
    $case: 'start',
    value: {
      sandboxId: flags.sandbox,
      command: [...flags.command],
      workdir: flags.workdir,
      environment,
      timeoutSeconds: flags.timeout,
      stdin: Buffer.alloc(0),
      tty: flags.tty,
      cols: stdout.columns ?? 0,
      rows: stdout.rows ?? 0,
    },
  });
  if (raw) stdin.setRawMode(true);
  stdout.on('resize', () => send({ $case: 'resize', value: { cols: stdout.columns, rows: stdout.rows } }));
  let last = NEWLINE;
  stdin.on('data', (chunk: Buffer) => {
    last = chunk.at(-1) ?? last;
    if (send({ $case: 'stdin', value: chunk })) return;
    stdin.pause();
    call.once('drain', () => stdin.resume());
  });
  stdin.once('end', () => {
    if (raw) return; // it has hung up, which is told by ending the call: nobody has typed an end
    if (!flags.tty) return void call.end();
    // A terminal knows no end but this one, which after half a line only hands over that half.
    const text = last === NEWLINE ? END_OF_INPUT : END_OF_INPUT.repeat(2);
    send({ $case: 'stdin', value: Buffer.from(text) });
  });
  try {
    return await new Promise<number>((resolve, reject) => {
      let code: number | undefined;
      const show = (to: NodeJS.WriteStream, data: Uint8Array): void => {
        if (to.write(data)) return;
        call.pause();
        to.once('drain', () => call.resume());
      };
      call.on('data', ({ payload }: ExecSandboxEvent) => {
        if (payload?.$case === 'stdout') show(stdout, payload.value.data);
        if (payload?.$case === 'stderr') show(stderr, payload.value.data);
        if (payload?.$case === 'exit') code = payload.value.exitCode;
      });
      call.on('error', reject);
      call.once('end', () => {
        if (code === undefined) reject(new Fault('gateway', 'the gateway told no exit status'));
        else resolve(code);
      });
      stdin.on('error', ({ message }) =>
        reject(new Fault('usage', `standard input cannot be read: ${message}`)),
      );
      if (raw) stdin.once('end', () => resolve(HUNG_UP));
    });
  } catch (error) {
    // The cursor stands where the sandbox has left it.
    if (raw) stderr.write('\r\n');
    throw error;
  } finally {
    if (raw) stdin.setRawMode(false);
    stdin.destroy();
    call.cancel(); // does nothing when it has ended
    client.close();
  }
}

function variableOf(text: string): readonly [string, string] {
  const equals = text.indexOf('=');
  if (equals <= 0) throw new Fault('usage', `--env must be NAME=value, is ${JSON.stringify(text)}`);
  return [text.slice(0, equals), text.slice(equals + 1)];
}
