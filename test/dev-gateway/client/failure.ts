import { Fault } from '../../../supervisor/fault.ts';
import { STATUS } from '../../../supervisor/rpc/status.ts';

/** grpc-js's words for a gateway that is not there at all. */
const NO_ANSWER = /^(No connection established|Name resolution failed)/;

/** What a person is told of a call that has failed: one sentence, with what to change, and an exit code. */
export function faultOf(error: unknown, gateway: string): Fault {
  if (error instanceof Fault) return error;
  if (!(error instanceof Error)) return new Fault('internal', String(error));
  const { code, details } = error as { readonly code?: unknown; readonly details?: unknown };
  if (typeof code !== 'number' || typeof details !== 'string') return new Fault('internal', error.message);
  if (NO_ANSWER.test(details))
    return new Fault(
      'gateway',
      `no gateway answers at ${gateway}: start one with "npm run gateway -- serve", or name another with --gateway`,
    );
  // Where a person cancels, nobody asks for the reason.
  if (code === STATUS.CANCELLED)
    return new Fault('gateway', 'the gateway has given the call up; was it stopped?');
  return new Fault(code === STATUS.INVALID_ARGUMENT ? 'usage' : 'gateway', details || error.message);
}
