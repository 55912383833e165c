import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { ensureRootfs } from '../../scripts/lib/rootfs.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';

const POLICY = temporaryDirectory('volume-test-').file('policy.yaml', sandboxPolicy());

describe.skipIf(missing('podman') !== undefined)('an image volume', () => {
  test('of podman carries the supervisor into a restricted container', async (context) => {
    const { makeImage } = await import('../../scripts/lib/image.ts');
    const { revision } = await import('../../scripts/lib/revision.ts');
    const { image } = await ensureBuilt();
    const out = mkdtempSync(join(tmpdir(), 'oci-'));
    const made = await makeImage(image, await revision(), out);
    const podman = (...args: string[]) =>
      spawnSync(
        'podman',
        [
          '--root',
          join(out, 'root'),
          '--runroot',
          join(out, 'run'),
          '--storage-driver',
          'vfs',
          '--cgroup-manager',
          'cgroupfs',
          ...args,
        ],
        { encoding: 'utf8' },
      );
    try {
      const loaded = podman('load', '-q', '-i', made.archive);
      const name = /([0-9a-f]{64}|\S+:\S+)\s*$/.exec(loaded.stdout)?.[1] ?? '';
      if (loaded.status !== 0)
        context.skip(`podman cannot load here: ${loaded.stderr.trim().split('\n').at(-1)}`);
      const rootfs = await ensureRootfs('debian');
      const run = podman(
        'run',
        '--rm',
        '--runtime',
        'runc',
        '--user',
        '1000:1000',
        '--cap-drop',
        'all',
        '--security-opt',
        'no-new-privileges',
        '--read-only',
        '--network',
        'none',
        '--ulimit',
        'nofile=4096:4096',
        '--ulimit',
        'nproc=4096:4096',
        '--mount',
        `type=image,source=${name},destination=/opt/openshell/bin`,
        '-v',
        `${POLICY}:/policy.yaml:ro`,
        '--entrypoint',
        '/opt/openshell/bin/openshell-sandbox',
        '--rootfs',
        `${rootfs}`,
        '--policy',
        '/policy.yaml',
        '--',
        '/bin/sh',
        '-c',
        'echo $OPENSHELL_SANDBOX; exit 6',
      );
      if (run.status === 125 || run.status === 126)
        context.skip(`podman cannot run here: ${run.stderr.trim().split('\n').at(-1)}`);
      expect({ code: run.status, stdout: run.stdout }).toEqual({ code: 6, stdout: '1\n' });
    } finally {
      podman('system', 'reset', '--force');
      await sleep(0);
      rmSync(out, { recursive: true, force: true });
    }
  }, 120_000);
});
