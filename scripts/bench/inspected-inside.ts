/**
 * The client of inspected.ts, the same for all ways, outside and inside a sandbox; so it imports nothing of ours. Arguments: `direct`
 * or `connect`, where to connect to (host, port), the origin (host, port), and a file of roots beside Node's. For each line of
 * standard input it does what the line says and prints one line of JSON.
 */
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { createSecureContext, getCACertificates, connect as secure, type TLSSocket } from 'node:tls';

const [way = '', host = '', port = '', originHost = '', originPort = '', rootsFile = ''] =
  process.argv.slice(2);
const roots = createSecureContext({ ca: [...getCACertificates('extra'), readFileSync(rootsFile, 'utf8')] });
const authority = `${originHost}:${originPort}`;
const requestOf = (path: string): string =>
  `GET ${path} HTTP/1.1\r\nHost: ${authority}\r\nAccept: */*\r\n\r\n`;

/** What one connection waits for. */
interface Waiting {
  resolve: (bytes: number) => void;
  reject: (error: Error) => void;
}

/** A connection on which one request is under way at a time. */
class Connection {
  readonly #socket: TLSSocket;
  #waiting: Waiting | undefined;
  /** Of the answer's body; undefined before its head has come. */
  #left: number | undefined;
  #bytes = 0;

  constructor(socket: TLSSocket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', (error) => this.#waiting?.reject(error));
    socket.on('close', () => this.#waiting?.reject(new Error('the connection ended')));
  }

  get(path: string): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#left = undefined;
      this.#bytes = 0;
      this.#socket.write(requestOf(path));
    });
  }

  close(): void {
    this.#waiting = undefined;
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    let body = chunk.length;
    if (this.#left === undefined) {
      // Heads are small: they come in one piece.
      const end = chunk.indexOf('\r\n\r\n');
      const head = chunk.toString('latin1', 0, end);
      const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1];
      if (end < 0 || !head.startsWith('HTTP/1.1 200') || length === undefined)
        throw new Error(`no answer to measure: ${chunk.toString('latin1', 0, 300)}`);
      this.#left = Number(length);
      body -= end + 4;
    }
    this.#bytes += body;
    this.#left -= body;
    if (this.#left > 0) return;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve(this.#bytes);
  }
}

const tunnelled = (socket: Socket): Promise<void> =>
  new Promise((resolve, reject) => {
    socket.once('data', (answer: Buffer) => {
      socket.off('error', reject);
      const line = answer.toString('latin1').split('\r\n', 1)[0] ?? '';
      if (/^HTTP\/1\.[01] 200/.test(line)) resolve();
      else reject(new Error(`the proxy says ${line}`));
    });
    socket.once('error', reject);
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  });

async function open(): Promise<Connection> {
  const socket = connect({ host, port: Number(port), noDelay: true });
  if (way === 'connect') await tunnelled(socket);
  return new Promise((resolve, reject) => {
    const secured = secure({ socket, servername: originHost, secureContext: roots }, () => {
      secured.off('error', reject);
      resolve(new Connection(secured));
    });
    secured.once('error', reject);
  });
}

interface Lane {
  readonly one: () => Promise<void>;
  readonly end: () => void;
}

/** Does `one` again and again, so many at a time, for so long; how long each took, in milliseconds. */
async function load(lanes: number, ms: number, makeLane: () => Promise<Lane>) {
  const ready = await Promise.all(Array.from({ length: lanes }, makeLane));
  const times: number[] = [];
  const begun = performance.now();
  await Promise.all(
    ready.map(async ({ one, end }) => {
      for (let at = performance.now(); at - begun < ms; ) {
        await one();
        const now = performance.now();
        times.push(now - at);
        at = now;
      }
      end();
    }),
  );
  const seconds = (performance.now() - begun) / 1000;
  times.sort((a, b) => a - b);
  const at = (share: number): number =>
    times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
  return { count: times.length, rate: times.length / seconds, p50: at(0.5), p99: at(0.99) };
}

const idle: Connection[] = [];
const WORK: Readonly<Record<string, (first: number, second: number) => Promise<unknown>>> = {
  hello: async () => 'up',
  /** Requests on connections that are kept. */
  keep: (lanes, ms) =>
    load(lanes, ms, async () => {
      const connection = await open();
      return { one: async () => void (await connection.get('/')), end: () => connection.close() };
    }),
  /** A connection for each request. */
  fresh: (lanes, ms) =>
    load(lanes, ms, async () => ({
      one: async () => {
        const connection = await open();
        await connection.get('/');
        connection.close();
      },
      end: () => undefined,
    })),
  body: async () => {
    const connection = await open();
    const begun = performance.now();
    const bytes = await connection.get('/big');
    connection.close();
    return { mbps: bytes / (performance.now() - begun) / 1000 };
  },
  /** Connections with a request behind them, which stay. */
  idle: async (count) => {
    while (idle.length < count) {
      const batch = await Promise.all(Array.from({ length: Math.min(10, count - idle.length) }, open));
      for (const connection of batch) await connection.get('/');
      idle.push(...batch);
    }
    return { open: idle.length };
  },
  drop: async () => {
    for (const connection of idle.splice(0)) connection.close();
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [what = '', first, second] = line.split(' ');
  const work = WORK[what];
  if (work === undefined) throw new Error(`no such work: ${what}`);
  console.log(JSON.stringify(await work(Number(first), Number(second))));
}
