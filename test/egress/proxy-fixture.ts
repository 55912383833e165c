import { connect, createServer, type Server, type Socket } from 'node:net';
import { systemClock } from '../../supervisor/clock.ts';
import type { EgressEvent } from '../../supervisor/egress/events.ts';
import { CallerIdentification } from '../../supervisor/egress/identity/caller.ts';
import { Middlewares } from '../../supervisor/egress/middleware/middlewares.ts';
import { MiddlewareRegistry } from '../../supervisor/egress/middleware/registry.ts';
import {
  type ExplicitProxy,
  type ExplicitProxyOptions,
  startExplicitProxy,
} from '../../supervisor/egress/proxy.ts';
import type { Decision, Intent } from '../../supervisor/policy/intent.ts';
import { ok } from '../../supervisor/result.ts';

/** A raw TCP server that keeps what it is sent and answers as told. */
export interface Upstream {
  readonly port: number;
  readonly received: () => string;
  readonly connections: () => readonly Socket[];
  stop(): void;
}

export async function startUpstream(onData: (socket: Socket, all: string) => void): Promise<Upstream> {
  let text = '';
  const sockets: Socket[] = [];
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      onData(socket, text);
    });
    socket.on('end', () => socket.end());
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    received: () => text,
    connections: () => sockets,
    stop: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

export const allow = (generation = 1): Decision => ({
  kind: 'allow',
  policy: 'test',
  rule: 'network_policies.test.endpoints[0]',
  generation,
  destination: { kind: 'exact-host' },
  tls: 'auto',
  inspect: false,
  endpoints: [],
  middlewares: [],
  credentials: 'free',
});

/** A proxy whose policy, names and generation the test owns; the caller is this test process itself. */
export async function startProxy(options: Partial<ExplicitProxyOptions> = {}) {
  const events: EgressEvent[] = [];
  const asked: string[] = [];
  const started = await startExplicitProxy({
    host: '127.0.0.1',
    port: 0,
    clock: systemClock,
    callers: new CallerIdentification({
      proc: '/proc',
      excluded: new Set([1]),
      pause: () => Promise.resolve(),
    }),
    mainPid: () => process.pid,
    authorize: (_intent: Intent) => allow(),
    judgeAddress: () => ok(undefined),
    generation: () => 1,
    resolve: async (host) => {
      asked.push(host);
      return ok(['127.0.0.1']);
    },
    middlewares: new Middlewares({
      clock: systemClock,
      registry: new MiddlewareRegistry({
        clock: systemClock,
        random: Math.random,
        resolve: async () => ok(['127.0.0.1']),
        credential: () => undefined,
        onChange: () => undefined,
        onProblem: () => undefined,
      }),
      sandbox: () => ({ id: 'test', name: 'test', workspace: '' }),
    }),
    observe: (event) => events.push(event),
    ...options,
  });
  if (!started.ok) throw started.error;
  return { proxy: started.value as ExplicitProxy, events, asked };
}

/** Sends bytes, and resolves with all that came back and how the connection ended. */
export function exchange(
  port: number,
  bytes: string,
  then: { readonly end?: boolean } = {},
): Promise<{ readonly text: string; readonly end: 'end' | 'reset' }> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    let text = '';
    let end: 'end' | 'reset' = 'reset';
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
    });
    socket.on('end', () => {
      end = 'end';
      socket.end();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve({ text, end }));
    socket.write(bytes);
    if (then.end === true) socket.end();
  });
}
