/** `npm run demo`: a transcript that a newcomer understands; ends with 0 only if every line is as expected. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ensureBuilt } from './lib/build.ts';
import { ROOT } from './lib/paths.ts';
import { ensureRootfs } from './lib/rootfs.ts';
import { type RunningSandbox, startSandbox } from './lib/sandbox.ts';
import { startWorld, type World } from './lib/world.ts';

interface Session {
  readonly id: string;
  readonly sandboxId: string;
  readonly endedAtMs?: number;
  readonly beatsMs: readonly number[];
  readonly enforcement: readonly { readonly aspect: string; readonly mechanism: string }[];
}
interface LogLine {
  readonly level: string;
  readonly message: string;
}
interface Exit {
  readonly exitCode: number;
  readonly accepted: boolean;
}

const OUTAGE_MS = 10_000;
let wrong = 0;

const title = (text: string): void => console.log(`\n== ${text}`);

/** One line of the transcript; a line that is not as expected fails the demo. */
function expectLine(what: string, actual: string, expected: RegExp | string): void {
  const good = typeof expected === 'string' ? actual === expected : expected.test(actual);
  if (!good) wrong += 1;
  console.log(`${good ? '  ok  ' : ' WRONG'} ${what}: ${actual}${good ? '' : `   (expected ${expected})`}`);
}

async function until<T>(
  what: string,
  limitMs: number,
  probe: () => Promise<T | undefined> | T | undefined,
): Promise<T> {
  const end = Date.now() + limitMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (Date.now() > end) throw new Error(`waited ${limitMs} ms in vain for ${what}`);
    await sleep(100);
  }
}

/** What the workload printed, by label. */
function outcomes(sandbox: RunningSandbox): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const line of sandbox.printed().stdout.split('\n')) {
    const match = /^demo ([^:]+(?::[^ ][^:]*)*): (.*)$/.exec(line);
    if (match?.[1] !== undefined) found.set(match[1], match[2] ?? '');
  }
  return found;
}

const EXPECTED: readonly (readonly [string, RegExp])[] = [
  ['allowed host', /^200$/],
  ['allowed host over CONNECT', /^200$/],
  ['another host', /^403 .*"error":"policy_denied".*no rule names other\.test:80/],
  ['another port', /^403 .*"error":"policy_denied".*no rule names api\.allowed\.test:8080/],
  ['another binary', /^403$/],
  ['metadata address', /^403 .*"error":"policy_denied"/],
  ['metadata address behind an allowed wildcard', /^403 .*"error":"ssrf_denied"/],
  ['internal address behind an allowed wildcard', /^403 .*"error":"ssrf_denied".*internal address/],
  ['public address behind an allowed wildcard', /^200$/],
  ['raw socket past the proxy', /^refused \(timed out\)$/],
  ['UDP packet', /^refused \(Operation not permitted\)$/],
];

const CONFINED: readonly (readonly [string, RegExp])[] = [
  ['write in the workspace', /^SUCCEEDED/],
  ['write in /tmp', /^SUCCEEDED/],
  ['write in /var/log', /^refused/],
  ['write in /etc', /^refused/],
  ['read the token', /^refused \(Permission denied\)$/],
  ["read the supervisor's memory", /^refused/],
  ["read the supervisor's environment", /^refused/],
  ['read the environment of PID 1', /^refused/],
  ['signal the supervisor', /^refused \(Operation not permitted\)$/],
  ['signal PID 1', /^refused \(Operation not permitted\)$/],
  ['signal everybody', /^refused \(Operation not permitted\)$/],
  ['trace the supervisor', /^refused \(Operation not permitted\)$/],
];

async function demo(world: World): Promise<void> {
  const policy = readFileSync(join(ROOT, 'scripts/demo-workload/policy.yaml'), 'utf8');
  const sessions = async () => (await world.control('GET', '/sessions')) as readonly Session[];
  const logs = async () => (await world.control('GET', '/logs')) as readonly LogLine[];
  await world.control('POST', '/policy', policy);

  title(
    'A sandbox under runc: user 1000, no capability, read-only root, RuntimeDefault; the image is a volume',
  );
  const sandbox = await startSandbox({
    command: ['/usr/bin/python3', '/opt/demo/workload.py'],
    runtime: 'runc',
    gateway: world.gatewayUrl,
    network: await world.network(),
    binds: [{ source: join(ROOT, 'scripts/demo-workload'), destination: '/opt/demo' }],
    env: { OPENSHELL_POLICY_POLL_INTERVAL_SECS: '2' },
    timeout: 300_000,
  });
  try {
    await until('the first part of the workload', 90_000, () => outcomes(sandbox).get('first part'));
    const seen = outcomes(sandbox);
    title('What the workload reaches');
    for (const [label, expected] of EXPECTED) expectLine(label, seen.get(label) ?? 'nothing', expected);
    const arrived = world.records().filter(({ protocol }) => protocol !== 'dns');
    const strays = arrived.filter(({ local }) => !/^(198\.51\.100\.10|8\.8\.100\.10):/.test(local));
    expectLine('what arrived at other hosts, as they saw it', `${strays.length} packets`, '0 packets');
    title('What the workload may touch');
    for (const [label, expected] of CONFINED) expectLine(label, seen.get(label) ?? 'nothing', expected);

    title('What the gateway sees');
    const session = await until('two heartbeats', 60_000, async () =>
      (await sessions()).find(({ beatsMs }) => beatsMs.length >= 2),
    );
    expectLine('session of the sandbox', session.sandboxId, sandbox.sandboxId);
    const enforced = session.enforcement.map(({ aspect, mechanism }) => `${aspect}=${mechanism}`);
    expectLine('enforced there', enforced.join(', '), /network=socket fence.*files=Landlock/);
    const gaps = session.beatsMs.slice(1).map((at, index) => at - (session.beatsMs[index] ?? at));
    expectLine('heartbeats apart', gaps.map((ms) => `${(ms / 1000).toFixed(2)} s`).join(', '), /^\d/);
    const inside = gaps.every((ms) => ms > (15_000 * 6) / 7 - 500 && ms < 15_500);
    expectLine('each between 6/7 and 1 of 15 s', inside ? 'yes' : 'no', 'yes');
    const denial = (await logs()).find(
      ({ message }) => message.includes('DENIED') && message.includes('other.test'),
    );
    expectLine(
      'a denial',
      `${denial?.level} ${denial?.message}`,
      /^OCSF NET:OPEN \[MED\] DENIED curl\(\d+\) -> other\.test:80/,
    );

    title(`The gateway goes away for ${OUTAGE_MS / 1000} seconds`);
    const denials = async () =>
      (await logs()).filter(({ message }) => /DENIED curl.*other\.test:80/.test(message)).length;
    await world.control('POST', `/refuse?seconds=${OUTAGE_MS / 1000}`);
    await sleep(OUTAGE_MS / 2);
    expectLine('the workload meanwhile', sandbox.child.exitCode === null ? 'runs' : 'has ended', 'runs');
    const back = await until('the session again', 60_000, async () =>
      (await sessions()).find(({ id, endedAtMs }) => endedAtMs === undefined && id !== session.id),
    );
    expectLine('a new session of the same sandbox', back.sandboxId, sandbox.sandboxId);

    title('A policy change opens the refused host, without a restart');
    const opened = policy.replace(
      'network_policies:',
      `network_policies:
  other:
    endpoints:
      - { host: other.test, port: 80 }
    binaries:
      - { path: /usr/bin/curl }`,
    );
    const changedAt = Date.now();
    await world.control('POST', '/policy', opened);
    await until('the host to open', 30_000, () =>
      outcomes(sandbox).get('other.test now answers') === '200' ? true : undefined,
    );
    expectLine(
      'other.test answers 200 after',
      `${((Date.now() - changedAt) / 1000).toFixed(1)} s`,
      /^[0-4]\./,
    );

    title('The end');
    const { code, stderr } = await sandbox.ended;
    expectLine('the container ends with', `${code}`, '7');
    expectLine('on standard error', stderr.trim() === '' ? 'nothing' : stderr.trim(), 'nothing');
    const exit = ((await world.control('GET', '/exits')) as readonly Exit[])[0];
    expectLine(
      'the gateway recorded',
      `${exit?.exitCode}, ${exit?.accepted ? 'accepted' : 'ignored'}`,
      '7, accepted',
    );
    const refusedTries = world.records().filter(({ local }) => local === '198.51.100.20:80').length;
    expectLine('requests that reached other.test, all after the change', `${refusedTries}`, '1');
    expectLine(
      'denial lines at the gateway, those of the outage included',
      `${await denials()}`,
      /^[1-9]\d+$/,
    );
    const lost = (await logs()).filter(({ message }) => message.includes('were lost')).length;
    expectLine('records lost', `${lost}`, '0');
  } finally {
    await sandbox.stop();
  }
}

const startedAt = Date.now();
console.log('Building the image and the root file system (the first time takes a few minutes) …');
const { image } = await ensureBuilt();
await ensureRootfs('debian');
console.log(`  ok   the image: ${image.replace(`${ROOT}/`, '')}`);
const world = await startWorld();
try {
  await demo(world);
} catch (error) {
  wrong += 1;
  console.log(` WRONG ${error instanceof Error ? error.message : String(error)}`);
} finally {
  await world.stop();
}
console.log(
  `\n${wrong === 0 ? 'Everything was as expected' : `${wrong} lines were not as expected`}; ${((Date.now() - startedAt) / 1000).toFixed(0)} s.`,
);
process.exit(wrong === 0 ? 0 : 1);
