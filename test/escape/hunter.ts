import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

/**
 * Compiles `hunter`, the program that takes over processes of its own user id, or `victim`, whom it can take, to `file`.
 * Static and at a fixed address, as what it looks for has to be.
 */
export function compileHunter(name: 'hunter' | 'victim', file: string): void {
  const flags = ['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-D_GNU_SOURCE', '-O1', '-static', '-no-pie'];
  execFileSync('gcc', [...flags, '-o', file, join(import.meta.dirname, 'hunter', `${name}.c`)]);
}

/** A process that the hunter took, and what it executed. */
export interface Taken {
  readonly method: string;
  readonly file: string;
}

/** Whom it took, by what it printed. */
export const takenIn = (printed: string): readonly Taken[] =>
  [...printed.matchAll(/^taken (\w+) \d+ (.*)$/gm)].map(([, method = '', file = '']) => ({
    method,
    file,
  }));
