import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { makeImage } from '../../scripts/lib/image.ts';
import { revision } from '../../scripts/lib/revision.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';

const why = missing('buildah');

describeUnless(why, 'the OCI image', () => {
  test('is the same to the last byte when it is made twice, labelled, and keeps the loader execute-only', async () => {
    const out = mkdtempSync(join(tmpdir(), 'image-'));
    try {
      const { image } = await ensureBuilt();
      const what = await revision();
      for (const name of ['one', 'two']) mkdirSync(join(out, name));
      const first = await makeImage(image, what, join(out, 'one'));
      const second = await makeImage(image, what, join(out, 'two'));
      expect(second.digest).toBe(first.digest);
      expect(readFileSync(second.archive).equals(readFileSync(first.archive))).toBe(true);
      execFileSync('tar', ['-xf', first.archive, '-C', out]);
      const index = JSON.parse(readFileSync(join(out, 'index.json'), 'utf8'));
      const blob = (digest: string) => join(out, 'blobs', ...digest.split(':'));
      const manifest = JSON.parse(readFileSync(blob(index.manifests[0].digest), 'utf8'));
      const config = JSON.parse(readFileSync(blob(manifest.config.digest), 'utf8'));
      expect(config.config.Labels).toMatchObject({
        'org.opencontainers.image.version': what.version,
        'org.opencontainers.image.revision': expect.stringContaining(what.commit.slice(0, 7)),
      });
      const listing = execFileSync('tar', ['-tvf', blob(manifest.layers[0].digest)], { encoding: 'utf8' });
      expect(listing).toMatch(/^---x--x--x .* lib\/ld-linux-x86-64\.so\.2$/m);
      expect(listing).toMatch(/^---x--x--x .* lib\/openshell-shim$/m);
      expect(listing).toMatch(/^-r-xr-xr-x .* openshell-sandbox$/m);
    } finally {
      rmSync(out, { recursive: true });
    }
  }, 120_000);
});
