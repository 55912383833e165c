import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { vitalsOf } from '../../supervisor/gateway/vitals.ts';

const backlog = { entries: 3, bytes: 400, classes: { audit: { lost: 0 }, logs: { lost: 7 } } };

test('vitals hold what waits, what was lost of each class that lost any, private memory and descriptors', () => {
  const proc = mkdtempSync(join(tmpdir(), 'proc-'));
  writeFileSync(join(proc, 'status'), 'Name:\tnode\nRssAnon:\t   2048 kB\nRssFile:\t 9 kB\n');
  mkdirSync(join(proc, 'fd'));
  for (const fd of ['0', '1', '2']) writeFileSync(join(proc, 'fd', fd), '');
  expect(vitalsOf(backlog, proc)).toEqual({
    bufferedRecords: 3n,
    bufferedBytes: 400n,
    lostRecords: { logs: 7n },
    privateBytes: 2_097_152n,
    openDescriptors: 3,
  });
  rmSync(proc, { recursive: true });
});

test('what /proc does not tell is 0', () => {
  expect(vitalsOf(backlog, '/nowhere')).toMatchObject({ privateBytes: 0n, openDescriptors: 0 });
});
