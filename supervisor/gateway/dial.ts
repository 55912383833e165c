import type { Clock, Random } from '../clock.ts';
import { Fault } from '../fault.ts';
import { type Connection, openConnection } from '../rpc/connection.ts';
import { CallError, describeCallError, STATUS } from '../rpc/status.ts';
import { authorityOf, type Endpoint, type ResolveHost, resolveCandidates } from './endpoint.ts';
import { type ReadSecret, secureContext, type TlsFiles } from './tls.ts';

/** The gateway's own bound on one message (contract.md, 2.3), in bytes. */
export const MAX_MESSAGE_BYTES = 1_048_576;

/** What a relay's other side may send before we have taken it: enough for 60 Mbit/s at 30 ms. */
const WINDOW_BYTES = 256 * 1024;

/** How long an address may take to answer: less while others wait for their turn (contract.md, 3: 10 s). */
const LAST_CONNECT_MS = 10_000;
const CONNECT_MS = 4_000;

/** Milliseconds; contract.md, 3. */
export interface Keepalive {
  readonly everyMs: number;
  readonly timeoutMs: number;
}
export const KEEPALIVE: Keepalive = { everyMs: 10_000, timeoutMs: 20_000 };

export interface DialOptions {
  readonly endpoints: readonly Endpoint[];
  readonly tls: TlsFiles;
  readonly readSecret: ReadSecret;
  readonly resolve: ResolveHost;
  readonly clock: Clock;
  readonly random: Random;
  readonly keepalive?: Keepalive;
}

/**
 * One dial: reads the TLS files and resolves the names anew, then tries the addresses in random order, one
 * after the other, until one stands. Throws a Fault for what the operator must mend, else a CallError.
 */
export async function dial(options: DialOptions): Promise<Connection> {
  const { endpoints, tls, clock, keepalive = KEEPALIVE } = options;
  const secure = endpoints.some((endpoint) => endpoint.secure)
    ? secureContext(tls, options.readSecret)
    : undefined;
  if (secure !== undefined && !secure.ok) throw secure.error;
  const candidates = await resolveCandidates(endpoints, options.resolve, options.random);
  if (!candidates.ok) throw candidates.error;
  let failure: unknown;
  for (const [index, { endpoint, address }] of candidates.value.entries()) {
    const last = index === candidates.value.length - 1;
    const name = tls.serverName === undefined || tls.serverName === '' ? endpoint.host : tls.serverName;
    try {
      return await openConnection(
        {
          address,
          port: endpoint.port,
          authority: authorityOf(endpoint),
          tls: endpoint.secure && secure !== undefined ? { context: secure.value, name } : undefined,
        },
        {
          clock,
          connectTimeoutMs: last ? LAST_CONNECT_MS : CONNECT_MS,
          keepaliveMs: keepalive.everyMs,
          keepaliveTimeoutMs: keepalive.timeoutMs,
          maxMessageBytes: 4 * MAX_MESSAGE_BYTES,
          windowBytes: WINDOW_BYTES,
        },
      );
    } catch (error) {
      failure = error;
    }
  }
  const others = candidates.value.length - 1;
  throw new CallError(
    STATUS.UNAVAILABLE,
    others === 0 ? detailsOf(failure) : `${detailsOf(failure)} (and ${others} more addresses)`,
  );
}

const detailsOf = (error: unknown): string =>
  error instanceof CallError
    ? error.details
    : error instanceof Fault
      ? error.message
      : describeCallError(error);
