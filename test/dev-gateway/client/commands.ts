import type { Argv } from 'yargs';
import { Fault } from '../../../supervisor/fault.ts';
import { execCommand } from './exec.ts';
import { faultOf } from './failure.ts';
import { forwardPort, portsOf } from './forward.ts';
import { GatewayClient } from './gateway-client.ts';
import { LEVELS, showLogs } from './logs.ts';
import { copyWords, runOpenSsh, sshOptions } from './openssh.ts';
import { type Place, wholeNumber, withPlace } from './place.ts';
import { sshProxy } from './ssh-proxy.ts';
import { endWhenUnread } from './unread.ts';

/** A login shell: the image's bash, else its sh; one that prompts only where somebody sits before it. */
const shellWords = (flags: string): readonly string[] => [
  ...['sh', '-c', `if [ -x /bin/bash ]; then exec /bin/bash ${flags}; else exec /bin/sh ${flags}; fi`],
];

/** What a person does with a sandbox. */
export const userCommands = <T>(args: Argv<T>): Argv<T> =>
  args
    .parserConfiguration({ 'populate--': true, 'parse-positional-numbers': false })
    .command(
      'exec',
      'run a command in the sandbox: exec [options] -- COMMAND [ARGUMENT…]',
      (command) =>
        withPlace(command)
          .option('tty', { alias: 't', type: 'boolean', default: false, describe: 'on a terminal' })
          .option('workdir', { alias: 'w', type: 'string', default: '', describe: 'where it begins' })
          .option('env', {
            alias: 'e',
            type: 'string',
            array: true,
            nargs: 1,
            default: [] as string[],
            describe: 'NAME=value; may be repeated',
          })
          .option('timeout', {
            type: 'number',
            default: 0,
            describe: 'seconds, and then it ends with 124; 0 is no limit',
            coerce: wholeNumber('--timeout', 0, 2 ** 32 - 1),
          }),
      (flags) =>
        leave(flags, async () => {
          const command = ((flags as { readonly '--'?: readonly string[] })['--'] ?? []).map(String);
          if (command.length === 0)
            throw new Fault('usage', 'there is no command: put it behind --, as in exec -- ls -l');
          return execCommand({ ...flags, command });
        }),
    )
    .command('shell', 'open a shell in the sandbox', withPlace, (place) =>
      leave(place, () => {
        const tty = process.stdin.isTTY === true;
        return execCommand({
          ...place,
          ...{ command: shellWords(tty ? '-il' : '-l'), tty, workdir: '', env: [], timeout: 0 },
        });
      }),
    )
    .command(
      'attach',
      'attach to the main process; Ctrl-P Ctrl-Q detaches',
      (command) =>
        withPlace(command)
          .option('read-only', { type: 'boolean', default: false, describe: 'type nothing' })
          .option('tty', {
            alias: 't',
            type: 'boolean',
            default: process.stdin.isTTY === true,
            describe:
              'pass keys on as they are; --no-tty for a main process on pipes: whole lines, Ctrl-C leaves',
          }),
      (flags) =>
        leave(flags, async () =>
          runOpenSsh('ssh', [
            ...sshOptions(await found(flags)),
            ...(flags.readOnly ? ['-o', 'SetEnv=OPENSHELL_MAIN_READ_ONLY=1'] : []),
            flags.tty ? '-tt' : '-T',
            ...['-s', 'sandbox', 'openshell-main'],
          ]),
        ),
    )
    .command(
      'cp <paths..>',
      'copy files and directories: cp FROM… TO; paths of the sandbox begin with a colon, as in :/tmp/a',
      (command) =>
        withPlace(command)
          .positional('paths', { type: 'string', array: true, demandOption: true })
          .option('recursive', {
            alias: 'r',
            type: 'boolean',
            default: true,
            describe: 'directories with all that is in them',
          }),
      (flags) =>
        leave(flags, async () => {
          const words = copyWords(flags.paths);
          const recursive = flags.recursive ? ['-r'] : [];
          return runOpenSsh('scp', [...recursive, ...sshOptions(await found(flags)), ...words]);
        }),
    )
    .command(
      'forward <ports>',
      'lead a port of this machine to one of the sandbox: 8000, 9000:8000, or 0:8000 for any free one',
      (command) => withPlace(command).positional('ports', { type: 'string', demandOption: true }),
      (flags) =>
        leave(flags, async () => {
          const report = {
            listens: (line: string) => console.log(line),
            failed: (reason: string) => console.error(`dev-gateway: ${reason}`),
          };
          return forwardPort(flags, portsOf(flags.ports), report, interrupted());
        }),
    )
    .command(
      'logs',
      'show what the sandbox has logged',
      (command) =>
        withPlace(command)
          .option('follow', { alias: 'f', type: 'boolean', default: false, describe: 'and what it will' })
          .option('tail', {
            alias: 'n',
            type: 'number',
            default: 200,
            describe: 'lines, at most',
            coerce: wholeNumber('--tail', 1, 2_000),
          })
          .option('since', { type: 'string', default: '', describe: 'as in 5m' })
          .option('source', {
            type: 'string',
            array: true,
            nargs: 1,
            choices: ['sandbox', 'gateway'],
            default: [] as string[],
            describe: 'whose lines; may be repeated',
          })
          .option('level', { choices: LEVELS, describe: 'the least one' }),
      (flags) =>
        leave(flags, () => showLogs({ ...flags, level: flags.level ?? '' }, process.stdout, Date.now())),
    )
    .command('ssh-proxy', 'what OpenSSH’s ProxyCommand runs', withPlace, async (place) => {
      process.exitCode = await told(place, () => sshProxy(place));
    });

/** Runs a command to its end, which is this process's. Rejects with a Fault. */
async function leave(place: Place, command: () => Promise<number>): Promise<void> {
  endWhenUnread();
  process.exitCode = await told(place, command);
}

async function told(place: Place, command: () => Promise<number>): Promise<number> {
  try {
    return await command();
  } catch (error) {
    throw faultOf(error, place.gateway);
  }
}

/** The place with the sandbox's name in it: OpenSSH would bury what is wrong with it under words of its own. */
async function found(place: Place): Promise<Place> {
  const client = new GatewayClient(place.gateway);
  try {
    return { ...place, sandbox: await client.sandboxOf(place.sandbox) };
  } finally {
    client.close();
  }
}

/** The exit code of the signal that says it is enough. */
const interrupted = (): Promise<number> =>
  new Promise((resolve) => {
    process.once('SIGINT', () => resolve(130));
    process.once('SIGTERM', () => resolve(143));
  });
