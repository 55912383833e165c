/**
 * All hosts of the world in one process: HTTP, HTTPS, DNS, and on some more ports a server that records
 * whatever comes. Takes one argument, a JSON settings object; started by scripts/lib/world.ts.
 */
import { createSocket } from 'node:dgram';
import { appendFileSync, readFileSync } from 'node:fs';
import { createServer as createHttp, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { createServer as createTcp, type Socket } from 'node:net';
import { answer, readQuestion } from './dns.ts';
import type { WorldRecord } from './record.ts';
import type { ControlReply, ControlRequest, WorldSettings } from './settings.ts';

const settings = JSON.parse(process.argv[2] ?? '') as WorldSettings;

const note = (record: Omit<WorldRecord, 'time'>): void =>
  appendFileSync(settings.records, `${JSON.stringify({ time: new Date().toISOString(), ...record })}\n`);

const ends = (socket: Socket): { readonly local: string; readonly peer: string } => ({
  local: `${socket.localAddress}:${socket.localPort}`,
  peer: `${socket.remoteAddress}:${socket.remotePort}`,
});

const CHUNK = Buffer.alloc(1 << 16, 0x61);
/** What a request may send before it is cut off: /sink takes 16 GiB, for measuring. */
const BODY_LIMIT = 16 * 2 ** 30;

/** Sends `size` bytes at the pace that the client reads. */
const sendBytes = (response: ServerResponse, size: number): void => {
  response.writeHead(200, { 'content-length': size, 'content-type': 'application/octet-stream' });
  let left = size;
  const more = (): void => {
    while (left > 0) {
      const part = left >= CHUNK.length ? CHUNK : CHUNK.subarray(0, left);
      left -= part.length;
      if (!response.write(part)) {
        response.once('drain', more);
        return;
      }
    }
    response.end();
  };
  more();
};

const serveHttp =
  (protocol: 'http' | 'https') =>
  (incoming: IncomingMessage, response: ServerResponse): void => {
    const path = incoming.url ?? '/';
    const host = incoming.headers.host ?? '';
    const method = incoming.method ?? '';
    const { authorization } = incoming.headers;
    note({ protocol, ...ends(incoming.socket), host, method, path, ...(authorization && { authorization }) });
    const bytes = /^\/bytes\/(\d{1,11})$/.exec(path)?.[1];
    if (bytes !== undefined) {
      sendBytes(response, Number(bytes));
      return;
    }
    let received = 0;
    incoming.on('data', (chunk: Buffer) => {
      received += chunk.length;
      if (received > BODY_LIMIT) incoming.destroy();
    });
    incoming.on('end', () => {
      const seen = {
        protocol,
        host,
        method,
        path,
        headers: incoming.headers,
        received,
        ...ends(incoming.socket),
      };
      response.writeHead(200, { 'content-type': 'application/json' }).end(`${JSON.stringify(seen)}\n`);
    });
  };

const lookUp = (message: Buffer, local: string, peer: string): Buffer | undefined => {
  const question = readQuestion(message);
  if (question === undefined) return undefined;
  note({ protocol: 'dns', local, peer, name: question.name });
  return answer(message, question, settings.names[question.name]);
};

/** DNS over TCP frames each message with its length (RFC 1035, 4.2.2). */
const serveDnsOverTcp = (socket: Socket): void => {
  let pending: Buffer = Buffer.alloc(0);
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
      const end = 2 + pending.readUInt16BE(0);
      const { local, peer } = ends(socket);
      const reply = lookUp(pending.subarray(2, end), local, peer);
      pending = pending.subarray(end);
      if (reply === undefined) {
        socket.destroy();
        return;
      }
      const size = Buffer.alloc(2);
      size.writeUInt16BE(reply.length);
      socket.write(Buffer.concat([size, reply]));
    }
  });
};

/** Records the connection, then the first bytes, and sends everything back. */
const recordTcp = (socket: Socket): void => {
  note({ protocol: 'tcp', ...ends(socket) });
  socket.on('error', () => socket.destroy());
  socket.once('data', (chunk) => {
    note({ protocol: 'tcp', ...ends(socket), text: chunk.toString('latin1', 0, 200) });
  });
  socket.pipe(socket);
};

const waits: Array<Promise<void>> = [];

const listen = (server: ReturnType<typeof createTcp>, port: number): void => {
  waits.push(
    new Promise((done, fail) => {
      server.on('error', fail);
      server.listen({ port, host: '0.0.0.0', backlog: 511 }, done);
    }),
  );
};

const listenUdp = (
  port: number,
  host: string,
  reply: (message: Buffer, peer: string) => Buffer | undefined,
): void => {
  const socket = createSocket('udp4');
  socket.on('message', (message, from) => {
    const response = reply(message, `${from.address}:${from.port}`);
    if (response !== undefined) socket.send(response, from.port, from.address);
  });
  waits.push(
    new Promise((done, fail) => {
      socket.on('error', fail);
      socket.bind(port, host, done);
    }),
  );
};

for (const port of settings.httpPorts) listen(createHttp(serveHttp('http')), port);
const identity = { key: readFileSync(settings.key), cert: readFileSync(settings.certificate) };
for (const port of settings.httpsPorts) listen(createHttps(identity, serveHttp('https')), port);
listen(createTcp(serveDnsOverTcp), 53);
for (const port of settings.tcpPorts) listen(createTcp(recordTcp), port);
// Bound to its own address, so that the reply comes from where the query went; the others only record.
listenUdp(53, settings.dnsAddress, (message, peer) => lookUp(message, `${settings.dnsAddress}:53`, peer));
for (const address of settings.udpAddresses) {
  for (const port of settings.udpPorts) {
    if (port === 53 && address === settings.dnsAddress) continue;
    listenUdp(port, address, (message, peer) => {
      note({ protocol: 'udp', local: `${address}:${port}`, peer, text: message.toString('latin1', 0, 200) });
      return undefined;
    });
  }
}

if (settings.relay !== undefined) {
  const { host, port } = settings.relay;
  const relay = createTcp({ pauseOnConnect: true }, (socket) => void process.send?.('relay', socket));
  waits.push(
    new Promise((done, fail) => {
      relay.on('error', fail);
      relay.listen({ host, port }, done);
    }),
  );
}

/** Forwards a request of the world's owner to a control address that only this network namespace reaches. */
const forward = ({ id, url, method, body }: ControlRequest): void => {
  const reply = (result: Omit<ControlReply, 'id'>): void => void process.send?.({ id, ...result });
  const outgoing = request(url, { method, headers: { 'content-type': 'application/json' } }, (response) => {
    const parts: Buffer[] = [];
    response.on('data', (chunk: Buffer) => parts.push(chunk));
    response.on('end', () =>
      reply({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString() }),
    );
  });
  outgoing.setTimeout(30_000, () => outgoing.destroy(new Error('no answer within 30 s')));
  outgoing.on('error', (error) => reply({ status: 0, body: error.message }));
  outgoing.end(body);
};
process.on('message', (message: ControlRequest) => forward(message));
process.on('disconnect', () => process.exit(0));

await Promise.all(waits);
process.send?.('ready');
