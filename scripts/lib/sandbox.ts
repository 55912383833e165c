import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { ensureBuilt } from './build.ts';
import { type Bind, bundleConfig } from './bundle.ts';
import { undoAtExit } from './cleanup.ts';
import { attempt, exitCode } from './command.ts';
import { hostCommand } from './host.ts';
import { isOrphan, ownedName } from './owner.ts';
import { ensureRootfs, type RootfsKind } from './rootfs.ts';
import {
  type ContainerRuntime,
  deleteCommand,
  killCommand,
  type Runtime,
  runCommand,
  stateCommand,
} from './runtime.ts';
import { guestPaths, machineCommand } from './vm/machine.ts';

/** The part of a world's network that a sandbox needs (world.ts makes it). */
export interface SandboxNetwork {
  /** Path of the network namespace. */
  readonly path: string;
  /** A resolv.conf for the inside. */
  readonly resolvConf: string;
}

export interface SandboxOptions {
  /** The workload; empty = the supervisor's own default. */
  readonly command: readonly string[];
  /** `runc` by default. */
  readonly runtime?: Runtime;
  /** A cached root file system, or the path of one; `debian` by default. Not for `host`. */
  readonly rootfs?: RootfsKind | { readonly path: string };
  /** A policy file on this machine, passed as `--policy`. */
  readonly policy?: string;
  /** The gateway's URL, as seen from inside the network. */
  readonly gateway?: string;
  /** What the ServiceAccount token file holds; random by default. Written only when there is a gateway. */
  readonly token?: string;
  /** A UUID by default. */
  readonly sandboxId?: string;
  /** `sandbox` by default. */
  readonly name?: string;
  /** Added to the container's environment, as an image's ENV is; overrides ours. */
  readonly env?: Readonly<Record<string, string>>;
  readonly binds?: readonly Bind[];
  /** None = a network namespace with only `lo`. */
  readonly network?: SandboxNetwork;
  /** More flags for the supervisor, before `--`. */
  readonly flags?: readonly string[];
  /** The supervisor image's root; built when absent. */
  readonly image?: string;
  /** The whole entrypoint instead of the supervisor's: for probes, and for measuring without a sandbox. */
  readonly entrypoint?: readonly string[];
  /** 1000 by default. */
  readonly user?: number;
  /** Capabilities of a root container (`user: 0`), as `CAP_…` names; none by default. */
  readonly capabilities?: readonly string[];
  /** Whether the runtime masks parts of /proc; true by default. False is `procMount: Unmasked`. */
  readonly maskedProc?: boolean;
  /** More words for the guest kernel's command line (vm only), such as `lsm=yama`. */
  readonly kernelArguments?: readonly string[];
  /** Whether containerd's RuntimeDefault profile applies (runc and crun); true by default. */
  readonly seccomp?: boolean;
  /** Calls that the profile answers with EPERM besides: what an administrator's own profile may do. */
  readonly refusedCalls?: readonly string[];
  /** Leaves the bundle's directory on disk. */
  readonly keep?: boolean;
  /** `collect` (the default) into the result, `inherit` to our own output. */
  readonly output?: 'collect' | 'inherit';
  /** `ignore` (the default), `inherit`, or `pipe`: then write to `child.stdin`. */
  readonly stdin?: 'ignore' | 'inherit' | 'pipe';
  /** Milliseconds after which the sandbox is killed; 300000 by default, 0 = never. */
  readonly timeout?: number;
}

export interface SandboxResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningSandbox {
  /** The sandbox id that the gateway sees. */
  readonly sandboxId: string;
  /** The directory of the bundle. */
  readonly directory: string;
  /** The runtime's process in the foreground; it forwards TERM, INT and HUP to the container's PID 1. */
  readonly child: ChildProcess;
  /** What has been printed so far, when collected. */
  readonly printed: () => { readonly stdout: string; readonly stderr: string };
  /** Resolves when the container has ended and is removed; never rejects. */
  readonly ended: Promise<SandboxResult>;
  /** The pid, on this machine, of the container's first process; undefined when there is none (yet), and for vm. */
  readonly pid: () => Promise<number | undefined>;
  /** Sends a signal to the container through its runtime. */
  readonly signal: (signal: NodeJS.Signals) => void;
  /** Kills and removes the container. Resolves when nothing is left. */
  readonly stop: () => Promise<void>;
}

const PREFIX = 'oshs';
const PARENT = '/tmp';
/** Marks a directory that --keep leaves for a human. */
const KEPT = 'kept';
/** How much of each stream is collected; the rest is dropped: 32 MiB. */
const COLLECT_LIMIT = 32 << 20;
const INSTALLED = '/opt/openshell/bin';

/** Removes containers and bundles whose makers have died. */
export const collectSandboxes = async (): Promise<void> => {
  for (const name of readdirSync(PARENT).filter((entry) => isOrphan(PREFIX, entry))) {
    const directory = join(PARENT, name);
    if (existsSync(join(directory, KEPT))) continue;
    for (const runtime of ['runc', 'crun', 'runsc'] as const) {
      if (!existsSync(join(directory, runtime))) continue;
      const { command, args } = deleteCommand(runtime, directory, name);
      await attempt(command, args, { timeout: 20_000 });
    }
    rmSync(directory, { recursive: true, force: true });
  }
};

/** The runtime with containers of its own on this machine; `vm` and `host` end with their process. */
const containerRuntime = (runtime: Runtime): ContainerRuntime | undefined =>
  runtime === 'vm' || runtime === 'host' ? undefined : runtime;

/** The environment that the Kubernetes driver sets (contract.md, 4.3), with what images usually have. */
const environment = (options: SandboxOptions, sandboxId: string): Readonly<Record<string, string>> => ({
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  OPENSHELL_SANDBOX_ID: sandboxId,
  OPENSHELL_SANDBOX: options.name ?? 'sandbox',
  OPENSHELL_SANDBOX_UID: `${options.user || 1000}`,
  OPENSHELL_SANDBOX_GID: `${options.user || 1000}`,
  OPENSHELL_SSH_SOCKET_PATH: '/run/openshell/ssh.sock',
  ...(options.gateway === undefined
    ? {}
    : {
        OPENSHELL_ENDPOINT: options.gateway,
        OPENSHELL_K8S_SA_TOKEN_FILE: '/var/run/secrets/openshell/token',
      }),
  ...options.env,
});

/** A file of the sandbox user in the bundle's directory. */
const userFile = (directory: string, name: string, text: string, user: number): string => {
  const path = join(directory, name);
  writeFileSync(path, text, { mode: 0o400 });
  chownSync(path, user, user);
  return path;
};

const standardBinds = (options: SandboxOptions, directory: string, image: string): readonly Bind[] => {
  const binds: Bind[] = [{ source: image, destination: INSTALLED }];
  if (options.network !== undefined) {
    binds.push({ source: options.network.resolvConf, destination: '/etc/resolv.conf' });
  }
  if (options.policy !== undefined) {
    binds.push({ source: resolve(options.policy), destination: '/run/policy.yaml' });
  }
  if (options.gateway !== undefined) {
    const token = options.token ?? randomBytes(32).toString('base64url');
    const source = userFile(directory, 'token', token, options.user ?? 1000);
    binds.push({ source, destination: '/run/secrets/openshell/token' });
  }
  return binds;
};

const entrypoint = (
  options: SandboxOptions,
  installed: string,
  policy: string,
  workdir: string,
): readonly string[] =>
  options.entrypoint ?? [
    `${installed}/openshell-sandbox`,
    '--workdir',
    workdir,
    ...(options.policy === undefined ? [] : ['--policy', policy]),
    ...(options.flags ?? []),
    ...(options.command.length === 0 ? [] : ['--', ...options.command]),
  ];

const rootfsPath = async (wanted: SandboxOptions['rootfs']): Promise<string> =>
  typeof wanted === 'object' ? resolve(wanted.path) : ensureRootfs(wanted ?? 'debian');

const writeBundle = async (
  options: SandboxOptions,
  directory: string,
  image: string,
  sandboxId: string,
): Promise<void> => {
  const config = bundleConfig({
    rootfs: await rootfsPath(options.rootfs),
    args: entrypoint(options, INSTALLED, '/run/policy.yaml', '/sandbox'),
    env: environment(options, sandboxId),
    binds: [...standardBinds(options, directory, image), ...(options.binds ?? [])],
    user: options.user ?? 1000,
    ...(options.network === undefined ? {} : { netns: options.network.path }),
    seccomp: options.seccomp ?? true,
    ...(options.refusedCalls === undefined ? {} : { refusedCalls: options.refusedCalls }),
    ...(options.capabilities === undefined ? {} : { capabilities: options.capabilities }),
    ...(options.maskedProc === undefined ? {} : { maskedProc: options.maskedProc }),
  });
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config, null, 1));
};

const startMachine = async (
  options: SandboxOptions,
  directory: string,
  image: string,
  sandboxId: string,
): ReturnType<typeof machineCommand> => {
  const rootfs = await rootfsPath(options.rootfs);
  const binds = [...standardBinds(options, directory, image), ...(options.binds ?? [])];
  const config = bundleConfig({
    ...guestPaths(binds),
    args: entrypoint(options, INSTALLED, '/run/policy.yaml', '/sandbox'),
    env: environment(options, sandboxId),
    user: options.user ?? 1000,
    sharedNetwork: true,
    // Kata's default: disable_guest_seccomp.
    seccomp: false,
    ...(options.capabilities === undefined ? {} : { capabilities: options.capabilities }),
    ...(options.maskedProc === undefined ? {} : { maskedProc: options.maskedProc }),
  });
  return machineCommand(
    {
      directory,
      rootfs,
      binds,
      kernelArguments: options.kernelArguments ?? [],
      ...(options.network === undefined ? {} : { netns: options.network.path }),
    },
    config,
  );
};

const collectOutput = (child: ChildProcess): RunningSandbox['printed'] => {
  const text = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (chunk: string) => {
      if (text[name].length < COLLECT_LIMIT) text[name] += chunk;
    });
  }
  return () => text;
};

const pidFromState = (text: string): number | undefined => {
  try {
    const state: unknown = JSON.parse(text);
    const pid = typeof state === 'object' && state !== null && 'pid' in state ? state.pid : undefined;
    return typeof pid === 'number' && pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
};

/**
 * Starts a sandbox as a cluster would, and returns while it runs. Needs root. Rejects when it cannot be
 * prepared; a runtime that refuses ends with its own code and words in `ended`.
 */
export const startSandbox = async (options: SandboxOptions): Promise<RunningSandbox> => {
  const runtime = options.runtime ?? 'runc';
  const image = options.image ?? (await ensureBuilt()).image;
  const sandboxId = options.sandboxId ?? randomUUID();
  await collectSandboxes();
  const id = ownedName(PREFIX);
  const directory = join(PARENT, id);
  mkdirSync(directory, { mode: 0o711 });
  chmodSync(directory, 0o711);
  if (options.keep === true) writeFileSync(join(directory, KEPT), '');
  // Tells a later collector which runtime to ask.
  writeFileSync(join(directory, runtime), '');

  const remove = async (): Promise<void> => {
    const container = containerRuntime(runtime);
    if (container !== undefined) {
      const { command, args } = deleteCommand(container, directory, id);
      await attempt(command, args, { timeout: 20_000 });
    }
    if (options.keep !== true) rmSync(directory, { recursive: true, force: true });
  };
  let child: ChildProcess | undefined;
  const undo = undoAtExit(async () => {
    child?.kill('SIGKILL');
    await remove();
  });
  try {
    let start: { readonly command: string; readonly args: readonly string[] };
    if (runtime === 'host') {
      start = hostCommand({
        directory,
        user: options.user ?? 1000,
        env: environment(options, sandboxId),
        binds: [...standardBinds(options, directory, image), ...(options.binds ?? [])],
        args: entrypoint(options, INSTALLED, '/run/policy.yaml', '/sandbox'),
        ...(options.network === undefined ? {} : { netns: options.network.path }),
      });
    } else if (runtime === 'vm') {
      start = await startMachine(options, directory, image, sandboxId);
    } else {
      await writeBundle(options, directory, image, sandboxId);
      start = runCommand(runtime, directory, id, options.network?.path);
    }
    const output = options.output === 'inherit' ? 'inherit' : 'pipe';
    // In a process group of its own: a Ctrl-C reaches it once, through us.
    child = spawn(start.command, [...start.args], {
      stdio: [options.stdin ?? 'ignore', output, output],
      detached: true,
    });
  } catch (error) {
    await undo();
    throw error;
  }
  return follow(child, { options, runtime, directory, id, sandboxId, undo });
};

interface Started {
  readonly options: SandboxOptions;
  readonly runtime: Runtime;
  readonly directory: string;
  readonly id: string;
  readonly sandboxId: string;
  readonly undo: () => Promise<void>;
}

/** What a virtual machine wrote on its console, which goes with its directory. */
const lastWords = (directory: string): string => {
  const path = join(directory, 'console');
  if (!existsSync(path)) return '';
  return `its console: ${readFileSync(path, 'utf8').slice(-2000)}\n`;
};

const follow = (child: ChildProcess, started: Started): RunningSandbox => {
  const { options, runtime, directory, id, sandboxId, undo } = started;
  const printed = collectOutput(child);
  const limit = options.timeout ?? 300_000;
  const stop = async (): Promise<void> => {
    const container = containerRuntime(runtime);
    if (container === undefined) child.kill('SIGKILL');
    else {
      const { command, args } = deleteCommand(container, directory, id);
      await attempt(command, args, { timeout: 20_000 });
    }
    await ended;
  };
  let failure = '';
  const expire = (): void => {
    failure = `it was stopped after ${limit} ms\n${lastWords(directory)}`;
    void stop();
  };
  const timer = limit === 0 ? undefined : setTimeout(expire, limit);
  const ended = new Promise<SandboxResult>((done) => {
    child.on('error', (error) => {
      failure = `cannot start ${runtime}: ${error.message}\n`;
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const { stdout, stderr } = printed();
      const result = {
        code: child.pid === undefined ? 127 : exitCode(code, signal),
        stdout,
        stderr: stderr + failure,
      };
      undo().then(
        () => done(result),
        (error: unknown) => done({ ...result, stderr: `${result.stderr}${String(error)}\n` }),
      );
    });
  });
  const pid = async (): Promise<number | undefined> => {
    if (runtime === 'host') return child.pid;
    const container = containerRuntime(runtime);
    if (container === undefined) return undefined;
    const { command, args } = stateCommand(container, directory, id);
    return pidFromState((await attempt(command, args)).stdout);
  };
  return {
    sandboxId,
    directory,
    child,
    printed,
    ended,
    pid,
    signal: (signal) => {
      if (runtime !== 'runsc') return void child.kill(signal);
      const { command, args } = killCommand(runtime, directory, id, signal);
      void attempt(command, args, { timeout: 20_000 });
    },
    stop,
  };
};

/** Runs a sandbox to its end. Rejects only when it cannot be prepared. */
export const runSandbox = async (options: SandboxOptions): Promise<SandboxResult> =>
  (await startSandbox(options)).ended;
