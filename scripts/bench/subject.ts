import type { Runtime } from '../lib/runtime.ts';
import type { World } from '../lib/world.ts';

/** What every subject gets. */
export interface Bench {
  /** A directory for the files of this run, readable in the containers. */
  readonly directory: string;
  /** Those that start a workload here. */
  readonly runtimes: readonly Runtime[];
  /** The world of test hosts, started when first asked for. */
  readonly world: () => Promise<World>;
}

/** Measures one subject and prints its table. Rejects when a client dies or takes too long. */
export type Subject = (bench: Bench) => Promise<void>;
