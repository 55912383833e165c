/** Of gRPC: one flag byte and four bytes of length. */
const HEAD = 5;
/** Field 2 of RelayFrame, length-delimited. */
const DATA_TAG = 0x12;

/** A RelayFrame that holds `data`, as it travels: made in one piece, with one copy, because relays move much. */
export function dataFrame(data: Uint8Array): Buffer {
  let lengthBytes = 1;
  for (let rest = data.length >>> 7; rest > 0; rest >>>= 7) lengthBytes += 1;
  const message = 1 + lengthBytes + data.length;
  const frame = Buffer.allocUnsafe(HEAD + message);
  frame.writeUInt8(0, 0);
  frame.writeUInt32BE(message, 1);
  frame.writeUInt8(DATA_TAG, HEAD);
  let at = HEAD + 1;
  let rest = data.length;
  for (; rest > 0x7f; rest >>>= 7) frame.writeUInt8((rest & 0x7f) | 0x80, at++);
  frame.writeUInt8(rest, at++);
  frame.set(data, at);
  return frame;
}
