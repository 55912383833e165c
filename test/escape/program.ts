import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

const SOURCES = join(import.meta.dirname, 'program');

/** Compiles the escape program, static, to `file`. */
export function compileEscape(file: string): void {
  const sources = readdirSync(SOURCES).filter((name) => name.endsWith('.c'));
  const flags = ['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-D_GNU_SOURCE', '-O1', '-static', '-pthread'];
  execFileSync('gcc', [...flags, '-o', file, ...sources.map((name) => join(SOURCES, name))]);
}

/** Every attempt that the program makes, in its order. */
export const attemptNames = (file: string): readonly string[] =>
  execFileSync(file, ['list'], { encoding: 'utf8' }).trim().split('\n');

/** What the program said of one attempt. */
export interface Claim {
  readonly outcome: string;
  readonly detail: string;
}

/** Reads the program's lines; others, such as the supervisor's log, are passed over. */
export function readClaims(stdout: string): ReadonlyMap<string, Claim> {
  const claims = new Map<string, Claim>();
  for (const line of stdout.split('\n')) {
    const [name, outcome, detail = ''] = line.split('\t');
    if (name !== undefined && outcome !== undefined) claims.set(name, { outcome, detail });
  }
  return claims;
}
