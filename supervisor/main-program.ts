import { fstatSync } from 'node:fs';
import { isatty } from 'node:tty';
import type { MainProcessView } from './access/main-attachment.ts';
import type { Clock } from './clock.ts';
import type { Config } from './config.ts';
import { type ConfinedSessionsOptions, confinedSessions } from './confined-sessions.ts';
import { startConfined } from './confinement/shim.ts';
import { err, ok, type Result } from './result.ts';
import { containerStream } from './workload/container-output.ts';
import { drainMain } from './workload/main-drain.ts';
import type { StartedProcess } from './workload/main-process.ts';
import { MainStreams } from './workload/main-streams.ts';
import type { SessionProcess } from './workload/session.ts';

export interface MainProgramOptions extends Omit<ConfinedSessionsOptions, 'launcher' | 'cwd' | 'home'> {
  readonly config: Pick<Config, 'launcher' | 'workdir' | 'main' | 'endpoints'>;
  readonly clock: Clock;
}

/** The main process, not yet looked after. */
export interface MainProgram {
  readonly process: StartedProcess;
  /** What people attach to; undefined where its streams are the container's own. */
  readonly view: Omit<MainProcessView, 'exitCode'> | undefined;
  /** Settles when its output is out, at most two seconds after its end. Who is attached is being told the exit code then. */
  readonly drained: Promise<void>;
}

/** What a terminal is at first (contract.md, 4.4). */
const WINDOW = { columns: 80, rows: 24, width: 0, height: 0 } as const;
/** linux/Documentation/admin-guide/devices.txt: /dev/null is 1:3. */
const DEV_NULL = 0x103;

/**
 * Starts the main process. Where a gateway could bring people who attach, it gets a terminal or pipes of ours: what it prints is
 * copied to the container's output and kept for a replay. Without a gateway, or on a terminal of the container, its streams
 * are the container's own.
 */
export async function startMainProgram(options: MainProgramOptions): Promise<Result<MainProgram, string>> {
  const { config, clock } = options;
  const retained = config.endpoints.length > 0 && ![0, 1, 2].some((descriptor) => isatty(descriptor));
  if (!retained) return ok({ process: inherited(options), view: undefined, drained: Promise.resolve() });
  const opened = await confinedSessions({
    ...options,
    launcher: config.launcher,
    cwd: config.workdir,
    home: undefined,
    terminalName: false,
  })({
    argv: config.main.argv,
    variables: new Map(),
    terminal: config.main.tty ? { name: 'xterm-256color', window: WINDOW, modes: {} } : undefined,
  });
  return opened.ok ? ok(looked(opened.value, clock)) : err(opened.error.message);
}

function inherited(options: MainProgramOptions): StartedProcess {
  const { config, fenceFd, privileges, helperPids, hiding, plan } = options;
  return startConfined(
    { launcher: config.launcher, fenceFd, privileges, helperPids, hiding, limits: plan.limits },
    plan,
    {
      argv: config.main.argv,
      cwd: config.workdir,
      environment: options.environment(config.main.tty),
    },
  );
}

function looked(process: SessionProcess, clock: Clock): MainProgram {
  const streams = new MainStreams({
    input: process.input,
    output: process.output,
    errors: process.errors,
    container: { output: containerStream(1), errors: containerStream(2) },
  });
  // /dev/null is what a container has that nobody gave an input: then it waits for who attaches.
  if (!isNull(0)) streams.feed(globalThis.process.stdin, process.errors !== undefined);
  const exited = process.exited.then((end) => {
    process.drain();
    return end;
  });
  return {
    process: {
      get pid() {
        return process.pid;
      },
      started: process.started,
      exited,
      signal: (signal) => process.signal(signal),
    },
    drained: drainMain(exited, streams, clock),
    view: {
      attach: (viewer, readOnly) => streams.attach(viewer, readOnly),
      terminal: process.errors === undefined,
      resize: (window) => process.resize(window),
      signal: (signal) => process.signal(signal),
    },
  };
}

function isNull(descriptor: number): boolean {
  try {
    const stat = fstatSync(descriptor);
    return stat.isCharacterDevice() && stat.rdev === DEV_NULL;
  } catch {
    return true; // it is closed
  }
}
