import { spawn } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { err, ok, type Result } from '../result.ts';
import { takeStreams } from './child-streams.ts';
import type { Privileges } from './privileges.ts';

/** Characters, and pixels where the client knows them; 0 where it does not. */
export interface WindowSize {
  readonly columns: number;
  readonly rows: number;
  readonly width: number;
  readonly height: number;
}

/** A pseudo terminal, held by a process of its own (init/pty.c). */
export interface Terminal {
  /** The holder's pid, which the workload is to keep its hands off. */
  readonly pid: number;
  /** The end that belongs to the session: to be handed over, then closed with `begin`. */
  readonly sessionEnd: number;
  readonly input: Writable;
  readonly output: Readable;
  /** The session holds its end now: closes ours, and lets bytes flow. Call it once, also when no session started. */
  begin(): void;
  resize(size: WindowSize): void;
  /** The session has ended: `output` ends when what was printed has been handed over. */
  drain(): void;
  /** Hangs up: SIGHUP to the session, and the end of `output`. */
  hangUp(): void;
}

export interface TerminalOptions {
  readonly launcher: string;
  readonly privileges: Privileges;
  /** Who the terminal is to belong to, where we are root. */
  readonly identity: { readonly uid: number; readonly gid: number } | undefined;
  /** Takes the holder's pid while it lives: it hides itself, and what hides itself could be taken for a caller. */
  readonly helpers?: Set<number>;
}

const START_MS = 5_000;
const MAX_REPORT = 4096;

/**
 * Opens a pseudo terminal with the given size and modes (names of RFC 4254, 8; what the kernel does not know is left
 * out). Fails with a sentence where the container has none, or after 5 s.
 */
export async function openTerminal(
  options: TerminalOptions,
  size: WindowSize,
  modes: Readonly<Record<string, number>>,
): Promise<Result<Terminal, string>> {
  const { identity, launcher } = options;
  const ids = identity === undefined ? [] : [String(identity.uid), String(identity.gid)];
  const child = options.privileges.asRoot(() =>
    spawn(launcher, ['pty', ...ids], { env: {}, stdio: ['pipe', 'pipe', 'inherit', 'pipe'] }),
  );
  // A holder that died is seen by the end of its output; one that never was has no streams (EMFILE).
  child.on('error', () => undefined);
  const control = child.stdio?.[3];
  const { pid } = child;
  if (pid !== undefined) options.helpers?.add(pid);
  child.once('exit', () => options.helpers?.delete(pid ?? 0));
  const streams = takeStreams(child);
  if (!(control instanceof Socket) || streams === undefined || pid === undefined)
    return err(`cannot run ${launcher}`);
  const { stdin, stdout } = streams;
  for (const stream of [control, stdin, stdout]) stream.on('error', () => undefined);
  const say = (line: string): void => {
    if (control.writable) control.write(`${line}\n`);
  };
  const setSize = ({ columns, rows, width, height }: WindowSize): void =>
    say(`size ${[columns, rows, width, height].map(pixelsOrCharacters).join(' ')}`);
  // It says that it has a terminal, or why not, unasked: to write to one that has failed would lose its reason.
  const ready = await nameOf(control);
  if (!ready.ok) {
    control.destroy();
    return ready;
  }
  setSize(size);
  for (const [name, value] of Object.entries(modes))
    if (/^[A-Z0-9_]{1,32}$/.test(name)) say(`mode ${name} ${value >>> 0}`);
  // Asked again, it has taken the size and the modes by the time it answers.
  say('name');
  const named = await nameOf(control);
  if (!named.ok) {
    control.destroy();
    return named;
  }
  let sessionEnd: number;
  try {
    sessionEnd = openAs(identity, named.value);
  } catch (cause) {
    control.destroy();
    return err(
      `cannot open the terminal ${named.value}: ${cause instanceof Error ? cause.message : String(cause)}`,
    );
  }
  // Nobody else may open it, and make it a terminal of his own, before the session has it (init/pty.c).
  say('lock');
  return ok({
    pid,
    sessionEnd,
    input: stdin,
    output: stdout,
    begin() {
      closeSync(sessionEnd);
      say('run');
    },
    resize: setSize,
    drain: () => say('drain'),
    hangUp: () => control.destroy(),
  });
}

/** A terminal is open to its owner alone; without CAP_DAC_OVERRIDE, which Podman's driver drops, root is nobody to it. */
function openAs(identity: TerminalOptions['identity'], path: string): number {
  const { geteuid, getegid, seteuid, setegid } = process;
  const flags = constants.O_RDWR | constants.O_NOCTTY;
  if (identity === undefined || !geteuid || !getegid || !seteuid || !setegid || geteuid() !== 0)
    return openSync(path, flags);
  const group = getegid();
  setegid(identity.gid);
  seteuid(identity.uid);
  try {
    return openSync(path, flags);
  } finally {
    seteuid(0);
    setegid(group);
  }
}

const pixelsOrCharacters = (value: number): number =>
  Number.isInteger(value) && value >= 0 && value <= 65_535 ? value : 0;

/** Waits for "pts N", or for the reason why there is none. */
function nameOf(control: Socket): Promise<Result<string, string>> {
  return new Promise((resolve) => {
    let text = '';
    const timer = setTimeout(() => finish(err('the holder of a terminal does not answer')), START_MS);
    const onClose = (): void => finish(err('the holder of a terminal ended'));
    const onData = (chunk: Buffer): void => {
      if (text.length > MAX_REPORT) return;
      text += chunk.toString('utf8');
      const name = /^pts (\d+)\n/m.exec(text)?.[1];
      const reason = /^fail \d+ (.*)\n/m.exec(text)?.[1];
      if (name !== undefined) finish(ok(`/dev/pts/${name}`));
      else if (reason !== undefined) finish(err(reason));
    };
    const finish = (result: Result<string, string>): void => {
      clearTimeout(timer);
      control.off('close', onClose).off('data', onData);
      resolve(result);
    };
    control.once('close', onClose).on('data', onData);
  });
}
