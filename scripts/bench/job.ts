/** What the outside (container.ts) asks of the stand-in for the supervisor (inside.ts), as JSON in its one argument. */
export interface Job {
  readonly readOnly: readonly string[];
  readonly readWrite: readonly string[];
  /** One after the other, unconfined and confined in turn. */
  readonly steps: readonly Step[];
  readonly rounds: number;
  /** Rounds before these, which are not counted. */
  readonly warmUp: number;
  /** No round begins this many milliseconds after the first that counts, but there are at least two. */
  readonly budgetMs: number;
  /** What one step may take. */
  readonly limitMs: number;
}

export interface Step {
  readonly name: string;
  readonly argv: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Whether its time is no result. */
  readonly quiet?: boolean;
}

/** How a step ran. */
export type Side = 'unconfined' | 'confined';

/** One figure: of a step in milliseconds, or what the step itself has printed as "name figure". */
export interface Sample {
  readonly side: Side;
  readonly name: string;
  readonly value: number;
}

/** Marks our own lines among those of the steps. */
export const MARK = '@bench ';
