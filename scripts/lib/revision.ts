import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { attempt } from './command.ts';
import { ROOT } from './paths.ts';

export interface Revision {
  readonly version: string;
  /** The commit, with `-dirty` when tracked files differ from it; `unknown` outside a git checkout. */
  readonly commit: string;
  /** Seconds since 1970 of the commit: the timestamp of everything that is built from it. */
  readonly timestamp: number;
}

/** What is being built. */
export const revision = async (): Promise<Revision> => {
  const manifest: unknown = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const version =
    typeof manifest === 'object' && manifest !== null && 'version' in manifest
      ? String(manifest.version)
      : '0.0.0';
  const log = await attempt('git', ['log', '-1', '--format=%H %ct']).catch(() => undefined);
  if (log === undefined || log.code !== 0) return { version, commit: 'unknown', timestamp: 0 };
  const [commit = 'unknown', seconds = '0'] = log.stdout.trim().split(' ');
  const status = await attempt('git', ['status', '--porcelain', '--untracked-files=no']);
  return { version, commit: status.stdout === '' ? commit : `${commit}-dirty`, timestamp: Number(seconds) };
};
