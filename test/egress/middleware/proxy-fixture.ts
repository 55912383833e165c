import type { RequestListener } from 'node:http';
import { request } from 'node:http';
import type { SupervisorMiddlewareService } from '../../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { systemClock } from '../../../supervisor/clock.ts';
import type { EgressEvent } from '../../../supervisor/egress/events.ts';
import type { WorkAdmission } from '../../../supervisor/egress/middleware/admission.ts';
import { Middlewares } from '../../../supervisor/egress/middleware/middlewares.ts';
import { MiddlewareRegistry } from '../../../supervisor/egress/middleware/registry.ts';
import { ok } from '../../../supervisor/result.ts';
import { type Authorities, startHttp, startInspectingProxy } from '../inspection-fixture.ts';

/** One line for each middleware: its key, the service, and what else is to be said. */
export const middlewareYaml = (lines: readonly string[]): string =>
  lines.length === 0
    ? ''
    : `network_middlewares:\n${lines
        .map((line, order) => {
          const end = line.lastIndexOf('}');
          return `  ${line.slice(0, end)}, order: ${order}, endpoints: { include: ["**"] } }`;
        })
        .join('\n')}\n`;

export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly rawHeaders: readonly string[];
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: string;
}

export async function startRegistry(services: readonly SupervisorMiddlewareService[], work?: WorkAdmission) {
  const problems: string[] = [];
  let changes = 0;
  const registry = new MiddlewareRegistry({
    clock: systemClock,
    random: Math.random,
    resolve: async () => ok(['127.0.0.1']),
    credential: () => undefined,
    onChange: () => {
      changes += 1;
    },
    onProblem: (message) => problems.push(message),
  });
  registry.replace(services, false);
  await registry.settled(5_000);
  const middlewares = new Middlewares({
    clock: systemClock,
    registry,
    sandbox: () => ({ id: 'sb-1', name: 'box', workspace: 'dev' }),
    ...(work === undefined ? {} : { work }),
  });
  return { registry, middlewares, problems, changes: () => changes };
}

/** A proxy in front of a server that keeps what it sees, under `rules` of one endpoint and some middlewares. */
export async function startGuarded(
  authorities: Authorities,
  options: {
    readonly middlewares: readonly string[];
    readonly services?: readonly SupervisorMiddlewareService[];
    /** Fields of the endpoint; rest with everything allowed by default. */
    readonly endpoint?: string;
    readonly work?: WorkAdmission;
    readonly listener?: RequestListener;
  },
) {
  const seen: Seen[] = [];
  const upstream = await startHttp(
    options.listener ??
      ((incoming, response) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('end', () => {
          const { method = '', url = '', rawHeaders, headers } = incoming;
          seen.push({ method, url, rawHeaders, headers, body: Buffer.concat(chunks).toString('latin1') });
          response.end('done');
        });
      }),
  );
  const endpoint = options.endpoint ?? 'protocol: rest, enforcement: enforce, access: full';
  const yaml = `version: 1
network_policies:
  api:
    endpoints:
      - { host: api.test, port: ${upstream.port}, ${endpoint} }
    binaries: [{ path: "/**" }]
${middlewareYaml(options.middlewares)}`;
  const started = await startRegistry(options.services ?? [], options.work);
  const proxy = await startInspectingProxy(authorities, yaml, { middlewares: started.middlewares });
  return {
    ...proxy,
    ...started,
    seen,
    place: `api.test:${upstream.port}`,
    evaluations: () =>
      proxy.events.flatMap((event: EgressEvent) => (event.kind === 'middleware' ? [event.evaluation] : [])),
    /** One request by the plain proxy. */
    ask: (path: string, init: Ask = {}) => ask(proxy.port, `http://api.test:${upstream.port}${path}`, init),
    async stop() {
      upstream.stop();
      started.registry.stop();
      await proxy.proxy.stop();
    },
  };
}

export interface Ask {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: string | Buffer;
  /** Sends the body without saying its length. */
  readonly chunked?: boolean;
}

export function ask(
  port: number,
  url: string,
  { method = 'GET', headers = {}, body, chunked = false }: Ask,
): Promise<{ readonly status: number; readonly text: string; readonly json: Record<string, unknown> }> {
  return new Promise((resolve, reject) => {
    const length = body === undefined || chunked ? {} : { 'content-length': Buffer.byteLength(body) };
    const outgoing = request(
      {
        host: '127.0.0.1',
        port,
        method,
        path: url,
        headers: { host: new URL(url).host, ...length, ...(headers as Record<string, string>) },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          const json = text.startsWith('{') ? (JSON.parse(text) as Record<string, unknown>) : {};
          resolve({ status: response.statusCode ?? 0, text, json });
        });
      },
    );
    outgoing.on('error', reject);
    if (chunked) outgoing.flushHeaders();
    outgoing.end(body);
  });
}
