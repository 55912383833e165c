/** Says which of the decisive members an object of the text has twice; JSON parsers differ in which they take (RFC 8259, 4). */
export function repeatedMember(text: string, decisive: ReadonlySet<string>): string | undefined {
  const objects: Set<string>[] = [];
  const kinds: ('object' | 'array')[] = [];
  let expectsName = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') {
      let end = at + 1;
      while (end < text.length && text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
      if (expectsName) {
        expectsName = false;
        let name: unknown;
        try {
          name = JSON.parse(text.slice(at, end + 1));
        } catch {
          return undefined; // not JSON: the parser says so
        }
        const names = objects.at(-1);
        if (typeof name === 'string' && names !== undefined && decisive.has(name)) {
          if (names.has(name)) return `the body has the member "${name}" twice in one object`;
          names.add(name);
        }
      }
      at = end;
    } else if (character === '{') {
      objects.push(new Set());
      kinds.push('object');
      expectsName = true;
    } else if (character === '[') {
      kinds.push('array');
      expectsName = false;
    } else if (character === '}' || character === ']') {
      if (kinds.pop() === 'object') objects.pop();
      expectsName = false;
    } else if (character === ',') expectsName = kinds.at(-1) === 'object';
  }
  return undefined;
}

/** As parsers that ignore case compare names, Go's among them: the long s and the sign for kelvin are letters to them. */
const fold = (name: string): string => name.toUpperCase().toLowerCase();

/**
 * Says which member has the name of a decisive one but for its case: some servers read it as that one, where we would
 * overlook it.
 */
export function disguisedMember(members: object, decisive: ReadonlySet<string>): string | undefined {
  return disguisedName(Object.keys(members), decisive);
}

/** The same of mere names. */
export function disguisedName(names: Iterable<string>, decisive: ReadonlySet<string>): string | undefined {
  let folded: Set<string> | undefined;
  for (const name of names) {
    if (decisive.has(name)) continue;
    folded ??= new Set([...decisive].map(fold));
    if (folded.has(fold(name)))
      return `the member "${name.slice(0, 40)}" is written in another case than usual`;
  }
  return undefined;
}
