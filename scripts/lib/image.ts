import { mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { run } from './command.ts';
import { withLock } from './lock.ts';
import { cached, DIST, ROOT } from './paths.ts';
import type { Revision } from './revision.ts';
import { reproducibleTar } from './single-file.ts';

export interface Image {
  /** The manifest's digest, `sha256:…`. */
  readonly digest: string;
  /** The OCI archive. */
  readonly archive: string;
}

const NAME = 'openshell-supervisor';

/** Where the source is public: the git remote, or a package.json `repository`; empty when there is neither. */
const source = async (): Promise<string> => {
  const remote = await run('git', ['config', '--get', 'remote.origin.url']).catch(() => '');
  // A URL may carry a credential, and a path of this machine means nothing to others.
  return /^https:\/\/[^@\s]+$/.test(remote.trim()) ? remote.trim() : `urn:${NAME}`;
};

const labels = async (what: Revision): Promise<readonly string[]> => {
  const values = {
    'org.opencontainers.image.title': NAME,
    'org.opencontainers.image.version': what.version,
    'org.opencontainers.image.revision': what.commit,
    'org.opencontainers.image.source': await source(),
    'org.opencontainers.image.licenses': 'Apache-2.0',
  };
  return Object.entries(values).flatMap(([name, value]) => ['--label', `${name}=${value}`]);
};

/** The digest of the only manifest of an OCI layout directory. */
const manifestDigest = (layout: string): string => {
  const digest = /"digest":"(sha256:[0-9a-f]{64})"/.exec(
    readFileSync(join(layout, 'index.json'), 'utf8'),
  )?.[1];
  if (digest === undefined) throw new Error(`${layout} holds no manifest`);
  return digest;
};

/**
 * Makes the OCI image of an image directory with buildah, and its archive. The same commit gives the same
 * bytes: every time in it is the commit's. Needs root.
 */
export const makeImage = (imageDirectory: string, what: Revision, out: string = DIST): Promise<Image> =>
  withLock('image', async () => {
    const work = cached('buildah');
    const layout = join(work, 'layout');
    mkdirSync(work, { recursive: true });
    rmSync(layout, { recursive: true, force: true });
    // A store of its own: the machine's images are none of our business.
    const store = ['--root', join(work, 'root'), '--runroot', join(work, 'run'), '--storage-driver', 'vfs'];
    const tag = `localhost/${NAME}:${what.version}`;
    const fixed = ['--timestamp', `${what.timestamp}`, '--format', 'oci', '--isolation', 'chroot'];
    const file = ['--file', join(ROOT, 'Containerfile')];
    try {
      await run('buildah', [
        ...store,
        ...['build', '--quiet', ...fixed, ...(await labels(what)), ...file, '--tag', tag, imageDirectory],
      ]);
      await run('buildah', [...store, 'push', '--quiet', tag, `oci:${layout}:${what.version}`]);
    } finally {
      await run('buildah', [...store, 'rmi', '--all', '--force']).catch(() => '');
    }
    const archive = resolve(out, `${NAME}-${what.version}.oci.tar`);
    await reproducibleTar(`${archive}.next`, layout, ['blobs', 'index.json', 'oci-layout'], what.timestamp);
    renameSync(`${archive}.next`, archive);
    const digest = manifestDigest(layout);
    rmSync(layout, { recursive: true, force: true });
    return { digest, archive };
  });
