/** The gateway's network, where the clients of people run. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import { namespacePath } from '../../scripts/lib/network.ts';
import type { World } from '../../scripts/lib/world.ts';

/** Where the development gateway listens there. */
export const GATEWAY = '10.77.0.1:8080';
const CLIENT = join(import.meta.dirname, '../dev-gateway/main.ts');
/** What is kept of what a program shows. */
const MAX_SEEN = 1 << 20;

/** What comes before a command that is to run there. */
export const inNetworkOf = (world: World): readonly [string, ...string[]] => [
  'nsenter',
  `--net=${namespacePath(world.namespace)}`,
  '--',
];

/** Waits until a sandbox has its session with the gateway. */
export const established = (world: World): Promise<void> =>
  vi.waitFor(() => expect(world.gatewayOutput()).toContain('established'), {
    timeout: 60_000,
    interval: 100,
  });

/** `npm run gateway -- VERB …` for a sandbox; `command` comes behind `--`. */
export const client = (
  sandboxId: string,
  verb: string,
  words: readonly string[] = [],
  command: readonly string[] = [],
): readonly string[] => [
  ...[process.execPath, CLIENT, verb, '--gateway', GATEWAY, '--sandbox', sandboxId, ...words],
  ...(command.length > 0 ? ['--', ...command] : []),
];

/** A program that runs there, and what it has printed so far: the last million characters. */
export interface Started {
  readonly child: ChildProcessWithoutNullStreams;
  readonly seen: { stdout: string; stderr: string };
  /** Waits until the text has been printed. */
  shows(text: string, timeoutMs?: number): Promise<void>;
  /** Settles with its exit code when it and its output have ended. */
  readonly closed: Promise<number | null>;
}

export function startIn(world: World, command: readonly string[]): Started {
  const [enter, ...args] = inNetworkOf(world);
  const child = spawn(enter, [...args, ...command], { stdio: ['pipe', 'pipe', 'pipe'] });
  const seen = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => {
    seen.stdout = (seen.stdout + chunk).slice(-MAX_SEEN);
  });
  child.stderr.on('data', (chunk) => {
    seen.stderr = (seen.stderr + chunk).slice(-MAX_SEEN);
  });
  child.stdin.on('error', () => undefined);
  return {
    child,
    seen,
    shows: (text, timeout = 20_000) =>
      vi.waitFor(() => expect(seen.stdout).toContain(text), { timeout, interval: 50 }),
    closed: new Promise((resolve) => child.once('close', resolve)),
  };
}

/** Runs a program there to its end, with all that it prints. */
export function runIn(
  world: World,
  command: readonly string[],
  input: Buffer = Buffer.alloc(0),
): Promise<{ readonly code: number | null; readonly stdout: Buffer; readonly stderr: string }> {
  const [enter, ...args] = inNetworkOf(world);
  return new Promise((resolve) => {
    const child = spawn(enter, [...args, ...command], { stdio: ['pipe', 'pipe', 'pipe'] });
    const out: Buffer[] = [];
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk));
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    child.once('close', (code) => resolve({ code, stdout: Buffer.concat(out), stderr }));
  });
}
