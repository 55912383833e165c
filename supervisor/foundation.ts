import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { RecordBuffer } from './buffer/record-buffer.ts';
import { type Clock, type Random, systemClock } from './clock.ts';
import type { Config } from './config.ts';
import { DenialLines } from './egress/policy-local/denial-lines.ts';
import { createResolver, type Resolve, upstreamServers } from './egress/resolver.ts';
import type { Logger, Logging } from './observability/log.ts';
import { createMetrics, type Metrics } from './observability/metrics.ts';
import { RepeatLimiter } from './observability/repeat-limiter.ts';
import { openSandboxBuffer } from './sandbox-buffer.ts';
import { openSandboxLog } from './sandbox-log.ts';
import { type Need, neededBy } from './start-step.ts';
import { findStateDirectory, type StateDirectory } from './state-directory.ts';
import { VERSION } from './version.ts';

/** What every part of a sandbox stands on: there before the first step of the start, and until after the last of the end. */
export interface Foundation {
  readonly config: Config;
  readonly clock: Clock;
  readonly random: Random;
  /** One for each start of the supervisor. */
  readonly bootId: string;
  /** Where something outlives us; undefined without a gateway, which alone empties it. */
  readonly state: StateDirectory | undefined;
  readonly buffer: RecordBuffer;
  readonly metrics: Metrics;
  readonly logging: Logging;
  readonly log: Logger;
  readonly limiter: RepeatLimiter;
  readonly denialLines: DenialLines;
  readonly resolve: Resolve;
  readonly need: Need;
}

/** What is known only later, and asked each time. */
export interface FoundationQuestions {
  /** Acts as whoever the state belongs to. */
  readonly asOwner: <T>(act: () => T) => T;
  /** Whether security events go to a JSON file as well. */
  readonly ocsfJson: () => boolean;
}

/** Lays it. `undo` takes what closes it again. Never fails: what cannot be kept or written is told, and done without. */
export function layFoundation(
  config: Config,
  questions: FoundationQuestions,
  undo: (step: () => Promise<void> | void) => void,
): Foundation {
  const clock = systemClock;
  const bootId = randomUUID();
  const metrics = createMetrics(VERSION);
  const denialLines = new DenialLines();
  const state = config.endpoints.length === 0 ? undefined : findStateDirectory(config.stateDir);
  const { buffer, close } = openSandboxBuffer({
    state,
    boot: bootId,
    sandboxId: config.sandboxId,
    clock,
    asOwner: questions.asOwner,
    log: () => log,
  });
  undo(close);
  const told = openSandboxLog({
    config,
    buffer,
    now: Date.now,
    onLine: (line) => denialLines.add(line),
    ocsfJson: questions.ocsfJson,
  });
  const { logging } = told;
  undo(told.close);
  undo(() => logging.flush());
  const log = logging.logger('supervisor');
  const limiter = new RepeatLimiter({
    clock,
    onOverflow: (suppressed) => {
      metrics.suppressedEvents.inc(suppressed);
      const message = `${suppressed} events of too many kinds at once were not told`;
      logging.ocsf({ class: 'base', severity: 'medium', message });
    },
  });
  const resolvConf = readOr('/etc/resolv.conf');
  const resolve = createResolver(
    readOr('/etc/hosts'),
    resolvConf,
    upstreamServers(config.upstreamDns, resolvConf),
  );
  return {
    ...{ config, clock, random: Math.random, bootId, state, buffer, metrics },
    ...{ logging, log, limiter, denialLines, resolve, need: neededBy(log) },
  };
}

/** The text of a file, or nothing where there is none. */
export const readOr = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '');
