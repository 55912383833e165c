import {
  chmodSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type Identity, withSandboxEntry } from './identity.ts';

const PASSWD = '/etc/passwd';
const GROUP = '/etc/group';
const MAX_BYTES = 1 << 20;
/** Directories nested deeper are left as they are. */
const MAX_DEPTH = 256;

/** A small regular file of the image, never through a link; empty when there is none. */
export function readAccountFile(path: string): string {
  const status = lstatSync(path, { throwIfNoEntry: false });
  return status?.isFile() && status.size <= MAX_BYTES ? readFileSync(path, 'utf8') : '';
}

/** The image's account files, as `resolveIdentity` takes them. */
export const readAccounts = (): { readonly passwd: string; readonly group: string } => ({
  passwd: readAccountFile(PASSWD),
  group: readAccountFile(GROUP),
});

/**
 * As root, before anything untrusted runs: makes the workspace, gives it and what it holds to the workload
 * (links themselves, never what they lead to), and names the workload's ids `sandbox` in passwd and group.
 * Returns what could not be done; a read-only root file system goes without saying.
 */
export function prepareWorkspace(workdir: string | undefined, identity: Identity): readonly string[] {
  const warnings: string[] = [];
  const attempt = (what: string, act: () => void): void => {
    try {
      act();
    } catch (cause) {
      const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
      if (code !== 'EROFS') warnings.push(`cannot ${what}: ${code}`);
    }
  };
  const accounts = readAccounts();
  const next = withSandboxEntry(accounts, identity);
  for (const [path, text] of [
    [PASSWD, next.passwd],
    [GROUP, next.group],
  ] as const)
    if (text !== undefined) attempt(`name the workload's user in ${path}`, () => writeFileSync(path, text));
  if (workdir !== undefined)
    attempt(`give ${workdir} to the workload`, () => {
      mkdirSync(workdir, { recursive: true });
      giveTo(workdir, identity, 0);
      chmodSync(workdir, lstatSync(workdir).mode | 0o300);
    });
  return warnings;
}

function giveTo(path: string, identity: Identity, depth: number): void {
  const status = lstatSync(path);
  if (status.uid !== identity.uid || status.gid !== identity.gid)
    lchownSync(path, identity.uid, identity.gid);
  if (!status.isDirectory() || depth === MAX_DEPTH) return;
  for (const name of readdirSync(path)) giveTo(join(path, name), identity, depth + 1);
}
