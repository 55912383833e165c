import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { logVerbosity, setLogVerbosity } from '@grpc/grpc-js';
import yargs, { type Argv } from 'yargs';
import { hideBin } from 'yargs/helpers';
import { EXIT_CODE, Fault } from '../../supervisor/fault.ts';
import { userCommands } from './client/commands.ts';
import { askControl, controlUrl } from './client/control.ts';
import { wholeNumber } from './client/place.ts';
import { endWhenUnread } from './client/unread.ts';
import { startDevGateway } from './server.ts';

interface ServeFlags {
  readonly host: string;
  readonly port: number;
  readonly controlHost: string;
  readonly controlPort: number;
  readonly policy: string | undefined;
  readonly tokenFile: string | undefined;
  readonly sandboxId: string;
  readonly heartbeat: number;
  readonly redialWindow: number;
  readonly missing: readonly string[];
  readonly newer: boolean;
}

function say(line: string): void {
  // What sandboxes send ends up on a terminal: control characters must not steer it.
  const shown = line.replace(/\p{Cc}+/gu, ' ');
  process.stdout.write(`${new Date().toISOString()} ${shown}\n`);
}

async function serve(flags: ServeFlags): Promise<void> {
  endWhenUnread();
  const gateway = await startDevGateway({
    host: flags.host,
    port: flags.port,
    controlHost: flags.controlHost,
    controlPort: flags.controlPort,
    heartbeatSeconds: flags.heartbeat,
    redialWindowSeconds: flags.redialWindow,
    missing: flags.missing,
    newer: flags.newer,
    onEvent: say,
  }).catch((error: unknown) => {
    throw listenFault(String(error), flags);
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void gateway.stop());
  try {
    if (flags.policy !== undefined) {
      const set = gateway.setPolicy(textOf(flags.policy));
      if (!set.ok) throw new Fault('policy', `${flags.policy}: ${set.error}`);
    }
    if (flags.tokenFile !== undefined) {
      writeFileSync(flags.tokenFile, `${gateway.mintToken(flags.sandboxId).token}\n`, { mode: 0o600 });
      // The mode counts only for a file that this call creates.
      chmodSync(flags.tokenFile, 0o600);
    }
  } catch (error) {
    await gateway.stop();
    throw error;
  }
  say(
    `listening on ${flags.host} port ${gateway.port}, control on ${flags.controlHost} port ${gateway.controlPort}`,
  );
}

/** Which flag to change where the gateway cannot listen. */
function listenFault(message: string, flags: ServeFlags): Fault {
  const [, code, port = ''] = /listen (E\w+): .*:(\d+)/.exec(message) ?? [];
  const flag = Number(port) === flags.port ? '--port' : '--control-port';
  if (code === 'EADDRINUSE')
    return new Fault('listen', `port ${port} is taken: choose another with ${flag}, or 0 for any free one`);
  return new Fault('listen', `it cannot listen where --host, --port and their like say: ${message}`);
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new Fault('usage', error instanceof Error ? error.message : String(error));
  }
}

/** More of a message would be somebody's whole document. */
const MAX_MESSAGE = 500;

/** Says in a line why this process ends, and ends it. */
function end(error: unknown): never {
  const message = (error instanceof Error ? error.message : String(error)).replace(/\s+/g, ' ').trim();
  process.stderr.write(`dev-gateway: ${message.slice(0, MAX_MESSAGE)}\n`);
  process.exit(error instanceof Fault ? error.exitCode : EXIT_CODE.internal);
}

/** What is wrong with the words of the command line. */
function misuse(message: string): Fault {
  const exec = hideBin(process.argv)[0] === 'exec' && message.startsWith('Unknown argument');
  return new Fault('usage', `${message} (${exec ? 'the command goes behind --' : '--help tells more'})`);
}

const ask = async (control: string, method: 'GET' | 'POST', path: string, body?: string): Promise<void> => {
  endWhenUnread();
  process.stdout.write(`${JSON.stringify(await askControl(control, method, path, body), null, 2)}\n`);
};

const withControl = <T>(args: Argv<T>) =>
  args.option('control', {
    type: 'string',
    default: 'http://127.0.0.1:8081',
    describe: 'the control address',
    coerce: controlUrl,
  });

const withPort = (name: string) => wholeNumber(name, 0, 65_535);

// It would say twice what is wrong with an address.
setLogVerbosity(logVerbosity.NONE);
const parser = userCommands(yargs(hideBin(process.argv)))
  .scriptName('npm run gateway --')
  .command(
    ['serve', '$0'],
    'run the gateway until SIGTERM',
    (args) =>
      args
        .option('host', { type: 'string', default: '127.0.0.1' })
        .option('port', { type: 'number', default: 8080, coerce: withPort('--port') })
        .option('control-host', { type: 'string', default: '127.0.0.1' })
        .option('control-port', { type: 'number', default: 8081, coerce: withPort('--control-port') })
        .option('policy', { type: 'string', describe: 'YAML file of the first policy' })
        .option('token-file', { type: 'string', describe: 'write a token for --sandbox-id here, mode 0600' })
        .option('sandbox-id', { type: 'string', default: 'dev' })
        .option('heartbeat', { type: 'number', default: 15, describe: 'seconds that sessions are told' })
        .option('redial-window', { type: 'number', default: 5, describe: 'seconds that sessions are told' })
        .option('missing', {
          type: 'string',
          array: true,
          default: [] as string[],
          describe: 'a method that an older gateway lacks, as reportPolicyStatus',
        })
        .option('newer', {
          type: 'boolean',
          default: false,
          describe: 'send messages and fields that today’s supervisor does not know',
        }),
    (args) => serve({ ...args, policy: args.policy, tokenFile: args.tokenFile }),
  )
  .command('sessions', 'list sessions and their beats', withControl, (args) =>
    ask(args.control, 'GET', '/sessions'),
  )
  .command('exits', 'print the reported exits', withControl, (args) => ask(args.control, 'GET', '/exits'))
  .command('denials', 'print denial summaries and proposals', withControl, (args) =>
    ask(args.control, 'GET', '/analyses'),
  )
  .command('accept', 'listen again', withControl, (args) => ask(args.control, 'POST', '/accept'))
  .command(
    'set-policy <file>',
    'make a YAML file the next policy version',
    (args) => withControl(args.positional('file', { type: 'string', demandOption: true })),
    (args) => ask(args.control, 'POST', '/policy', textOf(args.file)),
  )
  .command(
    'set <key> <value>',
    'set a boolean setting',
    (args) =>
      withControl(
        args
          .positional('key', { type: 'string', demandOption: true })
          .positional('value', { choices: ['true', 'false'] as const, demandOption: true }),
      ),
    (args) => ask(args.control, 'POST', `/setting?key=${encodeURIComponent(args.key)}&value=${args.value}`),
  )
  .command(
    'drop <id>',
    'close a session',
    (args) => withControl(args.positional('id', { type: 'string', demandOption: true })),
    (args) => ask(args.control, 'POST', `/drop?id=${encodeURIComponent(args.id)}`),
  )
  .command(
    'refuse [seconds]',
    'close the port and every connection, for a time or until accept',
    (args) =>
      withControl(args.positional('seconds', { type: 'number', coerce: wholeNumber('seconds', 1, 3_600) })),
    (args) =>
      ask(args.control, 'POST', args.seconds === undefined ? '/refuse' : `/refuse?seconds=${args.seconds}`),
  )
  .middleware((args) => {
    const { '--': behind = [] } = args as { readonly '--'?: readonly unknown[] };
    if (behind.length > 0 && args._[0] !== 'exec')
      throw new Fault('usage', 'only the command of exec goes behind --');
  })
  .demandCommand(0, 1)
  .strict()
  .fail((message, error) => {
    throw error instanceof Fault ? error : message ? misuse(message) : error;
  });

try {
  await parser.parseAsync();
} catch (error) {
  end(error);
}
