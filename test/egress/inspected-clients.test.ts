/** What people run, under policy: each trusts the sandbox’s certificates, is allowed once and denied once, and is told of it. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { NODE } from '../../scripts/lib/paths.ts';
import { ensureRootfs } from '../../scripts/lib/rootfs.ts';
import { runSandbox, type SandboxOptions } from '../../scripts/lib/sandbox.ts';
import { ADDRESS, startWorld, type World } from '../../scripts/lib/world.ts';
import { describeUnless } from '../runtime/describe-unless.ts';
import { missing } from '../runtime/requirements.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { makePackages } from './clients/packages.ts';
import { makePrograms, type Programs } from './clients/programs.ts';

const PLACES: readonly (readonly [string, Partial<SandboxOptions>])[] = [
  ['the socket fence (runc)', {}],
  ['the namespace fence (runc without seccomp)', { seccomp: false }],
  ['the namespace fence (gVisor)', { runtime: 'runsc' }],
];
const HOSTS = ['api.test', 'chat.test', 'git.test', 'grpc.test', 'npm.test', 'pip.test'] as const;
const PORT = '4443';

const { directory, file } = temporaryDirectory('clients-test-');
const endpoint = (host: string, protocol: string, ...rules: readonly string[]): string => `
  ${host.split('.')[0]}:
    endpoints:
      - host: ${host}
        port: ${PORT}
        protocol: ${protocol}
        enforcement: enforce
        rules:${rules.map((rule) => `\n          - allow: { ${rule} }`).join('')}
    binaries: [{ path: "/**" }]`;
const POLICY = file(
  'policy.yaml',
  `version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /bin, /sbin, /lib, /lib64, /etc, /opt, /proc, /dev/urandom]
  read_write: [/tmp, /dev/null]
network_policies:${[
    endpoint('api.test', 'rest', 'method: GET, path: /allowed'),
    endpoint(
      'git.test',
      'rest',
      'method: GET, path: /demo.git/info/refs, query: { service: git-upload-pack }',
      'method: POST, path: /demo.git/git-upload-pack',
    ),
    endpoint(
      'pip.test',
      'rest',
      'method: GET, path: /simple/demo/',
      'method: GET, path: "/files/demo-1.0-*"',
    ),
    endpoint('npm.test', 'rest', 'method: GET, path: /demo', 'method: GET, path: "/demo/-/*"'),
    endpoint('grpc.test', 'rest', 'method: POST, path: /test.Echo/Say'),
    endpoint('chat.test', 'websocket', 'method: GET, path: /chat', 'method: WEBSOCKET_TEXT, path: /chat'),
  ].join('')}
`,
);
const RESOLV_CONF = file('resolv.conf', 'nameserver 127.0.0.1\noptions use-vc\n');

/** Clients with a proxy of their own variables, and those that know of none. */
const CLIENTS = `
cd /tmp
one() { echo "$1=$(shift; timeout 30 "$@" 2>&1 | tr -d '\\r' | tr '\\n' ' ' | tail -c 600)"; }
one clone sh -c 'git clone -q https://git.test:${PORT}/demo.git clone && cat clone/README'
one push git -C clone push -q origin main:other
one openssl sh -c 'printf "GET /allowed HTTP/1.0\\r\\nHost: api.test:${PORT}\\r\\n\\r\\n" | openssl s_client -quiet -verify_return_error -connect api.test:${PORT} 2>/dev/null | tail -n 1'
one openssl_denied sh -c 'printf "GET /denied HTTP/1.0\\r\\nHost: api.test:${PORT}\\r\\n\\r\\n" | openssl s_client -quiet -verify_return_error -proxy 127.0.0.1:3128 -connect api.test:${PORT} 2>/dev/null'
one requests python3 /opt/clients/get.py
one node /opt/node /opt/clients/fetch.mjs
one grpc python3 /opt/clients/call.py
one websockets python3 /opt/clients/chat.py
pip="pip install -q --no-cache-dir --disable-pip-version-check --retries 0 --no-deps --index-url https://pip.test:${PORT}/simple --target /tmp/pip"
one pip sh -c "$pip demo==1.0 && PYTHONPATH=/tmp/pip python3 -c 'import demo; print(demo.answer)'"
one pip_denied sh -c "$pip --upgrade demo==2.0; echo code \\$?"
npm="/opt/node /opt/npm/bin/npm-cli.js --no-audit --no-fund --no-update-notifier --fetch-retries=0 --cache=/tmp/npm-cache --registry=https://npm.test:${PORT}/"
if [ -d /opt/npm ]; then
  one npm sh -c "mkdir npm && cd npm && $npm install --silent demo && /opt/node -p 'require(\\"demo\\")'"
  one npm_denied sh -c "$npm view secret; echo code \\$?"
fi
[ -d /opt/java ] && one java /opt/java/bin/java -cp /opt/clients Fetch
[ -x /opt/clients/fetch ] && one go /opt/clients/fetch
true
`;

const why = missing('runc', 'runsc', 'git');
let world: World;
let programs: Programs;
beforeAll(async () => {
  if (why !== undefined) return;
  await ensureBuilt();
  await ensureRootfs('clients');
  world = await startWorld({
    gateway: false,
    names: Object.fromEntries(HOSTS.map((host) => [host, [ADDRESS.third]])),
  });
  await makePackages(directory);
  programs = await makePrograms(join(directory, 'programs'));
  const { key, certificate } = world.identity;
  const standIns = join(import.meta.dirname, 'clients/https-stand-ins.ts');
  const servers = world.spawn([NODE, standIns, ADDRESS.third, PORT, key, certificate, directory]);
  servers.stderr?.pipe(process.stderr);
  await new Promise((done) => servers.stdout?.once('data', done));
}, 300_000);
afterAll(() => world?.stop());

for (const [name, place] of PLACES) {
  describeUnless(why, name, () => {
    let facts: Readonly<Record<string, string>>;
    beforeAll(async () => {
      const network = await world.network();
      await network.exec(['sysctl', '-qw', 'net.ipv4.ip_unprivileged_port_start=0']);
      const { stdout, stderr, code } = await runSandbox({
        policy: POLICY,
        network: { ...network, resolvConf: RESOLV_CONF },
        rootfs: 'clients',
        binds: [{ source: world.caFile, destination: '/opt/ca.pem' }, ...programs.binds],
        flags: ['--upstream-dns', ADDRESS.dns, '--upstream-ca-file', '/opt/ca.pem', '--log-level', 'error'],
        command: ['/bin/sh', '-c', CLIENTS],
        timeout: 240_000,
        ...place,
      });
      if (code !== 0) throw new Error(`ended with ${code}: ${stdout} ${stderr}`);
      facts = Object.fromEntries(
        stdout
          .split('\n')
          .filter((line) => /^[a-z_]+=/.test(line))
          .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1).trim()]),
      );
    }, 300_000);

    test('git clones, and may not push', () => {
      expect(facts['clone']).toBe('cloned over https');
      expect(facts['push']).toMatch(/unable to access 'https:\/\/git\.test:4443\/demo\.git\/': .*error: 403/);
    });
    test('openssl s_client trusts the certificate, with a proxy and without', () => {
      expect(facts['openssl']).toContain('{"answered":"/allowed"');
      expect(facts['openssl_denied']).toMatch(/HTTP\/1\.1 403 Forbidden .*"error":"policy_denied"/);
    });
    test('Python’s requests', () => expect(facts['requests']).toBe('200 /allowed 403 policy_denied'));
    test('Node’s fetch', () => expect(facts['node']).toBe('200 /allowed 403 policy_denied'));
    test('gRPC is told of a denied method in its own terms', () =>
      expect(facts['grpc']).toMatch(/said PERMISSION_DENIED .*403/));
    test('WebSocket', () =>
      expect(facts['websockets']).toBe(
        'echo hello InvalidStatusCode server rejected WebSocket connection: HTTP 403',
      ));
    test('pip installs what it may', () => {
      expect(facts['pip']).toBe('imported from pip');
      expect(facts['pip_denied']).toMatch(/ERROR: HTTP error 403 while getting https:\/\/pip\.test.*code 1$/);
    });
    test('npm installs what it may', ({ skip }) => {
      skip(programs.absent.has('npm'), programs.absent.get('npm'));
      expect(facts['npm']).toBe('required from npm');
      expect(facts['npm_denied']).toMatch(
        /E403.*403 Forbidden - GET https:\/\/npm\.test:4443\/secret.*code 1$/,
      );
    });
    test('Java', ({ skip }) => {
      skip(programs.absent.has('java'), programs.absent.get('java'));
      expect(facts['java']).toMatch(/200 \{"answered":"\/allowed" 403 \{"error":"policy_denied"$/);
    });
    test('Go', ({ skip }) => {
      skip(programs.absent.has('go'), programs.absent.get('go'));
      expect(facts['go']).toMatch(/^200 \{"answered":"\/allowed".* 403 \{"error":"policy_denied"/);
    });
  });
}
