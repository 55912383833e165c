import { type ChildProcess, spawn } from 'node:child_process';
import { isIP } from 'node:net';
import type { Connection } from './socket-table.ts';

/** An answer takes some 0.1 ms; after so long the tables of /proc are read instead. */
const ANSWER_MS = 300;
const START_MS = 2_000;
/** Questions that wait for their answer; more are sent to /proc. */
const MAX_WAITING = 256;

/** Finds the client's socket of a connection by netlink (init/diag.c), which costs the same however many there are. */
export interface SocketDiag {
  /** Its process; the workload must keep its hands off it, and it is no caller. */
  readonly pid: number;
  /** The inode of the client's socket; undefined when it is not found, or nobody answers. */
  find(connection: Connection): Promise<number | undefined>;
  stop(): void;
}

/**
 * Starts the finder in our own network, or in that of the process `networkOf`. Undefined where the kernel has no
 * sock_diag (gVisor) or that network cannot be entered: then /proc has to do.
 */
export async function startSocketDiag(
  launcher: string,
  networkOf: number | undefined,
): Promise<SocketDiag | undefined> {
  const child = spawn(launcher, ['diag', ...(networkOf === undefined ? [] : [String(networkOf)])], {
    stdio: ['pipe', 'pipe', 'ignore'],
    env: {},
  });
  const finder = new Finder(child);
  // It answers when it stands; a connection that cannot be is not found.
  const nobody = { localAddress: '127.0.0.1', localPort: 1, remoteAddress: '127.0.0.1', remotePort: 1 };
  if (child.pid === undefined || !(await finder.ask(nobody, START_MS)).answered) {
    finder.stop();
    return undefined;
  }
  return finder;
}

type Reply = { readonly answered: true; readonly inode: number } | { readonly answered: false };

class Finder implements SocketDiag {
  readonly #child: ChildProcess;
  readonly #waiting: ((reply: Reply) => void)[] = [];
  #text = '';
  #dead = false;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.once('error', () => this.#end());
    child.once('exit', () => this.#end());
    child.stdin?.on('error', () => this.#end());
    child.stdout?.setEncoding('latin1').on('data', (chunk: string) => this.#receive(chunk));
    // It dies with us, and must not keep us alive.
    child.unref();
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async find(connection: Connection): Promise<number | undefined> {
    const reply = await this.ask(connection, ANSWER_MS);
    return reply.answered && reply.inode > 0 ? reply.inode : undefined;
  }

  ask(connection: Connection, patienceMs: number): Promise<Reply> {
    if (this.#dead || this.#waiting.length >= MAX_WAITING) return Promise.resolve({ answered: false });
    const { localPort, remotePort } = connection;
    const [client, server] = [plain(connection.remoteAddress), plain(connection.localAddress)];
    // One question a line: what is no address must not become two.
    if (isIP(client) === 0 || isIP(server) === 0) return Promise.resolve({ answered: false });
    return new Promise((resolve) => {
      // Who is late once may be late for ever, and answers come in order: so that is the end of it.
      const timer = setTimeout(() => this.#end(), patienceMs);
      this.#waiting.push((reply) => {
        clearTimeout(timer);
        resolve(reply);
      });
      this.#child.stdin?.write(`${client} ${remotePort} ${server} ${localPort}\n`);
    });
  }

  stop(): void {
    this.#end();
  }

  #receive(chunk: string): void {
    const lines = (this.#text + chunk).split('\n');
    this.#text = lines.pop() ?? '';
    for (const line of lines) this.#waiting.shift()?.({ answered: true, inode: Number(line) });
  }

  #end(): void {
    if (this.#dead) return;
    this.#dead = true;
    this.#child.kill('SIGKILL');
    for (const settle of this.#waiting.splice(0)) settle({ answered: false });
  }
}

/** The kernel keeps an IPv4 connection of an IPv6 socket as IPv4. */
const plain = (address: string): string =>
  address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address;
