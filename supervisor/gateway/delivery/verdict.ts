import { codeOf, STATUS } from '../../rpc/status.ts';
import type { Call } from './wire.ts';

/**
 * What a failed call says of its records. `again`: nothing, the gateway is not well or asks for time.
 * `shrink`: it takes none of this size or content, so a smaller call may find the one that is to blame.
 * `strike`: perhaps the same, when it happens again and again. `refused`: it takes nothing from us now.
 * `had`: it has them already.
 */
export type Verdict = 'again' | 'shrink' | 'strike' | 'refused' | 'had';

/** A gateway's or a library's words for a message over its bound; a rate limit has the same status. */
const TOO_LARGE = /larger than|too (large|big|long)|message (size|length)|max(imum)? (message|size)/i;

export function judge(kind: Call['kind'], error: unknown): Verdict {
  const details = error instanceof Error ? error.message : '';
  switch (codeOf(error)) {
    case STATUS.ALREADY_EXISTS:
      return 'had';
    case STATUS.INVALID_ARGUMENT:
    case STATUS.OUT_OF_RANGE:
      return 'shrink';
    case STATUS.RESOURCE_EXHAUSTED:
      return TOO_LARGE.test(details) ? 'shrink' : 'again';
    case STATUS.INTERNAL:
    case STATUS.UNKNOWN:
    case STATUS.DATA_LOSS:
      return 'strike';
    case STATUS.FAILED_PRECONDITION:
      // Of an exit it means a conflict in the gateway's store (contract.md, 2.3).
      return kind === 'exit' ? 'again' : 'shrink';
    case STATUS.NOT_FOUND:
    case STATUS.PERMISSION_DENIED:
    case STATUS.UNIMPLEMENTED:
      // Of lines it means the sandbox or the gateway; of the others it may be the one record: a revision that
      // is not known, a name that is not ours, a call that an older gateway does not have.
      return kind === 'lines' ? 'refused' : 'shrink';
    case STATUS.UNAUTHENTICATED:
      return 'refused';
    default:
      return 'again';
  }
}
