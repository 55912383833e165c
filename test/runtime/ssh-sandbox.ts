import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { connect, makeNamespace, namespacePath, removeNamespace } from '../../scripts/lib/network.ts';
import { cached } from '../../scripts/lib/paths.ts';
import { type RunningSandbox, type SandboxOptions, startSandbox } from '../../scripts/lib/sandbox.ts';
import { PLACES } from './places.ts';

const CHOSEN = [
  'runc, restricted',
  'runc without seccomp, /proc unmasked',
  "runc as root with the Podman driver's capabilities",
  'gVisor',
];
/** Where OpenSSH's own programs are tried: under both fences, as a user and as root, and in gVisor. */
export const SSH_PLACES = PLACES.filter(({ name }) => CHOSEN.includes(name));

const [NEAR, FAR] = ['10.99.7.1', '10.99.7.2'];

export interface SshResult {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** A sandbox whose way in is reached by OpenSSH from a network beside it. */
export interface SshSandbox {
  readonly sandbox: RunningSandbox;
  /** Starts OpenSSH's client; `flags` come before the host. */
  readonly start: (flags: readonly string[], command: readonly string[]) => ChildProcess;
  /** Runs it to its end. */
  readonly run: (
    command: readonly string[],
    options?: { readonly flags?: readonly string[]; readonly input?: Buffer },
  ) => Promise<SshResult>;
  /** The words of that command line, for a terminal to run. */
  readonly commandOf: (flags: readonly string[], command: readonly string[]) => readonly string[];
  readonly stop: () => Promise<void>;
}

/** Builds the supervisor with its way in on a port, and starts a sandbox of it. */
export async function startSshSandbox(options: Partial<SandboxOptions>): Promise<SshSandbox> {
  const directory = mkdtempSync(join(tmpdir(), 'ssh-sandbox-'));
  const { image } = await ensureBuilt({
    entry: join(import.meta.dirname, 'ssh-supervisor.ts'),
    out: cached('ssh-supervisor'),
  });
  const near = await makeNamespace();
  const far = await makeNamespace();
  await connect(
    { namespace: near, device: 'near', address: `${NEAR}/30` },
    { namespace: far, device: 'far', address: `${FAR}/30` },
  );
  const resolvConf = join(directory, 'resolv.conf');
  writeFileSync(resolvConf, `nameserver ${NEAR}\n`);
  const sandbox = await startSandbox({
    command: ['/bin/sleep', '1000'],
    image,
    network: { path: namespacePath(far), resolvConf },
    ...options,
  });
  const opened = new Promise<void>((resolve) => {
    const look = (): void => {
      if (sandbox.printed().stdout.includes('the way in is open')) resolve();
    };
    sandbox.child.stdout?.on('data', look);
    look();
  });
  const stop = async (): Promise<void> => {
    await sandbox.stop();
    await removeNamespace(near);
    await removeNamespace(far);
    rmSync(directory, { recursive: true, force: true });
  };
  const end = await Promise.race([opened, sandbox.ended]);
  if (end !== undefined) {
    await stop();
    throw new Error(`the sandbox ended with ${end.code}: ${end.stderr}`);
  }
  const commandOf = (flags: readonly string[], command: readonly string[]): readonly string[] => [
    ...['ip', 'netns', 'exec', near, 'ssh', ...flags], // of an option given twice the first one counts
    ...[
      '-F',
      'none',
      '-o',
      'StrictHostKeyChecking=no',
      '-o',
      `UserKnownHostsFile=${join(directory, 'known-hosts')}`,
    ],
    ...['-o', 'LogLevel=ERROR', '-o', 'BatchMode=yes', '-o', 'IdentityAgent=none', '-p', '2222'],
    ...[`sandbox@${FAR}`, ...command],
  ];
  const start = (flags: readonly string[], command: readonly string[]): ChildProcess => {
    const [program = '', ...args] = commandOf(flags, command);
    return spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  };
  const run: SshSandbox['run'] = (command, { flags = [], input = Buffer.alloc(0) } = {}) =>
    new Promise((resolve) => {
      const child = start(flags, command);
      const [out, errors]: Buffer[][] = [[], []];
      child.stdout?.on('data', (chunk: Buffer) => out?.push(chunk));
      child.stderr?.on('data', (chunk: Buffer) => errors?.push(chunk));
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(input);
      child.once('close', (code) =>
        resolve({ code, stdout: Buffer.concat(out ?? []), stderr: Buffer.concat(errors ?? []).toString() }),
      );
    });
  return { sandbox, start, run, commandOf, stop };
}
