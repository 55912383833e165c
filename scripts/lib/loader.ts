/** Where glibc's loader finds the libraries that every program of the system must load (ld.so(8), FILES). */
const PRELOAD_FILE = Buffer.from('/etc/ld.so.preload\0');

/**
 * The glibc loader, with an empty name in place of /etc/ld.so.preload: access(2) answers ENOENT to it. No flag or
 * variable makes the loader leave that file alone, and it comes from the sandbox's image, whose author would have
 * a library of his in the supervisor. Throws when the name does not stand there exactly once.
 */
export function withoutPreloadFile(loader: Uint8Array): Buffer {
  const patched = Buffer.from(loader);
  const at = patched.indexOf(PRELOAD_FILE);
  if (at < 0 || patched.indexOf(PRELOAD_FILE, at + 1) >= 0)
    throw new Error('the loader does not name /etc/ld.so.preload exactly once: see scripts/lib/loader.ts');
  return patched.fill(0, at, at + PRELOAD_FILE.length);
}
