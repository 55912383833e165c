import { type Answer, EXTENDED_ERROR, type Question, RCODE, TYPE } from './message.ts';
import type { SyntheticNames } from './synthetic-names.ts';

/** Seconds for which an answer may be kept. The address stays the name's for longer; the policy may not. */
export const ANSWER_TTL = 30;

export interface PolicyZoneOptions {
  /** At which ports the policy in force lets anybody reach a name; none when it does not name it. */
  readonly reachablePorts: (name: string) => readonly number[];
  readonly names: SyntheticNames;
  /** Makes the address answer at those ports, and tells whether it does at one of them at least. */
  readonly open: (address: string, ports: readonly number[]) => Promise<boolean>;
  /** A name outside the policy was asked for. */
  readonly onDenied: (name: string) => void;
  /** A name of the policy cannot be given an address. */
  readonly onFailed: (name: string, reason: string) => void;
}

/** Names of this machine, which a resolver is never to ask for elsewhere (RFC 6761, 6.3). */
const isLocalhost = (name: string): boolean => name === 'localhost' || name.endsWith('.localhost');

const REVERSE = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/;
const NOTHING: Answer = { rcode: RCODE.NOERROR, records: [] };
const NO_SUCH_NAME: Answer = { rcode: RCODE.NXDOMAIN, records: [] };

/**
 * What the sandbox's resolver answers. A name that the policy makes reachable has one synthetic address, no IPv6
 * address and no other record; every other name does not exist.
 *
 * Names outside the policy get NXDOMAIN and not REFUSED: glibc takes REFUSED for a fault of the server, asks the next one
 * and does not try further suffixes of its search list; musl ignores it and waits for five seconds. Both take NXDOMAIN for
 * an answer. No SOA comes with it, so nobody may keep it (RFC 2308, 5), and a name works once the policy allows it.
 */
export class PolicyZone {
  readonly #options: PolicyZoneOptions;

  constructor(options: PolicyZoneOptions) {
    this.#options = options;
  }

  async answer({ name, type }: Question): Promise<Answer> {
    if (name === undefined || name === '') return this.#denied(name ?? '?');
    const reverse = REVERSE.exec(name);
    if (reverse !== null) return this.#reverse(reverse.slice(1, 5).reverse().join('.'), type);
    if (isLocalhost(name))
      return wantsAddress(type)
        ? { rcode: RCODE.NOERROR, records: [{ type: 'A', address: '127.0.0.1', ttl: ANSWER_TTL }] }
        : NOTHING;
    const ports = this.#options.reachablePorts(name);
    if (ports.length === 0) return this.#denied(name);
    return wantsAddress(type) ? this.#address(name, ports) : NOTHING;
  }

  async #address(name: string, ports: readonly number[]): Promise<Answer> {
    const { names, open, onFailed } = this.#options;
    const address = names.assign(name);
    if (address === undefined) return this.#failed(name, 'too many names are in use at once', onFailed);
    if (!(await open(address, ports)))
      return this.#failed(name, 'none of its ports can be listened on', onFailed);
    // The policy may have changed meanwhile, and taken the address from the name.
    if (names.nameOf(address) !== name) return this.#denied(name);
    return { rcode: RCODE.NOERROR, records: [{ type: 'A', address, ttl: ANSWER_TTL }] };
  }

  #reverse(address: string, type: number): Answer {
    const name = address === '127.0.0.1' ? 'localhost' : this.#options.names.nameOf(address);
    if (name === undefined) return NO_SUCH_NAME;
    const wanted = type === TYPE.PTR || type === TYPE.ANY;
    return wanted ? { rcode: RCODE.NOERROR, records: [{ type: 'PTR', name, ttl: ANSWER_TTL }] } : NOTHING;
  }

  #denied(name: string): Answer {
    this.#options.onDenied(name);
    return {
      ...NO_SUCH_NAME,
      extended: { code: EXTENDED_ERROR.blocked, text: 'no rule of the sandbox policy names this host' },
    };
  }

  #failed(name: string, reason: string, onFailed: PolicyZoneOptions['onFailed']): Answer {
    onFailed(name, reason);
    const extended = { code: EXTENDED_ERROR.other, text: reason };
    return { rcode: RCODE.SERVFAIL, records: [], extended };
  }
}

/** RFC 8482 lets a server answer ANY with a part of what there is. */
const wantsAddress = (type: number): boolean => type === TYPE.A || type === TYPE.ANY;
