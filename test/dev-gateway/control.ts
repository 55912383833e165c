import { createServer, type IncomingMessage } from 'node:http';
import type { DevGateway } from './server.ts';
import { timeTransfer } from './transfer.ts';

type Controlled = Omit<DevGateway, 'controlPort' | 'stop'>;
type Answer = { readonly status: number; readonly body: unknown };

/** More than the gateway's bound on a policy, which the validation then names (262 144 bytes). */
const MAX_BODY_BYTES = 512 * 1024;
const MAX_REFUSE_SECONDS = 3_600;

/**
 * Serves what a client needs to look in, as JSON over HTTP: GET /sessions /logs /exits /policy-reports /analyses /chunks;
 * POST /policy (YAML, the same as JSON, or YAML in a JSON string), /setting?key=KEY&value=true|false,
 * /credentials, /inference and /middleware (JSON: providers.ts, inference.ts, middlewares.ts),
 * /chunk?id=ID&decision=approve|reject&reason=TEXT, /refuse[?seconds=N], /accept, /drop?id=ID.
 */
export async function startControl(
  gateway: Controlled,
  host: string,
  port: number,
): Promise<{ readonly port: number; readonly stop: () => Promise<void> }> {
  let reopen: NodeJS.Timeout | undefined;
  const refuse = async (secondsText: string | null): Promise<Answer> => {
    const seconds = secondsText === null ? undefined : Number(secondsText);
    if (seconds !== undefined && !(seconds > 0 && seconds <= MAX_REFUSE_SECONDS)) {
      return { status: 400, body: { error: `seconds must be above 0 and at most ${MAX_REFUSE_SECONDS}` } };
    }
    clearTimeout(reopen);
    await gateway.refuse();
    if (seconds !== undefined) reopen = setTimeout(() => void gateway.accept(), seconds * 1000);
    return { status: 200, body: { refusing: true } };
  };
  const act = async (request: IncomingMessage): Promise<Answer> => {
    const url = new URL(request.url ?? '/', 'http://control');
    switch (`${request.method} ${url.pathname}`) {
      case 'GET /sessions':
        return { status: 200, body: gateway.sessions() };
      case 'GET /logs':
        return { status: 200, body: gateway.logs() };
      case 'GET /exits':
        return { status: 200, body: gateway.exits() };
      case 'GET /policy-reports':
        return { status: 200, body: gateway.policyReports() };
      case 'GET /analyses':
        return { status: 200, body: gateway.analyses() };
      case 'GET /chunks':
        return {
          status: 200,
          body: gateway.chunks().map(({ id, status, ruleName, stage }) => ({ id, status, ruleName, stage })),
        };
      case 'POST /chunk': {
        const { searchParams: asked } = url;
        const approved = asked.get('decision') === 'approve';
        if (!approved && asked.get('decision') !== 'reject')
          return { status: 400, body: { error: 'decision must be approve or reject' } };
        return gateway.decideChunk(asked.get('id') ?? '', approved, asked.get('reason') ?? '')
          ? { status: 200, body: {} }
          : { status: 404, body: { error: 'no proposal of this id waits' } };
      }
      case 'POST /setting': {
        const [key, value] = [url.searchParams.get('key') ?? '', url.searchParams.get('value')];
        if (key === '' || (value !== 'true' && value !== 'false'))
          return { status: 400, body: { error: 'key must not be empty, and value true or false' } };
        gateway.setSettings({ [key]: value === 'true' });
        return { status: 200, body: { [key]: value === 'true' } };
      }
      case 'POST /inference':
      case 'POST /middleware':
      case 'POST /credentials': {
        const text = await readBody(request);
        if (text === undefined) return { status: 413, body: { error: `at most ${MAX_BODY_BYTES} bytes` } };
        try {
          if (url.pathname === '/inference') gateway.setInferenceRoutes(text);
          else if (url.pathname === '/middleware') gateway.setMiddlewares(text);
          else gateway.setCredentials(text);
        } catch (error) {
          return { status: 400, body: { error: String(error) } };
        }
        return { status: 200, body: {} };
      }
      case 'POST /policy': {
        const text = await readBody(request);
        if (text === undefined) return { status: 413, body: { error: `at most ${MAX_BODY_BYTES} bytes` } };
        const set = gateway.setPolicy(unquoted(text));
        return set.ok
          ? { status: 200, body: { version: set.value } }
          : { status: 400, body: { error: set.error } };
      }
      case 'POST /refuse':
        return refuse(url.searchParams.get('seconds'));
      case 'POST /accept':
        clearTimeout(reopen);
        await gateway.accept();
        return { status: 200, body: { refusing: false } };
      case 'POST /transfer': {
        const { searchParams: asked } = url;
        const way = asked.get('way') === 'up' ? 'up' : 'down';
        const target = { host: '127.0.0.1', port: Number(asked.get('port')) };
        const stream = await gateway.openRelay(asked.get('sandbox') ?? '', { $case: 'tcp', value: target });
        return { status: 200, body: { ms: await timeTransfer(stream, way, Number(asked.get('bytes'))) } };
      }
      case 'POST /drop': {
        const dropped = gateway.dropSession(url.searchParams.get('id') ?? '');
        return dropped
          ? { status: 200, body: { dropped } }
          : { status: 404, body: { error: 'no such live session' } };
      }
      default:
        return { status: 404, body: { error: 'not found' } };
    }
  };
  const server = createServer((request, response) => {
    void act(request)
      .catch((error: unknown): Answer => ({ status: 500, body: { error: String(error) } }))
      .then(({ status, body }) => {
        response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`);
      });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(port, host, resolve);
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    stop: () => {
      clearTimeout(reopen);
      server.closeAllConnections();
      return new Promise((resolve) => void server.close(() => resolve()));
    },
  };
}

async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  return size > MAX_BODY_BYTES ? undefined : Buffer.concat(chunks).toString('utf8');
}

/** The text inside a JSON string; anything else as it is, for JSON is YAML. */
function unquoted(text: string): string {
  if (!text.trimStart().startsWith('"')) return text;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'string' ? value : text;
  } catch {
    return text;
  }
}
