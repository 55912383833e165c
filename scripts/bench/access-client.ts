/**
 * A person's client that stays, for `npm run bench -- access`: node access-client.ts GATEWAY SANDBOX. Answers each line
 * with JSON: `exec N` with the milliseconds of so many commands, `up PORT BYTES` and `down PORT BYTES` with those of a
 * transfer to and from a port of the sandbox.
 */
import { createInterface } from 'node:readline';
import { GatewayClient } from '../../test/dev-gateway/client/gateway-client.ts';
import { timeTransfer } from '../../test/dev-gateway/transfer.ts';

const [gateway = '', sandbox = ''] = process.argv.slice(2);
const client = new GatewayClient(gateway);

async function exec(count: number): Promise<readonly number[]> {
  const times: number[] = [];
  for (let n = 0; n < count; n++) {
    const begun = performance.now();
    const events = client.exec({
      sandboxId: sandbox,
      command: ['true'],
      workdir: '',
      environment: {},
      timeoutSeconds: 0,
      stdin: Buffer.alloc(0),
      tty: false,
      cols: 0,
      rows: 0,
    });
    let code: number | undefined;
    for await (const { payload } of events) if (payload?.$case === 'exit') code = payload.value.exitCode;
    if (code !== 0) throw new Error(`the command ended with ${code}`);
    times.push(performance.now() - begun);
  }
  return times;
}

async function transfer(way: 'up' | 'down', port: number, bytes: number): Promise<number> {
  const stream = await client.forward(sandbox, { $case: 'tcp', value: { host: '127.0.0.1', port } });
  return timeTransfer(stream, way, bytes);
}

async function answer(line: string): Promise<unknown> {
  const [word = '', first = '', second = ''] = line.split(' ');
  if (word === 'exec') return exec(Number(first));
  if (word === 'up' || word === 'down') return transfer(word, Number(first), Number(second));
  throw new Error(`no ${word}`);
}

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(await answer(line))}\n`);
client.close();
