import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocket, WebSocketServer } from 'ws';
import { type Authorities, startHttp, startInspectingProxy, tunnel } from './inspection-fixture.ts';

export const KEY = 'AAAAAAAAAAAAAAAAAAAAAA==';
const CHAT_RULES = [
  '{ method: GET, path: "/chat" }',
  '{ method: GET, path: "/mute" }',
  '{ method: WEBSOCKET_TEXT, path: "/chat" }',
];
export const chatPolicy = (port: number, more = '', rules: readonly string[] = CHAT_RULES) => `version: 1
network_policies:
  chat:
    endpoints:
      - host: chat.test
        port: ${port}
        protocol: websocket
        enforcement: enforce
        rules:
${rules.map((rule) => `          - allow: ${rule}`).join('\n')}
${more}
    binaries: [{ path: "/**" }]
`;

export const handshake = (path: string, place: string, more = ''): string =>
  `GET ${path} HTTP/1.1\r\nHost: ${place}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n${more}\r\n`;

/** A client's frame (RFC 6455, 5.2), masked unless told. `length` writes another length than the payload has. */
export function frame(
  opcode: number,
  payload: string | Buffer,
  options: {
    readonly fin?: boolean;
    readonly mask?: boolean;
    readonly rsv?: number;
    readonly length?: bigint;
  } = {},
): Buffer {
  const data = Buffer.from(payload);
  const { fin = true, mask = true, rsv = 0, length = BigInt(data.length) } = options;
  const short = length < 126n ? Number(length) : length < 65_536n ? 126 : 127;
  const extended = Buffer.alloc(short === 126 ? 2 : short === 127 ? 8 : 0);
  if (short === 126) extended.writeUInt16BE(Number(length));
  if (short === 127) extended.writeBigUInt64BE(length);
  const key = mask ? randomBytes(4) : Buffer.alloc(0);
  if (mask) for (let at = 0; at < data.length; at++) data[at] = (data[at] ?? 0) ^ (key[at % 4] ?? 0);
  const head = Buffer.from([(fin ? 0x80 : 0) | (rsv << 4) | opcode, (mask ? 0x80 : 0) | short]);
  return Buffer.concat([head, extended, key, data]);
}

/** Frames of a server that came whole, and the bytes of one that did not. */
export function serverFrames(bytes: Buffer): { opcode: number; payload: Buffer; fin: boolean }[] {
  const frames = [];
  for (let at = 0; at + 2 <= bytes.length; ) {
    const short = (bytes[at + 1] ?? 0) & 0x7f;
    const extended = short === 126 ? 2 : short === 127 ? 8 : 0;
    if (at + 2 + extended > bytes.length) break;
    const length =
      short === 126
        ? bytes.readUInt16BE(at + 2)
        : short === 127
          ? Number(bytes.readBigUInt64BE(at + 2))
          : short;
    const begin = at + 2 + extended;
    if (begin + length > bytes.length) break;
    const first = bytes[at] ?? 0;
    frames.push({
      opcode: first & 0x0f,
      fin: (first & 0x80) !== 0,
      payload: bytes.subarray(begin, begin + length),
    });
    at = begin + length;
  }
  return frames;
}

/** What a client has received behind the server's head. */
export class RawClient {
  readonly socket: Socket;
  #bytes: Buffer[] = [];
  ended: 'end' | 'reset' | undefined;
  #fin = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => this.#bytes.push(chunk));
    socket.on('end', () => {
      this.#fin = true;
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.ended = this.#fin ? 'end' : 'reset';
    });
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#bytes);
  }
  /** The server's answer to the handshake. */
  get head(): string {
    const end = this.bytes.indexOf('\r\n\r\n');
    return end < 0 ? '' : this.bytes.toString('latin1', 0, end);
  }
  get status(): number {
    return Number(/^HTTP\/1\.1 (\d+)/.exec(this.head)?.[1] ?? 0);
  }
  get frames() {
    const end = this.bytes.indexOf('\r\n\r\n');
    return end < 0 ? [] : serverFrames(this.bytes.subarray(end + 4));
  }
  get texts(): string[] {
    return this.frames.filter(({ opcode }) => opcode === 1).map(({ payload }) => payload.toString());
  }
  /** The code and reason of the close frame that came. */
  get closed(): { code: number; reason: string } | undefined {
    const close = this.frames.find(({ opcode }) => opcode === 8);
    if (close === undefined) return undefined;
    return { code: close.payload.readUInt16BE(0), reason: close.payload.toString('utf8', 2) };
  }
  write(bytes: string | Buffer): void {
    this.socket.write(bytes);
  }
}

/** One message or event that a server saw. */
export type Seen =
  | { kind: 'message'; text: string; isBinary: boolean }
  | { kind: 'ping' | 'pong'; text: string }
  | { kind: 'close'; code: number; reason: string };

/** A proxy in front of a WebSocket server that answers each message with itself and keeps what it sees. */
export async function startChat(
  authorities: Authorities,
  options: {
    readonly perMessageDeflate?: ConstructorParameters<typeof WebSocketServer>[0]['perMessageDeflate'];
    readonly yaml?: (port: number) => string;
    readonly onConnection?: (socket: WebSocket) => void;
    readonly onUpgrade?: (request: IncomingMessage, socket: Duplex) => void;
    readonly onRequest?: Parameters<typeof startHttp>[0];
    readonly proxy?: Parameters<typeof startInspectingProxy>[2];
  } = {},
) {
  const seen: Seen[] = [];
  const heads: IncomingMessage[] = [];
  const sockets: Duplex[] = [];
  const accepted = new WebSocketServer({
    noServer: true,
    perMessageDeflate: options.perMessageDeflate ?? false,
  });
  const upstream = await startHttp(
    options.onRequest ?? ((_request, response) => response.writeHead(426).end('upgrade')),
    (server) =>
      server.on('upgrade', (request, socket, head) => {
        heads.push(request);
        sockets.push(socket);
        socket.on('error', () => undefined);
        if (options.onUpgrade !== undefined) {
          socket.once('end', () => socket.end());
          socket.resume();
          return options.onUpgrade(request, socket);
        }
        accepted.handleUpgrade(request, socket, head, (peer) => {
          peer.on('error', () => undefined);
          peer.on('ping', (data: Buffer) => seen.push({ kind: 'ping', text: data.toString() }));
          peer.on('pong', (data: Buffer) => seen.push({ kind: 'pong', text: data.toString() }));
          peer.on('close', (code: number, reason: Buffer) =>
            seen.push({ kind: 'close', code, reason: reason.toString() }),
          );
          if (options.onConnection !== undefined) options.onConnection(peer);
          peer.on('message', (data: Buffer, isBinary: boolean) => {
            seen.push({
              kind: 'message',
              text: data.length > 1000 ? `${data.length} bytes` : data.toString(),
              isBinary,
            });
            if (options.onConnection === undefined) peer.send(data, { binary: isBinary });
          });
        });
      }),
  );
  const proxy = await startInspectingProxy(
    authorities,
    (options.yaml ?? chatPolicy)(upstream.port),
    options.proxy,
  );
  const place = `chat.test:${upstream.port}`;
  return {
    ...proxy,
    place,
    upstream,
    seen,
    heads,
    sockets,
    messages: () => seen.flatMap((one) => (one.kind === 'message' ? [one.text] : [])),
    /** A client that writes whatever the test wants, behind a handshake. */
    async raw(path = '/chat', more = ''): Promise<RawClient> {
      const client = new RawClient(await tunnel(proxy.port, place));
      client.write(handshake(path, place, more));
      return client;
    },
    /** A well-behaved client. */
    async client(perMessageDeflate: ConstructorParameters<typeof WebSocket>[1]['perMessageDeflate'] = false) {
      const socket = await tunnel(proxy.port, place);
      const received: string[] = [];
      const client = new WebSocket(`ws://${place}/chat`, {
        createConnection: () => socket,
        perMessageDeflate,
      });
      client.on('message', (data: Buffer) => received.push(data.toString()));
      client.on('error', () => undefined);
      await new Promise<void>((resolve, reject) => {
        client.once('open', () => resolve());
        client.once('error', reject);
      });
      return { client, received };
    },
    stop() {
      upstream.stop();
      return proxy.proxy.stop();
    },
  };
}
