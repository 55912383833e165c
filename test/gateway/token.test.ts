import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { jwtExpiry, refreshDelay, TokenHolder, type TokenSource } from '../../supervisor/gateway/token.ts';
import { VirtualClock } from './virtual-clock.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'token-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function holder(source: TokenSource, expiresAtMs = 0) {
  const clock = new VirtualClock();
  const calls = {
    issue: vi.fn(async (bearer: string) => ({ token: `issued for ${bearer}`, expiresAtMs })),
    refresh: vi.fn(async (bearer: string) => ({ token: `${bearer}+`, expiresAtMs: 0 })),
  };
  return { clock, calls, tokens: new TokenHolder(source, calls, clock, () => 0) };
}

const fileWith = (text: string) => {
  const path = join(folder, 'token');
  writeFileSync(path, text);
  return path;
};

test('the environment is taken verbatim, a file is trimmed', async () => {
  const env = holder({ kind: 'env', reveal: () => ' secret ' });
  await env.tokens.acquire();
  expect(env.tokens.current()).toBe(' secret ');
  const file = holder({ kind: 'file', path: fileWith('  secret\n') });
  await file.tokens.acquire();
  expect(file.tokens.current()).toBe('secret');
});

test('a missing or empty file is a credentials fault that names the variable', async () => {
  for (const [kind, variable] of [
    ['file', 'OPENSHELL_SANDBOX_TOKEN_FILE'],
    ['kubernetes', 'OPENSHELL_K8S_SA_TOKEN_FILE'],
  ] as const) {
    for (const path of [join(folder, 'absent'), fileWith(' \n')]) {
      const outcome = await holder({ kind, path }).tokens.acquire();
      expect(outcome).toMatchObject({
        ok: false,
        error: { kind: 'credentials', message: expect.stringContaining(variable) },
      });
    }
  }
});

test('a ServiceAccount token is exchanged, and read anew for each exchange because the kubelet rotates it', async () => {
  const { tokens, calls } = holder({ kind: 'kubernetes', path: fileWith('first') });
  await tokens.acquire();
  expect(tokens.current()).toBe('issued for first');
  fileWith('second');
  await tokens.acquire();
  expect(calls.issue.mock.calls).toEqual([['first'], ['second']]);
  expect(tokens.current()).toBe('issued for second');
});

const settle = async () => {
  for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
};

test('a token is refreshed within the second half of its life, and again 5 to 10 s after a failure', async () => {
  const { clock, tokens, calls } = holder({ kind: 'kubernetes', path: fileWith('sa') }, 100_000);
  await tokens.acquire();
  calls.refresh.mockRejectedValueOnce(new Error('away'));
  clock.run(49_999);
  expect(calls.refresh).not.toHaveBeenCalled();
  clock.run(1);
  await settle();
  expect(calls.refresh).toHaveBeenCalledTimes(1);
  expect(tokens.current()).toBe('issued for sa');
  clock.run(5_000);
  await settle();
  expect(tokens.current()).toBe('issued for sa+');
});

test('the refreshes of a fleet that got its tokens together are spread evenly over two fifths of their life', () => {
  const delays = Array.from({ length: 1_000 }, () => refreshDelay(3_600_000, 0, Math.random));
  const tenths = Array.from({ length: 4 }, (_, part) => {
    const [from, to] = [1_800_000 + part * 360_000, 1_800_000 + (part + 1) * 360_000];
    return delays.filter((delay) => delay >= from && delay < to).length;
  });
  expect(tenths.reduce((sum, count) => sum + count, 0)).toBe(1_000);
  for (const count of tenths) expect(Math.abs(count - 250)).toBeLessThan(90);
});

test('the delay of a refresh is between 1 s and 12 h, and 3 to 6 h when the expiry is unknown', () => {
  expect(refreshDelay(0, 1_000, () => 0)).toBe(3 * 3_600_000);
  expect(refreshDelay(0, 1_000, () => 1)).toBe(6 * 3_600_000);
  expect(refreshDelay(500, 1_000, () => 0)).toBe(1_000);
  expect(refreshDelay(Number.MAX_SAFE_INTEGER, 0, () => 0)).toBe(12 * 3_600_000);
});

test('a refused refresh reads the source anew, and keeps away 15 s to 10 min while that does not help', async () => {
  const { clock, tokens, calls } = holder({ kind: 'file', path: fileWith('revoked') });
  calls.refresh.mockImplementation(async (bearer: string) => {
    if (bearer === 'revoked') throw Object.assign(new Error('no'), { code: 16 });
    return { token: `${bearer}+`, expiresAtMs: 0 };
  });
  await tokens.acquire();
  clock.run(3 * 3_600_000);
  await settle();
  const at: number[] = [];
  for (let minute = 0; minute < 120; minute += 1) {
    const before = calls.refresh.mock.calls.length;
    clock.run(60_000);
    await settle();
    if (calls.refresh.mock.calls.length > before) at.push(minute);
  }
  expect(calls.refresh.mock.calls.length).toBeGreaterThan(10);
  expect(calls.refresh.mock.calls.length).toBeLessThan(40);
  fileWith('rotated');
  clock.run(600_000);
  await settle();
  expect(tokens.current()).toBe('rotated');
});

test('a call that was refused makes the source be read again after 15 to 30 s, however many were refused', async () => {
  const { clock, tokens, calls } = holder({ kind: 'kubernetes', path: fileWith('sa') }, 3_600_000);
  await tokens.acquire();
  for (let call = 0; call < 50; call += 1) tokens.refused(tokens.current());
  tokens.refused('one of yesterday');
  clock.run(14_999);
  await settle();
  expect(calls.issue).toHaveBeenCalledTimes(1);
  clock.run(1);
  await settle();
  expect(calls.issue).toHaveBeenCalledTimes(2);
  // The exchange gave the same token once more: that is no progress, so it slows down.
  for (let minute = 0; minute < 60; minute += 1) {
    tokens.refused(tokens.current());
    clock.run(60_000);
    await settle();
  }
  expect(calls.issue.mock.calls.length).toBeGreaterThan(8);
  expect(calls.issue.mock.calls.length).toBeLessThan(20);
  calls.issue.mockResolvedValue({ token: 'good', expiresAtMs: 0 });
  clock.run(600_000);
  await settle();
  expect(tokens.current()).toBe('good');
  const issued = calls.issue.mock.calls.length;
  clock.run(2 * 3_600_000);
  await settle();
  expect(calls.issue.mock.calls.length).toBe(issued);
});

test('a token that ran out while the machine slept is not sent: the next dial reads or exchanges it anew', async () => {
  const { clock, tokens, calls } = holder({ kind: 'kubernetes', path: fileWith('sa') }, 100_000);
  await tokens.ensure();
  await tokens.ensure();
  expect(calls.issue).toHaveBeenCalledTimes(1);
  clock.leap(200_000); // the wall clock goes on while timers rest
  expect(tokens.expired()).toBe(true);
  await tokens.ensure();
  expect(calls.issue).toHaveBeenCalledTimes(2);
});

test('a wall clock that is set back does not put the refresh off', async () => {
  const { clock, tokens, calls } = holder({ kind: 'kubernetes', path: fileWith('sa') }, 100_000);
  await tokens.acquire();
  clock.leap(-3_600_000);
  clock.run(50_000);
  await settle();
  expect(calls.refresh).toHaveBeenCalledTimes(1);
});

test('a sleep is noticed within a minute of waking, and the refresh it covered is made up for', async () => {
  const { clock, tokens, calls } = holder({ kind: 'kubernetes', path: fileWith('sa') }, 36_000_000);
  await tokens.acquire();
  clock.run(30_000);
  clock.leap(7 * 3_600_000);
  clock.run(60_000);
  await settle();
  expect(calls.refresh).toHaveBeenCalledTimes(1);
});

test('a source that still holds an expired token does not take the place of a refreshed one', async () => {
  const jwt = `h.${Buffer.from('{"exp":50}').toString('base64url')}.s`;
  const { clock, tokens, calls } = holder({ kind: 'file', path: fileWith(jwt) });
  calls.refresh.mockResolvedValue({ token: 'fresh', expiresAtMs: 10_000_000 });
  await tokens.acquire();
  clock.run(49_000);
  await settle();
  expect(tokens.current()).toBe('fresh');
  clock.run(10_000);
  await tokens.acquire();
  expect(tokens.current()).toBe('fresh');
});

test('an expiry that cannot be read is unknown', () => {
  const jwt = (claims: string) => `h.${Buffer.from(claims).toString('base64url')}.s`;
  expect(jwtExpiry(jwt('{"exp":5}'))).toBe(5_000);
  expect(['', 'opaque', jwt('{'), jwt('null'), jwt('{"exp":"5"}'), jwt('{}')].map(jwtExpiry)).toEqual([
    0, 0, 0, 0, 0, 0,
  ]);
});
