import { connect, type Socket } from 'node:net';
import type { DestinationRule } from '../policy/intent.ts';
import { err, ok, type Result } from '../result.ts';
import type { Resolve } from './resolver.ts';

/** Whether an address may be dialled; the error says why not. Part of the policy core. */
export type JudgeAddress = (rule: DestinationRule, address: string, port: number) => Result<void, string>;

export type DestinationFailure =
  | { readonly kind: 'unresolved'; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string };

const DIAL_MS = 10_000;
const ALL_DIALS_MS = 30_000;

/**
 * Resolves a host once and judges every address: one that fails refuses the host. What comes back is
 * what will be dialled, so a name that changes its answer in between gains nothing.
 */
export async function planDestination(
  host: string,
  port: number,
  rule: DestinationRule,
  resolve: Resolve,
  judge: JudgeAddress,
): Promise<Result<readonly string[], DestinationFailure>> {
  const resolved = await resolve(host);
  if (!resolved.ok) return err({ kind: 'unresolved', reason: resolved.error });
  for (const address of resolved.value) {
    const verdict = judge(rule, address, port);
    if (!verdict.ok) return err({ kind: 'refused', reason: verdict.error });
  }
  return ok(resolved.value);
}

/** Dials validated addresses in order: 10 s each, 30 s in all. */
export async function dial(addresses: readonly string[], port: number): Promise<Result<Socket, string>> {
  const deadline = performance.now() + ALL_DIALS_MS;
  let last = 'no address';
  for (const address of addresses) {
    const left = Math.min(DIAL_MS, deadline - performance.now());
    if (left <= 0) break;
    const attempt = await dialOne(address, port, left);
    if (attempt.ok) return attempt;
    last = attempt.error;
  }
  return err(last);
}

function dialOne(host: string, port: number, timeoutMs: number): Promise<Result<Socket, string>> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, noDelay: true, allowHalfOpen: true });
    const timer = setTimeout(() => socket.destroy(new Error('timed out')), timeoutMs);
    socket.once('error', (error) => {
      clearTimeout(timer);
      resolve(err(`${host}:${port}: ${error.message}`));
    });
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.removeAllListeners('error');
      socket.on('error', () => socket.destroy());
      resolve(ok(socket));
    });
  });
}
