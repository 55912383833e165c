import { execFileSync } from 'node:child_process';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LogFiles } from '../../supervisor/observability/log-files.ts';

const DAY = 86_400_000;
let directory = '';
let now = 0;
let told: string[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'log-files-'));
  now = Date.UTC(2026, 10, 23, 12);
  told = [];
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const make = (maxFileBytes?: number, place = directory) =>
  new LogFiles(place, {
    now: () => now,
    onFailure: (reason) => told.push(reason),
    ...(maxFileBytes === undefined ? {} : { maxFileBytes }),
  });
const read = (name: string) => readFileSync(join(directory, name), 'utf8');

describe('log files', () => {
  test('hold a line each, by kind and day, and go on where the file ends', async () => {
    for (const line of ['one', 'two\r\nhalves']) {
      const files = make();
      files.write('openshell', line);
      files.write('openshell-ocsf', '{}');
      await files.close();
    }
    expect(readdirSync(directory).sort()).toEqual([
      'openshell-ocsf.2026-11-23.log',
      'openshell.2026-11-23.log',
    ]);
    expect(read('openshell.2026-11-23.log')).toBe('one\ntwo halves\n');
  });

  test('are three of a kind, and others are left alone', async () => {
    writeFileSync(join(directory, 'openshell.notes.log'), '');
    for (let day = 0; day < 5; day++) {
      const files = make();
      files.write('openshell', 'x');
      await files.close();
      now += DAY;
    }
    expect(readdirSync(directory).sort()).toEqual([
      'openshell.2026-11-25.log',
      'openshell.2026-11-26.log',
      'openshell.2026-11-27.log',
      'openshell.notes.log',
    ]);
  });

  test('have a bound, over a restart too; what is more is counted', async () => {
    const first = make(10);
    for (let i = 0; i < 4; i++) first.write('openshell', '1234');
    await first.close();
    expect(first.dropped).toBe(2);
    const second = make(12);
    second.write('openshell', '1');
    await expect.poll(() => read('openshell.2026-11-23.log').length).toBe(12);
    second.write('openshell', '1');
    await second.close();
    expect([read('openshell.2026-11-23.log').length, second.dropped]).toEqual([12, 1]);
  });

  test('that cannot be are told of once, and tried again after a minute', async () => {
    const gone = join(directory, 'gone');
    const files = make(undefined, gone);
    files.write('openshell', 'lost');
    await expect.poll(() => told).toHaveLength(1);
    files.write('openshell', 'lost');
    now += 61_000;
    files.write('openshell', 'lost');
    await expect.poll(() => files.dropped).toBe(3);
    expect(told).toEqual([expect.stringMatching(/openshell\.2026-11-23\.log cannot be written: ENOENT$/)]);
    mkdirSync(gone);
    now += 61_000;
    files.write('openshell', 'kept');
    await files.close();
    expect(read('gone/openshell.2026-11-23.log')).toBe('kept\n');
  });

  test.each([
    ['a symbolic link', (path: string, other: string) => symlinkSync(other, path)],
    ['a hard link', (path: string, other: string) => linkSync(other, path)],
    ['a FIFO', (path: string) => void execFileSync('mkfifo', [path])],
    ['a directory', (path: string) => mkdirSync(path)],
  ])('are never %s that somebody else put there', async (_what, put) => {
    const other = join(directory, 'other');
    writeFileSync(other, 'as it was');
    put(join(directory, 'openshell.2026-11-23.log'), other);
    const files = make();
    files.write('openshell', 'x');
    await expect.poll(() => told).toHaveLength(1);
    await expect.poll(() => files.dropped).toBe(1);
    await files.close();
    expect(read('other')).toBe('as it was');
  });
});
