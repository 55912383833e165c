import type { ConfinementPlan } from './plan.ts';

/**
 * Whether the workload, which has our user id, cannot have written what lies in `directory`: mounts cover it, or
 * a rule of the policy neither holds it nor lies in it. Paths are canonical.
 */
export function isKeptOut(plan: ConfinementPlan, directory: string): boolean {
  const within = (path: string, of: string): boolean => `${path}/`.startsWith(of === '/' ? '/' : `${of}/`);
  if (
    plan.fence.kind === 'namespace' &&
    plan.fence.mounts &&
    plan.hidden.some((path) => within(directory, path))
  )
    return true;
  if (plan.files.kind === 'none') return false;
  return !plan.files.rules.readWrite.some((path) => within(directory, path) || within(path, directory));
}
