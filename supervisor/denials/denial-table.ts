import type { CallerIdentity } from '../policy/intent.ts';

/** Different denials that are remembered between two flushes; more only count. */
const MAX_DENIALS = 1024;
/** Requests that a summary shows, and command lines (contract.md, 11). */
const MAX_SAMPLES = 20;
const MAX_COMMAND_LINES = 3;
const MAX_COMMAND_CHARACTERS = 512;

/** One thing that the workload was not allowed. */
export interface Denied {
  readonly at: number;
  readonly host: string;
  readonly port: number;
  readonly identity: CallerIdentity | undefined;
  /** As in the contract: connect, forward, ssrf, … */
  readonly stage: string;
  readonly reason: string;
  /** Whether requests were looked at. */
  readonly inspected: boolean;
  readonly request?: { readonly method: string; readonly path: string; readonly decision: string };
  /** Whether the log was spared the line about it. */
  readonly suppressed: boolean;
}

/** Denials of one host, port, binary and stage since the last flush. */
export interface DenialGroup {
  readonly host: string;
  readonly port: number;
  readonly binary: string;
  readonly stage: string;
  readonly ancestors: readonly string[];
  readonly sha256: string | undefined;
  readonly reason: string;
  readonly inspected: boolean;
  readonly firstSeen: number;
  readonly lastSeen: number;
  readonly count: number;
  /** Of those that the log was spared. */
  readonly suppressed: number;
  readonly commandLines: readonly string[];
  readonly requests: readonly RequestSample[];
}

export interface RequestSample {
  readonly method: string;
  readonly path: string;
  readonly decision: string;
  readonly count: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
interface Group extends Mutable<Omit<DenialGroup, 'commandLines' | 'requests'>> {
  readonly commandLines: string[];
  readonly requests: Map<string, Mutable<RequestSample>>;
}

/** Groups what was denied until it is taken. At most 1024 groups; what belongs to none of them is counted as `overflow`. */
export class DenialTable {
  readonly #groups = new Map<string, Group>();
  #overflow = 0;

  record(denied: Denied): void {
    const { host, port, identity, stage, reason, at } = denied;
    const binary = identity?.binary ?? '';
    const key = `${host}\0${port}\0${binary}\0${stage}`;
    let group = this.#groups.get(key);
    if (group === undefined) {
      if (this.#groups.size >= MAX_DENIALS) {
        this.#overflow += 1;
        return;
      }
      group = {
        host,
        port,
        binary,
        stage,
        ancestors: identity?.ancestors ?? [],
        sha256: identity?.sha256,
        reason,
        inspected: denied.inspected,
        firstSeen: at,
        lastSeen: at,
        count: 0,
        suppressed: 0,
        commandLines: [],
        requests: new Map(),
      };
      this.#groups.set(key, group);
    }
    group.count += 1;
    group.lastSeen = at;
    if (denied.suppressed) group.suppressed += 1;
    const command = commandLine(identity?.cmdline ?? []);
    if (
      command !== '' &&
      group.commandLines.length < MAX_COMMAND_LINES &&
      !group.commandLines.includes(command)
    )
      group.commandLines.push(command);
    if (denied.request !== undefined) sample(group, denied.request);
  }

  /** Everything since the last time, and how many did not fit. */
  take(): { readonly groups: readonly DenialGroup[]; readonly overflow: number } {
    const groups = [...this.#groups.values()].map(
      (group): DenialGroup => ({ ...group, requests: [...group.requests.values()] }),
    );
    const overflow = this.#overflow;
    this.#groups.clear();
    this.#overflow = 0;
    return { groups, overflow };
  }
}

/** The program and the scripts that it runs, by their paths: any other word may be a secret of somebody. */
function commandLine(words: readonly string[]): string {
  const plain = words.filter((word, place) => place === 0 || (place < 3 && /^\/[\w./-]+$/.test(word)));
  const more = plain.length < words.length ? ' …' : '';
  return `${plain.join(' ').slice(0, MAX_COMMAND_CHARACTERS)}${more}`;
}

function sample(group: Group, { method, path, decision }: NonNullable<Denied['request']>): void {
  const key = `${method} ${path} ${decision}`;
  const known = group.requests.get(key);
  if (known !== undefined) known.count += 1;
  else if (group.requests.size < MAX_SAMPLES) group.requests.set(key, { method, path, decision, count: 1 });
}
