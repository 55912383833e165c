import { spawn } from 'node:child_process';
import { Socket as DatagramSocket } from 'node:dgram';
import { Server, Socket } from 'node:net';
import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';
import type { ConfinementPlan, NetworkFence } from './plan.ts';
import type { Privileges } from './privileges.ts';
import { readRecords } from './shim-report.ts';
import { encodeAnchorSpec } from './shim-spec.ts';

export interface AnchorOptions {
  readonly launcher: string;
  /** The descriptor over which the anchor registers with PID 1. */
  readonly fenceFd: number;
  readonly privileges: Privileges;
}

/** What mounts gave the workload. */
export interface View {
  readonly freshProc: boolean;
  readonly resolvConf: boolean;
  /** Paths of the policy that do not exist. */
  readonly missing: number;
}

/** The process that holds the namespaces of the namespace fence; every session is forked by it. */
export interface Anchor {
  /** Its processes, as this process counts: with a pid namespace there is one outside and one inside. */
  readonly pids: readonly number[];
  /** Undefined where mounts do not work. */
  readonly view: View | undefined;
  /**
   * A TCP listener inside the namespace, on an address of its loopback. Fails with a Fault of kind
   * `listen` when the address is taken, or after 5 s without an answer.
   */
  listen(host: string, port: number): Promise<Result<Server, Fault>>;
  /**
   * A TCP connection, inside the namespace, to who listens on an address of its loopback. Fails with a Fault of kind
   * `listen` when nobody does or accepts it within 250 ms, or after 5 s without an answer.
   */
  connect(host: string, port: number): Promise<Result<Socket, Fault>>;
  /** A bound UDP socket inside the namespace, on an address of its loopback. Fails as `listen` does. */
  bind(host: string, port: number): Promise<Result<DatagramSocket, Fault>>;
  /** Settles, with the reason, when the anchor has ended: the sandbox cannot go on. */
  readonly ended: Promise<string>;
}

const ANSWER_MS = 5_000;

/** The anchor's answer to "listen", "bind" and "connect", with the socket when it worked (init/channel.h). */
interface SocketAnswer {
  readonly op: 'listen' | 'bind' | 'connect';
  readonly ok: boolean;
  readonly address: string;
  readonly port: number;
  readonly errno?: string;
}

const DOING = { listen: 'listen on', bind: 'receive on', connect: 'connect to' } as const;

/** Starts the anchor and waits until its namespaces stand. Fails with the reason that it gives. */
export async function startAnchor(
  options: AnchorOptions,
  plan: ConfinementPlan,
  fence: Extract<NetworkFence, { kind: 'namespace' }>,
): Promise<Result<Anchor, Fault>> {
  const child = options.privileges.asRoot(() =>
    spawn(options.launcher, ['anchor'], {
      env: {},
      // 3: spec and report, 4: the way to PID 1, 5: our IPC (init/control.h).
      stdio: ['ignore', 'ignore', 'inherit', 'pipe', options.fenceFd, 'ipc'],
    }),
  );
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(signal === null ? `with code ${code}` : `by ${signal}`));
  });
  const control = child.stdio?.[3];
  if (!(control instanceof Socket) || child.pid === undefined)
    return err(new Fault('internal', `cannot run ${options.launcher}`));
  const records = await readRecords(control, encodeAnchorSpec(plan, fence), ended);
  const failure = records.find(([word]) => word === 'fail');
  if (failure !== undefined) return err(new Fault('confinement', failure.slice(2).join(' ')));
  if (child.exitCode !== null || child.signalCode !== null)
    return err(new Fault('confinement', `the anchor of the namespace fence ended ${await ended}`));
  const seen = records.find(([word]) => word === 'view');
  const inner = records.find(([word]) => word === 'pid')?.[1];
  // One question at a time, so that a slow anchor is asked no faster than it answers.
  let turn: Promise<unknown> = Promise.resolve();
  const ask = (op: SocketAnswer['op'], host: string, port: number) =>
    new Promise<{ readonly answer: SocketAnswer; readonly handle: unknown } | undefined>((resolve) => {
      const timer = setTimeout(() => finish(undefined), ANSWER_MS);
      const finish = (value: { answer: SocketAnswer; handle: unknown } | undefined): void => {
        clearTimeout(timer);
        child.off('message', onMessage);
        resolve(value);
      };
      const onMessage = (message: unknown, handle: unknown): void => {
        const answer = message as SocketAnswer;
        // What was given up on may still come, late.
        if (answer.op === op && answer.address === host && answer.port === port) finish({ answer, handle });
        else if (handle instanceof Server || handle instanceof DatagramSocket) handle.close();
        else if (handle instanceof Socket) handle.destroy();
      };
      child.on('message', onMessage);
      child.send(`${op} ${host} ${port}`, (error) => (error === null ? undefined : finish(undefined)));
    });
  const request = async <T>(
    op: SocketAnswer['op'],
    host: string,
    port: number,
    kind: new (...parts: never[]) => T,
  ): Promise<Result<T, Fault>> => {
    const answered = await ask(op, host, port);
    if (answered?.handle instanceof kind) return ok(answered.handle);
    const why =
      answered === undefined
        ? 'the anchor does not answer'
        : answered.answer.errno === 'EADDRINUSE'
          ? 'the address is taken'
          : (answered.answer.errno ?? 'no socket came');
    return err(new Fault('listen', `cannot ${DOING[op]} ${host}:${port} in the namespace fence: ${why}`));
  };
  const inTurn = <T>(act: () => Promise<T>): Promise<T> => {
    const mine = turn.then(act);
    turn = mine;
    return mine;
  };
  return ok({
    pids: [child.pid, ...(inner === undefined ? [] : [Number(inner)])],
    view:
      seen === undefined
        ? undefined
        : { freshProc: seen[1] === '1', resolvConf: seen[2] === '1', missing: Number(seen[3]) },
    ended,
    listen: (host, port) => inTurn(() => request('listen', host, port, Server)),
    connect: (host, port) => inTurn(() => request('connect', host, port, Socket)),
    bind: (host, port) => inTurn(() => request('bind', host, port, DatagramSocket)),
  });
}
