import { globNamesCaller } from './binary-pattern.ts';
import type { CompiledEndpoint } from './compilation.ts';
import { literalSuffix, parentSuffix } from './host-pattern.ts';
import type { CallerIdentity } from './intent.ts';

/** Endpoints of one host, or one wildcard's suffix, at one port, in the order that they were given in. */
export class EndpointGroup {
  readonly all: CompiledEndpoint[] = [];
  readonly #byBinary = new Map<string, CompiledEndpoint[]>();
  readonly #withGlobs: CompiledEndpoint[] = [];

  add(endpoint: CompiledEndpoint): void {
    this.all.push(endpoint);
    const { exact, globs } = endpoint.rule.binaries;
    for (const path of exact) {
      const listed = this.#byBinary.get(path);
      if (listed === undefined) this.#byBinary.set(path, [endpoint]);
      else listed.push(endpoint);
    }
    if (globs.length > 0) this.#withGlobs.push(endpoint);
  }

  /** Adds the endpoints whose rule names the caller, each once, without looking at all of them. */
  collect(identity: CallerIdentity, into: CompiledEndpoint[]): void {
    for (const endpoint of this.#byBinary.get(identity.binary) ?? NONE) into.push(endpoint);
    for (const ancestor of identity.ancestors) this.#collectPath(ancestor, into);
    for (const endpoint of this.#withGlobs)
      if (!into.includes(endpoint) && globNamesCaller(endpoint.rule.binaries, identity)) into.push(endpoint);
  }

  #collectPath(path: string, into: CompiledEndpoint[]): void {
    const listed = this.#byBinary.get(path);
    if (listed === undefined) return;
    for (const endpoint of listed) if (!into.includes(endpoint)) into.push(endpoint);
  }
}

const NONE: readonly CompiledEndpoint[] = [];

type Groups = Map<string, Map<number, EndpointGroup>>;

/**
 * Finds the endpoints that may cover a host and port without looking at all of them: by exact host, or by
 * the labels behind a glob's last wildcard.
 */
export class EndpointIndex {
  readonly #exact: Groups = new Map();
  readonly #wild: Groups = new Map();

  constructor(endpoints: readonly CompiledEndpoint[]) {
    for (const endpoint of endpoints) {
      const groups = endpoint.exact ? this.#exact : this.#wild;
      const suffix = literalSuffix(endpoint.options.host);
      const ports = groups.get(suffix) ?? new Map<number, EndpointGroup>();
      groups.set(suffix, ports);
      for (const port of new Set(endpoint.options.ports)) {
        const group = ports.get(port) ?? new EndpointGroup();
        ports.set(port, group);
        group.add(endpoint);
      }
    }
  }

  /** Endpoints that name this host exactly. */
  exact(host: string, port: number): EndpointGroup | undefined {
    return this.#exact.get(host)?.get(port);
  }

  /** Calls back with every group whose globs may cover the host, the one without hosts included. */
  forEachWild(host: string, port: number, visit: (group: EndpointGroup) => void): void {
    if (this.#wild.size === 0) return;
    for (let suffix = parentSuffix(host); suffix !== undefined; suffix = parentSuffix(suffix)) {
      const group = this.#wild.get(suffix)?.get(port);
      if (group !== undefined) visit(group);
    }
  }

  /** The ports of all endpoints that name this host, exactly or by a glob, rising. */
  portsOf(host: string): readonly number[] {
    const ports = new Set(this.#exact.get(host)?.keys());
    for (let suffix = parentSuffix(host); suffix !== undefined; suffix = parentSuffix(suffix))
      for (const [port, { all }] of this.#wild.get(suffix) ?? [])
        if (all.some(({ options, matches }) => options.host !== '' && matches(host))) ports.add(port);
    return [...ports].sort((a, b) => a - b);
  }

  /** Endpoints that name no host, and globs that end in a wildcard. */
  hostless(port: number): EndpointGroup | undefined {
    return this.#wild.get('')?.get(port);
  }
}
