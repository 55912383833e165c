import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import ssh2, { type Client, type ClientChannel } from 'ssh2';
import { AccessServer, type AccessServerOptions } from '../../supervisor/access/access-server.ts';
import type { AccessEvent } from '../../supervisor/access/events.ts';
import type { OpenProcess, ProcessRequest, Window } from '../../supervisor/access/session-opener.ts';
import { streamPair } from '../../supervisor/access/stream-pair.ts';
import { systemClock } from '../../supervisor/clock.ts';
import { err, ok } from '../../supervisor/result.ts';

/** What happened to the processes that were asked for. */
export interface Asked {
  readonly requests: ProcessRequest[];
  readonly windows: Window[];
  readonly signals: NodeJS.Signals[];
  ended: number;
}

/** A way in that starts plain processes of this machine on pipes. */
export function accessFixture(overrides: Partial<AccessServerOptions> = {}) {
  const asked: Asked = { requests: [], windows: [], signals: [], ended: 0 };
  const events: AccessEvent[] = [];
  const open: OpenProcess = async (request) => {
    asked.requests.push(request);
    const [program = '', ...rest] = request.argv;
    const child = spawn(program, rest, {
      detached: true,
      env: {
        PATH: process.env['PATH'] ?? '',
        HOME: '/nonexistent',
        ...Object.fromEntries(request.variables),
      },
    });
    const { stdin, stdout, stderr, pid } = child;
    if (pid === undefined) return err({ code: 127, message: 'no such program' });
    return ok({
      input: stdin,
      output: stdout,
      errors: stderr,
      exited: new Promise((resolve) =>
        child.once('exit', (code, signal) =>
          resolve(signal === null ? { kind: 'code', code: code ?? 0 } : { kind: 'signal', signal }),
        ),
      ),
      resize: (window) => void asked.windows.push(window),
      signal(signal) {
        asked.signals.push(signal);
        process.kill(-pid, signal);
      },
      end() {
        asked.ended += 1;
        try {
          process.kill(-pid, 'SIGKILL');
        } catch {
          // it has ended
        }
      },
    });
  };
  const server = new AccessServer({
    clock: systemClock,
    open,
    shell: () => '/bin/bash',
    connect: (host, port) =>
      new Promise((resolve) => {
        const socket = connect({ host, port, allowHalfOpen: true });
        socket.once('connect', () => resolve(ok(socket)));
        socket.once('error', (error) => resolve(err(error.message)));
      }),
    reservedPorts: new Set([3128]),
    subsystems: new Map(),
    observe: (event) => void events.push(event),
    ...overrides,
  });
  return { server, asked, events };
}

/** A client's end of a stream that the server serves. */
export function plug(server: AccessServer): Duplex {
  const [ours, theirs] = streamPair();
  server.accept(theirs);
  ours.on('error', () => undefined);
  return ours;
}

/** A client that has logged in. */
export async function login(server: AccessServer, config: object = {}, sock = plug(server)): Promise<Client> {
  const client = new ssh2.Client();
  client.connect({ sock, username: 'sandbox', ...config });
  await once(client, 'ready');
  return client;
}

export interface Ran {
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly code: number | null;
}

/** Reads a channel to its end. */
export function finished(channel: ClientChannel): Promise<Ran> {
  const [out, errors]: [Buffer[], Buffer[]] = [[], []];
  channel.on('data', (chunk: Buffer) => out.push(chunk));
  channel.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  return new Promise((resolve) =>
    // What `exit` tells may have come with the answer to the request, before anybody listened here.
    channel.once('close', (code?: number | null) =>
      resolve({ stdout: Buffer.concat(out), stderr: Buffer.concat(errors).toString(), code: code ?? null }),
    ),
  );
}

export const exec = (client: Client, command: string, options: object = {}): Promise<ClientChannel> =>
  new Promise((resolve, reject) =>
    client.exec(command, options, (error, channel) => (error ? reject(error) : resolve(channel))),
  );

export async function run(
  client: Client,
  command: string,
  options: object = {},
  input: Buffer | string = '',
): Promise<Ran> {
  const channel = await exec(client, command, options);
  const end = finished(channel);
  channel.end(input);
  return end;
}
