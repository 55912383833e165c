import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { NODE } from '../../scripts/lib/paths.ts';
import { ensureRootfs } from '../../scripts/lib/rootfs.ts';
import { runSandbox, type SandboxOptions } from '../../scripts/lib/sandbox.ts';
import { ADDRESS, startWorld, type World } from '../../scripts/lib/world.ts';
import { describeUnless } from '../runtime/describe-unless.ts';
import { missing } from '../runtime/requirements.ts';
import { sandboxPolicy } from '../runtime/sandbox-policy.ts';
import { temporaryDirectory } from '../temporary-directory.ts';

const PLACES = [
  { name: 'the socket fence (runc)', options: { runtime: 'runc' }, socket: true },
  {
    name: 'the namespace fence (runc without seccomp)',
    options: { runtime: 'runc', seccomp: false },
    socket: false,
  },
  { name: 'the namespace fence (gVisor)', options: { runtime: 'runsc' }, socket: false },
] as const;

const { directory, file } = temporaryDirectory('transparent-test-');
const POLICY = file(
  'policy.yaml',
  sandboxPolicy(
    `landlock: { compatibility: best_effort }
network_policies:
  web:
    endpoints: [{ host: api.allowed.test, ports: [80, 443] }, { host: "*.wild.test", port: 80 }]
    binaries: [{ path: /usr/bin/curl }, { path: /opt/musl }, { path: /bin/busybox }]
  rest:
    endpoints: [{ host: rest.test, ports: [80, 443, 5432], protocol: rest, enforcement: enforce, access: read-only }]
    binaries: [{ path: /usr/bin/curl }, { path: /usr/bin/nc.openbsd }]
  git:
    endpoints: [{ host: git.test, port: 9418 }]
    binaries: [{ path: /usr/bin/git }]
  databases:
    endpoints: [{ host: db.test, ports: [5433, 6380] }, { host: api.allowed.test, port: 5432 }]
    binaries: [{ path: "/usr/lib/postgresql/**" }, { path: /usr/bin/redis-cli }, { path: /usr/bin/nc.openbsd }]
`,
    { readOnly: ['/opt'] },
  ),
);
/** What the pod's dnsConfig makes of it; the suffix is one that no rule names. */
const RESOLV_CONF = file('resolv.conf', 'nameserver 127.0.0.1\nsearch svc.cluster.test\noptions use-vc\n');

const why = missing('runc', 'runsc', 'git');
const musl = missing('musl-gcc') === undefined;
let world: World;
beforeAll(async () => {
  if (why !== undefined) return;
  world = await startWorld({
    gateway: false,
    names: {
      'db.test': [ADDRESS.third],
      'git.test': [ADDRESS.third],
      'rest.test': [ADDRESS.third],
      'denied.test': [ADDRESS.other],
    },
  });
  await ensureRootfs('clients');
  const git = (...args: readonly string[]) => execFileSync('git', args, { stdio: 'pipe' });
  const work = join(directory, 'work');
  git('init', '-q', '-b', 'main', work);
  writeFileSync(join(work, 'README'), 'cloned over git\n');
  git('-C', work, 'add', 'README');
  git('-C', work, '-c', 'user.name=t', '-c', 'user.email=t@t', 'commit', '-q', '-m', 'one');
  git('clone', '-q', '--bare', work, join(directory, 'repository.git'));
  world.spawn([
    'git',
    'daemon',
    '--reuseaddr',
    '--export-all',
    `--base-path=${directory}`,
    `--listen=${ADDRESS.third}`,
  ]);
  const servers = world.spawn([NODE, join(import.meta.dirname, 'stand-in-servers.ts'), ADDRESS.third]);
  await new Promise((done) => servers.stdout?.once('data', done));
  if (musl)
    execFileSync('musl-gcc', [
      '-static',
      '-O1',
      '-o',
      join(directory, 'musl'),
      join(import.meta.dirname, 'musl-client.c'),
    ]);
}, 300_000);
afterAll(() => world?.stop());

/** Runs a script where names work without a proxy, as the shipped manifests have it. */
async function run(script: string, options: Partial<SandboxOptions>, lowPorts = true) {
  const network = await world.network();
  if (lowPorts) await network.exec(['sysctl', '-qw', 'net.ipv4.ip_unprivileged_port_start=0']);
  const binds = [{ source: world.caFile, destination: '/opt/ca.pem' }];
  if (musl) binds.push({ source: join(directory, 'musl'), destination: '/opt/musl' });
  return runSandbox({
    policy: POLICY,
    network: { ...network, resolvConf: RESOLV_CONF },
    rootfs: 'clients',
    binds,
    flags: ['--upstream-dns', ADDRESS.dns, '--log-level', 'info', '--upstream-ca-file', '/opt/ca.pem'],
    command: ['/bin/sh', '-c', script],
    ...options,
  });
}

/** Each line of a script's output by what stands before its first "=". */
const factsOf = (text: string): Readonly<Record<string, string>> =>
  Object.fromEntries(
    text
      .split('\n')
      .filter((line) => /^[a-z_]+=/.test(line))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );

/** nc waits before it ends its side: in gVisor it loses one answer in forty that comes together with the end, through us or not. */
const CLIENTS = `
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY grpc_proxy
one() { echo "$1=$(shift; timeout 20 "$@" 2>&1 | tr '\\n' ' ' | tail -c 300)"; }
one getent getent hosts api.allowed.test
one reverse getent hosts 127.64.0.1
one unknown sh -c 'getent hosts denied.test; echo $?'
one glob sh -c 'getent hosts some.wild.test | tr -s " "'
one curl curl -sS http://api.allowed.test/plain
one https curl -sS --cacert /opt/ca.pem https://api.allowed.test/tls
one curl_denied curl -sS http://denied.test/
one curl_port curl -sS http://api.allowed.test:8081/
one curl_ssrf curl -sS http://metadata.wild.test/
one curl_binary sh -c 'cp /usr/bin/curl /tmp/other; /tmp/other -sS http://api.allowed.test/'
one rest curl -sS https://rest.test/inspected
one rest_plain curl -sS http://rest.test/inspected-too
one rest_denied curl -sS -X DELETE https://rest.test/inspected
one rest_opaque sh -c 'echo hello | nc -N -w 5 rest.test 5432; echo end'
one clone sh -c 'git clone -q git://git.test/repository.git /tmp/clone && cat /tmp/clone/README'
one clone_denied git ls-remote git://denied.test/repository.git
one psql psql -h db.test -p 5433 -U me -d data -Atc 'select answer'
one psql_denied sh -c 'cp -r /usr/lib/postgresql/15/bin/psql /tmp/psql; /tmp/psql -h db.test -p 5433 -U me -c "select 1"'
one redis redis-cli -h db.test -p 6380 PING
one redis_denied redis-cli -h denied.test PING
one nc sh -c '(echo hello; sleep 0.5) | nc -N -w 5 api.allowed.test 5432'
one socks curl -sS --proxy socks5h://127.0.0.1:1080 http://api.allowed.test/socks
one socks_denied curl -sS --proxy socks5h://me:secret@127.0.0.1:1080 http://denied.test/
one udp_dns python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.sendto(bytes.fromhex("000701000001000000000000") + b"\\x02db\\x04test\\x00" + bytes.fromhex("00010001"), ("127.0.0.1", 53)); print(s.recv(512)[-4:].hex())'
[ -x /opt/musl ] && one musl /opt/musl api.allowed.test denied.test
`;

for (const place of PLACES) {
  describeUnless(why, place.name, () => {
    test('clients that know of no proxy reach what the policy names, and hear of what it does not', async () => {
      const { stdout, stderr, code } = await run(CLIENTS, place.options);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      const facts = factsOf(stdout);
      expect(facts).toMatchObject({
        getent: expect.stringMatching(/^127\.64\.0\.\d+ +api\.allowed\.test/),
        reverse: expect.stringMatching(/api\.allowed\.test/),
        unknown: '2 ',
        glob: expect.stringMatching(/^127\.64\.0\.\d+ some\.wild\.test/),
        curl: expect.stringContaining('"path":"/plain"'),
        https: expect.stringContaining('"path":"/tls"'),
        curl_denied: expect.stringContaining('Could not resolve host: denied.test'),
        curl_port: expect.stringMatching(/Failed to connect to api\.allowed\.test port 8081/),
        curl_ssrf: expect.stringContaining('"error":"ssrf_denied"'),
        curl_binary: expect.stringMatching(/"error":"policy_denied".*not the binary \/tmp\/other/),
        rest: expect.stringContaining('"path":"/inspected"'),
        rest_plain: expect.stringContaining('"path":"/inspected-too"'),
        rest_denied: expect.stringContaining('"type":"rest_allow","layer":"l7","method":"DELETE"'),
        rest_opaque: 'end ',
        clone: 'cloned over git ',
        clone_denied: expect.stringMatching(/unable to look up denied\.test/i),
        psql: 'forty-two ',
        psql_denied: expect.stringMatching(
          /Connection reset by peer|server closed the connection unexpectedly/,
        ),
        redis: 'PONG ',
        redis_denied: expect.stringMatching(/Could not connect to Redis at denied\.test/),
        nc: 'hello ',
        socks: expect.stringContaining('"path":"/socks"'),
        socks_denied: expect.stringMatching(/SOCKS5 connection to denied\.test\. \(2\)/),
        udp_dns: place.socket ? expect.stringContaining('PermissionError') : expect.stringMatching(/^7f4000/),
      });
      if (musl && place.socket) expect(facts['musl']).toContain('musl api.allowed.test: System error');
      else if (musl)
        expect(facts['musl']).toMatch(
          /musl api\.allowed\.test: HTTP\/1\.\d 200.*musl denied\.test: Name does not resolve/,
        );
      // And the operator hears of it: the caller and the name of a connection, the name that was asked for.
      expect(stdout).toMatch(
        /NET:OPEN \[INFO\] ALLOWED redis-cli\(\d+\) -> db\.test:6380 \[policy:databases/,
      );
      expect(stdout).toMatch(/NET:OPEN \[MED\] DENIED other\(\d+\) -> api\.allowed\.test:80 \[policy:web/);
      expect(stdout).toMatch(/NET:REFUSE \[LOW\] DENIED (- -> )?denied\.test:53 /);
      expect(stdout.match(/ denied\.test(\.svc\.cluster\.test)?:53 /g)).toHaveLength(1);
    }, 240_000);
  });
}

describeUnless(why, 'busybox', () => {
  test('looks names up over UDP in the namespace fence', async () => {
    const { stdout } = await run('nslookup api.allowed.test; nslookup denied.test; echo end', {
      rootfs: 'busybox',
      binds: [],
      flags: ['--upstream-dns', ADDRESS.dns],
      seccomp: false,
    });
    expect(stdout).toMatch(/Name:\s+api\.allowed\.test\nAddress: 127\.64\.0\.1\n/);
    expect(stdout).toMatch(/can't find denied\.test: NXDOMAIN[\s\S]*end/);
  }, 120_000);
});

describeUnless(why, 'a pod whose low ports are closed', () => {
  test('is told which sysctl is missing, once, and still has the proxies', async () => {
    const script = 'getent hosts db.test || echo none; curl -sS http://api.allowed.test/proxied';
    const { stdout } = await run(script, { flags: ['--upstream-dns', ADDRESS.dns] }, false);
    expect(stdout).toContain('none\n');
    expect(stdout).toContain('"path":"/proxied"');
    expect(stdout.match(/net\.ipv4\.ip_unprivileged_port_start/g)).toHaveLength(1);
  }, 120_000);
});
