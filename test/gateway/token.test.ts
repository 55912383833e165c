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

test('a token is refreshed after 80 % of its life, and again 10 s after a failure', async () => {
  const { clock, tokens, calls } = holder({ kind: 'kubernetes', path: fileWith('sa') }, 100_000);
  await tokens.acquire();
  calls.refresh.mockRejectedValueOnce(new Error('away'));
  clock.run(79_999);
  expect(calls.refresh).not.toHaveBeenCalled();
  clock.run(1);
  await vi.waitFor(() => expect(calls.refresh).toHaveBeenCalledTimes(1));
  await new Promise(setImmediate);
  expect(tokens.current()).toBe('issued for sa');
  clock.run(10_000);
  await new Promise(setImmediate);
  expect(tokens.current()).toBe('issued for sa+');
});

test('the delay of a refresh is between 1 s and 12 h, and 6 h when the expiry is unknown', () => {
  expect(refreshDelay(0, 1_000, () => 0)).toBe(6 * 3_600_000);
  expect(refreshDelay(500, 1_000, () => 0)).toBe(1_000);
  expect(refreshDelay(Number.MAX_SAFE_INTEGER, 0, () => 0)).toBe(12 * 3_600_000);
});

test('an expiry that cannot be read is unknown', () => {
  const jwt = (claims: string) => `h.${Buffer.from(claims).toString('base64url')}.s`;
  expect(jwtExpiry(jwt('{"exp":5}'))).toBe(5_000);
  expect(['', 'opaque', jwt('{'), jwt('null'), jwt('{"exp":"5"}'), jwt('{}')].map(jwtExpiry)).toEqual([
    0, 0, 0, 0, 0, 0,
  ]);
});
