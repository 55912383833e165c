/** A set of code points: ranges that are sorted, do not touch, and include both their ends. */
export type CharacterSet = readonly (readonly [number, number])[];

const MAX = 0x10ffff;

export const EVERYTHING: CharacterSet = [[0, MAX]];

/** The characters from `low` to `high`; just `low` when there is no `high`. */
export function setOf(low: string, high = low): CharacterSet {
  return [[low.codePointAt(0) ?? 0, high.codePointAt(0) ?? 0]];
}

export function includes(set: CharacterSet, code: number): boolean {
  for (const [low, high] of set) if (code >= low && code <= high) return true;
  return false;
}

/** Whether two sets share a character. */
export function intersect(a: CharacterSet, b: CharacterSet): boolean {
  return a.some(([low, high]) => b.some(([other, end]) => low <= end && other <= high));
}

export function unionOf(a: CharacterSet, b: CharacterSet): CharacterSet {
  const merged: [number, number][] = [];
  for (const [low, high] of [...a, ...b].sort(([x], [y]) => x - y)) {
    const last = merged.at(-1);
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else merged.push([low, high]);
  }
  return merged;
}

export function complementOf(set: CharacterSet): CharacterSet {
  const rest: [number, number][] = [];
  let from = 0;
  for (const [low, high] of set) {
    if (low > from) rest.push([from, low - 1]);
    from = high + 1;
  }
  if (from <= MAX) rest.push([from, MAX]);
  return rest;
}
