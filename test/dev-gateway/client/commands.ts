import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Argv } from 'yargs';
import { execCommand } from './exec.ts';
import { forwardPort, sshProxy } from './forward.ts';
import { showLogs } from './logs.ts';
import { type Place, withPlace } from './place.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));
const SHELL = ['sh', '-c', 'if [ -x /bin/bash ]; then exec /bin/bash -il; else exec /bin/sh -il; fi'];

/** The words that lead OpenSSH's programs to a sandbox through a gateway. */
export const sshOptions = ({ gateway, sandbox }: Place): readonly string[] => [
  '-o',
  `ProxyCommand=${process.execPath} ${MAIN} ssh-proxy --gateway ${gateway}${sandbox === '' ? '' : ` --sandbox ${sandbox}`}`,
  // The host key is made anew at each start, and who answers is told by the gateway.
  ...['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR'],
  ...['-o', 'User=sandbox'],
];

/** What a person does with a sandbox. */
export const userCommands = <T>(args: Argv<T>): Argv<T> =>
  args
    .parserConfiguration({ 'populate--': true })
    .command(
      'exec',
      'run the command behind -- in the sandbox',
      (command) =>
        withPlace(command)
          .option('tty', { alias: 't', type: 'boolean', default: false })
          .option('workdir', { alias: 'w', type: 'string', default: '' })
          .option('env', { alias: 'e', type: 'string', array: true, default: [] as string[] })
          .option('timeout', { type: 'number', default: 0, describe: 'seconds' }),
      (flags) => {
        const command = ((flags as { readonly '--'?: readonly string[] })['--'] ?? []).map(String);
        if (command.length === 0) throw new Error('there is no command: put it behind --');
        return leave(execCommand({ ...flags, command }));
      },
    )
    .command('shell', 'open a shell in the sandbox', withPlace, (place) =>
      leave(execCommand({ ...place, command: SHELL, tty: true, workdir: '', env: [], timeout: 0 })),
    )
    .command(
      'attach',
      'attach to the main process; Ctrl-P Ctrl-Q detaches',
      (command) => withPlace(command).option('read-only', { type: 'boolean', default: false }),
      (flags) =>
        leave(
          run('ssh', [
            ...sshOptions(flags),
            ...(flags.readOnly ? ['-o', 'SetEnv=OPENSHELL_MAIN_READ_ONLY=1'] : []),
            ...(process.stdin.isTTY ? ['-tt'] : ['-T']),
            ...['-s', 'sandbox', 'openshell-main'],
          ]),
        ),
    )
    .command(
      'cp <from> <to>',
      'copy files with scp; the sandbox’s side begins with a colon, as in :/tmp/a',
      (command) =>
        withPlace(command)
          .positional('from', { type: 'string', demandOption: true })
          .positional('to', { type: 'string', demandOption: true }),
      (flags) => leave(run('scp', ['-r', ...sshOptions(flags), sideOf(flags.from), sideOf(flags.to)])),
    )
    .command(
      'forward <ports>',
      'lead a port of this machine to one of the sandbox: 8000, or 9000:8000',
      (command) => withPlace(command).positional('ports', { type: 'string', demandOption: true }),
      (flags) => {
        const [, local = '', remote = local] = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(flags.ports) ?? [];
        if (local === '') throw new Error('the ports must be PORT or LOCAL:PORT');
        return forwardPort(flags, Number(local), Number(remote), (line) => console.log(line));
      },
    )
    .command(
      'logs',
      'show what the sandbox has logged',
      (command) =>
        withPlace(command)
          .option('follow', { alias: 'f', type: 'boolean', default: false })
          .option('tail', { alias: 'n', type: 'number', default: 200, describe: 'lines, at most' })
          .option('since', { type: 'string', default: '', describe: 'as in 5m' })
          .option('source', { type: 'string', array: true, default: [] as string[] })
          .option('level', { type: 'string', default: '', describe: 'the least one' }),
      (flags) => leave(showLogs(flags, process.stdout, Date.now())),
    )
    .command('ssh-proxy', 'what OpenSSH’s ProxyCommand runs', withPlace, (place) => leave(sshProxy(place)));

async function leave(code: Promise<number>): Promise<void> {
  process.exitCode = await code;
}

const sideOf = (path: string): string => (path.startsWith(':') ? `sandbox${path}` : path);

/** Runs one of OpenSSH's programs on this process's streams. */
function run(program: string, args: readonly string[]): Promise<number> {
  const child = spawn(program, args, { stdio: 'inherit' });
  return new Promise((resolve, reject) => {
    child.once('error', () => reject(new Error(`this needs ${program} of OpenSSH`)));
    child.once('exit', (code) => resolve(code ?? 1));
  });
}
