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

/** A user's call, of either kind. */
type UserCall = {
  readonly metadata: Metadata;
  readonly cancelled: boolean;
  readonly writableEnded: boolean;
  write(event: ExecSandboxEvent): boolean;
  end(): void;
  once(event: 'drain' | 'cancelled', listener: () => void): unknown;
};

const TIMED_OUT = 124;
const GOODBYE_MS = 2_000;
/** What a timer of Node's holds; a longer one would be over at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;
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
    const exec = await this.#start(call, request, { cols: 0, rows: 0 });
    exec.channel.end(request.stdin);
    await exec.finish();
  }

  async #interactive(
    call: ServerDuplexStream<ExecSandboxInput, ExecSandboxEvent>,
    request: ExecSandboxRequest,
  ): Promise<void> {
    const window = { cols: request.cols || 80, rows: request.rows || 24 };
    const { channel, finish } = await this.#start(call, request, window);
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
    await finish();
  }

  async #start(call: UserCall, request: ExecSandboxRequest, window: { cols: number; rows: number }) {
    this.#options.authorize(call.metadata);
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
      if (relay.destroyed) return;
      // The sandbox says its last then; one that does not is cut off.
      const late = setTimeout(() => relay.destroy(), GOODBYE_MS);
      relay.once('close', () => clearTimeout(late));
    };
    client.on('error', () => relay.destroy());
    // Who has gone while the relay was being opened is told of no more: nothing is to run for nobody.
    if (call.cancelled) {
      relay.destroy();
      throw unavailable('the caller has gone');
    }
    call.once('cancelled', end);
    try {
      const pty = request.tty ? { ...window, term: 'xterm-256color' } : false;
      const { channel, ended } = await new Promise<Running>((resolve, reject) => {
        client.once('error', reject);
        client.once('close', () => reject(unavailable('the sandbox closed the connection')));
        client.once('ready', () => {
          if (call.cancelled) return reject(unavailable('the caller has gone'));
          client.exec(command, { pty }, (error, opened) => {
            // Listened to at once: a short command's output and status may come together with the answer to this.
            if (error === undefined) resolve({ channel: opened, ended: follow(opened, call) });
            else reject(error);
          });
        });
        client.connect({ sock: relay, username: 'sandbox', authHandler: ['none'] });
      });
      const finish = async (): Promise<void> => {
        const exitCode = await withinSeconds(request.timeoutSeconds, ended);
        if (exitCode === undefined)
          throw unavailable(
            lost
              ? 'the connection to the sandbox was lost, and what ran was hung up'
              : 'the command ended without an exit status',
          );
        call.write({ payload: { $case: 'exit', value: { exitCode } } });
        call.end();
      };
      return { channel, finish: () => finish().finally(end) };
    } catch (error) {
      end();
      throw error;
    }
  }
}

interface Running {
  readonly channel: ClientChannel;
  /** Settles when all that it printed has been passed on, with its exit status. */
  readonly ended: Promise<number | undefined>;
}

/** Passes what a channel prints on to a call, as fast as that takes it, and resolves with the exit status that it closes with. */
async function follow(channel: ClientChannel, call: UserCall): Promise<number | undefined> {
  const pass = (source: Readable, $case: 'stdout' | 'stderr'): Promise<unknown> => {
    source.on('data', (data: Buffer) => {
      // After a timeout it may still print.
      if (call.writableEnded) return;
      if (call.write({ payload: { $case, value: { data } } })) return;
      source.pause();
      call.once('drain', () => source.resume());
    });
    return new Promise((resolve) => void source.once('end', resolve));
  };
  channel.on('error', () => undefined);
  const status = new Promise<number | undefined>((resolve) => {
    channel.once('close', (code?: number | null) => resolve(code ?? undefined));
  });
  // It closes when its standard output has been read; the other one may take longer.
  await Promise.all([pass(channel, 'stdout'), pass(channel.stderr, 'stderr')]);
  return status;
}

/** What `ended` resolves with, or 124 when that takes longer than so many seconds; 0 are for ever. */
async function withinSeconds(
  seconds: number,
  ended: Promise<number | undefined>,
): Promise<number | undefined> {
  if (seconds === 0) return ended;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<number>((resolve) => {
    timer = setTimeout(() => resolve(TIMED_OUT), Math.min(seconds * 1000, MAX_TIMER_MS));
  });
  return Promise.race([ended, late]).finally(() => clearTimeout(timer));
}

const invalid = (message: string): Error =>
  Object.assign(new Error(message), { code: status.INVALID_ARGUMENT });
const unavailable = (message: string): Error =>
  Object.assign(new Error(message), { code: status.UNAVAILABLE });
