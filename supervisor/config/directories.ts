import { usage } from '../cli/flags.ts';
import type { Environment, Get } from './given.ts';

/** Where a volume for the supervisor's own state may be; no image can put one elsewhere by its ENV. */
const STATE_ROOTS = ['/run/openshell', '/var/lib/openshell'] as const;

/** `--state-dir`, else what the environment may say of it; an ENV that points elsewhere is told in `warnings`. Throws the Fault of a bad flag. */
export function readStateDir(get: Get, env: Environment, warnings: string[]): string | undefined {
  const flag = get('state-dir');
  if (flag !== undefined && !isPlainPath(flag))
    throw usage(`--state-dir must be an absolute path without . and .., is "${flag}"`);
  const named = env['OPENSHELL_STATE_DIR'];
  if (flag !== undefined || !named) return flag;
  if (isPlainPath(named) && STATE_ROOTS.some((root) => `${named}/`.startsWith(`${root}/`))) return named;
  warnings.push(
    `OPENSHELL_STATE_DIR is ignored: it must lie in ${STATE_ROOTS.join(' or ')}; use --state-dir for another place`,
  );
  return undefined;
}

/** `--log-dir`. Throws the Fault of a path that is not plain. */
export function readLogDir(flag: string | undefined): string | undefined {
  if (flag !== undefined && !isPlainPath(flag))
    throw usage(`--log-dir must be an absolute path without . and .., is "${flag}"`);
  return flag;
}

const isPlainPath = (path: string): boolean => path.startsWith('/') && !/\/\.{1,2}(\/|$)/.test(path);
