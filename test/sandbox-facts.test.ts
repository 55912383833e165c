import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readSandboxFacts } from '../supervisor/sandbox-facts.ts';

const directory = mkdtempSync(join(tmpdir(), 'facts-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('the facts of a sandbox', () => {
  test('tell where a link leads, however many there are on the way, and of nothing else', () => {
    const file = join(directory, 'python3.11');
    writeFileSync(file, '');
    symlinkSync('python3.11', join(directory, 'python3'));
    symlinkSync(join(directory, 'python3'), join(directory, 'python'));
    symlinkSync('loop', join(directory, 'loop'));
    const { resolveBinary } = readSandboxFacts();
    expect(resolveBinary?.(join(directory, 'python'))).toBe(file);
    expect(resolveBinary?.(file)).toBeUndefined();
    expect(resolveBinary?.(join(directory, 'absent'))).toBeUndefined();
    expect(resolveBinary?.(join(directory, 'loop'))).toBeUndefined();
  });

  test('tell who runs it, as the hosts file says at the start', () => {
    const hosts = join(directory, 'hosts');
    writeFileSync(hosts, '169.254.1.2 host.containers.internal\n');
    const facts = readSandboxFacts(hosts);
    writeFileSync(hosts, '169.254.1.3 host.containers.internal\n');
    expect([...(facts.hostGateways ?? [])]).toEqual([['host.containers.internal', '169.254.1.2']]);
    expect(readSandboxFacts(join(directory, 'absent')).hostGateways?.size).toBe(0);
  });
});
