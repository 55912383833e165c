/** Commands of users, from the real client through the real development gateway and link to the real SSH server. */
import { beforeEach, expect, test } from 'vitest';
import { err } from '../../supervisor/result.ts';
import { batched } from '../access/batched.ts';
import { GatewayClient } from '../dev-gateway/client/gateway-client.ts';
import { type DevGateway, startDevGateway } from '../dev-gateway/server.ts';
import { undoAfterEach } from '../undo-after-each.ts';
import { until } from './link-fixture.ts';
import { type SandboxOptions, sandboxAt } from './sandbox-fixture.ts';

let gateway: DevGateway;
let client: GatewayClient;
const undo = undoAfterEach();
beforeEach(async () => {
  gateway = await startDevGateway({});
  client = new GatewayClient(`127.0.0.1:${gateway.port}`);
  undo.push(
    () => gateway.stop(),
    () => client.close(),
  );
});

async function sandbox(options: SandboxOptions = {}) {
  const { stop, ...started } = await sandboxAt(gateway, options);
  undo.push(stop);
  return started;
}

const request = (script: string, timeoutSeconds = 0) => ({
  sandboxId: 'sb-1',
  command: ['sh', '-c', script],
  workdir: '',
  environment: {},
  timeoutSeconds,
  stdin: Buffer.alloc(0),
  tty: false,
  cols: 0,
  rows: 0,
});

/** All that a call tells, to its end. */
async function told(events: ReturnType<GatewayClient['exec']>) {
  const all = { stdout: '', stderr: '', exitCode: undefined as number | undefined };
  for await (const { payload } of events) {
    if (payload?.$case === 'exit') all.exitCode = payload.value.exitCode;
    else if (payload !== undefined) all[payload.$case] += Buffer.from(payload.value.data).toString();
  }
  return all;
}

test('what a command prints and its status are told, although they come in one piece with the answer', async () => {
  await sandbox({ through: batched });
  const [ran, interactive] = [
    client.exec(request('echo out; echo wrong >&2; exit 7')),
    client.execInteractive(),
  ];
  expect(await told(ran)).toEqual({ stdout: 'out\n', stderr: 'wrong\n', exitCode: 7 });
  interactive.write({ payload: { $case: 'start', value: request('read line; exit $line') } });
  interactive.write({ payload: { $case: 'stdin', value: Buffer.from('9\n') } });
  interactive.end();
  expect(await told(interactive)).toMatchObject({ exitCode: 9 });
});

test('a refusal is told with its status, although that comes in one piece with the answer', async () => {
  const message = '64 sessions run in this sandbox already';
  await sandbox({ access: { open: async () => err({ code: 75, message }) }, through: batched });
  expect(await told(client.exec(request('true')))).toEqual({
    stdout: '',
    stderr: `openshell-sandbox: ${message}\n`,
    exitCode: 75,
  });
});

test('nothing is run for who has gone while the relay was being opened', async () => {
  const gates: (() => void)[] = [];
  const { asked, events } = await sandbox({
    through: async (stream) => {
      await new Promise<void>((resolve) => gates.push(resolve));
      return stream;
    },
  });
  const interactive = client.execInteractive();
  interactive.on('error', () => undefined);
  interactive.write({ payload: { $case: 'start', value: request('echo run') } });
  const unary = client.exec(request('echo run'));
  const failed = told(unary).catch((error: Error) => error.message);
  await until(() => gates.length === 2);
  interactive.cancel();
  unary.cancel();
  expect(await failed).toContain('CANCELLED');
  // The gateway has heard of it when it has answered what came later.
  await client.createSshSession('sb-1');
  for (const open of gates) open();
  await until(() => events.filter(({ kind }) => kind === 'closed').length === 2);
  expect(asked.requests).toEqual([]);
});

test('a time that is over ends a command with 124, and a very long one does not', async () => {
  const { asked } = await sandbox();
  expect(await told(client.exec(request('while :; do echo on; sleep 0.1; done', 1)))).toMatchObject({
    exitCode: 124,
  });
  await until(() => asked.ended === 1);
  expect(await told(client.exec(request('sleep 0.1; exit 3', 4_000_000)))).toMatchObject({ exitCode: 3 });
});

test('all of standard error is told, although it ends after standard output and is read late', async () => {
  await sandbox();
  const { stderr, exitCode } = await told(
    client.exec(request('exec >&-; head -c 3000000 /dev/zero >&2; exit 4')),
  );
  expect([stderr.length, exitCode]).toEqual([3_000_000, 4]);
});
