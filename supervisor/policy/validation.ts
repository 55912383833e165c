import { findAmbiguities } from './ambiguity.ts';
import type { PolicyDocument } from './document.ts';
import { checkEndpoint } from './endpoint-validation.ts';
import { faultAt, type PolicyFault } from './fault.ts';
import { PATH_GLOB } from './glob.ts';
import { globFault } from './matchers.ts';
import { checkMiddlewares } from './middleware-validation.ts';

const MAX_PATHS = 256;
const MAX_PATH_LENGTH = 4096;
const MAX_ID = 4_294_967_294;

/** Checks what a shape cannot: the rules of contract.md, 7.2. Returns every fault that it finds. */
export function validatePolicy(document: PolicyDocument): readonly PolicyFault[] {
  const faults: PolicyFault[] = [];
  checkFiles(document, faults);
  checkIdentity('run_as_user', document.process?.runAsUser, faults);
  checkIdentity('run_as_group', document.process?.runAsGroup, faults);
  for (const [key, rule] of Object.entries(document.networkPolicies)) {
    for (const [index, endpoint] of rule.endpoints.entries())
      faults.push(...checkEndpoint(['network_policies', key, 'endpoints', index], endpoint));
    for (const [index, { path }] of rule.binaries.entries()) {
      const message = binaryFault(path);
      if (message !== undefined)
        faults.push(faultAt(['network_policies', key, 'binaries', index, 'path'], message));
    }
  }
  faults.push(...findAmbiguities(document), ...checkMiddlewares(document));
  return faults;
}

function checkFiles(document: PolicyDocument, faults: PolicyFault[]): void {
  const files = document.filesystem;
  if (files === undefined) return;
  if (files.readOnly.length + files.readWrite.length > MAX_PATHS)
    faults.push(faultAt(['filesystem_policy'], `has more than ${MAX_PATHS} paths`));
  for (const [name, paths] of [
    ['read_only', files.readOnly],
    ['read_write', files.readWrite],
  ] as const)
    for (const [index, path] of paths.entries()) {
      const message = pathFault(path, name === 'read_write');
      if (message !== undefined) faults.push(faultAt(['filesystem_policy', name, index], message));
    }
}

function pathFault(path: string, writable: boolean): string | undefined {
  if (!path.startsWith('/')) return 'must be an absolute path';
  if (path.length > MAX_PATH_LENGTH) return `is longer than ${MAX_PATH_LENGTH} characters`;
  if (path.includes('\0')) return 'holds a NUL byte';
  if (path.split('/').includes('..')) return 'must not climb with ..';
  if (writable && /^\/+\.?\/*$/.test(path)) return 'must not make the whole root writable';
  return undefined;
}

function checkIdentity(key: string, value: string | undefined, faults: PolicyFault[]): void {
  if (value === undefined || value === 'sandbox') return;
  if (!/^\d{1,10}$/.test(value) || Number(value) > MAX_ID || Number(value) < 1)
    faults.push(
      faultAt(['process', key], `must be "sandbox" or a number from 1 to ${MAX_ID}; root is refused`),
    );
}

function binaryFault(path: string): string | undefined {
  if (!path.startsWith('/') && !path.startsWith('*')) return 'must be an absolute path or a glob';
  return path.includes('*') ? globFault(path, PATH_GLOB) : undefined;
}
