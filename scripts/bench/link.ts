import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { OpenShellDefinition } from '../../proto/generated/openshell/v1/openshell.ts';
import { type Implementation, serviceDefinition } from '../../test/dev-gateway/grpc.ts';
import { NODE } from '../lib/paths.ts';
import { within } from './bounded.ts';
import type { LinkFigures } from './link-inside.ts';
import { figure, heading, row } from './report.ts';

const LIMIT_MS = 120_000;

/**
 * What an idle link costs in an hour: the shipped code over a real connection, in a process of its own whose
 * clock is virtual, against a gateway that answers each beat with one.
 */
export async function link(): Promise<void> {
  heading('An idle link for an hour of its own time');
  const gateway = await startEcho();
  const wire = await startCounter(gateway.port);
  let before = wire.counted();
  let pollsBefore = 0;
  const child = spawn(NODE, [join(import.meta.dirname, 'link-inside.ts'), String(wire.port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    let printed = '';
    child.stdout.on('data', (chunk: Buffer) => {
      const text = chunk.toString('utf8');
      // Its first line says that the hour begins.
      if (printed === '') [before, pollsBefore] = [wire.counted(), gateway.polls()];
      printed += text;
    });
    const [code] = await within(LIMIT_MS, 'the idle link', once(child, 'exit'));
    if (code !== 0) throw new Error(`the idle link ended with ${String(code)}`);
    const figures = JSON.parse(printed.slice(printed.indexOf('\n') + 1)) as LinkFigures;
    const { sent, received } = wire.counted();
    row('beats / polls of the configuration', `${figures.beats}`, `${gateway.polls() - pollsBefore}`);
    row('CPU / of a core', `${figure(figures.cpuMs)} ms`, `${figure(figures.cpuMs / 36_000)} %`);
    row('bytes sent / received', `${sent - before.sent}`, `${received - before.received}`);
    row(
      'private memory from source, 5 min / the hour',
      `${figure(figures.privateKibBefore / 1024)} MiB`,
      `${figure(figures.privateKibAfter / 1024)} MiB`,
    );
  } finally {
    child.kill('SIGKILL');
    wire.stop();
    gateway.server.forceShutdown();
  }
}

/** Passes TCP on and counts it, as the supervisor sees it. */
async function startCounter(target: number) {
  let [sent, received] = [0, 0];
  const server = createServer((client) => {
    const upstream = connect(target, '127.0.0.1');
    client.on('data', (chunk: Buffer) => {
      sent += chunk.length;
    });
    upstream.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    for (const socket of [client, upstream]) socket.setNoDelay(true).on('error', () => undefined);
    client.pipe(upstream).pipe(client);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return { port, counted: () => ({ sent, received }), stop: () => void server.close() };
}

/** A gateway that accepts every session and answers a beat with a beat. */
async function startEcho() {
  let polls = 0;
  const implementation: Implementation<OpenShellDefinition> = {
    connectSupervisor: (stream) => {
      stream.on('error', () => undefined);
      stream.on('end', () => stream.end());
      stream.on('data', ({ payload }) => {
        if (payload?.$case === 'heartbeat') stream.write({ payload: { $case: 'heartbeat', value: {} } });
        if (payload?.$case !== 'hello') return;
        const value = {
          sessionId: 'bench',
          heartbeatIntervalSecs: 15,
          redialWindowSecs: 0,
          gatewayVersion: '',
          capabilities: [],
        };
        stream.write({ payload: { $case: 'sessionAccepted', value } });
      });
    },
    getSandboxConfig: (_call, callback) => {
      polls += 1;
      const { responseType } = OpenShellDefinition.methods.getSandboxConfig;
      callback(null, responseType.fromPartial({ configRevision: 1n }));
    },
  };
  const server = new Server();
  server.addService(serviceDefinition(OpenShellDefinition), implementation);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { server, port, polls: () => polls };
}
