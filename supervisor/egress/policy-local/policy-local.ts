import type {
  PolicyChunk,
  SubmitPolicyAnalysisResponse,
} from '../../../proto/generated/openshell/v1/openshell.ts';
import type { Clock } from '../../clock.ts';
import { err, ok, type Result } from '../../result.ts';
import { readWhole } from '../http/body-facts.ts';
import type { ClientExchange } from '../http/client-exchange.ts';
import type { LocalService } from '../local-services.ts';
import { chunkState, reviewText } from './chunk-state.ts';
import type { DenialLines } from './denial-lines.ts';
import { readProposal } from './proposal-body.ts';

export const POLICY_LOCAL_HOST = 'policy.local';

/** Why the gateway could not be asked. */
export interface GatewayFailure {
  readonly code:
    | 'gateway_unavailable'
    | 'sandbox_name_unavailable'
    | 'workspace_unavailable'
    | 'gateway_connect_failed'
    | 'proposal_submit_failed'
    | 'gateway_lookup_failed';
  readonly detail: string;
}

/** What is told of proposals, for the audit log. */
export interface ProposalEvent {
  readonly state: 'PROPOSED' | 'APPROVED' | 'REJECTED';
  readonly message: string;
}

export interface PolicyLocalOptions {
  readonly clock: Clock;
  /** The setting agent_policy_proposals_enabled, as it is now. */
  readonly enabled: () => boolean;
  /** The policy in force as YAML. */
  readonly policyYaml: () => string;
  readonly denials: DenialLines;
  readonly submit: (chunks: PolicyChunk[]) => Promise<Result<SubmitPolicyAnalysisResponse, GatewayFailure>>;
  /** All proposals of this sandbox that the gateway knows. */
  readonly chunks: () => Promise<Result<readonly PolicyChunk[], GatewayFailure>>;
  /** Whether the policy in force covers an approved proposal. */
  readonly covers: (chunk: PolicyChunk) => boolean;
  readonly observe: (event: ProposalEvent) => void;
  /** What a reader is to know who has no file of it. */
  readonly skill: string;
}

const MAX_BODY_BYTES = 64 * 1024;
const BODY_MS = 15_000;
const POLL_MS = 1_000;
const RELOAD_POLL_MS = 200;
const RELOAD_AT_LEAST_MS = 500;
/** Requests that wait for a decision, all together. */
const MAX_WAITING = 32;

type Answer = {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>> | string;
};

const failed = (status: number, error: string, detail: string): Answer => ({
  status,
  body: { error, detail },
});

const ofGateway = ({ code, detail }: GatewayFailure): Answer =>
  failed(code.endsWith('_unavailable') ? 503 : 502, code, detail);

/**
 * http://policy.local: what the policy is, what it denied lately, and proposals to change it, which a person decides on
 * (contract.md, 10). Everything is 404 while the setting is off.
 */
export class PolicyLocal implements LocalService {
  readonly host = POLICY_LOCAL_HOST;
  readonly port = 80;
  readonly secure = false;
  readonly #options: PolicyLocalOptions;
  /** Decisions that were told already, at most as many as there may be waiters for. */
  readonly #told = new Set<string>();
  #waiting = 0;

  constructor(options: PolicyLocalOptions) {
    this.#options = options;
  }

  async handle(exchange: ClientExchange): Promise<void> {
    const { status, body } = await this.#answer(exchange);
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const type = typeof body === 'string' ? 'text/markdown; charset=utf-8' : 'application/json';
    exchange.answer({ status, reason: '', fields: [['Content-Type', type]] }, text);
  }

  #answer(exchange: ClientExchange): Promise<Answer> | Answer {
    const { enabled, policyYaml, denials, skill } = this.#options;
    if (!enabled())
      return failed(404, 'feature_disabled', 'agent_policy_proposals_enabled is off for this sandbox');
    const url = targetOf(exchange.target);
    if (url === undefined) return failed(404, 'not_found', 'there is no such route');
    const proposal = /^\/v1\/proposals\/([A-Za-z0-9_-]{1,128})(\/wait)?$/.exec(url.pathname);
    if (exchange.method === 'GET' && proposal !== null) {
      const [, id = '', wait] = proposal;
      return wait === undefined
        ? this.#state(id)
        : this.#wait(id, bounded(url.searchParams.get('timeout'), 60, 300), exchange);
    }
    switch (`${exchange.method} ${url.pathname}`) {
      case 'GET /v1/policy/current':
        return { status: 200, body: { format: 'yaml', policy_yaml: policyYaml() } };
      case 'GET /v1/denials':
        return {
          status: 200,
          body: {
            denials: denials.last(bounded(url.searchParams.get('last'), 10, 100)),
            log_available: true,
          },
        };
      case 'GET /v1/skill':
        return { status: 200, body: skill };
      case 'POST /v1/proposals':
        return this.#propose(exchange);
      default:
        return failed(404, 'not_found', 'there is no such route');
    }
  }

  async #propose(exchange: ClientExchange): Promise<Answer> {
    const { framing } = exchange;
    if (framing.kind === 'ambiguous' || framing.kind === 'none')
      return failed(400, 'invalid_proposal', 'the request has no body');
    const tooLarge = failed(413, 'invalid_proposal', `a proposal has at most ${MAX_BODY_BYTES} bytes`);
    if (framing.kind === 'length' && framing.bytes > MAX_BODY_BYTES) return tooLarge;
    exchange.sayContinue();
    const body = await readWhole(exchange.body, MAX_BODY_BYTES, BODY_MS);
    if (body === 'too-large') return tooLarge;
    if (body === 'aborted') return failed(408, 'invalid_proposal', 'the body did not come in time');
    const { clock, submit, observe } = this.#options;
    const read = readProposal(body.toString('utf8'), clock.now());
    if (!read.ok) return failed(400, 'invalid_proposal', read.error);
    const submitted = await submit(read.value);
    if (!submitted.ok) return ofGateway(submitted.error);
    const { acceptedChunks, rejectedChunks, rejectionReasons, acceptedChunkIds } = submitted.value;
    for (const { ruleName } of read.value)
      observe({ state: 'PROPOSED', message: `an agent proposes the rule ${ruleName}` });
    return {
      status: 202,
      body: {
        status: 'submitted',
        accepted_chunks: acceptedChunks,
        rejected_chunks: rejectedChunks,
        rejection_reasons: rejectionReasons,
        accepted_chunk_ids: acceptedChunkIds,
      },
    };
  }

  async #state(id: string): Promise<Answer> {
    const found = await this.#find(id);
    if (!found.ok) return found.error;
    const chunk = found.value;
    const reloaded = chunk.status === 'approved' ? { policyReloaded: this.#options.covers(chunk) } : {};
    return { status: 200, body: chunkState(chunk, reloaded) };
  }

  async #wait(id: string, seconds: number, exchange: ClientExchange): Promise<Answer> {
    const { clock, covers } = this.#options;
    if (this.#waiting >= MAX_WAITING)
      return failed(503, 'too_many_waiting', `${MAX_WAITING} requests wait for a decision already`);
    this.#waiting += 1;
    let gone = false;
    exchange.onClose(() => {
      gone = true;
    });
    try {
      const deadline = clock.monotonic() + seconds * 1000;
      const left = (): number => deadline - clock.monotonic();
      for (;;) {
        const found = await this.#find(id);
        if (!found.ok) return found.error;
        const chunk = found.value;
        if (chunk.status === 'rejected') {
          this.#tell(chunk, 'REJECTED', `: ${reviewText(chunk.rejectionReason)}`);
          return { status: 200, body: chunkState(chunk, {}) };
        }
        if (chunk.status === 'approved') {
          this.#tell(chunk, 'APPROVED', '');
          const until = clock.monotonic() + Math.max(RELOAD_AT_LEAST_MS, left());
          while (!gone && !covers(chunk) && clock.monotonic() < until) await pause(clock, RELOAD_POLL_MS);
          return { status: 200, body: chunkState(chunk, { policyReloaded: covers(chunk) }) };
        }
        if (gone || left() <= 0) return { status: 200, body: chunkState(chunk, { timedOut: true }) };
        await pause(clock, Math.min(POLL_MS, left()));
      }
    } finally {
      this.#waiting -= 1;
    }
  }

  #tell({ id, ruleName }: PolicyChunk, state: ProposalEvent['state'], why: string): void {
    if (this.#told.has(id)) return;
    if (this.#told.size >= 1024) this.#told.clear();
    this.#told.add(id);
    this.#options.observe({ state, message: `the rule ${ruleName} was ${state.toLowerCase()}${why}` });
  }

  async #find(id: string): Promise<Result<PolicyChunk, Answer>> {
    const chunks = await this.#options.chunks();
    if (!chunks.ok) return err(ofGateway(chunks.error));
    const found = chunks.value.find((chunk) => chunk.id === id);
    return found === undefined
      ? err(failed(404, 'chunk_not_found', `the gateway knows no proposal ${id}`))
      : ok(found);
  }
}

/** A path, or a whole URL as a proxy's client sends it. */
function targetOf(target: string): URL | undefined {
  const text = target.startsWith('/') ? `http://${POLICY_LOCAL_HOST}${target}` : target;
  return URL.canParse(text) ? new URL(text) : undefined;
}

/** A whole number from 1 to `max`; what is none is `otherwise`. */
function bounded(text: string | null, otherwise: number, max: number): number {
  const value = text !== null && /^\d{1,6}$/.test(text) ? Number(text) : otherwise;
  return Math.min(max, Math.max(1, value));
}

const pause = (clock: Clock, ms: number): Promise<void> =>
  new Promise((resolve) => void clock.after(ms, () => resolve()));
