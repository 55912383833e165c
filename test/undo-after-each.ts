import { afterEach } from 'vitest';

/** For what a test starts: each step put here is taken after that test, the last one first. */
export function undoAfterEach(): (() => unknown)[] {
  const undo: (() => unknown)[] = [];
  afterEach(async () => {
    for (const step of undo.splice(0).reverse()) await step();
  });
  return undo;
}
