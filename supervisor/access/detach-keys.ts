/** Ctrl-P Ctrl-Q, as Docker has it. */
const [DETACH_FIRST, DETACH_SECOND] = [0x10, 0x11];

/** Looks for the two keys in what is typed, wherever its pieces fall. The first one waits for the second. */
export class DetachKeys {
  #waiting = false;

  take(chunk: Buffer): { readonly passed: Buffer; readonly detached: boolean } {
    const passed: number[] = [];
    for (const byte of chunk) {
      if (this.#waiting) {
        this.#waiting = false;
        if (byte === DETACH_SECOND) return { passed: Buffer.from(passed), detached: true };
        passed.push(DETACH_FIRST);
      }
      if (byte === DETACH_FIRST) this.#waiting = true;
      else passed.push(byte);
    }
    return { passed: Buffer.from(passed), detached: false };
  }
}
