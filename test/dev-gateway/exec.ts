import type { Duplex, Readable } from 'node:stream';
import { type Metadata, type ServerDuplexStream, type ServerWritableStream, status } from '@grpc/grpc-js';
import ssh2, { type ClientChannel } from 'ssh2';
import type {
  ExecSandboxEvent,
  ExecSandboxInput,
  ExecSandboxRequest,
  RelayOpen,
} from '../../proto/generated/openshell/v1/openshell.ts';
import { commandOf } from './exec-command.ts';
import { asStatus } from './user-service.ts';

export interface ExecServiceOptions {
  readonly authorize: (metadata: Metadata) => void;
  readonly openRelay: (sandboxId: string, target: RelayOpen['target']) => Promise<Duplex>;
}

type Answer = {
  write(event: ExecSandboxEvent): boolean;
  once(event: 'drain', listener: () => void): unknown;
};

const TIMED_OUT = 124;
const GOODBYE_MS = 2_000;
const SSH: RelayOpen['target'] = { $case: 'ssh', value: {} };

/** ExecSandbox and ExecSandboxInteractive, as SSH clients of the sandbox's own server. */
export class ExecService {
  readonly #options: ExecServiceOptions;

  constructor(options: ExecServiceOptions) {
    this.#options = options;
  }

  unary(call: ServerWritableStream<ExecSandboxRequest, ExecSandboxEvent>): void {
    const fail = (error: unknown): void => void call.emit('error', asStatus(error));
    this.#unary(call).catch(fail);
  }

  interactive(call: ServerDuplexStream<ExecSandboxInput, ExecSandboxEvent>): void {
    call.on('error', () => undefined);
    call.once('data', ({ payload }: ExecSandboxInput) => {
      call.pause();
      const fail = (error: unknown): void => void call.emit('error', asStatus(error));
      if (payload?.$case !== 'start') return fail(invalid('the first message must be start'));
      this.#interactive(call, payload.value).catch(fail);
    });
  }

  async #unary(call: ServerWritableStream<ExecSandboxRequest, ExecSandboxEvent>): Promise<void> {
    const { request } = call;
    const exec = await this.#start(call.metadata, request, { cols: 0, rows: 0 });
    call.on('cancelled', () => exec.end());
    exec.channel.end(request.stdin);
    await exec.finish(call);
    call.end();
  }

  async #interactive(
    call: ServerDuplexStream<ExecSandboxInput, ExecSandboxEvent>,
    request: ExecSandboxRequest,
  ): Promise<void> {
    const window = { cols: request.cols || 80, rows: request.rows || 24 };
    const exec = await this.#start(call.metadata, request, window);
    const { channel } = exec;
    call.on('cancelled', () => exec.end());
    if (request.stdin.length > 0) channel.write(request.stdin);
    call.on('data', ({ payload }: ExecSandboxInput) => {
      if (payload?.$case === 'resize') channel.setWindow(payload.value.rows, payload.value.cols, 0, 0);
      if (payload?.$case !== 'stdin' || channel.writableEnded) return;
      if (!channel.write(payload.value)) {
        call.pause();
        channel.once('drain', () => call.resume());
      }
    });
    call.on('end', () => channel.end());
    call.resume();
    await exec.finish(call);
    call.end();
  }

  async #start(metadata: Metadata, request: ExecSandboxRequest, window: { cols: number; rows: number }) {
    this.#options.authorize(metadata);
    let command: string;
    try {
      command = commandOf(request);
    } catch (error) {
      throw invalid(error instanceof Error ? error.message : String(error));
    }
    const relay = await this.#options.openRelay(request.sandboxId, SSH);
    const client = new ssh2.Client();
    let lost = false;
    relay.once('error', () => {
      lost = true;
    });
    const end = (): void => {
      client.end();
      // The sandbox says its last then; one that does not is cut off.
      const late = setTimeout(() => relay.destroy(), GOODBYE_MS);
      relay.once('close', () => clearTimeout(late));
    };
    client.on('error', () => relay.destroy());
    try {
      const pty = request.tty ? { ...window, term: 'xterm-256color' } : false;
      const channel = await new Promise<ClientChannel>((resolve, reject) => {
        client.once('error', reject);
        client.once('close', () => reject(unavailable('the sandbox closed the connection')));
        client.once('ready', () =>
          client.exec(command, { pty }, (error, opened) =>
            error === undefined ? resolve(opened) : reject(error),
          ),
        );
        client.connect({ sock: relay, username: 'sandbox', authHandler: ['none'] });
      });
      return {
        channel,
        end,
        finish: (answer: Answer) => finish(channel, request, answer, () => lost).finally(end),
      };
    } catch (error) {
      end();
      throw error;
    }
  }
}

/** Passes what a channel prints on until it has closed, and then its exit status; 124 when the time is over. */
async function finish(
  channel: ClientChannel,
  request: ExecSandboxRequest,
  answer: Answer,
  lost: () => boolean,
): Promise<void> {
  let exitCode: number | undefined;
  const pass = (source: Readable, $case: 'stdout' | 'stderr'): void => {
    source.on('data', (data: Buffer) => {
      if (answer.write({ payload: { $case, value: { data } } })) return;
      source.pause();
      answer.once('drain', () => source.resume());
    });
  };
  pass(channel, 'stdout');
  pass(channel.stderr, 'stderr');
  channel.on('error', () => undefined);
  channel.on('exit', (code: number | null) => {
    exitCode = code ?? exitCode;
  });
  // It closes when all that it printed has been read, and the status comes before.
  const closed = new Promise<void>((resolve) => void channel.once('close', () => resolve()));
  const { timeoutSeconds } = request;
  let timer: NodeJS.Timeout | undefined;
  const late =
    timeoutSeconds === 0
      ? new Promise<never>(() => undefined)
      : new Promise<'late'>((resolve) => {
          timer = setTimeout(() => resolve('late'), timeoutSeconds * 1000);
        });
  const how = await Promise.race([closed, late]);
  clearTimeout(timer);
  if (how === 'late') exitCode = TIMED_OUT;
  if (exitCode === undefined)
    throw unavailable(
      lost()
        ? 'the connection to the sandbox was lost, and what ran was hung up'
        : 'the command ended without an exit status',
    );
  answer.write({ payload: { $case: 'exit', value: { exitCode } } });
}

const invalid = (message: string): Error =>
  Object.assign(new Error(message), { code: status.INVALID_ARGUMENT });
const unavailable = (message: string): Error =>
  Object.assign(new Error(message), { code: status.UNAVAILABLE });
