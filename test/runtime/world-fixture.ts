import { afterAll, beforeAll } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { startWorld, type World, type WorldOptions } from '../../scripts/lib/world.ts';

/** One world for the tests of a group, and a supervisor built for them. It is there from their first hook on. */
export function sharedWorld(options: WorldOptions = {}): () => World {
  let world: World | undefined;
  beforeAll(async () => {
    await ensureBuilt();
    world = await startWorld(options);
  }, 240_000);
  afterAll(() => world?.stop());
  return () => {
    if (world === undefined) throw new Error('the world has not been started');
    return world;
  };
}
