import { createHash } from 'node:crypto';
import type { Clock, Random } from '../clock.ts';
import type { ReadSecret } from './tls.ts';

const LOOK_MS = 60_000;

export interface RotationOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly readSecret: ReadSecret;
  readonly paths: readonly string[];
  /** Called after a look that found other contents than the look before. */
  readonly onChange: () => void;
}

/**
 * Looks about once a minute whether files were replaced, by their contents: the kubelet swaps symbolic
 * links, which a watch on the file does not see, and a changed time alone is no new certificate. A file
 * that cannot be read at the moment is being replaced, and counts as unchanged. Keeps digests only.
 */
export class RotationWatch {
  readonly #options: RotationOptions;
  readonly #digests = new Map<string, string>();
  #cancel: (() => void) | undefined;

  constructor(options: RotationOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#options.paths.length === 0 || this.#cancel !== undefined) return;
    this.#changed();
    this.#schedule();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #schedule(): void {
    const { clock, random, onChange } = this.#options;
    this.#cancel = clock.after(LOOK_MS * (0.5 + random()), () => {
      this.#schedule();
      if (this.#changed()) onChange();
    });
  }

  #changed(): boolean {
    let changed = false;
    for (const path of this.#options.paths) {
      const digest = this.#digest(path);
      if (digest === undefined) continue;
      const before = this.#digests.get(path);
      this.#digests.set(path, digest);
      changed ||= before !== undefined && before !== digest;
    }
    return changed;
  }

  #digest(path: string): string | undefined {
    try {
      return createHash('sha256').update(this.#options.readSecret(path)).digest('base64');
    } catch {
      return undefined;
    }
  }
}
