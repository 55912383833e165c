import { closeSync, fstatSync, readFileSync } from 'node:fs';
import { Fault } from './fault.ts';
import { err, ok, type Result } from './result.ts';
import { parseEnvironment } from './workload/environment.ts';

/** What init hands to the supervisor (init/run.h). */
export interface Handover {
  /** Descriptor over which shims reach the socket broker. */
  readonly fenceFd: number;
  /** The container's whole environment, for the workload. */
  readonly environment: ReadonlyMap<string, string>;
}

const FENCE_FD = 4;
const ENVIRONMENT_FD = 5;

/** Takes over the descriptors. Fails when the supervisor was not started by its launcher. */
export function takeHandover(): Result<Handover, Fault> {
  try {
    if (!fstatSync(FENCE_FD).isSocket() || !fstatSync(ENVIRONMENT_FD).isFIFO())
      throw new Error('other descriptors');
    const environment = parseEnvironment(readFileSync(ENVIRONMENT_FD));
    closeSync(ENVIRONMENT_FD);
    return ok({ fenceFd: FENCE_FD, environment });
  } catch (cause) {
    return err(new Fault('usage', 'start the supervisor through its launcher, openshell-sandbox', { cause }));
  }
}
