import type { CompiledMiddleware } from '../../policy/compilation.ts';
import { jsonToStruct } from '../../policy/struct.ts';
import { err, ok, type Result } from '../../result.ts';
import { codeOf, STATUS } from '../../rpc/status.ts';
import { MAX_CONFIG_BYTES } from './limits.ts';
import type { Available, MiddlewareRegistry } from './registry.ts';
import type { Binding, Bindings, StageConfig } from './service.ts';

/** One configured middleware in front of an operation that it offers. */
export interface Stage {
  readonly name: string;
  readonly service: string;
  readonly failsOpen: boolean;
  /** The error is a code that says why it cannot be asked at all. */
  readonly ready: Result<ReadyStage, string>;
}

export interface ReadyStage {
  readonly available: Available;
  readonly binding: Binding;
  readonly config: StageConfig;
}

/**
 * The middlewares of a grant that look at an operation, in the policy's order. One that is registered and does not
 * offer the operation is left out; one that is not there, or cannot be given its configuration, is a failure of its.
 */
export function stagesOf(
  middlewares: readonly CompiledMiddleware[],
  registry: MiddlewareRegistry,
  operation: keyof Bindings,
): { readonly stages: readonly Stage[]; readonly unbound: readonly Stage[] } {
  const stages: Stage[] = [];
  const unbound: Stage[] = [];
  for (const { config } of middlewares) {
    const available = registry.find(config.middleware);
    const base = {
      name: config.name,
      service: config.middleware,
      failsOpen: config.onError === 'fail_open',
    };
    if (available === undefined) {
      stages.push({ ...base, ready: err('middleware_unavailable') });
      continue;
    }
    const binding = available.bindings[operation];
    if (binding === undefined) {
      unbound.push({ ...base, ready: err('binding_not_selected') });
      continue;
    }
    const encoded = Buffer.from(jsonToStruct(config.config));
    const ready =
      encoded.length > MAX_CONFIG_BYTES
        ? err('request_config_over_capacity')
        : ok({ available, binding, config: { json: config.config, encoded } });
    stages.push({ ...base, ready });
  }
  return { stages, unbound };
}

/** Whether the service takes the stage's configuration; a code when not. */
export async function accepted({ available, config }: ReadyStage): Promise<Result<void, string>> {
  try {
    const taken = await available.service.accepts(config);
    return taken.ok ? taken : err('middleware_config_rejected');
  } catch (error) {
    return err(failureCode(error));
  }
}

/** The code of a call that failed; the service's own words are never told. */
export const failureCode = (error: unknown): string =>
  codeOf(error) === STATUS.DEADLINE_EXCEEDED ? 'middleware_timeout' : 'middleware_unreachable';
