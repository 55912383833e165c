import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Config } from './config.ts';
import { hiddenPaths } from './confinement/hidden-paths.ts';
import { parsePidsMax } from './confinement/limits.ts';
import type { PlanInput } from './confinement/plan.ts';
import type { Fault } from './fault.ts';
import type { PolicyDocument } from './policy/document.ts';
import { filesystemRules } from './policy/filesystem.ts';
import { ok, type Result } from './result.ts';
import { type Identity, resolveIdentity } from './workload/identity.ts';
import { readAccounts } from './workload/workspace.ts';

/** What the plan is made of beside the probe: the policy's files, those that we make `readable`, and what the pod's author asked for. */
export function confinementInput(
  config: Config,
  document: PolicyDocument,
  readable: readonly string[] = [],
): Result<Omit<PlanInput, 'probe'>, Fault> {
  const asked = filesystemRules(document, config.workdir, existsSync);
  const files = { ...asked, readOnly: [...asked.readOnly, ...readable] };
  const { token, tls } = config;
  const secrets = [
    token.kind === 'file' || token.kind === 'kubernetes' ? token.path : undefined,
    tls.key,
    config.upstreamProxy?.authFile,
    config.spiffeSocket,
    config.inferenceRoutes,
    // Its whole directory is hidden, as a secret's is.
    config.stateDir === undefined ? undefined : join(config.stateDir, 'records.db'),
  ].filter((path): path is string => path?.startsWith('/') === true);
  const identity = workloadIdentity(config, document);
  if (!identity.ok) return identity;
  return ok({
    files,
    identity: identity.value,
    hidden: hiddenPaths(secrets, [...files.readOnly, ...files.readWrite], canonical),
    landlockAbiMax: config.landlockAbiMax,
    limits: {
      openFiles: config.maxOpenFiles,
      processes: config.maxProcesses,
      pidsMax: parsePidsMax(readPidsMax()),
      requirePidsMax: config.requirePidsMax,
    },
    strictLoopback: config.strictLoopback ? [config.proxyPort] : undefined,
    canonical: canonicalAsFarAsItExists,
  });
}

/** Without root there is nothing to choose: the workload runs as the container does. */
function workloadIdentity(config: Config, document: PolicyDocument): Result<Identity | undefined, Fault> {
  if (process.getuid?.() !== 0) return ok(undefined);
  const { runAsUser, runAsGroup } = document.process ?? {};
  return resolveIdentity({
    configured: config.identity,
    imageUser: config.imageUser,
    runAsUser,
    runAsGroup,
    ...readAccounts(),
  });
}

/** The container's own bound, with cgroup v2 or v1; a container sees its own control group at the root. */
function readPidsMax(): string | undefined {
  for (const path of ['/sys/fs/cgroup/pids.max', '/sys/fs/cgroup/pids/pids.max'])
    try {
      return readFileSync(path, 'utf8');
    } catch {
      // not mounted, or the other version
    }
  return undefined;
}

function canonical(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined; // not there, or not ours to reach
  }
}

function canonicalAsFarAsItExists(path: string): string {
  const real = canonical(path);
  if (real !== undefined || path === '/') return real ?? path;
  return join(canonicalAsFarAsItExists(dirname(path)), basename(path));
}
