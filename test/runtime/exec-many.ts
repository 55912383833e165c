/**
 * Runs many commands in a sandbox from one process: node exec-many.ts GATEWAY SANDBOX. Answers each line `COUNT AT_ONCE` with
 * JSON: what was not as it should be. Every third command has a terminal.
 */
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { GatewayClient } from '../dev-gateway/client/gateway-client.ts';

const [gateway = '', sandboxId = ''] = process.argv.slice(2);
const client = new GatewayClient(gateway);

/** What was wrong with one; undefined when nothing was. */
async function one(n: number, tries = 100): Promise<string | undefined> {
  const tty = n % 3 === 0;
  let stdout = '';
  let code: number | undefined;
  try {
    const events = client.exec({
      sandboxId,
      command: ['sh', '-c', `read word; echo "$word ${n}"; exit ${n % 200}`],
      workdir: '',
      environment: {},
      timeoutSeconds: 60,
      stdin: Buffer.from('heard\n'),
      tty,
      cols: 0,
      rows: 0,
    });
    for await (const { payload } of events) {
      if (payload?.$case === 'stdout') stdout += Buffer.from(payload.value.data).toString();
      if (payload?.$case === 'exit') code = payload.value.exitCode;
    }
  } catch (error) {
    // The gateway lets 32 wait at once (contract.md, 2.2); who comes later tries again.
    if (tries > 0 && String(error).includes('too many relays')) {
      await sleep(50);
      return one(n, tries - 1);
    }
    return `${n}: ${String(error)}`;
  }
  // A terminal shows what is typed as well.
  const right = code === n % 200 && stdout.replaceAll('\r', '').endsWith(`heard ${n}\n`);
  return right ? undefined : `${n}: ${code} ${JSON.stringify(stdout)}`;
}

for await (const line of createInterface({ input: process.stdin })) {
  const [count = 0, atOnce = 1] = line.split(' ').map(Number);
  const wrong: string[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) {
      const fault = await one(next++);
      if (fault !== undefined) wrong.push(fault);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  process.stdout.write(`${JSON.stringify(wrong)}\n`);
}
client.close();
