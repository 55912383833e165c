/**
 * What psql and redis-cli need of a server to believe in it, on 5433 and 6380: the address is the only argument. Started in
 * the world's network namespace.
 */
import { createServer, type Socket } from 'node:net';

const [host = '127.0.0.1'] = process.argv.slice(2);

const framed = (type: string, ...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};
const text = (value: string): Buffer => Buffer.from(`${value}\0`);
const READY = framed('Z', Buffer.from('I'));
/** sslmode and gssencmode ask first (PostgreSQL, "Message Formats": SSLRequest, GSSENCRequest). */
const ENCRYPTION = new Set([80_877_103, 80_877_104]);

const WELCOME = Buffer.concat([
  framed('R', Buffer.from([0, 0, 0, 0])),
  framed('S', text('server_version'), text('15.0')),
  framed('S', text('client_encoding'), text('UTF8')),
  READY,
]);
/** One row with one column of text: "forty-two". */
const ROW = Buffer.concat([
  framed(
    'T',
    Buffer.from([0, 1]),
    text('answer'),
    Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0]),
  ),
  framed('D', Buffer.from([0, 1, 0, 0, 0, 9]), Buffer.from('forty-two')),
  framed('C', text('SELECT 1')),
  READY,
]);

function servePostgres(socket: Socket): void {
  let pending = Buffer.alloc(0);
  let started = false;
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    for (;;) {
      const head = started ? 1 : 0;
      if (pending.length < head + 4) return;
      const size = head + pending.readInt32BE(head);
      if (pending.length < size) return;
      const message = pending.subarray(0, size);
      pending = pending.subarray(size);
      if (!started && ENCRYPTION.has(message.readInt32BE(4))) socket.write('N');
      else if (!started) {
        started = true;
        socket.write(WELCOME);
      } else if (message[0] === 0x51) socket.write(ROW);
      else if (message[0] === 0x58) socket.end();
    }
  });
}

function serveRedis(socket: Socket): void {
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => void socket.write(chunk.includes('PING') ? '+PONG\r\n' : '+OK\r\n'));
}

createServer(servePostgres).listen(5433, host, () =>
  createServer(serveRedis).listen(6380, host, () => void process.stdout.write('ready\n')),
);
