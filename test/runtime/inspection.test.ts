/** Requests under policy as people's own clients make them: certificates trusted, allowed once, denied once. */
import { realpathSync } from 'node:fs';
import { expect, test } from 'vitest';
import { NODE } from '../../scripts/lib/paths.ts';
import { runSandbox, type SandboxOptions } from '../../scripts/lib/sandbox.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { describeUnless } from './describe-unless.ts';
import { missing } from './requirements.ts';
import { sandboxPolicy } from './sandbox-policy.ts';
import { sharedWorld } from './world-fixture.ts';

const { file } = temporaryDirectory('inspection-test-');
const POLICY = file(
  'policy.yaml',
  sandboxPolicy(
    `network_policies:
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
    { readOnly: ['/opt/node', '/opt/world-ca.pem'] },
  ),
);
const PYTHON = file(
  'try.py',
  `import json, urllib.request, urllib.error
for path in ('allowed', 'denied'):
    try:
        print(urllib.request.urlopen('https://api.allowed.test/' + path, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(error.code, json.load(error)['error'])
`,
);
const MODULE = file(
  'try.mjs',
  `for (const path of ['allowed', 'denied']) {
  const response = await fetch('https://api.allowed.test/' + path);
  console.log(response.status, response.ok ? '' : (await response.json()).error);
}
`,
);

/** Node's, which a minimal Debian lacks. */
const LIBATOMIC = '/usr/lib/x86_64-linux-gnu/libatomic.so.1';
const PLACES: readonly (readonly [string, Partial<SandboxOptions>])[] = [
  ['runc', {}],
  ['runc with namespaces', { seccomp: false }],
  ['runsc', { runtime: 'runsc' }],
];

for (const [name, place] of PLACES) {
  const why = missing(place.runtime ?? 'runc');
  describeUnless(why, `under ${name}`, () => {
    const world = sharedWorld({ gateway: false });

    const inside = async (script: string) =>
      runSandbox({
        policy: POLICY,
        network: await world().network(),
        flags: ['--upstream-ca-file', '/opt/world-ca.pem', '--log-level', 'error'],
        binds: [
          { source: world().caFile, destination: '/opt/world-ca.pem' },
          { source: NODE, destination: '/opt/node' },
          { source: realpathSync(LIBATOMIC), destination: LIBATOMIC },
          { source: PYTHON, destination: '/usr/local/try.py' },
          { source: MODULE, destination: '/usr/local/try.mjs' },
        ],
        command: ['/bin/sh', '-c', script],
        ...place,
      });

    test('clients trust the sandbox’s certificates, and are told what is denied', async () => {
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
      const paths = world()
        .records()
        .filter(({ protocol }) => protocol === 'https' || protocol === 'http');
      expect(JSON.stringify(paths)).toContain('/allowed');
      expect(JSON.stringify(paths)).not.toContain('/denied');
    }, 120_000);
  });
}
