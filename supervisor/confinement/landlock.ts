import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';

/** The first ABI with rules for TCP ports. */
const PORTS_ABI = 4;

/** What Landlock began to restrict, and with which ABI; below it, this is what a reader must know. */
const SINCE: readonly (readonly [abi: number, gap: string])[] = [
  [2, 'renames and links from one directory to another are all refused'],
  [3, 'truncating by path is not restricted'],
  [5, 'ioctl on devices is not restricted'],
  [6, 'abstract unix sockets are not restricted'],
  [9, 'connecting to unix sockets by path is not restricted'],
];

interface Rules {
  readonly readOnly: readonly string[];
  readonly readWrite: readonly string[];
}

/** What stands beside "files: Landlock ABI n" in the statement: what bounds it, and what it leaves open. */
export function landlockNote(abi: number, kernelAbi: number, rules: Rules, hasView = false): string {
  const notes = ['filesystem_policy'];
  if (abi < kernelAbi) notes.push(`the kernel has ABI ${kernelAbi}, --landlock-abi-max bounds it`);
  // Beside a mount view nothing outside the policy has a path, and what is read-only is so for every call.
  for (const [since, gap] of SINCE) if (abi < since && !(hasView && since === 3)) notes.push(gap);
  for (const path of shadowed(rules)) notes.push(`${path} is writable, because a read_write path holds it`);
  return notes.join('; ');
}

/** Read-only paths that a read-write path holds or equals: Landlock adds rights up and takes none away. */
function shadowed({ readOnly, readWrite }: Rules): readonly string[] {
  return readOnly.filter((path) => readWrite.some((writable) => within(path, writable)));
}

/**
 * The ports that Landlock must leave connectable for `--strict-loopback`: none when it is not asked for, or
 * when the fence has a loopback of its own. `abi` is the one in force, 0 without Landlock. Refuses when the
 * flag cannot be kept.
 */
export function loopbackPorts(
  abi: number,
  fence: 'socket' | 'namespace',
  wanted: readonly number[] | undefined,
): Result<readonly number[], Fault> {
  if (wanted === undefined || fence === 'namespace') return ok([]);
  if (abi >= PORTS_ABI) return ok(wanted);
  const has = abi === 0 ? 'there is no Landlock here' : `ABI ${abi} is in force`;
  return err(
    new Fault(
      'confinement',
      `--strict-loopback needs Landlock ABI ${PORTS_ABI} (Linux 6.7) or the namespace fence, and ${has}; leave the flag out, or use a newer kernel`,
    ),
  );
}

/**
 * The rules with the image's links followed, once and before anything untrusted runs: the shim follows none, or
 * a workload could put a link in the place of a path and be given its end in the next session.
 * `canonical` resolves a path as far as it exists. A writable path that only a link carries above one of the
 * `hidden` stays as it is, and so without a rule: the image may be hostile, and the policy did not say that.
 */
export function settledRules<R extends Rules>(
  rules: R,
  hidden: readonly string[],
  canonical: (path: string) => string,
): R {
  const settle = (path: string): string =>
    KERNEL_LINKS.some((root) => within(path, root)) ? path : canonical(path);
  const settleWritable = (path: string): string => {
    const real = settle(path);
    return real !== path && hidden.some((secret) => within(secret, real)) ? path : real;
  };
  return {
    ...rules,
    readOnly: [...new Set(rules.readOnly.map(settle))],
    readWrite: [...new Set(rules.readWrite.map(settleWritable))],
  };
}

/** Links there differ from process to process, and no workload can make one. */
const KERNEL_LINKS = ['/proc', '/dev'];

const within = (path: string, root: string): boolean =>
  root === '/' || path === root || path.startsWith(`${root}/`);
