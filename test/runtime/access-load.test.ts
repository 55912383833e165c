import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { startSandbox } from '../../scripts/lib/sandbox.ts';
import { startWorld } from '../../scripts/lib/world.ts';
import { established, GATEWAY, type Started, startIn } from './gateway-side.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';
import { settled } from './settled.ts';

const POLICY = sandboxPolicy();

const childrenOf = (pid: number): readonly number[] => {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8')
        .trim()
        .split(' ')
        .filter(Boolean)
        .map(Number),
    );
  } catch {
    return []; // it has ended meanwhile
  }
};
const tree = (pid: number): readonly number[] => [pid, ...childrenOf(pid).flatMap(tree)];

const why = missing('runc');
test.skipIf(why !== undefined)(
  'two hundred commands and then fifty at once leave no process, descriptor, terminal or memory behind',
  async () => {
    await ensureBuilt();
    const world = await startWorld();
    await world.control('POST', '/policy', POLICY);
    const sandbox = await startSandbox({
      gateway: world.gatewayUrl,
      network: await world.network(),
      command: ['/bin/sleep', '1000'],
    });
    let client: Started | undefined;
    try {
      await established(world);
      const init = (await sandbox.pid()) ?? 0;
      const supervisor = childrenOf(init).find((pid) =>
        readFileSync(`/proc/${pid}/comm`, 'latin1').startsWith('node'),
      );
      if (supervisor === undefined) throw new Error('the supervisor is not to be seen');
      const privateKib = (): number =>
        Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${supervisor}/status`, 'latin1'))?.[1]);
      const left = () => ({
        processes: tree(init).length,
        descriptors: readdirSync(`/proc/${supervisor}/fd`).length,
        terminals: readdirSync(`/proc/${init}/root/dev/pts`).length,
      });
      client = startIn(world, [
        ...[process.execPath, join(import.meta.dirname, 'exec-many.ts'), GATEWAY, sandbox.sandboxId],
      ]);
      const { stdin, stdout } = client.child;
      const answers = createInterface({ input: stdout });
      const run = async (count: number, atOnce: number): Promise<unknown> => {
        const answer = once(answers, 'line');
        stdin.write(`${count} ${atOnce}\n`);
        return JSON.parse(String((await answer)[0]));
      };
      // What is loaded and compiled when the first of them come is no leak.
      expect(await run(60, 20)).toEqual([]);
      const before = await settled(left);
      expect(await run(200, 1)).toEqual([]);
      await expect.poll(left, { timeout: 15_000 }).toEqual(before);
      expect(await run(50, 50)).toEqual([]);
      await expect.poll(left, { timeout: 15_000 }).toEqual(before);
      // The heap grows to what such a load needs, and stays there: 800 commands that kept 16 KiB each would be 13 MiB.
      expect(await run(1_000, 10)).toEqual([]);
      const first = privateKib();
      expect(await run(800, 10)).toEqual([]);
      await expect.poll(left, { timeout: 15_000 }).toEqual(before);
      await expect.poll(() => privateKib() - first, { timeout: 15_000 }).toBeLessThan(8 << 10);
    } finally {
      client?.child.kill();
      await sandbox.stop();
      await world.stop();
    }
  },
  180_000,
);
