import { existsSync, realpathSync } from 'node:fs';
import type { Config } from './config.ts';
import { hiddenPaths } from './confinement/hidden-paths.ts';
import type { PlanInput } from './confinement/plan.ts';
import type { PolicyDocument } from './policy/document.ts';
import { filesystemRules } from './policy/filesystem.ts';

/** What the plan is made of beside the probe: the policy's files and what the pod's author asked for. */
export function confinementInput(config: Config, document: PolicyDocument): Omit<PlanInput, 'probe'> {
  const files = filesystemRules(document, config.workdir, existsSync);
  const { token, tls } = config;
  const secrets = [
    token.kind === 'file' || token.kind === 'kubernetes' ? token.path : undefined,
    tls.key,
  ].filter((path): path is string => path?.startsWith('/') === true);
  return {
    files,
    identity: config.identity && { ...config.identity, groups: [] },
    hidden: hiddenPaths(secrets, [...files.readOnly, ...files.readWrite], canonical),
    landlockAbiMax: config.landlockAbiMax,
    strictLoopback: config.strictLoopback ? [config.proxyPort] : undefined,
  };
}

function canonical(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined; // not there, or not ours to reach
  }
}
