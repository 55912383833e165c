import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Fault } from '../../../supervisor/fault.ts';
import { quoted } from '../exec-command.ts';
import type { Place } from './place.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));

/** The words that lead OpenSSH's programs to a sandbox through a gateway. */
export function sshOptions({ gateway, sandbox }: Place): readonly string[] {
  const proxy = [process.execPath, MAIN, 'ssh-proxy', '--gateway', gateway];
  const words = [...proxy, ...(sandbox === '' ? [] : ['--sandbox', sandbox])];
  // A shell reads it, after OpenSSH has put things in the place of its percent signs.
  const command = words.map(quoted).join(' ').replaceAll('%', '%%');
  return [
    ...['-o', `ProxyCommand=${command}`],
    // The host key is made anew at each start, and who answers is told by the gateway.
    ...['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR'],
    ...['-o', 'User=sandbox'],
  ];
}

/** The words of scp(1) for paths of which those that begin with a colon are the sandbox's; the last one is where they go. */
export function copyWords(paths: readonly string[]): readonly string[] {
  if (paths.length < 2) throw new Fault('usage', 'cp needs what to copy and where to');
  if (!paths.some((path) => path.startsWith(':')))
    throw new Fault('usage', 'one side must be the sandbox’s: put a colon before it, as in :/tmp/a');
  return ['--', ...paths.map(wordOf)];
}

/** Runs one of OpenSSH's programs on this process's streams; resolves with its exit code. */
export function runOpenSsh(program: 'ssh' | 'scp', args: readonly string[]): Promise<number> {
  const child = spawn(program, args, { stdio: 'inherit' });
  // What it is told by a signal it does itself, and says its last; this process ends after it.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => void child.kill(signal));
  return new Promise((resolve, reject) => {
    child.once('error', () =>
      reject(new Fault('gateway', `there is no ${program}: install OpenSSH’s client (openssh-client)`)),
    );
    child.once('exit', (code, signal) =>
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
    );
  });
}

/** scp takes what stands before a colon for a host, unless there is a slash before that. */
const wordOf = (path: string): string => {
  if (path.startsWith(':')) return `sandbox${path}`;
  return /^[^/]*:/.test(path) ? `./${path}` : path;
};
