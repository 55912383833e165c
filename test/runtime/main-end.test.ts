import { afterEach, expect, test, vi } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { type RunningSandbox, startSandbox } from '../../scripts/lib/sandbox.ts';
import { startWorld, type World } from '../../scripts/lib/world.ts';
import { sshOptions } from '../dev-gateway/client/openssh.ts';
import { describeUnless } from './describe-unless.ts';
import { established, GATEWAY, startIn } from './gateway-side.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';

const POLICY = sandboxPolicy();

const why = missing('runc', 'ssh');
describeUnless(why, 'who is attached when the main process ends', () => {
  let world: World | undefined;
  let sandbox: RunningSandbox | undefined;
  afterEach(async () => {
    await sandbox?.stop();
    await world?.stop();
    sandbox = world = undefined;
  }, 120_000);

  const attachTo = async (script: string, flags: readonly string[] = []) => {
    await ensureBuilt();
    const made = await startWorld();
    world = made;
    await made.control('POST', '/policy', POLICY);
    const started = await startSandbox({
      gateway: made.gatewayUrl,
      network: await made.network(),
      command: ['/bin/sh', '-c', script],
      flags,
      stdin: 'pipe',
    });
    sandbox = started;
    await established(made);
    const place = { gateway: GATEWAY, sandbox: started.sandboxId };
    const viewer = startIn(made, ['ssh', ...sshOptions(place), '-T', '-s', 'sandbox', 'openshell-main']);
    await viewer.shows('begins');
    return { viewer, sandbox: started };
  };

  /** Somebody who stops reading in the middle of the last that the main process prints. */
  const attachedAsleep = async () => {
    const attached = await attachTo('echo begins; read line; yes | head -c 900000; echo ends; exit 6');
    const { viewer, sandbox } = attached;
    viewer.child.stdin.write('go\n');
    await viewer.shows('y');
    viewer.child.kill('SIGSTOP');
    await vi.waitFor(() => expect(sandbox.printed().stdout).toContain('ends'), {
      timeout: 20_000,
      interval: 50,
    });
    return attached;
  };

  test('gets its status though a process of the background holds the output open', async () => {
    const { viewer, sandbox } = await attachTo('echo begins; read line; sleep 1000 & echo ends; exit 3');
    viewer.child.stdin.write('go\n');
    expect(await viewer.closed).toBe(3);
    expect(viewer.seen.stdout).toBe('begins\nends\n');
    expect((await sandbox.ended).code).toBe(3);
  }, 120_000);

  test('gets its status though nobody reads the container’s output, and that is full', async () => {
    const { viewer, sandbox } = await attachTo('echo begins; read line; yes & sleep 1; exit 5');
    try {
      sandbox.child.stdout?.pause();
      viewer.child.stdin.write('go\n');
      expect(await viewer.closed).toBe(5);
    } finally {
      sandbox.child.stdout?.resume();
    }
    expect((await sandbox.ended).code).toBe(5);
  }, 120_000);

  test('gets the status that the container ends with when its time is over', async () => {
    const { viewer, sandbox } = await attachTo('echo begins; sleep 1000', ['--timeout', '20']);
    expect(await viewer.closed).toBe(124);
    expect((await sandbox.ended).code).toBe(124);
  }, 120_000);

  test('gets the rest when it reads late', async () => {
    const { viewer, sandbox } = await attachedAsleep();
    viewer.child.kill('SIGCONT');
    expect(await viewer.closed).toBe(6);
    expect(viewer.seen.stdout.length).toBe('begins\nends\n'.length + 900_000);
    expect((await sandbox.ended).code).toBe(6);
  }, 120_000);

  test('keeps the container no longer than three seconds when it reads nothing any more', async () => {
    const { viewer, sandbox } = await attachedAsleep();
    const since = performance.now();
    expect((await sandbox.ended).code).toBe(6);
    expect(performance.now() - since).toBeLessThan(8_000);
    viewer.child.kill('SIGKILL');
  }, 120_000);
});
