import { existsSync, mkdirSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { landlockNote, loopbackPorts, settledRules } from '../../supervisor/confinement/landlock.ts';
import { makeMissingPaths } from '../../supervisor/confinement/missing-paths.ts';
import { temporaryDirectory } from '../temporary-directory.ts';

const { directory } = temporaryDirectory('missing-paths-');

const RULES = { readOnly: ['/usr'], readWrite: ['/tmp'] };

describe('what is said of Landlock', () => {
  test.each([
    [1, ['renames and links', 'truncating', 'ioctl', 'abstract', 'by path']],
    [2, ['truncating', 'ioctl', 'abstract', 'by path']],
    [3, ['ioctl', 'abstract', 'by path']],
    [4, ['ioctl', 'abstract', 'by path']],
    [5, ['abstract', 'by path']],
    [6, ['unix sockets by path']],
    [9, []],
  ])('at ABI %i names what it leaves open', (abi, gaps) => {
    const [first, ...notes] = landlockNote(abi, abi, RULES).split('; ');
    expect(first).toBe('filesystem_policy');
    expect(notes).toHaveLength(gaps.length);
    for (const [index, gap] of gaps.entries()) expect(notes[index]).toContain(gap);
  });

  test('names the kernel’s ABI when a flag keeps below it', () => {
    expect(landlockNote(9, 10, RULES)).toBe(
      'filesystem_policy; the kernel has ABI 10, --landlock-abi-max bounds it',
    );
  });

  test('names read-only paths that a read-write path makes writable', () => {
    const note = landlockNote(9, 9, { readOnly: ['/a/b', '/ab', '/a', '/c'], readWrite: ['/a', '/c/d'] });
    expect(note.split('; ').slice(1)).toEqual([
      '/a/b is writable, because a read_write path holds it',
      '/a is writable, because a read_write path holds it',
    ]);
  });
});

describe('strict loopback', () => {
  test('takes Landlock’s ports in the socket fence, and nothing where loopback is private', () => {
    expect(loopbackPorts(4, 'socket', [3128])).toEqual({ ok: true, value: [3128] });
    expect(loopbackPorts(7, 'socket', undefined)).toEqual({ ok: true, value: [] });
    for (const abi of [0, 3, 7])
      expect(loopbackPorts(abi, 'namespace', [3128])).toEqual({ ok: true, value: [] });
  });

  test.each([
    [3, 'ABI 3 is in force'],
    [0, 'there is no Landlock here'],
  ])('is refused at ABI %i of the socket fence', (abi, reason) => {
    const refused = loopbackPorts(abi, 'socket', [3128]);
    expect(refused.ok || `${refused.error.exitCode} ${refused.error.message}`).toMatch(
      new RegExp(`^71 --strict-loopback needs Landlock ABI 4.*${reason}`),
    );
  });
});

describe('the links of an image', () => {
  const links: Readonly<Record<string, string>> = {
    '/lib': '/usr/lib',
    '/data': '/run',
    '/cache': '/run/openshell/x',
    '/proc/self': '/proc/7',
    '/dev/stdout': '/proc/7/fd/1',
  };
  const settle = (readOnly: readonly string[], readWrite: readonly string[]) =>
    settledRules({ readOnly, readWrite }, ['/run/openshell'], (path) => links[path] ?? path);

  test('are followed once, and each end is named once', () => {
    expect(settle(['/lib', '/usr/lib', '/etc'], ['/tmp'])).toEqual({
      readOnly: ['/usr/lib', '/etc'],
      readWrite: ['/tmp'],
    });
  });

  test('are left to the shim, which refuses them, where they would make more writable than the policy says', () => {
    expect(settle([], ['/data', '/run']).readWrite).toEqual(['/data', '/run']);
    expect(settle(['/data'], ['/cache'])).toEqual({ readOnly: ['/run'], readWrite: ['/run/openshell/x'] });
  });

  test('of the kernel are left alone', () => {
    expect(settle(['/proc/self', '/proc'], ['/dev/stdout'])).toEqual({
      readOnly: ['/proc/self', '/proc'],
      readWrite: ['/dev/stdout'],
    });
  });
});

describe.skipIf(process.getuid?.() !== 0)(
  `missing read-write paths${process.getuid?.() === 0 ? '' : ' (skipped: needs root)'}`,
  () => {
    const owner = { uid: 1234, gid: 2345 };

    test('are made for the workload, and what exists keeps its owner', () => {
      mkdirSync(join(directory, 'there'), { mode: 0o700 });
      const made = join(directory, 'deep/er');
      expect(makeMissingPaths([made, join(directory, 'there')], owner)).toEqual({ ok: true, value: [] });
      expect(statSync(made)).toMatchObject({ uid: 1234, gid: 2345 });
      expect(statSync(join(directory, 'deep'))).toMatchObject({ uid: 0 });
      expect(statSync(join(directory, 'there'))).toMatchObject({ uid: 0, gid: 0 });
    });

    test('are refused when they are symlinks, wherever those lead', () => {
      symlinkSync('/etc', join(directory, 'link'));
      symlinkSync('/nowhere', join(directory, 'dangling'));
      for (const name of ['link', 'dangling'])
        expect(makeMissingPaths([join(directory, name)], owner)).toMatchObject({
          ok: false,
          error: { exitCode: 71, message: expect.stringContaining(`${name} is a symlink`) },
        });
      expect(statSync('/etc').uid).toBe(0);
    });

    test('are not made in reserved places nor where nothing can be made, which is said', () => {
      const places = ['/run/openshell/x', '/proc/x', '/opt/openshell', '/sys/fs/x'];
      const result = makeMissingPaths(
        places.filter((path) => !existsSync(path)),
        owner,
      );
      expect(
        result.ok && result.value.every((text) => /does not exist and is not made there$/.test(text)),
      ).toBe(true);
      expect(places.filter((path) => existsSync(path))).toEqual([]);
      expect(makeMissingPaths(['/etc/passwd/x'], owner)).toEqual({
        ok: true,
        value: ['the read_write path /etc/passwd/x does not exist and cannot be made: ENOTDIR'],
      });
    });
  },
);
