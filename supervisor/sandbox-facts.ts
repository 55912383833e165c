import { readFileSync, realpathSync } from 'node:fs';
import { hostGateways } from './policy/addresses.ts';
import type { CompileOptions } from './policy/compilation.ts';

/** What a policy cannot know of the sandbox that it is compiled for. */
export type SandboxFacts = Pick<CompileOptions, 'resolveBinary' | 'hostGateways'>;

/**
 * Reads what compiling needs to know: the machine that runs the sandbox, by its aliases in `/etc/hosts` as
 * they are now, before any workload can change them; and, whenever it is asked, where a link leads.
 */
export function readSandboxFacts(hostsFile = '/etc/hosts'): SandboxFacts {
  return { resolveBinary: targetOf, hostGateways: hostGateways(textOf(hostsFile)) };
}

/** Where a path leads in the end; undefined when it is no link, or leads nowhere. The kernel follows 40 links. */
function targetOf(path: string): string | undefined {
  try {
    const target = realpathSync.native(path);
    return target === path ? undefined : target;
  } catch {
    return undefined;
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // without the file there are no aliases
  }
}
