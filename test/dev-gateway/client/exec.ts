import type { ExecSandboxEvent, ExecSandboxInput } from '../../../proto/generated/openshell/v1/openshell.ts';
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

/** Runs a command in a sandbox with this process's streams; resolves with its exit code. */
export async function execCommand(flags: ExecFlags): Promise<number> {
  const client = new GatewayClient(flags.gateway);
  const { stdin, stdout, stderr } = process;
  const raw = flags.tty && stdin.isTTY;
  const call = client.execInteractive();
  const send = (payload: ExecSandboxInput['payload']): boolean => call.write({ payload } as ExecSandboxInput);
  send({
    $case: 'start',
    value: {
      sandboxId: flags.sandbox,
      command: [...flags.command],
      workdir: flags.workdir,
      environment: Object.fromEntries(flags.env.map(variableOf)),
      timeoutSeconds: flags.timeout,
      stdin: Buffer.alloc(0),
      tty: flags.tty,
      cols: stdout.columns ?? 0,
      rows: stdout.rows ?? 0,
    },
  });
  if (raw) stdin.setRawMode(true);
  stdout.on('resize', () => send({ $case: 'resize', value: { cols: stdout.columns, rows: stdout.rows } }));
  stdin.on('data', (chunk: Buffer) => {
    if (send({ $case: 'stdin', value: chunk })) return;
    stdin.pause();
    call.once('drain', () => stdin.resume());
  });
  stdin.once('end', () => call.end());
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
      call.once('error', reject);
      call.once('end', () => {
        if (code !== undefined) resolve(code);
      });
    });
  } finally {
    if (raw) stdin.setRawMode(false);
    stdin.destroy();
    client.close();
  }
}

function variableOf(text: string): readonly [string, string] {
  const equals = text.indexOf('=');
  if (equals <= 0) throw new Error(`--env must be NAME=value, is ${JSON.stringify(text)}`);
  return [text.slice(0, equals), text.slice(equals + 1)];
}
