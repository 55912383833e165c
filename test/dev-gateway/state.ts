import { createHash } from 'node:crypto';
import { type NetworkPolicyRule, SandboxPolicy } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type { Enforcement } from '../../proto/generated/openshell/v1/openshell.ts';

export interface VitalsView {
  readonly bufferedRecords: number;
  readonly bufferedBytes: number;
  readonly privateBytes: number;
  readonly openDescriptors: number;
}

export interface SessionView {
  readonly id: string;
  readonly sandboxId: string;
  readonly instanceId: string;
  readonly supervisorVersion: string;
  readonly enforcement: readonly Enforcement[];
  readonly bootId: string;
  readonly capabilities: readonly string[];
  /** Of the last message that told them. */
  readonly vitals: VitalsView | undefined;
  readonly connectedAtMs: number;
  /** Undefined while it lives. */
  readonly endedAtMs: number | undefined;
  /** When the last 100 heartbeats came, milliseconds since the Unix epoch. */
  readonly beatsMs: readonly number[];
  readonly policyVersion: number;
  readonly bufferedBytes: number;
}

export interface LogView {
  readonly sandboxId: string;
  readonly timestampMs: number;
  readonly level: string;
  readonly target: string;
  readonly message: string;
  readonly source: string;
  readonly fields: Readonly<Record<string, string>>;
}

export interface ExitView {
  readonly sandboxId: string;
  readonly instanceId: string;
  readonly exitCode: number;
  readonly atMs: number;
  /** False for a report of another instance, or a second and different code: acknowledged, yet ignored. */
  readonly accepted: boolean;
}

export interface PolicyReportView {
  readonly sandboxId: string;
  readonly version: number;
  readonly status: 'loaded' | 'failed';
  readonly loadError: string;
  readonly atMs: number;
}

export interface DenialView {
  readonly host: string;
  readonly port: number;
  readonly binary: string;
  readonly binarySha256: string;
  readonly stage: string;
  readonly reason: string;
  readonly count: number;
  readonly suppressedCount: number;
  readonly totalCount: number;
  readonly l7InspectionActive: boolean;
  readonly commandLines: readonly string[];
  readonly requests: readonly {
    readonly method: string;
    readonly path: string;
    readonly decision: string;
    readonly count: number;
  }[];
}

export interface ProposalView {
  readonly ruleName: string;
  readonly binary: string;
  readonly stage: string;
  readonly confidence: number;
  readonly hitCount: number;
  readonly rationale: string;
  readonly rule: NetworkPolicyRule;
}

/** What one submission held, and what the gateway made of its proposals. */
export interface AnalysisView {
  readonly sandboxId: string;
  /** The sandbox's name, as the submission has it. */
  readonly name: string;
  readonly workspace: string;
  readonly mode: string;
  readonly summaries: readonly DenialView[];
  readonly proposals: readonly ProposalView[];
  readonly rejections: readonly string[];
  readonly activity: readonly {
    readonly connections: number;
    readonly denied: number;
    readonly groups: Readonly<Record<string, number>>;
  }[];
}

/** Keeps the last `limit` of what is pushed. */
export class Recent<T> {
  readonly #limit: number;
  #items: T[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  push(...items: readonly T[]): void {
    this.#items = [...this.#items, ...items].slice(-this.#limit);
  }

  all(): readonly T[] {
    return this.#items;
  }
}

/** A policy as one revision of the sandbox's, for every sandbox of this gateway. */
export interface PolicyRevision {
  readonly policy: SandboxPolicy | undefined;
  readonly version: number;
  readonly hash: string;
  /** The first 64 bits of a hash: all of them count (contract.md, head). */
  readonly configRevision: bigint;
}

/** `settings` is any text that stands for the settings of the moment: they are part of the revision. */
export function policyRevision(
  policy: SandboxPolicy | undefined,
  version: number,
  settings = '',
): PolicyRevision {
  const encoded = policy === undefined ? Buffer.alloc(0) : SandboxPolicy.encode(policy).finish();
  const hash = createHash('sha256').update(encoded).digest('hex');
  const configRevision = createHash('sha256')
    .update(`${version} ${hash}${settings}`)
    .digest()
    .readBigUInt64BE();
  return { policy, version, hash: policy === undefined ? '' : hash, configRevision };
}
