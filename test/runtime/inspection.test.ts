/** Requests under policy as people's own clients make them: certificates trusted, allowed once, denied once. */
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { NODE } from '../../scripts/lib/paths.ts';
import { runSandbox, type SandboxOptions } from '../../scripts/lib/sandbox.ts';
import { startWorld, type World } from '../../scripts/lib/world.ts';
import { missing } from './requirements.ts';

const directory = mkdtempSync(join(tmpdir(), 'inspection-test-'));
afterAll(() => rmSync(directory, { recursive: true }));
const POLICY = join(directory, 'policy.yaml');
writeFileSync(
  POLICY,
  `version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /bin, /sbin, /lib, /lib64, /etc, /proc, /dev/urandom, /opt/node, /opt/world-ca.pem]
  read_write: [/tmp, /dev/null]
network_policies:
  api:
    endpoints:
      - host: api.allowed.test
        ports: [80, 443]
        protocol: rest
        enforcement: enforce
        rules:
          - allow: { method: GET, path: /allowed }
    binaries: [{ path: "/**" }]
`,
  { mode: 0o644 },
);
const SCRIPTS = join(directory, 'scripts');
writeFileSync(
  `${SCRIPTS}.py`,
  `import json, urllib.request, urllib.error
for path in ('allowed', 'denied'):
    try:
        print(urllib.request.urlopen('https://api.allowed.test/' + path, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(error.code, json.load(error)['error'])
`,
  { mode: 0o644 },
);
writeFileSync(
  `${SCRIPTS}.mjs`,
  `for (const path of ['allowed', 'denied']) {
  const response = await fetch('https://api.allowed.test/' + path);
  console.log(response.status, response.ok ? '' : (await response.json()).error);
}
`,
  { mode: 0o644 },
);

/** Node's, which a minimal Debian lacks. */
const LIBATOMIC = '/usr/lib/x86_64-linux-gnu/libatomic.so.1';
const PLACES: readonly (readonly [string, Partial<SandboxOptions>])[] = [
  ['runc', {}],
  ['runc with namespaces', { seccomp: false }],
  ['runsc', { runtime: 'runsc' }],
];

describe.each(PLACES)('under %s', (_name, place) => {
  const why = missing(place.runtime ?? 'runc');
  let world: World;
  beforeAll(async () => {
    if (why !== undefined) return;
    await ensureBuilt();
    world = await startWorld({ gateway: false });
  }, 240_000);
  afterAll(() => world?.stop());

  const inside = async (script: string) =>
    runSandbox({
      policy: POLICY,
      network: await world.network(),
      flags: ['--upstream-ca-file', '/opt/world-ca.pem', '--log-level', 'error'],
      binds: [
        { source: world.caFile, destination: '/opt/world-ca.pem' },
        { source: NODE, destination: '/opt/node' },
        { source: realpathSync(LIBATOMIC), destination: LIBATOMIC },
        { source: `${SCRIPTS}.py`, destination: '/usr/local/try.py' },
        { source: `${SCRIPTS}.mjs`, destination: '/usr/local/try.mjs' },
      ],
      command: ['/bin/sh', '-c', script],
      ...place,
    });

  test.skipIf(why !== undefined)(
    `clients trust the sandbox’s certificates, and are told what is denied${why === undefined ? '' : ` (skipped: ${why})`}`,
    async () => {
      const curl = (options: string, path: string) =>
        `curl -s -m 10 ${options} -w " %{http_code} %{http_version}\\n" https://api.allowed.test/${path} | tail -n 1 | sed 's/.*[}a-z] //'`;
      const { stdout, stderr } = await inside(
        [
          curl('--http1.1', 'allowed'),
          curl('--http2', 'allowed'),
          curl('--http1.1', 'denied'),
          'curl -s -m 10 https://api.allowed.test/denied | grep -o \\"error\\":\\"policy_denied\\"',
          'curl -s -m 10 -o /dev/null -w "%{http_code}\\n" http://api.allowed.test/denied',
          'curl -s -m 10 -o /dev/null -w "%{http_code}\\n" http://api.allowed.test/allowed',
          'python3 /usr/local/try.py',
          '/opt/node /usr/local/try.mjs',
          // Whoever trusts only the world's own roots is not fooled.
          'curl -s -m 10 --cacert /opt/world-ca.pem https://api.allowed.test/allowed; echo $?',
        ].join('; '),
      );
      expect(
        stdout
          .split('\n')
          .map((line) => line.trim())
          .filter(Boolean),
        stderr,
      ).toEqual([
        '200 1.1',
        '200 2',
        '403 1.1',
        '"error":"policy_denied"',
        '403',
        '200',
        '200',
        '403 policy_denied',
        '200',
        '403 policy_denied',
        '60',
      ]);
      const paths = world.records().filter(({ protocol }) => protocol === 'https' || protocol === 'http');
      expect(JSON.stringify(paths)).toContain('/allowed');
      expect(JSON.stringify(paths)).not.toContain('/denied');
    },
    120_000,
  );
});
