import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import yargs, { type Argv } from 'yargs';
import { hideBin } from 'yargs/helpers';
import { userCommands } from './client/commands.ts';
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
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void gateway.stop());
  try {
    if (flags.policy !== undefined) {
      const set = gateway.setPolicy(readFileSync(flags.policy, 'utf8'));
      if (!set.ok) throw new Error(`${flags.policy}: ${set.error}`);
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

async function ask(control: string, method: 'GET' | 'POST', path: string, body?: string): Promise<void> {
  const response = await fetch(new URL(path, control), { method, ...(body === undefined ? {} : { body }) });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text.trim()}`);
  process.stdout.write(`${JSON.stringify(JSON.parse(text), null, 2)}\n`);
}

const withControl = <T>(args: Argv<T>) =>
  args.option('control', {
    type: 'string',
    default: 'http://127.0.0.1:8081',
    describe: 'the control address',
  });

await userCommands(yargs(hideBin(process.argv)))
  .scriptName('dev-gateway')
  .command(
    ['serve', '$0'],
    'run the gateway until SIGTERM',
    (args) =>
      args
        .option('host', { type: 'string', default: '127.0.0.1' })
        .option('port', { type: 'number', default: 8080 })
        .option('control-host', { type: 'string', default: '127.0.0.1' })
        .option('control-port', { type: 'number', default: 8081 })
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
    (args) => ask(args.control, 'POST', '/policy', readFileSync(args.file, 'utf8')),
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
    (args) => withControl(args.positional('seconds', { type: 'number' })),
    (args) =>
      ask(args.control, 'POST', args.seconds === undefined ? '/refuse' : `/refuse?seconds=${args.seconds}`),
  )
  .demandCommand(0, 1)
  .strict()
  .fail((message, error) => {
    process.stderr.write(`dev-gateway: ${error?.message ?? message}\n`);
    process.exit(error === undefined ? 64 : 1);
  })
  .parseAsync();
