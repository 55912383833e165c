import { DenialSummary, SubmitPolicyAnalysisRequest } from '../../proto/generated/openshell/v1/openshell.ts';
import type { Clock, Random } from '../clock.ts';
import type { EgressEvent } from '../egress/events.ts';
import { type DenialGroup, DenialTable } from './denial-table.ts';
import { proposeRules } from './proposal.ts';

export interface DenialReporterOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly sandboxId: string;
  readonly sandboxName: string;
  /** Takes what is to be delivered; it must not be lost from here on. */
  readonly append: (request: SubmitPolicyAnalysisRequest) => void;
}

/** Contract.md, 13. */
const FLUSH_MS = 10_000;
/** A record of the buffer takes 64 KiB. */
const MAX_PART_BYTES = 56 * 1024;
/** Places whose denials are counted over all flushes. */
const MAX_TOTALS = 4096;

/** Groups of contract.md, 11 that a stage counts under. */
const GROUP: Readonly<Record<string, string>> = {
  connect: 'connect_policy',
  forward: 'forward_policy',
  'transparent-tcp': 'connect_policy',
  ssrf: 'ssrf',
  'connect-l7-parse-rejection': 'l7_parse_rejection',
  'forward-l7-parse-rejection': 'l7_parse_rejection',
  'connect-l7-deny': 'l7_policy',
  'forward-l7-deny': 'l7_policy',
};

/**
 * Tells the gateway what the workload was denied, what would have allowed it, and how much it does at all: each
 * 10 s, once the workspace is known that it belongs to.
 */
export class DenialReporter {
  readonly #options: DenialReporterOptions;
  readonly #table = new DenialTable();
  readonly #totals = new Map<string, number>();
  readonly #denied = new Map<string, number>();
  #actions = 0;
  #workspace = '';
  #cancel: (() => void) | undefined;

  constructor(options: DenialReporterOptions) {
    this.#options = options;
  }

  set workspace(name: string) {
    this.#workspace = name;
  }

  /** `suppressed`: the log was spared a line about it. */
  observe(event: EgressEvent, suppressed: boolean): void {
    const at = this.#options.clock.now();
    if (event.kind === 'opened') this.#actions += 1;
    if (event.kind === 'denied') {
      const { intent, identity, stage, reason } = event;
      this.#count(stage, reason);
      const inspected = stage.includes('l7');
      this.#table.record({ at, ...placeOf(intent), identity, stage, reason, inspected, suppressed });
    }
    if (event.kind !== 'request') return;
    const { intent, identity, request } = event;
    this.#actions += 1;
    if (request.outcome !== 'denied' && request.outcome !== 'malformed') return;
    const via = intent.via === 'forward' ? 'forward' : 'connect';
    const stage = `${via}-l7-${request.outcome === 'denied' ? 'deny' : 'parse-rejection'}`;
    const reason = request.reason ?? '';
    this.#count(stage, reason);
    // No rule would let pass what a middleware has stopped.
    if (request.by === 'middleware') return;
    const { method, path } = request;
    const sample = request.outcome === 'denied' ? { request: { method, path, decision: 'deny' } } : {};
    this.#table.record({
      at,
      ...placeOf(intent),
      identity,
      stage,
      reason,
      inspected: true,
      suppressed,
      ...sample,
    });
  }

  start(): void {
    const { clock, random } = this.#options;
    this.#cancel = clock.after(FLUSH_MS * (6 / 7 + (random() * 2) / 7), () => {
      this.flush();
      this.start();
    });
  }

  stop(): void {
    this.#cancel?.();
    this.flush();
  }

  /** Hands over what has been gathered, unless nothing has or nobody knows where it belongs. */
  flush(): void {
    if (this.#workspace === '') return;
    const { sandboxName: name, append } = this.#options;
    const base = { name, workspace: this.#workspace };
    const { groups, overflow } = this.#table.take();
    for (const part of inParts(groups.map((group) => this.#summary(group)))) {
      const places = new Set(part.map(placeKey));
      const proposedChunks = proposeRules(groups.filter((group) => places.has(placeKey(group))));
      append(
        SubmitPolicyAnalysisRequest.fromPartial({
          ...base,
          analysisMode: 'mechanistic',
          summaries: part,
          proposedChunks,
        }),
      );
    }
    if (this.#actions === 0 && this.#denied.size === 0) return;
    const denialsByGroup = [...this.#denied].map(([denyGroup, deniedCount]) => ({ denyGroup, deniedCount }));
    const deniedActionCount = denialsByGroup.reduce((sum, { deniedCount }) => sum + deniedCount, 0);
    const networkActivityCount = this.#actions + deniedActionCount;
    this.#actions = 0;
    this.#denied.clear();
    append(
      SubmitPolicyAnalysisRequest.fromPartial({
        ...base,
        analysisMode: 'activity',
        cutItems: overflow,
        networkActivitySummaries: [{ networkActivityCount, deniedActionCount, denialsByGroup }],
      }),
    );
  }

  #count(stage: string, reason: string): void {
    const group = reason.startsWith('the policy changed') ? 'policy_stale' : (GROUP[stage] ?? 'unknown');
    this.#denied.set(group, (this.#denied.get(group) ?? 0) + 1);
  }

  #summary(group: DenialGroup): DenialSummary {
    const key = `${group.host}\0${group.port}\0${group.binary}\0${group.stage}`;
    const total = (this.#totals.get(key) ?? 0) + group.count;
    this.#totals.delete(key);
    this.#totals.set(key, total);
    const [oldest] = this.#totals.keys();
    if (this.#totals.size > MAX_TOTALS && oldest !== undefined) this.#totals.delete(oldest);
    return DenialSummary.fromPartial({
      sandboxId: this.#options.sandboxId,
      host: group.host,
      port: group.port,
      binary: group.binary,
      ancestors: [...group.ancestors],
      denyReason: group.reason,
      firstSeenMs: BigInt(Math.trunc(group.firstSeen)),
      lastSeenMs: BigInt(Math.trunc(group.lastSeen)),
      count: group.count,
      suppressedCount: group.suppressed,
      totalCount: total,
      sampleCmdlines: [...group.commandLines],
      binarySha256: group.sha256 ?? '',
      persistent: total > group.count,
      denialStage: group.stage,
      l7RequestSamples: [...group.requests],
      l7InspectionActive: group.inspected,
    });
  }
}

const placeOf = ({ host, port }: { readonly host: string; readonly port: number }) => ({ host, port });

type Place = Pick<DenialGroup, 'host' | 'port' | 'binary'>;

const placeKey = ({ host, port, binary }: Place): string => `${host}\0${port}\0${binary}`;

/** In parts that one record of the buffer holds together with their proposals; a place is never torn apart. */
function inParts(summaries: readonly DenialSummary[]): readonly (readonly DenialSummary[])[] {
  const places = Map.groupBy(summaries, placeKey);
  const parts: DenialSummary[][] = [];
  let room = 0;
  for (const place of places.values()) {
    // A proposal says no more than its summaries do, and what surrounds it: host and port twice, marks, numbers.
    const bytes = place.reduce((sum, one) => sum + 2 * DenialSummary.encode(one).finish().length + 512, 0);
    if (bytes > room || parts.length === 0) {
      parts.push([]);
      room = MAX_PART_BYTES;
    }
    parts.at(-1)?.push(...place);
    room -= bytes;
  }
  return parts;
}
