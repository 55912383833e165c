import type { ChildProcess } from 'node:child_process';

/** Rejects, naming `what`, when `work` has not settled after `ms` milliseconds. Does not stop the work. */
export async function within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: no end after ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks `ready` every `everyMs` until it returns something, at most `ms` each time and in all; rejects then, naming `what`. */
export async function until<T>(
  ms: number,
  what: string,
  ready: () => Promise<T | undefined> | T | undefined,
  everyMs = 10,
): Promise<T> {
  const deadline = Date.now() + ms;
  for (;;) {
    const value = await within(ms, what, Promise.resolve(ready()));
    if (value !== undefined) return value;
    if (Date.now() > deadline) throw new Error(`${what}: not so after ${ms / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}

/** How much of a client's last words is kept. */
const WORDS = 4096;

/**
 * A client that answers lines. `ask` writes one and resolves with the next line that comes; it rejects when
 * the client ends, with its last words, or when `ms` have passed.
 */
export interface LineClient {
  ask(line: string, ms: number): Promise<string>;
}

/** Makes a client of a child whose stdin and stdout are pipes. */
export function lineClient(name: string, child: ChildProcess): LineClient {
  let text = '';
  let words = '';
  let gone: string | undefined;
  const waiting: { resolve: (line: string) => void; reject: (error: Error) => void }[] = [];
  const end = (how: string): void => {
    gone ??= `${name} ended ${how}${words === '' ? '' : `: ${words.trim()}`}`;
    for (const one of waiting.splice(0)) one.reject(new Error(gone));
  };
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString('utf8');
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n')) {
      waiting.shift()?.resolve(text.slice(0, at));
      text = text.slice(at + 1);
    }
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString('utf8')).slice(-WORDS);
  });
  // EPIPE of a client that has gone; "close" tells it with its last words.
  child.stdin?.on('error', () => undefined);
  child.on('error', (error) => end(`because it could not be started (${error.message})`));
  child.on('close', (code, signal) => end(signal === null ? `with code ${code}` : `by ${signal}`));
  return {
    ask(line, ms) {
      if (gone !== undefined) return Promise.reject(new Error(gone));
      const answer = new Promise<string>((resolve, reject) => waiting.push({ resolve, reject }));
      child.stdin?.write(`${line}\n`);
      return within(ms, `${name} was asked for "${line}"`, answer);
    },
  };
}
