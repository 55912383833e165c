import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GetSandboxConfigResponse } from '../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { LastGoodConfig } from '../supervisor/last-good-config.ts';

const CONFIG = GetSandboxConfigResponse.fromPartial({
  version: 4,
  policyHash: 'h4',
  configRevision: 18_446_744_073_709_551_615n,
  policy: { version: 1, networkPolicies: { a: { endpoints: [{ host: 'a.test', port: 1 }] } } },
});
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'last-good-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));
const file = () => join(directory, 'last-good-config');
const saved = (sandbox = 'one') => {
  const kept = new LastGoodConfig(directory, sandbox);
  expect(kept.save(CONFIG)).toMatchObject({ ok: true });
  return kept;
};

describe('the last good configuration', () => {
  test('comes back whole, and nobody else can read it', () => {
    expect(saved().load()).toEqual({ ok: true, value: CONFIG });
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    saved();
    expect(readdirSync(directory)).toEqual(['last-good-config']);
  });

  test('is none of another sandbox’s', () => {
    saved('one');
    expect(new LastGoodConfig(directory, 'two').load()).toEqual({
      ok: false,
      error: 'its checksum is wrong',
    });
  });

  test('is refused when any byte of it is another one, or it is cut anywhere', () => {
    const kept = saved();
    const whole = readFileSync(file());
    for (let at = 0; at < whole.length; at++) {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] ?? 0) ^ 1;
      writeFileSync(file(), changed);
      expect(kept.load().ok, `byte ${at}`).toBe(false);
      writeFileSync(file(), whole.subarray(0, at));
      expect(kept.load().ok, `cut at ${at}`).toBe(false);
    }
  });

  test('is not read through a link, and a link is not written through', () => {
    const elsewhere = join(directory, 'elsewhere');
    writeFileSync(elsewhere, 'mine');
    symlinkSync(elsewhere, file());
    const kept = new LastGoodConfig(directory, 'one');
    expect(kept.load()).toEqual({ ok: false, error: 'it is no regular file' });
    expect(kept.save(CONFIG)).toMatchObject({ ok: true });
    expect(readFileSync(elsewhere, 'utf8')).toBe('mine');
    expect(kept.load().ok).toBe(true);
  });

  test('that cannot be written leaves the one before, and says why', () => {
    const kept = saved();
    rmSync(`${file()}.next`, { force: true });
    const missing = new LastGoodConfig(join(directory, 'not-there'), 'one');
    expect(missing.save(CONFIG)).toEqual({ ok: false, error: 'ENOENT' });
    expect(missing.load()).toEqual({ ok: false, error: 'ENOENT' });
    chmodSync(directory, 0o700);
    expect(kept.load().ok).toBe(true);
  });
});
