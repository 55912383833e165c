import type { Duplex } from 'node:stream';
import { RelayFrame } from '../../../proto/generated/openshell/v1/openshell.ts';
import type { Clock } from '../../clock.ts';
import type { CallError } from '../../rpc/status.ts';
import type { Call, CallEvents } from '../../rpc/stream.ts';

export interface RelayTotals {
  /** Bytes from the target to the user. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

export interface RelayOptions {
  readonly clock: Clock;
  readonly channelId: string;
  /** What was connected to inside the sandbox. */
  readonly target: Duplex;
  /** Opens the RelayStream. */
  readonly call: (events: CallEvents) => Call;
  /** Once, when both directions are over; undefined is an end of both. */
  readonly onEnd: (totals: RelayTotals, reason: string | undefined) => void;
}

/** Pieces as upstream sends them (contract.md, 2.2) would cost four times as many frames; its limit is 1 MiB. */
const MAX_PIECE = 64 * 1024;
/** How long a target may take to read the rest when the user has gone after a clean end. */
const FAREWELL_MS = 30_000;

/**
 * Carries bytes between a RelayStream and a target until both directions have ended. Each side is read only as fast as the
 * other one takes it, so what is held is a window of HTTP/2 and a socket's buffer. An end of one direction is passed on, and the
 * other one goes on.
 */
export class Relay {
  readonly #options: RelayOptions;
  readonly #call: Call;
  #sent = 0;
  #received = 0;
  #initialised = false;
  #over = false;

  constructor(options: RelayOptions) {
    this.#options = options;
    const { channelId, target, call } = options;
    this.#call = call({
      message: (bytes) => this.#takeInit(bytes),
      data: (bytes) => this.#take(bytes),
      drained: () => void target.resume(),
      ended: () => this.#endTarget(),
      closed: (error) => this.#closed(error),
    });
    this.#call.send(RelayFrame.encode({ payload: { $case: 'init', value: { channelId } } }).finish());
    target.on('data', (chunk: Buffer) => this.#give(chunk));
    target.on('drain', () => this.#call.resume());
    target.once('end', () => this.#call.end());
    target.once('error', () => undefined); // its close tells
    target.once('close', () => {
      if (!target.readableEnded) this.end('the target broke off');
      // It reads no more: what the user still sends is dropped, so that the user's end is heard.
      else this.#call.resume();
    });
  }

  /** Breaks both directions off. */
  end(reason: string): void {
    if (this.#over) return;
    this.#finish(reason);
    this.#call.cancel();
  }

  #give(chunk: Buffer): void {
    this.#sent += chunk.length;
    let room = true;
    for (let at = 0; at < chunk.length; at += MAX_PIECE)
      room = this.#call.sendData(chunk.subarray(at, at + MAX_PIECE));
    if (!room) this.#options.target.pause();
  }

  #take(bytes: Buffer): void {
    const { target } = this.#options;
    if (this.#over || !target.writable) return;
    this.#received += bytes.length;
    if (!target.write(bytes)) this.#call.pause();
  }

  /** Whatever is no plain data: an init, or data that somebody has encoded in an unusual way. */
  #takeInit(bytes: Buffer): void {
    if (this.#over) return;
    const { payload } = RelayFrame.decode(bytes);
    if (payload?.$case === 'data') {
      if (payload.value.length > 0) this.#take(Buffer.from(payload.value));
      return;
    }
    if (payload?.$case !== 'init') return;
    // The gateway never has to say which channel it is: a second one would be a mistake (contract.md, 2.2).
    if (this.#initialised) this.end('the gateway named the channel twice');
    this.#initialised = true;
  }

  #endTarget(): void {
    if (this.#options.target.writable) this.#options.target.end();
  }

  #closed(error: CallError | undefined): void {
    if (this.#over) return;
    // The target may still have to take what came last.
    if (error === undefined) this.#endTarget();
    this.#finish(error?.details);
  }

  #finish(reason: string | undefined): void {
    this.#over = true;
    const { target, onEnd } = this.#options;
    if (reason !== undefined || target.writableFinished) target.destroy();
    else this.#letFinish();
    onEnd({ sentBytes: this.#sent, receivedBytes: this.#received }, reason);
  }

  #letFinish(): void {
    const { target, clock } = this.#options;
    const cancel = clock.after(FAREWELL_MS, () => target.destroy());
    target.once('finish', () => target.destroy()).once('close', cancel);
  }
}
