import type { ProviderProfileCredential } from '../../../proto/generated/openshell/v1/openshell.ts';
import type { Clock } from '../../clock.ts';
import type { Secret } from '../../observability/secret.ts';
import { err, ok, type Result } from '../../result.ts';
import type { Field } from '../http/fields.ts';
import type { RequestPlace } from './credential-store.ts';
import type { AskToken } from './token-endpoint.ts';
import { readTokenGrant, type TokenGrant } from './token-grant.ts';

export interface TokenGrantsOptions {
  readonly clock: Clock;
  /** Who this sandbox is, as a JWT for an audience; the error says why there is none. */
  readonly assertion: (audience: string) => Promise<Result<Secret, string>>;
  readonly ask: AskToken;
}

/** A token is fetched anew so long before its end. */
const EARLY_MS = 30_000;
const DEFAULT_LIFE_MS = 300_000;
const MAX_LIFE_MS = 3_600_000;
/** After a failure nobody asks again for so long. */
const FAILED_MS = 5_000;
const MAX_GRANTS = 256;

type Cached = { readonly until: number; readonly token: Promise<Result<Secret, string>> };

/**
 * Credentials that are tokens, fetched when a request that policy has allowed first needs one (contract.md, 8.4): one
 * fetch at a time for each grant, kept until shortly before its end.
 */
export class TokenGrants {
  readonly #options: TokenGrantsOptions;
  #grants: readonly TokenGrant[] = [];
  readonly #cache = new Map<string, Cached>();

  constructor(options: TokenGrantsOptions) {
    this.#options = options;
  }

  /**
   * Takes the gateway's grants. Returns what is wrong with those that cannot be used; requests to their places go without a
   * token. A grant that is the same keeps its token.
   */
  update(dynamic: Readonly<Record<string, ProviderProfileCredential>>): readonly string[] {
    const faults: string[] = [];
    const grants: TokenGrant[] = [];
    for (const [entry, credential] of Object.entries(dynamic)) {
      const read = readTokenGrant(entry, credential);
      if (!read.ok) faults.push(read.error);
      else if (grants.length >= MAX_GRANTS) faults.push(`${read.value.key}: more than ${MAX_GRANTS} grants`);
      else grants.push(read.value);
    }
    this.#grants = grants.sort(mostSpecificFirst);
    const kept = new Set(grants.map(cacheKey));
    for (const key of this.#cache.keys()) if (!kept.has(key)) this.#cache.delete(key);
    return faults;
  }

  /** Whether requests to this host and port may get a token, so that they must be seen. */
  isBound(host: string, port: number): boolean {
    return this.#grants.some(({ coversHost }) => coversHost(host, port));
  }

  /** The fields with the token that the place calls for; the same when it calls for none. */
  async inject(fields: readonly Field[], place: RequestPlace): Promise<Result<readonly Field[], string>> {
    const grant = this.#grants.find(({ covers }) => covers(place));
    if (grant === undefined) return ok(fields);
    const token = await this.#token(grant);
    if (!token.ok) return err(`${grant.key}: ${token.error}`);
    const name = grant.field.toLowerCase();
    const others = fields.filter(([field]) => field.toLowerCase() !== name);
    return ok([...others, [grant.field, `${grant.scheme}${token.value.reveal()}`]]);
  }

  #token(grant: TokenGrant): Promise<Result<Secret, string>> {
    const key = cacheKey(grant);
    const { clock } = this.#options;
    const cached = this.#cache.get(key);
    if (cached !== undefined && clock.monotonic() < cached.until) return cached.token;
    const token = this.#fetch(grant, (until) => {
      if (this.#cache.get(key)?.token === token) this.#cache.set(key, { until, token });
    });
    this.#cache.set(key, { until: Number.POSITIVE_INFINITY, token });
    return token;
  }

  async #fetch(grant: TokenGrant, settled: (until: number) => void): Promise<Result<Secret, string>> {
    const { clock, assertion, ask } = this.#options;
    const proof = await assertion(grant.assertionAudience);
    const issued = proof.ok ? await ask(grant, proof.value) : proof;
    if (!issued.ok) {
      settled(clock.monotonic() + FAILED_MS);
      return issued;
    }
    const said = Math.min(issued.value.lifeMs ?? DEFAULT_LIFE_MS, MAX_LIFE_MS) - EARLY_MS;
    settled(clock.monotonic() + Math.max(0, grant.cacheMs ?? said));
    return ok(issued.value.token);
  }
}

const mostSpecificFirst = (a: TokenGrant, b: TokenGrant): number =>
  b.specificity[0] - a.specificity[0] || b.specificity[1] - a.specificity[1];

/** Everything that a token depends on. */
const cacheKey = ({
  key,
  endpoint,
  audience,
  scopes,
  assertionAudience,
  assertionType,
}: TokenGrant): string =>
  JSON.stringify([key, endpoint.href, audience, scopes, assertionAudience, assertionType]);
