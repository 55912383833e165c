import { connect, type Socket } from 'node:net';
import type { Anchor } from './confinement/anchor.ts';
import type { ConfinementPlan } from './confinement/plan.ts';
import type { Privileges } from './confinement/privileges.ts';
import { startConfined } from './confinement/shim.ts';
import { openTerminal, type Terminal } from './confinement/terminal.ts';
import { err, ok, type Result } from './result.ts';
import type { SessionFailure, SessionProcess, SessionRequest } from './workload/session.ts';

export interface ConfinedSessionsOptions {
  readonly launcher: string;
  readonly fenceFd: number;
  readonly privileges: Privileges;
  readonly plan: ConfinementPlan;
  readonly helperPids: readonly number[];
  /** Processes of ours that are no callers: who holds a terminal is added while it lives. */
  readonly helpers: Set<number>;
  /** Shims, which hide themselves until they have become the session. */
  readonly hiding: Set<number>;
  /** Whether one may signal the processes of another, and the main one's. */
  readonly signalsOthers?: boolean;
  /** Whether the workload runs already, and may have closed or removed what the policy names. */
  readonly besideMain?: true;
  readonly cwd: string | undefined;
  /** What the main process would get if it started now. */
  readonly environment: (tty: boolean) => ReadonlyMap<string, string>;
  /** What login shells read their files from. Runtimes set HOME for the container's user, whom the workload may not be. */
  readonly home: string | undefined;
  /** False leaves TERM to the environment. */
  readonly terminalName?: false;
}

const INTERNAL = 70;
const CONNECT_MS = 5_000;

/** Starts sessions in the confinement of the main process: same fence, policy, identity, limits and environment. */
export function confinedSessions(
  options: ConfinedSessionsOptions,
): (request: SessionRequest) => Promise<Result<SessionProcess, SessionFailure>> {
  return async (request) => {
    if (request.terminal === undefined) return onPipes(options, request);
    const { window, modes } = request.terminal;
    const { launcher, privileges } = options;
    const opened = await openTerminal(
      { launcher, privileges, identity: options.plan.identity, helpers: options.helpers },
      window,
      modes,
    );
    return opened.ok
      ? ok(onTerminal(options, request, opened.value))
      : err({ code: INTERNAL, message: opened.error });
  };
}

async function onPipes(
  options: ConfinedSessionsOptions,
  request: SessionRequest,
): Promise<Result<SessionProcess, SessionFailure>> {
  const process = startConfined(
    shimOptions(options, []),
    options.plan,
    launchOf(options, request, 'dumb'),
    'pipe',
  );
  const pipes = await process.pipes;
  if (pipes === undefined) {
    const started = await process.started;
    return started.ok
      ? err({ code: INTERNAL, message: `${options.launcher} made no pipes` })
      : err(started.error);
  }
  const nothing = (): void => undefined;
  const { started, exited } = process;
  for (const stream of [pipes.input, pipes.output, pipes.errors]) stream.on('error', nothing);
  return ok({
    get pid() {
      return process.pid;
    },
    started: started.then(withWarnings),
    exited,
    ...pipes,
    signal: (signal) => process.signal(signal),
    resize: nothing,
    drain: nothing,
    hangUp: nothing,
  });
}

function onTerminal(
  options: ConfinedSessionsOptions,
  request: SessionRequest,
  terminal: Terminal,
): SessionProcess {
  const process = startOn(options, request, terminal);
  terminal.begin();
  return {
    get pid() {
      return process.pid;
    },
    started: process.started.then(withWarnings),
    exited: process.exited,
    input: terminal.input,
    output: terminal.output,
    errors: undefined,
    signal: (signal) => process.signal(signal),
    resize: (window) => terminal.resize(window),
    drain: () => terminal.drain(),
    hangUp: () => terminal.hangUp(),
  };
}

/** A start that fails must leave neither the holder nor the session's end of the terminal. */
function startOn(options: ConfinedSessionsOptions, request: SessionRequest, terminal: Terminal) {
  try {
    return startConfined(
      shimOptions(options, [terminal.pid]),
      options.plan,
      { ...launchOf(options, request, request.terminal?.name ?? 'vt100'), terminal: true },
      { terminal: terminal.sessionEnd },
    );
  } catch (error) {
    terminal.begin();
    terminal.hangUp();
    throw error;
  }
}

const shimOptions = (options: ConfinedSessionsOptions, helpers: readonly number[]) => ({
  launcher: options.launcher,
  fenceFd: options.fenceFd,
  privileges: options.privileges,
  helperPids: [...options.helperPids, ...helpers, ...options.helpers],
  hiding: options.hiding,
  limits: options.plan.limits,
});

const launchOf = (options: ConfinedSessionsOptions, request: SessionRequest, terminalName: string) => ({
  argv: request.argv,
  builtin: request.builtin,
  signalsOthers: options.signalsOthers === true,
  toleratesChanges: options.besideMain === true,
  cwd: options.cwd,
  environment: new Map([
    ...options.environment(request.terminal !== undefined),
    ...(options.home === undefined ? [] : ([['HOME', options.home]] as const)),
    ...request.variables,
    ...(options.terminalName === false ? [] : ([['TERM', terminalName]] as const)),
  ]),
});

type Started = Awaited<ReturnType<typeof startConfined>['started']>;
const withWarnings = (started: Started) =>
  started.ok ? ok({ warnings: started.value.warnings }) : err<SessionFailure>(started.error);

/** Connects inside the sandbox's own network: by the anchor where it has one, else on our loopback, which it shares. */
export function connectInside(anchor: Anchor | undefined) {
  return async (host: string, port: number): Promise<Result<Socket, string>> => {
    if (anchor !== undefined) {
      const connected = await anchor.connect(host, port);
      return connected.ok ? connected : err(connected.error.message);
    }
    return new Promise((resolve) => {
      const socket = connect({ host, port, allowHalfOpen: true, timeout: CONNECT_MS });
      const fail = (reason: string): void => {
        socket.destroy();
        resolve(err(`cannot connect to ${host}:${port}: ${reason}`));
      };
      socket.once('error', (error) => fail(error.message));
      socket.once('timeout', () => fail('nobody answers'));
      socket.once('connect', () => {
        socket.setTimeout(0).removeAllListeners('timeout').removeAllListeners('error');
        resolve(ok(socket));
      });
    });
  };
}
