/**
 * What git, pip, npm, gRPC and WebSocket clients need of servers to believe in them, by the name that they ask for, on one HTTPS
 * port that speaks HTTP/1.1 and HTTP/2. Arguments: address, port, key, certificate, and a directory with `git/`, `pip/` and
 * `npm/`. Started in the world's network namespace.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import { join } from 'node:path';
import { WebSocketServer } from 'ws';

const [host = '', port = '', key = '', certificate = '', directory = ''] = process.argv.slice(2);

interface Question {
  readonly incoming: Http2ServerRequest;
  readonly outgoing: Http2ServerResponse;
  readonly url: URL;
}

/** Git's own server, as a CGI program (RFC 3875). */
function git({ incoming, outgoing, url }: Question): void {
  const child = spawn('git', ['http-backend'], {
    env: {
      PATH: process.env['PATH'],
      GIT_PROJECT_ROOT: join(directory, 'git'),
      GIT_HTTP_EXPORT_ALL: '1',
      // The repository is another user's.
      GIT_CONFIG_COUNT: '1',
      GIT_CONFIG_KEY_0: 'safe.directory',
      GIT_CONFIG_VALUE_0: '*',
      PATH_INFO: url.pathname,
      QUERY_STRING: url.search.slice(1),
      REQUEST_METHOD: incoming.method,
      CONTENT_TYPE: incoming.headers['content-type'] ?? '',
      HTTP_CONTENT_ENCODING: String(incoming.headers['content-encoding'] ?? ''),
      GIT_PROTOCOL: String(incoming.headers['git-protocol'] ?? ''),
    },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  incoming.pipe(child.stdin);
  const parts: Buffer[] = [];
  child.stdout.on('data', (part: Buffer) => parts.push(part));
  child.on('close', () => {
    const whole = Buffer.concat(parts);
    const end = whole.indexOf('\r\n\r\n');
    const fields = whole.toString('latin1', 0, end).split('\r\n');
    for (const field of fields) {
      const colon = field.indexOf(':');
      const [name, value] = [field.slice(0, colon), field.slice(colon + 1).trim()];
      if (name === 'Status') outgoing.statusCode = Number.parseInt(value, 10);
      else outgoing.setHeader(name, value);
    }
    outgoing.end(whole.subarray(end + 4));
  });
}

function file({ outgoing }: Question, path: string): void {
  outgoing.statusCode = existsSync(path) ? 200 : 404;
  outgoing.end(existsSync(path) ? readFileSync(path) : '');
}

/** The simple index (PEP 503). */
function pip(question: Question): void {
  const { url, outgoing } = question;
  if (!url.pathname.startsWith('/simple/')) {
    file(question, join(directory, 'pip', url.pathname));
    return;
  }
  const links = readdirSync(join(directory, 'pip/files')).map(
    (name) => `<a href="/files/${name}">${name}</a>`,
  );
  outgoing.setHeader('content-type', 'text/html');
  outgoing.end(`<!DOCTYPE html><html><body>${links.join('\n')}</body></html>`);
}

function npm(question: Question): void {
  const { url, outgoing } = question;
  const tarball = join(directory, 'npm/demo-1.0.0.tgz');
  if (url.pathname.endsWith('.tgz')) {
    file(question, tarball);
    return;
  }
  const dist = {
    tarball: `https://${url.host}/demo/-/demo-1.0.0.tgz`,
    shasum: createHash('sha1').update(readFileSync(tarball)).digest('hex'),
  };
  const versions = { '1.0.0': { name: 'demo', version: '1.0.0', dist } };
  outgoing.setHeader('content-type', 'application/json');
  outgoing.end(JSON.stringify({ name: 'demo', 'dist-tags': { latest: '1.0.0' }, versions }));
}

/** Sends each message back, and says in the trailers that all went well. */
function grpc({ incoming, outgoing }: Question): void {
  outgoing.setHeader('content-type', 'application/grpc');
  incoming.on('data', (part: Buffer) => void outgoing.write(part));
  incoming.on('end', () => {
    outgoing.addTrailers({ 'grpc-status': '0' });
    outgoing.end();
  });
}

function others({ incoming, outgoing, url }: Question): void {
  outgoing.setHeader('content-type', 'application/json');
  outgoing.end(JSON.stringify({ answered: url.pathname, method: incoming.method }));
}

const HOSTS: Readonly<Record<string, (question: Question) => void>> = {
  'git.test': git,
  'pip.test': pip,
  'npm.test': npm,
  'grpc.test': grpc,
};

const server = createSecureServer(
  { key: readFileSync(key), cert: readFileSync(certificate), allowHTTP1: true },
  (incoming, outgoing) => {
    const url = new URL(`https://${incoming.headers.host ?? incoming.authority}${incoming.url}`);
    (HOSTS[url.hostname] ?? others)({ incoming, outgoing, url });
  },
);
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
server.on('upgrade', (request, socket, head) =>
  sockets.handleUpgrade(request, socket, head, (client) =>
    client.on('message', (data) => void client.send(`echo ${String(data)}`)),
  ),
);
server.listen(Number(port), host, () => void process.stdout.write('ready\n'));
