import type { CompiledEndpoint } from './compilation.ts';

type ByPort = Map<number, CompiledEndpoint[]>;

const NONE: readonly CompiledEndpoint[] = [];

/**
 * Finds the endpoints that may cover a host and port without looking at all of them: by exact host, or by
 * the labels behind a glob's last wildcard.
 */
export class EndpointIndex {
  readonly #exact = new Map<string, ByPort>();
  /** By what follows the last wildcard, without its dot; endpoints without a host are under the empty text. */
  readonly #suffixes = new Map<string, ByPort>();

  /** Keeps the order of the endpoints within each of the lists it gives. */
  constructor(endpoints: readonly CompiledEndpoint[]) {
    for (const endpoint of endpoints) {
      const host = endpoint.options.host.toLowerCase().replace(/\.$/, '');
      const [map, key] = endpoint.exact
        ? [this.#exact, host]
        : [this.#suffixes, host.slice(host.lastIndexOf('*') + 1).replace(/^[^.]*\.?/, '')];
      const ports = map.get(key) ?? new Map<number, CompiledEndpoint[]>();
      map.set(key, ports);
      for (const port of new Set(endpoint.options.ports)) {
        const listed = ports.get(port);
        if (listed === undefined) ports.set(port, [endpoint]);
        else listed.push(endpoint);
      }
    }
  }

  /** Endpoints that name this host exactly. */
  exact(host: string, port: number): readonly CompiledEndpoint[] {
    return this.#exact.get(host)?.get(port) ?? NONE;
  }

  /** Calls back with every endpoint that may cover the host by a glob, or covers every host. */
  forEachPattern(host: string, port: number, visit: (endpoint: CompiledEndpoint) => void): void {
    if (this.#suffixes.size === 0) return;
    for (let at = -1; at < host.length; ) {
      const dot = host.indexOf('.', at + 1);
      this.#visit(dot < 0 ? '' : host.slice(dot + 1), port, visit);
      if (dot < 0) return;
      at = dot;
    }
  }

  /** Calls back with the endpoints that name no host: the only ones that an address may reach beside its own. */
  forEachHostless(port: number, visit: (endpoint: CompiledEndpoint) => void): void {
    this.#visit('', port, (endpoint) => {
      if (endpoint.options.host === '') visit(endpoint);
    });
  }

  #visit(suffix: string, port: number, visit: (endpoint: CompiledEndpoint) => void): void {
    for (const endpoint of this.#suffixes.get(suffix)?.get(port) ?? NONE) visit(endpoint);
  }
}
