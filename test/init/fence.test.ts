import { execFileSync } from 'node:child_process';
import { constants } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryDirectory } from '../temporary-directory.ts';

const here = import.meta.dirname;
const init = resolve(here, '../../init');
const { directory } = temporaryDirectory('fence-test-');

const flags = [
  ...['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-D_GNU_SOURCE', '-static'],
  ...['-idirafter', '/usr/include', '-idirafter', '/usr/include/x86_64-linux-gnu'],
];
const fence = join(directory, 'fence.o');
execFileSync('musl-gcc', [...flags, '-Dioctl=harness_ioctl', '-c', '-o', fence, join(init, 'fence.c')]);
const harness = join(directory, 'harness');
execFileSync('musl-gcc', [
  ...[...flags, '-o', harness, join(here, 'fence-harness.c'), fence],
  ...['filter.c', 'bpf.c', 'messages.c', 'relay.c'].map((name) => join(init, name)),
]);
const run = (mode: string) => execFileSync(harness, [mode], { encoding: 'utf8' }).trim().split('\n');

const SOCKETS = ['lo', 'lo cloexec', 'lo nonblock'];

test('the broker injects and answers at once where the kernel can', () => {
  expect(run('new')).toEqual([...SOCKETS, 'injections 3 answers 0']);
});

test('the broker answers in two steps on a kernel before 5.14, and asks only once whether it is one', () => {
  expect(run('old')).toEqual([...SOCKETS, 'injections 4 answers 3']);
});

test('a socket that cannot be injected is an error of socket(2), never a socket outside the fence', () => {
  const errors = Array.from({ length: 3 }, () => `errno ${constants.errno.ENOMEM}`);
  expect(run('no-memory')).toEqual([...errors, 'injections 3 answers 3']);
});
