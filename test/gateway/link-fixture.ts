import { readFileSync } from 'node:fs';
import { expect, vi } from 'vitest';
import { createMemoryBuffer } from '../../supervisor/buffer/memory-buffer.ts';
import { GatewayLink, type GatewayLinkOptions } from '../../supervisor/gateway/link.ts';
import type { SessionState } from '../../supervisor/gateway/session.ts';
import { err, ok } from '../../supervisor/result.ts';
import { fastClock } from './fast-clock.ts';

/** How much faster than the machine's the clock of these links runs. */
export const FACTOR = 20;

/** A link to a gateway on loopback, its states as they came, and what it complained of. */
export function linkTo(port: number, token: () => string, more: Partial<GatewayLinkOptions> = {}) {
  const states: SessionState[] = [];
  const complaints: string[] = [];
  const link = new GatewayLink({
    endpoints: [new URL(`http://127.0.0.1:${port}`)],
    tls: { ca: undefined, cert: undefined, key: undefined, serverName: undefined },
    token: { kind: 'env', reveal: token },
    sandboxId: 'sb-1',
    instanceId: 'run-1',
    bootId: 'boot-1',
    version: '1.2.3',
    enforcement: () => [],
    readSecret: readFileSync,
    policyVersion: () => 4,
    clock: fastClock(FACTOR),
    random: Math.random,
    resolve: async (host) => ok([host]),
    buffer: createMemoryBuffer({ boot: 'boot-1' }),
    pollIntervalMs: 3_600_000,
    onConfig: async () => undefined,
    onState: (state) => states.push(state),
    onBeat: () => undefined,
    relays: { connect: async () => err('not here'), max: 8, observe: () => undefined },
    onError: (what, message) => complaints.push(`${what}: ${message}`),
    ...more,
  });
  return {
    link,
    states,
    complaints,
    kinds: () => states.map(({ kind }) => kind),
    /** Waits until the session stands, or has stood `times` times. */
    established: (times = 1) =>
      until(
        () => states.filter(({ kind }) => kind === 'established').length >= times,
        () => JSON.stringify(states.slice(-6)),
      ),
  };
}

/** Polls for a condition; at most 15 s. */
export const until = (condition: () => boolean, say: () => string = () => '') =>
  vi.waitFor(() => expect(condition(), say()).toBe(true), { timeout: 15_000, interval: 10 });
