/**
 * Runs a virtual machine in the foreground as `runc run` runs a container. Arguments: the directory of the
 * sockets and the console, then qemu's command. Passes standard input, output and error through, signals to the
 * container's first process, and ends with its code; with 125 when the machine ends before its container.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';

const HEAD = 5;
const CHUNK = 32_768;

const frame = (kind: number, payload: Buffer): Buffer => {
  const head = Buffer.alloc(HEAD);
  head.writeUInt8(kind, 0);
  head.writeUInt32BE(payload.length, 1);
  return Buffer.concat([head, payload]);
};

const [directory = '', command = '', ...args] = process.argv.slice(2);

/** Accepts the one connection that qemu makes. */
const port = (name: string): Promise<Socket> => {
  const path = join(directory, name);
  rmSync(path, { force: true });
  const server = createServer();
  const connected = new Promise<Socket>((done) => {
    server.once('connection', (socket: Socket) => {
      server.close();
      socket.on('error', () => socket.destroy());
      done(socket);
    });
  });
  server.listen(path);
  return connected;
};

const writeAll = (stream: NodeJS.WriteStream, bytes: Buffer): Promise<void> =>
  new Promise((done) => stream.write(bytes, () => done()));

/** Reads frames to the one that carries the exit code; undefined when the machine ends before. */
const follow = async (socket: Socket): Promise<number | undefined> => {
  let rest: Buffer = Buffer.alloc(0);
  for await (const bytes of socket as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
    while (rest.length >= HEAD && rest.length >= HEAD + rest.readUInt32BE(1)) {
      const end = HEAD + rest.readUInt32BE(1);
      const payload = rest.subarray(HEAD, end);
      const kind = rest.readUInt8(0);
      rest = rest.subarray(end);
      if (kind === 3) return payload.readUInt8(0);
      await writeAll(kind === 1 ? process.stdout : process.stderr, payload);
    }
  }
  return undefined;
};

const feed = async (socket: Socket): Promise<void> => {
  for await (const bytes of process.stdin as AsyncIterable<Buffer>) {
    for (let at = 0; at < bytes.length; at += CHUNK) {
      const sent = socket.write(frame(0, bytes.subarray(at, at + CHUNK)));
      if (!sent) await new Promise<void>((done) => socket.once('drain', () => done()));
    }
  }
  socket.write(frame(0, Buffer.alloc(0)));
};

const waitingStream = port('stream');
const waitingInput = port('input');
const pending: number[] = [];
let stream: Socket | undefined;
for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  process.on(name, () => {
    const number = constants.signals[name];
    if (stream === undefined) pending.push(number);
    else stream.write(frame(4, Buffer.from([number])));
  });
}
process.stdout.on('error', () => process.exit(141));
process.stderr.on('error', () => process.exit(141));

const qemu = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], {
  stdio: ['ignore', 'pipe', 'pipe'],
});
let words = '';
for (const output of [qemu.stdout, qemu.stderr]) {
  output.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-4096);
  });
}
const ended = new Promise<undefined>((done) => qemu.once('close', () => done(undefined)));
const connected = await Promise.race([Promise.all([waitingStream, waitingInput]), ended]);
let code: number | undefined;
if (connected !== undefined) {
  const [first, input] = connected;
  stream = first;
  for (const number of pending) stream.write(frame(4, Buffer.from([number])));
  feed(input).catch(() => input.destroy());
  code = await follow(stream);
  qemu.kill('SIGKILL');
  await ended;
}
if (code === undefined) {
  const file = join(directory, 'console');
  const tail = existsSync(file) ? readFileSync(file, 'utf8') : '';
  // The kernel's own lines are stack traces mostly; the file has them.
  const said = tail.split('\n').filter((line) => !/^\[ *\d/.test(line));
  writeSync(2, `the virtual machine ended before its container\n${words}${said.slice(-20).join('\n')}\n`);
}
process.exit(code ?? 125);
