/** Terminal modes by their opcodes (RFC 4254, 8, and RFC 8160). */
const NAMES: ReadonlyMap<number, string> = new Map(
  [
    [1, 'VINTR VQUIT VERASE VKILL VEOF VEOL VEOL2 VSTART VSTOP VSUSP VDSUSP VREPRINT VWERASE VLNEXT'],
    [18, 'VDISCARD'],
    [30, 'IGNPAR PARMRK INPCK ISTRIP INLCR IGNCR ICRNL IUCLC IXON IXANY IXOFF IMAXBEL IUTF8'],
    [50, 'ISIG ICANON XCASE ECHO ECHOE ECHOK ECHONL NOFLSH TOSTOP IEXTEN ECHOCTL ECHOKE PENDIN'],
    [70, 'OPOST OLCUC ONLCR OCRNL ONOCR ONLRET'],
    [90, 'CS7 CS8 PARENB PARODD'],
    [128, 'TTY_OP_ISPEED TTY_OP_OSPEED'],
  ].flatMap(([first, names]) =>
    String(names)
      .split(' ')
      .map((name, index) => [Number(first) + index, name] as const),
  ),
);

/** Reads encoded modes up to their end, or to the first byte that is none; what has no name is left out. */
export function parseTerminalModes(bytes: Buffer): Readonly<Record<string, number>> {
  const modes: Record<string, number> = {};
  for (let at = 0; at + 5 <= bytes.length; at += 5) {
    const opcode = bytes.readUInt8(at);
    // 160 and above are without arguments that anybody has agreed upon.
    if (opcode === 0 || opcode >= 160) break;
    const name = NAMES.get(opcode);
    if (name !== undefined) modes[name] = bytes.readUInt32BE(at + 1);
  }
  return modes;
}

/** The modes in a channel request (RFC 4254, 6.2) with its message number; undefined when it is no whole "pty-req". */
export function modesOfRequest(payload: Buffer): Readonly<Record<string, number>> | undefined {
  let at = 5;
  const string = (): Buffer | undefined => {
    if (at + 4 > payload.length) return undefined;
    const size = payload.readUInt32BE(at);
    if (at + 4 + size > payload.length) return undefined;
    at += 4 + size;
    return payload.subarray(at - size, at);
  };
  if (string()?.toString('latin1') !== 'pty-req') return undefined;
  at += 1;
  if (string() === undefined) return undefined;
  at += 16;
  const modes = string();
  return modes === undefined ? undefined : parseTerminalModes(modes);
}

/** What handles a message of a connection, in ssh2. */
type Handler = (protocol: object, payload: Buffer) => unknown;
const CHANNEL_REQUEST = 98;
const latest = new WeakMap<object, Readonly<Record<string, number>>>();

/**
 * ssh2 1.17 begins to read a client's terminal modes one byte too late, and so finds none: they are read here before it
 * does. Call it once for ssh2's table of handlers.
 */
export function readModesFirst(handlers: Record<number, Handler>): void {
  const original = handlers[CHANNEL_REQUEST];
  if (original === undefined) return;
  handlers[CHANNEL_REQUEST] = (protocol, payload) => {
    const modes = modesOfRequest(payload);
    if (modes !== undefined) latest.set(protocol, modes);
    return original(protocol, payload);
  };
}

/** The modes of the terminal that a connection is asking for at this moment. */
export const modesOf = (connection: object): Readonly<Record<string, number>> =>
  latest.get((connection as { readonly _protocol: object })._protocol) ?? {};
