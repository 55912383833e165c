import type { Socket as DatagramSocket } from 'node:dgram';
import type { Server, Socket } from 'node:net';
import { decodeQuery } from './decode.ts';
import { encodeAnswer, encodeRejection, udpLimit } from './encode.ts';
import type { Question } from './message.ts';
import { type Answer, RCODE } from './message.ts';

export type AnswerQuestion = (question: Question) => Promise<Answer>;

export interface DnsServerOptions {
  readonly answer: AnswerQuestion;
  /** TCP connections at once, 64 by default; one more takes the place of the one that was silent for longest. */
  readonly maxConnections?: number;
  /** A connection without a query for so long is closed; 10 s by default. */
  readonly idleMs?: number;
}

/** Answers DNS on sockets that listen already. */
export interface DnsServer {
  serveTcp(listener: Server): void;
  serveUdp(socket: DatagramSocket): void;
  readonly openConnections: () => number;
  stop(): void;
}

const MAX_CONNECTIONS = 64;
const IDLE_MS = 10_000;
/** A query holds one name and a few options; what is longer is none. */
const MAX_QUERY_BYTES = 1024;
/** Datagrams being answered at once; what comes then is dropped, and asked again by its sender. */
const MAX_DATAGRAMS = 256;
const TCP_LIMIT = 65_535;

/** Makes a DNS server over UDP and TCP (RFC 7766). Answers on one TCP connection come in the order of their queries. */
export function createDnsServer(options: DnsServerOptions): DnsServer {
  const { maxConnections = MAX_CONNECTIONS, idleMs = IDLE_MS } = options;
  /** The one that was silent for longest comes first. */
  const connections = new Set<Socket>();
  const listeners: Server[] = [];
  const datagramSockets: DatagramSocket[] = [];
  let datagrams = 0;

  const respond = async (message: Buffer, overTcp: boolean): Promise<Buffer | undefined> => {
    const query = decodeQuery(message);
    if (!query.ok) return encodeRejection(query.error);
    const answer = await options
      .answer(query.value.question)
      .catch((): Answer => ({ rcode: RCODE.SERVFAIL, records: [] }));
    return encodeAnswer(query.value, answer, overTcp ? TCP_LIMIT : udpLimit(query.value));
  };

  const accept = (socket: Socket): void => {
    const [silent] = connections;
    if (silent !== undefined && connections.size >= maxConnections) {
      connections.delete(silent);
      silent.destroy();
    }
    socket.setNoDelay(true);
    socket.allowHalfOpen = true;
    connections.add(socket);
    socket.setTimeout(idleMs, () => socket.destroy());
    socket.on('error', () => undefined); // 'close' follows
    socket.once('close', () => connections.delete(socket));
    serveConnection(socket, respond, () => {
      if (connections.delete(socket)) connections.add(socket);
    }).catch(() => socket.destroy());
  };

  return {
    serveTcp(listener) {
      listener.on('connection', accept);
      listener.on('error', () => undefined); // running out of descriptors passes
      listeners.push(listener);
    },
    serveUdp(socket) {
      datagramSockets.push(socket);
      socket.on('error', () => undefined); // a sender that has gone (ECONNREFUSED)
      socket.on('message', (message, from) => {
        if (datagrams >= MAX_DATAGRAMS) return;
        datagrams += 1;
        respond(message, false)
          .then((reply) => {
            if (reply !== undefined) socket.send(reply, from.port, from.address, () => undefined);
          })
          .catch(() => undefined) // the socket was closed meanwhile
          .finally(() => {
            datagrams -= 1;
          });
      });
    },
    openConnections: () => connections.size,
    stop() {
      for (const server of listeners) server.close();
      for (const socket of datagramSockets) socket.close();
      for (const socket of connections) socket.destroy();
    },
  };
}

/**
 * Answers the queries of one connection, each framed by its length (RFC 1035, 4.2.2), one after the other: the next is read
 * when the last has been answered, so a client that reads nothing makes us hold nothing.
 */
async function serveConnection(
  socket: Socket,
  respond: (message: Buffer, overTcp: boolean) => Promise<Buffer | undefined>,
  onQuery: () => void,
): Promise<void> {
  let pending: Buffer = Buffer.alloc(0);
  // A client may end its side behind its last query: the answer still goes out.
  const chunks: AsyncIterable<Buffer> = socket.iterator({ destroyOnReturn: false });
  for await (const chunk of chunks) {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    while (pending.length >= 2) {
      const size = pending.readUInt16BE(0);
      if (size > MAX_QUERY_BYTES) return void socket.destroy();
      if (pending.length < 2 + size) break;
      onQuery();
      const reply = await respond(pending.subarray(2, 2 + size), true);
      pending = pending.subarray(2 + size);
      if (reply === undefined || socket.destroyed) return void socket.destroy();
      const length = Buffer.alloc(2);
      length.writeUInt16BE(reply.length);
      if (!socket.write(Buffer.concat([length, reply]))) await drained(socket);
    }
  }
  socket.end();
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    socket.once('drain', done);
    socket.once('close', done);
  });
}
