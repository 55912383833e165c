import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import type { Server, Socket } from 'node:net';
import type { CredentialStore } from '../credentials/credential-store.ts';

/** Where clients of Google's are told to ask (contract.md, 8.5). */
export const METADATA_HOST = '127.0.0.1';
export const METADATA_PORT = 8174;
/** The provider's key that asks for the server. */
export const METADATA_KEY = 'GCE_METADATA_HOST';

const MAX_HEAD_BYTES = 4096;
const MAX_CONNECTIONS = 32;
const REQUEST_MS = 5_000;
/** A token whose end nobody knows is said to last so long, in seconds. */
const UNKNOWN_LIFE = 3600;
const TOKEN_KEYS = ['GCP_SA_ACCESS_TOKEN', 'GCP_ADC_ACCESS_TOKEN'] as const;
const SCOPES = ['https://www.googleapis.com/auth/cloud-platform'] as const;
const ROOT = '/computeMetadata/v1';
const ACCOUNTS = `${ROOT}/instance/service-accounts`;

export interface GoogleMetadata {
  stop(): void;
}

/** Text, JSON, or an error by its name. */
type Answer =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'json'; readonly value: unknown }
  | { readonly kind: 'error'; readonly status: number; readonly error: string };

const text = (value: string): Answer => ({ kind: 'text', text: value });
const json = (value: unknown): Answer => ({ kind: 'json', value });
const failed = (status: number, error: string): Answer => ({ kind: 'error', status, error });

/**
 * The part of Google's metadata server that its client libraries need to find a token, a project and an account. The token is
 * a placeholder: it turns into one on its way out, and only where it is bound to. No identity tokens. `now` is
 * wall-clock milliseconds.
 */
export function serveGoogleMetadata(
  listener: Server,
  store: CredentialStore,
  now: () => number,
): GoogleMetadata {
  const sockets = new Set<Socket>();
  const server: HttpServer = createServer(
    {
      maxHeaderSize: MAX_HEAD_BYTES,
      headersTimeout: REQUEST_MS,
      requestTimeout: REQUEST_MS,
      connectionsCheckingInterval: REQUEST_MS / 2,
      keepAlive: false,
    },
    (request, response) => send(response, answerTo(request, store, now())),
  );
  server.emit('listening'); // only a server that listens looks for slow requests
  server.on('clientError', (_error, socket) => socket.destroy());
  listener.on('error', () => undefined);
  listener.on('connection', (socket) => {
    socket.on('error', () => undefined);
    if (sockets.size >= MAX_CONNECTIONS) return void socket.destroy();
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.setTimeout(REQUEST_MS, () => socket.destroy());
    server.emit('connection', socket);
  });
  return {
    stop() {
      listener.close();
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/**
 * The variables by which Google's clients find the server. Without a listener its key must not reach a process: a client
 * would wait for nobody.
 */
export function metadataVariables(
  variables: ReadonlyMap<string, string>,
  listening: boolean,
): ReadonlyMap<string, string> {
  const left = new Map(variables);
  left.delete(METADATA_KEY);
  if (!listening) return left;
  const place = `${METADATA_HOST}:${METADATA_PORT}`;
  return left
    .set('GCE_METADATA_HOST', place)
    .set('GCE_METADATA_IP', place)
    .set('METADATA_SERVER_DETECTION', 'assume-present');
}

function answerTo(request: IncomingMessage, store: CredentialStore, now: number): Answer {
  if (request.headers['x-forwarded-for'] !== undefined) return failed(403, 'forwarded');
  if (request.headers['metadata-flavor'] !== 'Google') return failed(403, 'missing_metadata_flavor');
  if (request.method !== 'GET') return failed(405, 'method_not_allowed');
  const target = request.url ?? '/';
  if (!target.startsWith('/') || !URL.canParse(`http://metadata${target}`)) return failed(404, 'not_found');
  const { pathname, searchParams } = new URL(`http://metadata${target}`);
  const recursive = searchParams.get('recursive') === 'true';
  const known = store.workloadVariables();
  const email = known.get('GCP_SERVICE_ACCOUNT_EMAIL') ?? 'default';
  const project = known.get('GCP_PROJECT_ID') ?? known.get('GOOGLE_CLOUD_PROJECT');
  const account = /^\/computeMetadata\/v1\/instance\/service-accounts\/([^/]+)(\/.*)?$/.exec(pathname);
  if (account !== null) {
    const [, name = '', rest = ''] = account;
    if (name !== 'default' && decodeURIComponentSafely(name) !== email) return failed(404, 'not_found');
    return accountAnswer(rest, email, recursive, store, now);
  }
  switch (pathname) {
    case '/':
      return text('computeMetadata/\n');
    case '/computeMetadata/':
      return text('v1/\n');
    case ROOT:
    case `${ROOT}/`:
      return text('instance/\nproject/\n');
    case `${ROOT}/instance/`:
      return text('service-accounts/\n');
    case `${ROOT}/project/`:
      return text('project-id\n');
    case `${ROOT}/project/project-id`:
      return project === undefined ? failed(404, 'not_found') : text(project);
    case ACCOUNTS:
    case `${ACCOUNTS}/`:
      return recursive ? json({ default: accountFacts(email) }) : text('default/\n');
    default:
      return failed(404, 'not_found');
  }
}

const accountFacts = (email: string) => ({ aliases: ['default'], email, scopes: SCOPES });

function accountAnswer(
  rest: string,
  email: string,
  recursive: boolean,
  store: CredentialStore,
  now: number,
): Answer {
  switch (rest) {
    case '':
    case '/':
      return recursive ? json(accountFacts(email)) : text('aliases\nemail\nscopes\ntoken\n');
    case '/email':
      return text(email);
    case '/aliases':
      return text('default\n');
    case '/scopes':
      return text(`${SCOPES.join('\n')}\n`);
    case '/token':
      return tokenAnswer(store, now);
    default:
      return failed(404, 'not_found');
  }
}

function tokenAnswer(store: CredentialStore, now: number): Answer {
  if (store.empty) return failed(503, 'credentials_unavailable');
  const variables = store.workloadVariables();
  for (const key of TOKEN_KEYS) {
    const placeholder = variables.get(key);
    if (placeholder === undefined) continue;
    const expiresAt = store.expiresAt(key);
    const left = expiresAt === undefined ? UNKNOWN_LIFE : Math.floor((expiresAt - now) / 1000);
    if (left <= 0) continue;
    return json({ access_token: placeholder, expires_in: left, token_type: 'Bearer' });
  }
  return failed(503, 'token_unavailable');
}

function decodeURIComponentSafely(name: string): string | undefined {
  try {
    return decodeURIComponent(name);
  } catch {
    return undefined;
  }
}

function send(response: ServerResponse, answer: Answer): void {
  const body =
    answer.kind === 'text'
      ? answer.text
      : JSON.stringify(answer.kind === 'json' ? answer.value : { error: answer.error });
  response.writeHead(answer.kind === 'error' ? answer.status : 200, {
    'metadata-flavor': 'Google',
    'content-type': answer.kind === 'text' ? 'application/text' : 'application/json',
    'content-length': Buffer.byteLength(body),
    connection: 'close',
  });
  response.end(body);
}
