import { randomUUID } from 'node:crypto';
import {
  HttpRequestTarget,
  RequestContext,
} from '../../../proto/generated/openshell/middleware/v1/middleware.ts';
import type { CallerIdentity } from '../../policy/intent.ts';
import { err, ok, type Result } from '../../result.ts';
import { MAX_CONTEXT_BYTES, MAX_TARGET_BYTES } from './limits.ts';

/** Which sandbox asks, as middlewares are told. */
export interface SandboxName {
  readonly id: string;
  readonly name: string;
  /** Empty while it is not known. */
  readonly workspace: string;
}

/** Who asks for what: the same for all middlewares of one request or WebSocket. */
export interface Subject {
  readonly context: RequestContext;
  readonly target: HttpRequestTarget;
}

/** Fails, with a code, for a target that is too long. Ancestors are left out where they would not fit. */
export function subjectOf(
  { id, name, workspace }: SandboxName,
  { binary, pid, ancestors }: CallerIdentity,
  target: HttpRequestTarget,
): Result<Subject, string> {
  if (HttpRequestTarget.encode(target).finish().length > MAX_TARGET_BYTES)
    return err('request_target_over_capacity');
  const base = { requestId: randomUUID(), sandboxId: id, sandboxName: name, workspace };
  const attempts = [{ binary, pid, ancestors: [...ancestors] }, { binary, pid, ancestors: [] }, undefined];
  for (const originatingProcess of attempts) {
    const context: RequestContext = { ...base, originatingProcess };
    if (RequestContext.encode(context).finish().length <= MAX_CONTEXT_BYTES) return ok({ context, target });
  }
  return err('request_context_over_capacity');
}
