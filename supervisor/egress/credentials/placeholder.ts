/** How a workload names a credential that it never sees (contract.md, 8.1). */
export type Placeholder =
  | { readonly kind: 'revision'; readonly revision: bigint; readonly key: string }
  | { readonly kind: 'handle'; readonly handle: string; readonly key: string }
  /** Without a revision or a handle: not for keys that are bound to endpoints. */
  | { readonly kind: 'plain'; readonly key: string };

export const MARKER = 'openshell:resolve:env:';
const ALIAS_MARKER = 'OPENSHELL-RESOLVE-ENV-';
const TOKEN = /openshell:resolve:env:([A-Za-z0-9_]+)/g;
const ALIAS = /[A-Za-z0-9_\-.~]OPENSHELL-RESOLVE-ENV-([A-Za-z0-9_]+)/;
const REVISION = /^v(\d{1,20})_([A-Za-z0-9_]+)$/;
const HANDLE = /^s([0-9a-f]{64})_([A-Za-z0-9_]+)$/;

/** Whether a key could be taken for the decoration of another one; such keys are skipped. */
export const isAmbiguousKey = (key: string): boolean =>
  REVISION.test(key) || HANDLE.test(key) || !/^[A-Za-z0-9_]+$/.test(key);

/** The form that a workload is given. */
export function placeholderFor(key: string, revision: bigint, handle: string): string {
  if (handle !== '') return `${MARKER}s${handle}_${key}`;
  return revision === 0n ? `${MARKER}${key}` : `${MARKER}v${revision}_${key}`;
}

export function parsePlaceholder(token: string): Placeholder {
  const name = token.slice(MARKER.length);
  const revision = REVISION.exec(name);
  if (revision !== null)
    return { kind: 'revision', revision: BigInt(revision[1] ?? 0), key: revision[2] ?? '' };
  const handle = HANDLE.exec(name);
  if (handle !== null) return { kind: 'handle', handle: handle[1] ?? '', key: handle[2] ?? '' };
  return { kind: 'plain', key: name };
}

/** Whether a text holds anything that looks like a placeholder, as it is or percent-encoded. */
export function holdsMarker(text: string): boolean {
  if (text.includes(MARKER) || (text.includes(ALIAS_MARKER) && ALIAS.test(text))) return true;
  if (!text.includes('%')) return false;
  // Decoded as often as it can be: a server may decode more than once.
  let decoded = text;
  for (let round = 0; round < 3; round += 1) {
    const next = decoded.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) =>
      String.fromCharCode(Number.parseInt(hex, 16)),
    );
    if (next === decoded) return false;
    decoded = next;
    if (decoded.includes(MARKER) || (decoded.includes(ALIAS_MARKER) && ALIAS.test(decoded))) return true;
  }
  return false;
}

/** Replaces every placeholder; the first that cannot be ends it with its fault. */
export function replacePlaceholders<F>(
  text: string,
  resolve: (
    placeholder: Placeholder,
  ) => { readonly ok: true; readonly value: string } | { readonly ok: false; readonly error: F },
): { readonly ok: true; readonly value: string } | { readonly ok: false; readonly error: F } {
  if (!text.includes(MARKER)) return { ok: true, value: text };
  let out = '';
  let at = 0;
  for (const match of text.matchAll(TOKEN)) {
    const resolved = resolve(parsePlaceholder(match[0]));
    if (!resolved.ok) return resolved;
    out += text.slice(at, match.index) + resolved.value;
    at = match.index + match[0].length;
  }
  return { ok: true, value: out + text.slice(at) };
}
