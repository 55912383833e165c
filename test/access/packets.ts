/** A client's SSH messages, made by hand. */
import type { Client } from 'ssh2';

/** Of ssh2 1.17: how its client makes and sends a packet. */
interface Packets {
  readonly _protocol: {
    readonly _packetRW: {
      readonly write: {
        readonly allocStart: number;
        alloc(size: number): Buffer;
        finalize(packet: Buffer): Buffer;
      };
    };
    readonly _cipher: { encrypt(packet: Buffer): void };
  };
}

export function send(client: Client, payload: Buffer): void {
  const { _packetRW, _cipher } = (client as unknown as Packets)._protocol;
  const { write } = _packetRW;
  const packet = write.alloc(payload.length);
  packet.set(payload, write.allocStart);
  _cipher.encrypt(write.finalize(packet));
}

export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
export const text = (value: string | Buffer): Buffer =>
  Buffer.concat([u32(Buffer.from(value).length), Buffer.from(value)]);
export const packet = (type: number, ...fields: readonly Buffer[]): Buffer =>
  Buffer.concat([Buffer.from([type]), ...fields]);
/** RFC 4254, 5.1: type, sender channel, window, largest packet. */
export const open = (
  type: string,
  channel: number,
  window = 1 << 20,
  largest = 32_768,
  ...more: readonly Buffer[]
): Buffer => packet(90, text(type), u32(channel), u32(window), u32(largest), ...more);
export const request = (channel: number, name: string, ...more: readonly Buffer[]): Buffer =>
  packet(98, u32(channel), text(name), Buffer.from([1]), ...more);

/** Opens a forwarded connection (RFC 4254, 7.2). */
export const openForward = (
  channel: number,
  host: string,
  port: number,
  window = 1 << 20,
  largest = 32_768,
): Buffer => open('direct-tcpip', channel, window, largest, text(host), u32(port), text('127.0.0.1'), u32(1));

/** What the server sends, by message, instead of what ssh2's client makes of it. */
export type Heard = Record<string, (protocol: object, ...values: never[]) => unknown>;
export const heard = (client: Client): Heard =>
  (client as unknown as { readonly _protocol: { readonly _handlers: Heard } })._protocol._handlers;
