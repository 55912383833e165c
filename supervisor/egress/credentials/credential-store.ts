import type {
  GetSandboxProviderEnvironmentResponse,
  StaticCredentialBinding,
} from '../../../proto/generated/openshell/v1/openshell.ts';
import { Secret } from '../../observability/secret.ts';
import { compileHostPattern } from '../../policy/host-pattern.ts';
import { compilePathScope } from '../../policy/matchers.ts';
import { err, ok, type Result } from '../../result.ts';
import { isAmbiguousKey, type Placeholder, placeholderFor } from './placeholder.ts';

/** Revisions before the current one that still resolve (contract.md, 8.1). */
const PAST = 8;
/** Keys whose real value a workload is given, when the gateway says that it is no secret (contract.md, 5). */
const PLAIN_KEYS: ReadonlySet<string> = new Set([
  'GCP_PROJECT_ID',
  'GOOGLE_CLOUD_PROJECT',
  'CLOUD_ML_REGION',
  'GCP_LOCATION',
  'GCP_SERVICE_ACCOUNT_EMAIL',
  'GOOSE_PROVIDER',
  'ANTHROPIC_VERTEX_PROJECT_ID',
  'VERTEX_LOCATION',
]);

/** Where a request goes, for the bindings. */
export interface RequestPlace {
  readonly host: string;
  readonly port: number;
  readonly path: string;
}

export type CredentialFault =
  /** Bound to another place than the request goes to. */
  | { readonly kind: 'mismatch'; readonly key: string }
  /** Unknown, expired, revoked, or of a form that cannot be sent. */
  | { readonly kind: 'unavailable'; readonly key: string; readonly reason: string };

interface Credential {
  readonly value: Secret;
  readonly expiresAt: number | undefined;
  /** Undefined for what is no secret: it may go anywhere. */
  readonly bound: ((place: RequestPlace) => boolean) | undefined;
  readonly identity: string;
  readonly handle: string;
}

interface Revision {
  readonly number: bigint;
  readonly credentials: ReadonlyMap<string, Credential>;
}

/**
 * The credentials of the sandbox, by revision. Values leave it only through {@link resolve}, for a request that
 * policy has allowed and that goes where the credential is bound to.
 */
export class CredentialStore {
  readonly #now: () => number;
  #current: Revision = { number: 0n, credentials: new Map() };
  #past: readonly Revision[] = [];

  /** `now` is wall-clock milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Whether there is nothing that a placeholder could stand for. */
  get empty(): boolean {
    return this.#current.credentials.size === 0;
  }

  get revision(): bigint {
    return this.#current.number;
  }

  /** Takes the gateway's answer. An inconsistent one revokes everything and says why. */
  update(answer: GetSandboxProviderEnvironmentResponse): Result<void, string> {
    const read = readCredentials(answer);
    if (!read.ok) {
      this.revoke();
      return read;
    }
    const next: Revision = { number: answer.providerEnvRevision, credentials: read.value };
    const changed = [...read.value].some(([key, credential]) => {
      const before = this.#current.credentials.get(key);
      return before !== undefined && before.identity !== credential.identity;
    });
    // What another identity was given must not be sent as this one's.
    const kept = changed ? [] : [this.#current, ...this.#past];
    this.#past = kept.filter(({ number }) => number !== 0n && number !== next.number).slice(0, PAST);
    this.#current = next;
    return ok(undefined);
  }

  /** Nothing resolves any more, until the next good answer. */
  revoke(): void {
    this.#current = { number: this.#current.number, credentials: new Map() };
    this.#past = [];
  }

  /** Whether credentials may travel to this host and port, so that its requests must be seen. */
  isBound(host: string, port: number): boolean {
    return this.#current.number !== 0n && this.#bindings.some((bound) => bound(host, port));
  }

  /** The variables of a new process: placeholders, and the few values that are no secret. */
  workloadVariables(): ReadonlyMap<string, string> {
    const { number, credentials } = this.#current;
    const variables = new Map<string, string>();
    for (const [key, { value, bound, handle }] of credentials) {
      const shown = bound === undefined && PLAIN_KEYS.has(key);
      variables.set(key, shown ? value.reveal() : placeholderFor(key, number, handle));
    }
    return variables;
  }

  /** When the current value of a key ends, wall-clock milliseconds; undefined when nobody knows. */
  expiresAt(key: string): number | undefined {
    return this.#current.credentials.get(key)?.expiresAt;
  }

  /** The value behind a placeholder, for one request. */
  resolve(placeholder: Placeholder, place: RequestPlace): Result<string, CredentialFault> {
    const { key } = placeholder;
    const unavailable = (reason: string) => err({ kind: 'unavailable', key, reason } as const);
    const credential = this.#find(placeholder);
    if (credential === undefined) return unavailable('it is not known, or not any more');
    if (placeholder.kind === 'plain' && credential.bound !== undefined)
      return unavailable('it is bound to endpoints and has to be named with its revision');
    if (credential.bound !== undefined && !credential.bound(place)) return err({ kind: 'mismatch', key });
    if (credential.expiresAt !== undefined && this.#now() >= credential.expiresAt)
      return unavailable('it has expired');
    const value = credential.value.reveal();
    return /[\r\n\0]/.test(value) ? unavailable('its value cannot be sent') : ok(value);
  }

  /** The current value of a key, for a use that names the key itself, such as signing. */
  current(key: string, place: RequestPlace): Result<string, CredentialFault> {
    return this.resolve({ kind: 'revision', revision: this.#current.number, key }, place);
  }

  get #bindings(): readonly ((host: string, port: number) => boolean)[] {
    return [...this.#current.credentials.values()].flatMap(({ bound }) =>
      bound === undefined
        ? []
        : [(host: string, port: number) => boundHosts.get(bound)?.(host, port) === true],
    );
  }

  #find(placeholder: Placeholder): Credential | undefined {
    const { key } = placeholder;
    const current = this.#current.credentials.get(key);
    switch (placeholder.kind) {
      case 'plain':
        return current;
      case 'handle':
        return current?.handle === placeholder.handle ? current : undefined;
      case 'revision': {
        if (placeholder.revision === this.#current.number) return current;
        const past = this.#past.find(({ number }) => number === placeholder.revision)?.credentials.get(key);
        // The newest value of the same identity, as after a rotation; another identity's never.
        return past !== undefined && current?.identity === past.identity ? current : undefined;
      }
    }
  }
}

/** Of a binding: which hosts and ports it names, whatever the path. */
const boundHosts = new WeakMap<object, (host: string, port: number) => boolean>();

function readCredentials(
  answer: GetSandboxProviderEnvironmentResponse,
): Result<ReadonlyMap<string, Credential>, string> {
  const { environment, staticCredentialBindings: bindings, credentialExpiresAtMs: expiries } = answer;
  const plain = new Set(answer.nonSecretEnvironmentKeys);
  for (const key of [...Object.keys(bindings), ...plain, ...Object.keys(expiries)])
    if (!Object.hasOwn(environment, key)) return err(`it speaks of ${key.slice(0, 100)}, which is not in it`);
  const credentials = new Map<string, Credential>();
  for (const [key, value] of Object.entries(environment)) {
    const binding = Object.hasOwn(bindings, key) ? bindings[key] : undefined;
    if ((binding !== undefined) === plain.has(key))
      return err(
        `${key.slice(0, 100)} is ${binding === undefined ? 'neither bound nor' : 'both bound and'} no secret`,
      );
    if (isAmbiguousKey(key)) continue;
    const bound = binding === undefined ? ok(undefined) : compileBinding(binding);
    if (!bound.ok) return err(`the binding of ${key}: ${bound.error}`);
    const expiresAt = Object.hasOwn(expiries, key) ? Number(expiries[key]) : undefined;
    credentials.set(key, {
      value: new Secret(value),
      expiresAt,
      bound: bound.value,
      identity: binding?.credentialIdentity ?? '',
      handle: binding?.workloadCredentialHandle ?? '',
    });
  }
  return ok(credentials);
}

function compileBinding(binding: StaticCredentialBinding): Result<(place: RequestPlace) => boolean, string> {
  if (binding.credentialIdentity === '') return err('it has no identity');
  if (binding.endpoints.length === 0) return err('it names no endpoint');
  if (!/^([0-9a-f]{64})?$/.test(binding.workloadCredentialHandle)) return err('its handle is malformed');
  const endpoints: {
    readonly host: (name: string) => boolean;
    readonly port: number;
    readonly path: (text: string) => boolean;
  }[] = [];
  for (const { host, port, path } of binding.endpoints) {
    if (host === '') return err('an endpoint has no host');
    if (!(port >= 1 && port <= 65_535)) return err(`the port ${port} is none`);
    const scope = compilePathScope(path);
    endpoints.push({ host: compileHostPattern(host), port, path: (text: string) => scope.matches(text) });
  }
  const bound = ({ host, port, path }: RequestPlace): boolean =>
    endpoints.some((one) => one.port === port && one.host(host) && one.path(path));
  boundHosts.set(bound, (host, port) => endpoints.some((one) => one.port === port && one.host(host)));
  return ok(bound);
}
