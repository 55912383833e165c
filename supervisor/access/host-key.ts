import type { utils } from 'ssh2';

/** Each try fails once in 256: a sandbox without a key is one in 2^64. */
const MAX_TRIES = 8;

/**
 * A new Ed25519 host key, as OpenSSH writes it. ssh2 1.17 drops the leading zero bytes of a public key that it has made,
 * and then cannot read the pair; such a pair is left, and the next one made. Throws when none of eight can be read.
 */
export function makeHostKey({ generateKeyPairSync, parseKey }: typeof utils): string {
  let reason: unknown;
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const made = generateKeyPairSync('ed25519').private;
    const parsed = parseKey(made);
    if (!(parsed instanceof Error)) return made;
    reason = parsed;
  }
  throw new Error('no readable host key could be made', { cause: reason });
}
