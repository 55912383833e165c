/**
 * Checks which folder of the house imports which: one way only, no cycles, siblings strangers to each other.
 * Prints `file:line: reason` for each breach, and ends with 1 when there is one.
 */
import { readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { sourceFiles } from './lib/source-files.ts';

const ROOT = resolve(import.meta.dirname, '..');

/** Shared by all; they import nothing of the project but each other. */
const LEAVES = ['result', 'clock', 'fault', 'version', 'generated'];
const BASE = ['policy', 'buffer', 'observability', 'rpc'];
const PARTS = ['gateway', 'egress', 'access', 'workload', 'confinement'];
/** What the composition root is made of, a file each. */
const ROOT_PARTS = [
  'handover',
  'initial-policy',
  'policy-in-force',
  'egress-adapters',
  'egress-report',
  'middleware-report',
  'enforcement-report',
  'confinement-input',
  'sandbox-facts',
  'confined-sessions',
  'sandbox-access',
  'access-report',
  'last-good-config',
  'denials',
  'proposals',
  'inference',
  'main-program',
  'upstream-settings',
  'relay-report',
  'egress-plane',
  'foundation',
  'gateway-plane',
  'interception',
  'metrics-page',
  'sandbox-buffer',
  'sandbox-confinement',
  'sandbox-egress',
  'sandbox-log',
  'start-step',
  'state-directory',
  'log-directory',
];

/**
 * What each room may import besides itself. A file directly in supervisor/ is a room of
 * its own when it is named here, else a part of the composition root.
 */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  main: ['supervisor', 'doctor', 'handover', 'heap-growth', 'config', 'cli', ...PARTS, ...BASE, ...LEAVES],
  supervisor: ['config', 'offline-grace', ...ROOT_PARTS, ...PARTS, ...BASE, ...LEAVES],
  ...Object.fromEntries(
    ROOT_PARTS.map((room) => [
      room,
      ['config', 'offline-grace', ...ROOT_PARTS, ...PARTS, ...BASE, ...LEAVES],
    ]),
  ),
  doctor: ['config', 'confinement-input', ...PARTS, ...BASE, ...LEAVES],
  config: ['cli', 'offline-grace', ...BASE, ...LEAVES],
  'offline-grace': LEAVES,
  cli: ['policy', ...LEAVES],
  ...Object.fromEntries(PARTS.map((room) => [room, [...BASE, ...LEAVES]])),
  denials: ['policy', 'egress', ...LEAVES],
  observability: ['policy', 'buffer', ...LEAVES],
  policy: LEAVES,
  rpc: LEAVES,
  buffer: LEAVES,
  result: [],
  clock: [],
  fault: ['result'],
  version: [],
  'heap-growth': [],
};

/** Rooms that decide and never act: no module of the platform reaches them, but for these. */
const PURE: Readonly<Record<string, readonly string[]>> = { policy: ['node:net'] };
/** What a pure room may not name either: clock, randomness, the process. */
const IMPURE_NAMES =
  /(?<![\w.])(?:Date\.now|new Date\(\)|Math\.random|performance\.|setTimeout|setInterval|fetch\(|crypto\.|process\.(?:env|argv|pid|hrtime|cwd|exit|std\w+|on)\b)/;
/\b(Date\.now|new Date\(\)|Math\.random|process\.|setTimeout|setInterval|fetch\(|crypto\.)/;

interface Import {
  readonly file: string;
  readonly line: number;
  readonly target: string;
  /** Erased before it runs, so it cannot make a cycle. */
  readonly typeOnly: boolean;
}

const IMPORT =
  /^\s*(?:import|export)\s+(type\s)?(?:[^'"`;]*?\sfrom\s+)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/gm;

const importsOf = (file: string): readonly Import[] => {
  const text = readFileSync(join(ROOT, file), 'utf8');
  return [...text.matchAll(IMPORT)].map((match) => ({
    file,
    line: text.slice(0, match.index + match[0].search(/\S/)).split('\n').length,
    target: match[2] ?? match[3] ?? '',
    typeOnly: match[1] !== undefined,
  }));
};

/** The file that a relative import names, from the repository's root. */
const targetFile = (one: Import): string => relative(ROOT, resolve(ROOT, dirname(one.file), one.target));

const roomOf = (file: string): string => {
  if (file.startsWith('proto/generated/')) return 'generated';
  const [top, second = ''] = file.split('/');
  if (top !== 'supervisor') return `/${file}`;
  const name = second.replace(/\.ts$/, '');
  return name === second || ALLOWED[name] !== undefined ? name : 'supervisor';
};

const builtins = new Set(builtinModules);
const isPlatform = (target: string): boolean => target.startsWith('node:') || builtins.has(target);

const breach = (one: Import): string | undefined => {
  const from = roomOf(one.file);
  if (isPlatform(one.target)) {
    if (!one.target.startsWith('node:')) return `write node:${one.target}`;
    const pure = PURE[from];
    if (pure === undefined || pure.includes(one.target)) return undefined;
    return `${from} is pure and may not import ${one.target}`;
  }
  if (!one.target.startsWith('.')) return undefined;
  const to = roomOf(targetFile(one));
  if (to === from) return undefined;
  const allowed = ALLOWED[from];
  if (allowed === undefined)
    return `no room "${from}" is known: add it to the table in scripts/check-imports.ts`;
  if (allowed.includes(to)) return undefined;
  const siblings = PARTS.includes(from) && PARTS.includes(to);
  return `${from} may not import ${to}${siblings ? ': siblings get small interfaces from supervisor.ts' : ''}`;
};

const impurities = (file: string): readonly string[] => {
  if (PURE[roomOf(file)] === undefined) return [];
  const lines = readFileSync(join(ROOT, file), 'utf8').split('\n');
  return lines.flatMap((line, index) => {
    const code = line.replace(/^\s*(\*|\/\/|\/\*).*$/, '').replace(/'[^']*'|"[^"]*"/g, '');
    const name = IMPURE_NAMES.exec(code)?.[0];
    return name === undefined
      ? []
      : [`${file}:${index + 1}: ${roomOf(file)} is pure and may not use ${name}`];
  });
};

/** The cycles among files, by what they import when they run; each is reported once, where it closes. */
const cycles = (imports: readonly Import[]): readonly string[] => {
  const edges = Map.groupBy(
    imports.filter((one) => one.target.startsWith('.') && !one.typeOnly),
    (one) => one.file,
  );
  const done = new Set<string>();
  const path: string[] = [];
  const found: string[] = [];
  const visit = (file: string): void => {
    if (done.has(file)) return;
    path.push(file);
    for (const edge of edges.get(file) ?? []) {
      const next = targetFile(edge);
      const at = path.indexOf(next);
      if (at === -1) visit(next);
      else found.push(`${file}:${edge.line}: a cycle: ${[...path.slice(at), next].join(' → ')}`);
    }
    path.pop();
    done.add(file);
  };
  for (const file of edges.keys()) visit(file);
  return found;
};

const files = sourceFiles(join(ROOT, 'supervisor')).map((file) => relative(ROOT, file));
const imports = files.flatMap(importsOf);
const breaches = [
  ...imports.flatMap((one) => {
    const reason = breach(one);
    return reason === undefined ? [] : [`${one.file}:${one.line}: ${reason}`];
  }),
  ...files.flatMap(impurities),
  ...cycles(imports),
];
for (const line of breaches) console.error(line);
if (breaches.length > 0) process.exit(1);
console.log(`imports of ${files.length} files: one way, no cycles`);
