/** The median of some values; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  return low === undefined || high === undefined ? Number.NaN : (low + high) / 2;
}

/** The value below which a share (0 to 1) of the values lies; NaN of none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Prints a line of a table: what, and its cells aligned to the right. */
export function row(what: string, ...cells: readonly string[]): void {
  console.log(`  ${what.padEnd(46)} ${cells.map((cell) => cell.padStart(12)).join(' ')}`);
}

/** Prints the heading of a table. */
export function heading(text: string): void {
  console.log(`\n${text}`);
}

/** A number with as many decimals as its size bears; a dash for what was not measured. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '-';
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
