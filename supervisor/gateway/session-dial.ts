import {
  type GatewayMessage,
  OpenShellDefinition,
  SupervisorMessage,
} from '../../proto/generated/openshell/v1/openshell.ts';
import type { Fault } from '../fault.ts';
import type { Result } from '../result.ts';
import type { Connection } from '../rpc/connection.ts';
import { CallError, STATUS } from '../rpc/status.ts';
import type { Call } from '../rpc/stream.ts';
import { type Channel, decode, pathOf } from './channel.ts';
import type { SessionStream, StreamEvents } from './session.ts';

const METHOD = OpenShellDefinition.methods.connectSupervisor;
const RELAY = OpenShellDefinition.methods.relayStream;

/** What a dial needs of the token: one that is worth sending, or one read or exchanged anew. */
export interface DialToken {
  current(): string;
  ensure(): Promise<Result<void, Fault>>;
  acquire(): Promise<Result<void, Fault>>;
}

/**
 * One attempt at a session: a connection, a token, the control stream. The connection becomes everybody's
 * when the gateway has accepted the session on it, and not before.
 */
export function dialSession(
  channel: Channel,
  token: DialToken,
  events: StreamEvents,
  renewToken: boolean,
): SessionStream {
  let call: Call | undefined;
  let connection: Connection | undefined;
  let unwatch: (() => void) | undefined;
  let adopted = false;
  let ended = false;
  let over = false;
  let waiting: Uint8Array[] = [];
  const close = (error: unknown): void => {
    if (over) return;
    over = true;
    waiting = [];
    unwatch?.();
    // One that was everybody's may carry more than this session.
    if (connection !== undefined && !adopted) channel.release(connection);
    events.closed(error);
  };
  const run = async (): Promise<void> => {
    connection = await channel.forSession();
    if (over) return channel.release(connection);
    const ready = await (renewToken ? token.acquire() : token.ensure());
    if (over) return;
    if (!ready.ok) throw refusalOf(ready.error);
    const taken = connection;
    unwatch = taken.watch({
      retiring: () => events.retire({ reason: 'the gateway asks to leave its connection', spread: true }),
      closed: () => undefined, // the call says so as well
    });
    call = taken.call(pathOf(METHOD), token.current(), {
      message(bytes) {
        if (over) return;
        const message: GatewayMessage = decode(METHOD, bytes);
        if (message.payload?.$case === 'sessionAccepted') {
          adopted = true;
          channel.adopt(taken);
        }
        events.message(message);
      },
      closed: close,
    });
    for (const bytes of waiting) call.send(bytes);
    waiting = [];
    if (ended) call.end();
  };
  run().catch(close);
  return {
    send(message) {
      const bytes = SupervisorMessage.encode(message).finish();
      if (call !== undefined) return call.send(bytes);
      if (!over) waiting.push(bytes);
      return true;
    },
    end() {
      ended = true;
      call?.end();
    },
    cancel() {
      if (call === undefined) close(new CallError(STATUS.CANCELLED, 'given up'));
      else call.cancel();
    },
    relay(events) {
      // A connection that is being left takes no new calls; whoever follows it leads to the same gateway.
      const place = connection?.usable === true ? connection : (channel.current ?? connection);
      if (place === undefined) throw new CallError(STATUS.UNAVAILABLE, 'there is no connection');
      return place.call(pathOf(RELAY), token.current(), events);
    },
    probe: () => connection?.probe(),
  };
}

/** A token that cannot be had is a refusal: dialling faster would not bring it. */
function refusalOf(fault: Fault): CallError {
  if (fault.cause instanceof CallError) return fault.cause;
  return new CallError(
    fault.kind === 'credentials' ? STATUS.UNAUTHENTICATED : STATUS.UNAVAILABLE,
    fault.message,
  );
}
