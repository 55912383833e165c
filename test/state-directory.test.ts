import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { findStateDirectory } from '../supervisor/state-directory.ts';

const plain = mkdtempSync(join(tmpdir(), 'state-'));

test('what the pod’s author names is taken', () => {
  expect(findStateDirectory(join(plain, 'mine'))?.path).toBe(join(plain, 'mine'));
});

test('else the first usual place that is a mount, and in it a directory of our own', () => {
  expect(findStateDirectory(undefined, ['/a', '/b'], (path) => path === '/b')).toEqual({
    path: '/b/state',
    memory: false,
  });
  expect(findStateDirectory(undefined, ['/a', '/b'], () => true)?.path).toBe('/a/state');
});

test('a directory that is no mount is not taken, for it may come with the image', () => {
  expect(findStateDirectory(undefined, [plain, join(plain, 'missing')])).toBeUndefined();
});

test.skipIf(!existsSync('/dev/shm'))('memory is told apart, made or yet to be made (needs /dev/shm)', () => {
  expect(findStateDirectory(undefined, ['/dev/shm'], () => true)).toEqual({
    path: '/dev/shm/state',
    memory: true,
  });
  expect(findStateDirectory('/dev/shm/not-yet-there')).toEqual({
    path: '/dev/shm/not-yet-there',
    memory: true,
  });
});
