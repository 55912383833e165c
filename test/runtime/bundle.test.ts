import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isOrphan } from '../../scripts/lib/owner.ts';
import type { ContainerRuntime } from '../../scripts/lib/runtime.ts';
import { runSandbox, type SandboxResult, startSandbox } from '../../scripts/lib/sandbox.ts';
import { ADDRESS, startWorld, type World } from '../../scripts/lib/world.ts';

/** These need no supervisor: they hold what the containers and the world promise to every other test. */
const IMAGE = 'test/runtime';

const shell = (runtime: ContainerRuntime, script: string, world?: World): Promise<SandboxResult> =>
  (async () =>
    runSandbox({
      runtime,
      rootfs: 'busybox',
      image: `${process.cwd()}/${IMAGE}`,
      command: [],
      entrypoint: ['/bin/sh', '-c', script],
      timeout: 30_000,
      ...(world === undefined ? {} : { network: await world.network() }),
    }))();

describe.skipIf(process.getuid?.() !== 0).each(['runc', 'crun', 'runsc'] as const)(
  'a container of %s',
  (runtime) => {
    let world: World;

    beforeAll(async () => {
      world = await startWorld({ gateway: false });
    });

    afterAll(async () => {
      await world.stop();
    });

    it('ends with the code of its command', async () => {
      const result = await shell(runtime, 'echo out; echo err >&2; exit 7');
      expect(result).toEqual({ code: 7, stdout: 'out\n', stderr: 'err\n' });
    });

    it('has no capability and an unprivileged user, and nothing but its volumes can be written', async () => {
      const script =
        'id -u; id -g; grep Cap /proc/self/status; for at in / /etc /opt/openshell/bin; do (: > $at/x); done; ' +
        'for at in /tmp /run /run/openshell /sandbox /var/log /etc/openshell-tls; do (: > $at/x) && echo wrote $at; done';
      const { stdout, stderr } = await shell(runtime, script);
      const lines = stdout.trim().split('\n');
      expect(lines.slice(0, 2)).toEqual(['1000', '1000']);
      const capabilities = lines.filter((line) => line.startsWith('Cap'));
      expect(capabilities.length).toBeGreaterThanOrEqual(4);
      for (const line of capabilities) expect(line).toMatch(/:\s*0+$/);
      expect(lines.filter((line) => line.startsWith('wrote'))).toEqual(
        ['/tmp', '/run', '/run/openshell', '/sandbox', '/var/log', '/etc/openshell-tls'].map(
          (at) => `wrote ${at}`,
        ),
      );
      expect(stderr.trim().split('\n')).toHaveLength(3);
    });

    it('reaches the hosts of the world by name, and the world records it', async () => {
      const { stdout } = await shell(runtime, 'wget -qO- http://api.allowed.test/some/path', world);
      expect(JSON.parse(stdout)).toMatchObject({
        protocol: 'http',
        host: 'api.allowed.test',
        path: '/some/path',
      });
      const seen = world.records();
      expect(seen).toContainEqual(expect.objectContaining({ protocol: 'dns', name: 'api.allowed.test' }));
      expect(seen).toContainEqual(
        expect.objectContaining({ protocol: 'http', local: `${ADDRESS.allowed}:80`, path: '/some/path' }),
      );
    });

    it('does not find names that the world does not have', async () => {
      expect((await shell(runtime, 'wget -qO- http://unknown.test/', world)).code).not.toBe(0);
    });

    it('has no way out without a network', async () => {
      expect((await shell(runtime, `wget -T 3 -qO- http://${ADDRESS.allowed}/`)).code).not.toBe(0);
    });

    it('leaves nothing behind when it is killed', async () => {
      const running = await startSandbox({
        runtime,
        rootfs: 'busybox',
        image: `${process.cwd()}/${IMAGE}`,
        command: [],
        entrypoint: ['/bin/sh', '-c', 'echo up; sleep 600'],
      });
      await expect.poll(() => running.printed().stdout, { timeout: 10_000 }).toBe('up\n');
      await running.stop();
      expect((await running.ended).code).not.toBe(0);
      expect(readdirSync('/tmp')).not.toContain(running.directory.split('/').at(-1));
    });
  },
);

describe('names of what must not outlive its maker', () => {
  it('tells the dead from the living and from strangers', () => {
    expect(isOrphan('oshs', 'oshs-4194304-1-abcdef')).toBe(true);
    expect(isOrphan('oshs', `oshs-${process.pid}-1-abcdef`)).toBe(true);
    expect(isOrphan('oshs', 'something-else')).toBe(false);
    expect(isOrphan('oshs', 'oshs')).toBe(false);
  });
});
