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
