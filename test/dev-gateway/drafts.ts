import { randomUUID } from 'node:crypto';
import { SandboxPolicy } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type { PolicyChunk } from '../../proto/generated/openshell/v1/openshell.ts';

const MAX_CHUNKS = 500;

/** Proposals of one gateway, and what a reviewer made of them. */
export class Drafts {
  #chunks: readonly PolicyChunk[] = [];

  all(): readonly PolicyChunk[] {
    return this.#chunks;
  }

  /** Keeps what may be decided on; returns the ids that it got. */
  add(proposed: readonly PolicyChunk[]): readonly string[] {
    const kept = proposed.map((chunk) => ({ ...chunk, id: randomUUID(), status: 'pending' }));
    this.#chunks = [...this.#chunks, ...kept].slice(-MAX_CHUNKS);
    return kept.map(({ id }) => id);
  }

  /** Marks one as decided; undefined when there is none that waits. */
  decide(id: string, approved: boolean, reason: string): PolicyChunk | undefined {
    const chunk = this.#chunks.find((one) => one.id === id && one.status === 'pending');
    if (chunk === undefined) return undefined;
    const decided: PolicyChunk = {
      ...chunk,
      status: approved ? 'approved' : 'rejected',
      rejectionReason: approved ? '' : reason,
      decidedAtMs: BigInt(Date.now()),
    };
    this.#chunks = this.#chunks.map((one) => (one === chunk ? decided : one));
    return decided;
  }
}

/** The policy with an approved rule in it. */
export function withRule(
  policy: SandboxPolicy | undefined,
  { ruleName, proposedRule }: PolicyChunk,
): SandboxPolicy {
  const before = policy ?? SandboxPolicy.fromPartial({ version: 1 });
  if (proposedRule === undefined) return before;
  return { ...before, networkPolicies: { ...before.networkPolicies, [ruleName]: proposedRule } };
}
