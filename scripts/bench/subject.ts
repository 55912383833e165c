import type { Runtime } from '../lib/runtime.ts';
import type { World } from '../lib/world.ts';

/** A column of a comparison. */
export interface Place {
  readonly name: string;
  readonly runtime: Runtime;
  /** Whether RuntimeDefault applies, where the runtime honours it. */
  readonly seccomp: boolean;
}

/** What every subject gets. */
export interface Bench {
  /** A directory for the files of this run, readable in the containers. */
  readonly directory: string;
  /** Those that start a workload here. */
  readonly runtimes: readonly Runtime[];
  /** Where confined work is compared with unconfined: the runtimes, and what makes a difference beside them. */
  readonly places: readonly Place[];
  /** The world of test hosts, started when first asked for. */
  readonly world: () => Promise<World>;
}

/** Measures one subject and prints its table. Rejects when a client dies or takes too long. */
export type Subject = (bench: Bench) => Promise<void>;
