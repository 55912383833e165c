import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** Packet types of SFTP version 3. */
export const TYPE = {
  INIT: 1,
  VERSION: 2,
  OPEN: 3,
  CLOSE: 4,
  READ: 5,
  WRITE: 6,
  LSTAT: 7,
  FSTAT: 8,
  SETSTAT: 9,
  FSETSTAT: 10,
  OPENDIR: 11,
  READDIR: 12,
  REMOVE: 13,
  MKDIR: 14,
  RMDIR: 15,
  REALPATH: 16,
  STAT: 17,
  RENAME: 18,
  READLINK: 19,
  SYMLINK: 20,
  STATUS: 101,
  HANDLE: 102,
  DATA: 103,
  NAME: 104,
  ATTRS: 105,
  EXTENDED: 200,
  EXTENDED_REPLY: 201,
} as const;

export const STATUS = {
  OK: 0,
  EOF: 1,
  NO_SUCH_FILE: 2,
  PERMISSION_DENIED: 3,
  FAILURE: 4,
  BAD_MESSAGE: 5,
  OP_UNSUPPORTED: 8,
} as const;

/** A number is 32 bits, a bigint 64, a string or a buffer has its length before it, raw bytes stand in an array. */
export type Field = number | bigint | string | Buffer | readonly [Buffer];

const encode = (field: Field): Buffer => {
  if (typeof field === 'number') {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(field);
    return bytes;
  }
  if (typeof field === 'bigint') {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(field);
    return bytes;
  }
  if (typeof field === 'string' || Buffer.isBuffer(field)) {
    const bytes = Buffer.from(field);
    return Buffer.concat([encode(bytes.length), bytes]);
  }
  return field[0];
};

export const packetOf = (type: number, ...fields: readonly Field[]): Buffer => {
  const body = Buffer.concat([Buffer.from([type]), ...fields.map(encode)]);
  return Buffer.concat([encode(body.length), body]);
};

export interface Answer {
  readonly type: number;
  /** What follows type and id. */
  readonly body: Buffer;
  /** Of a STATUS. */
  readonly status: number | undefined;
  /** Of a HANDLE. */
  readonly handle: Buffer;
}

/** Speaks to a file server, one request after the other or many at once. */
export class SftpClient {
  readonly child: ChildProcess;
  readonly exited: Promise<unknown[]>;
  errors = '';
  #id = 0;
  #input = Buffer.alloc(0);
  readonly #waiting = new Map<number, (answer: Answer | undefined) => void>();

  constructor(command: readonly string[], cwd: string) {
    const [program = '', ...args] = command;
    this.child = spawn(program, args, {
      cwd,
      env: { HOME: cwd, ASAN_OPTIONS: 'detect_leaks=0' },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.exited = once(this.child, 'close');
    this.child.stdin?.on('error', () => undefined);
    this.child.stdout?.on('data', (chunk: Buffer) => this.#take(chunk));
    this.child.stderr?.on('data', (chunk: Buffer) => (this.errors += chunk));
    void this.exited.then(() => {
      for (const resolve of this.#waiting.values()) resolve(undefined);
    });
  }

  /** The version that the server speaks, and its extensions. */
  async init(): Promise<{ readonly version: number; readonly extensions: Readonly<Record<string, string>> }> {
    const answered = this.#wait(-1);
    this.send(packetOf(TYPE.INIT, 3));
    const { body } = await answered;
    const extensions: Record<string, string> = {};
    for (let at = 4; at < body.length; ) {
      const [name, value] = [stringAt(body, at), stringAt(body, at + 4 + body.readUInt32BE(at))];
      extensions[name.toString()] = value.toString();
      at += 8 + name.length + value.length;
    }
    return { version: body.readUInt32BE(0), extensions };
  }

  async request(type: number, ...fields: readonly Field[]): Promise<Answer> {
    this.#id += 1;
    const answered = this.#wait(this.#id);
    this.send(packetOf(type, this.#id, ...fields));
    return answered;
  }

  send(bytes: Buffer): void {
    this.child.stdin?.write(bytes);
  }

  async end(): Promise<unknown> {
    this.child.stdin?.end();
    return (await this.exited)[0];
  }

  async #wait(id: number): Promise<Answer> {
    const answer = await new Promise<Answer | undefined>((resolve) => this.#waiting.set(id, resolve));
    this.#waiting.delete(id);
    if (answer === undefined) throw new Error(`the server has ended: ${this.errors}`);
    return answer;
  }

  #take(chunk: Buffer): void {
    this.#input = Buffer.concat([this.#input, chunk]);
    while (this.#input.length >= 4 && this.#input.length >= 4 + this.#input.readUInt32BE(0)) {
      const packet = this.#input.subarray(4, 4 + this.#input.readUInt32BE(0));
      this.#input = this.#input.subarray(4 + packet.length);
      const type = packet.readUInt8(0);
      if (type === TYPE.VERSION) {
        this.#waiting.get(-1)?.({
          type,
          body: packet.subarray(1),
          status: undefined,
          handle: Buffer.alloc(0),
        });
        continue;
      }
      const body = packet.subarray(5);
      this.#waiting.get(packet.readUInt32BE(1))?.({
        type,
        body,
        status: type === TYPE.STATUS ? body.readUInt32BE(0) : undefined,
        handle: type === TYPE.HANDLE ? stringAt(body, 0) : Buffer.alloc(0),
      });
    }
  }
}

/** The string that stands at `at`, without its length. */
export const stringAt = (bytes: Buffer, at: number): Buffer =>
  bytes.subarray(at + 4, at + 4 + bytes.readUInt32BE(at));

/** The names of a NAME. */
export function namesOf(body: Buffer): readonly string[] {
  const names: string[] = [];
  for (let at = 4; names.length < body.readUInt32BE(0); ) {
    const name = stringAt(body, at);
    at += 4 + name.length;
    at += 4 + stringAt(body, at).length;
    const has = body.readUInt32BE(at);
    at += 4 + (has & 1 ? 8 : 0) + (has & 2 ? 8 : 0) + (has & 4 ? 4 : 0) + (has & 8 ? 8 : 0);
    names.push(name.toString());
  }
  return names;
}
