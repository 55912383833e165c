import { isIP } from 'node:net';
import type { RelayOpen } from '../../../proto/generated/openshell/v1/openshell.ts';
import { err, ok, type Result } from '../../result.ts';

/** What a relay leads to, inside the sandbox. */
export type RelayTarget =
  | { readonly kind: 'ssh' }
  /** A loopback address of the workload's own network. */
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

/** Reads the target of a relay (contract.md, 2.2). The error is what the gateway is told. */
export function relayTarget({ target }: Pick<RelayOpen, 'target'>): Result<RelayTarget, string> {
  if (target === undefined || target.$case === 'ssh') return ok({ kind: 'ssh' });
  const { host, port } = target.value;
  if (port < 1 || port > 65_535) return err(`the port ${port} is none`);
  if (host === 'localhost') return ok({ kind: 'tcp', host: '127.0.0.1', port });
  const loopback = (isIP(host) === 4 && host.startsWith('127.')) || host === '::1';
  return loopback
    ? ok({ kind: 'tcp', host, port })
    : err(`${JSON.stringify(host.slice(0, 100))} is not a loopback address: relays stay inside the sandbox`);
}
