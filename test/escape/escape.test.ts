import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import { type RunningSandbox, type SandboxResult, startSandbox } from '../../scripts/lib/sandbox.ts';
import { ADDRESS, type Network } from '../../scripts/lib/world.ts';
import { describeUnless } from '../runtime/describe-unless.ts';
import { commandsOf, isSeenFromOutside, PLACES, type Place } from '../runtime/places.ts';
import { missing } from '../runtime/requirements.ts';
import { CURL_TO_API, sandboxPolicy } from '../runtime/sandbox-policy.ts';
import { sharedWorld } from '../runtime/world-fixture.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { attemptNames, type Claim, compileEscape, readClaims } from './program.ts';

const { directory, file } = temporaryDirectory('escape-test-');
const tools = join(directory, 'tools');
mkdirSync(tools);
compileEscape(join(tools, 'escape'));
const names = attemptNames(join(tools, 'escape'));
const SECRET = 'canary-7f3a91c2';
const TOKEN = 'token-b81d5e60';
/** The attempts; then what processes of others show of themselves, for the secrets that must not be in it. */
const RUN = `/opt/escape/escape "$@"; for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do tr '\\0' '\\n' < $f; done 2>/dev/null; echo looked`;

const POLICY = file(
  'policy.yaml',
  sandboxPolicy(`landlock: { compatibility: best_effort }\n${CURL_TO_API}`, {
    readOnly: ['/sys', '/opt/escape'],
  }),
);
const world = sharedWorld();

/** What the supervisor's process is allowed to be, as seen from outside. */
interface Standing {
  readonly pid: number;
  readonly limits: string;
  readonly priority: string;
  readonly affinity: string;
  readonly oomScore: string;
  readonly name: string;
}

interface Observed {
  readonly claims: ReadonlyMap<string, Claim>;
  readonly result: SandboxResult;
  /** Packets that left the sandbox's place, as the sniffer prints them. */
  readonly packets: readonly string[];
  readonly abstract: string;
  readonly before: Standing;
  readonly after: Standing;
  readonly canary: { readonly text: string | undefined; readonly directory: readonly string[] };
}

const children = (pid: number): readonly number[] => {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ').map(Number);
};

/** The processes of gVisor and of a virtual machine are none of this machine's. */
const NOT_SEEN: Standing = { pid: 0, limits: '', priority: '', affinity: '', oomScore: '', name: '' };

async function standingOf(sandbox: RunningSandbox, place: Place): Promise<Standing> {
  if (!isSeenFromOutside(place)) return NOT_SEEN;
  const init = (await sandbox.pid()) ?? 0;
  const pid = children(init)[0] ?? init;
  const read = (name: string) => readFileSync(`/proc/${pid}/${name}`, 'utf8');
  const status = read('status');
  const stat = read('stat');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return {
    pid,
    limits: read('limits'),
    priority: fields.slice(15, 17).join(' '),
    affinity: /Cpus_allowed_list:.*/.exec(status)?.[0] ?? '',
    oomScore: read('oom_score_adj'),
    name: /Name:.*/.exec(status)?.[0] ?? '',
  };
}

/** A program that looks on from outside, and prints what it sees, a line each. */
interface Observer {
  readonly lines: () => readonly string[];
  /** Lets it tell what has arrived, and end by itself. */
  readonly finish: () => Promise<readonly string[]>;
  readonly kill: () => void;
}

/** Resolves when it is looking on: its first line is "ready". */
async function observer(child: ChildProcess): Promise<Observer> {
  let text = '';
  let complaint = '';
  const ended = once(child, 'close');
  child.stderr?.setEncoding('utf8').on('data', (piece: string) => {
    complaint += piece;
  });
  const ready = new Promise<void>((done) => {
    child.stdout?.setEncoding('utf8').on('data', (piece: string) => {
      text += piece;
      if (text.startsWith('ready\n')) done();
    });
  });
  const failed = () =>
    new Error(`an observer ended with ${child.exitCode ?? child.signalCode}: ${complaint}`);
  const lines = () => text.split('\n').slice(1, -1);
  await Promise.race([
    ready,
    ended.then(() => {
      throw failed();
    }),
  ]);
  return {
    lines,
    async finish() {
      child.kill('SIGTERM');
      await ended;
      if (child.exitCode !== 0) throw failed();
      return lines();
    },
    kill: () => child.kill('SIGKILL'),
  };
}

/** Starts something of ours inside a place, as another container of the same pod would be. */
const beside = (network: Network, command: readonly string[]): ChildProcess =>
  spawn('nsenter', [`--net=${network.path}`, '--', 'setpriv', '--pdeathsig', 'KILL', ...command], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });

async function observe(place: Place & { readonly bare?: boolean }): Promise<Observed> {
  const network = await world().network();
  const home = mkdtempSync(join(directory, 'place-'));
  chmodSync(home, 0o777);
  const canary = join(home, 'canary');
  writeFileSync(canary, SECRET);
  // Nothing but the policy keeps the workload from it.
  chmodSync(canary, 0o666);
  chownSync(canary, 1000, 1000);
  const token = join(home, 'token');
  writeFileSync(token, SECRET, { mode: 0o444 });
  const key = join(home, 'key');
  writeFileSync(key, SECRET, { mode: 0o444 });
  const sniffer = await observer(
    world().spawn(['python3', join(import.meta.dirname, 'sniffer.py'), network.address]),
  );
  const name = `canary-${process.pid}-${network.address}`;
  const listener = await observer(
    beside(network, ['python3', join(import.meta.dirname, 'abstract-listener.py'), name]),
  );
  const targets = [
    `other=${ADDRESS.other}`,
    `metadata=${ADDRESS.metadata}`,
    `gateway=${ADDRESS.gateway}`,
    `internal=${ADDRESS.internal}`,
    `dns=${ADDRESS.dns}`,
    `fence=${place.fence}`,
    `abstract=${name}`,
    'token=/run/secrets/openshell/token',
    'canary=/srv/place/canary',
    `secret=${SECRET}`,
  ];
  try {
    const sandbox = await startSandbox({
      policy: POLICY,
      network,
      flags: ['--health-check', '--log-level', 'error'],
      // The shell waits to be told, so that the supervisor can be looked at before the first attempt.
      command: ['/bin/sh', '-c', `echo up; read go; ${RUN}; read end`, 'sh', ...targets],
      stdin: 'pipe',
      timeout: 280_000,
      env: {
        OPENSHELL_K8S_SA_TOKEN_FILE: '/run/secrets/openshell/token',
        OPENSHELL_TLS_KEY: '/etc/openshell-tls/client/tls.key',
        OPENSHELL_SANDBOX_TOKEN: TOKEN,
      },
      binds: [
        { source: tools, destination: '/opt/escape' },
        { source: home, destination: '/srv/place', writable: true },
        { source: token, destination: '/run/secrets/openshell/token' },
        { source: key, destination: '/etc/openshell-tls/client/tls.key' },
      ],
      ...place.options,
      ...(place.bare === true
        ? { entrypoint: ['/bin/sh', '-c', `echo up; read go; ${RUN}; read end`, 'sh', ...targets] }
        : {}),
    });
    const said = async (text: string): Promise<void> => {
      for (let tries = 0; tries < 5400; tries++) {
        if (sandbox.printed().stdout.includes(text)) return;
        if (sandbox.child.exitCode !== null || sandbox.child.signalCode !== null) break;
        await pause(50);
      }
      const { stdout, stderr } = sandbox.printed();
      throw new Error(`the sandbox never said "${text}": ${stdout.slice(-500)} ${stderr.slice(-500)}`);
    };
    await said('up');
    const before = await standingOf(sandbox, place);
    sandbox.child.stdin?.write('go\n');
    await said(place.bare === true ? '\nenvironment\t' : '\nlooked\n');
    const after = await standingOf(sandbox, place);
    sandbox.child.stdin?.write('end\n');
    // Without a supervisor the attempts may well have stopped the container's own first process.
    if (place.bare === true) await sandbox.stop();
    const result = await sandbox.ended;
    const packets = await sniffer.finish();
    // One that missed packets proves nothing.
    expect(packets.at(-1)).toBe('end 0');
    const text = existsSync(canary) ? readFileSync(canary, 'utf8') : undefined;
    return {
      claims: readClaims(result.stdout),
      result,
      packets: packets.slice(0, -1),
      abstract: listener.lines().join(),
      before,
      after,
      canary: { text, directory: readdirSync(home).sort() },
    };
  } finally {
    sniffer.kill();
    listener.kill();
  }
}

/**
 * What a place is known not to hold, each with the statement's own word for it. Only gVisor as Debian 12 has
 * it: without Landlock and mounts its files are not confined, and its token is not covered.
 */
const KNOWN_OPEN: Readonly<Record<string, readonly RegExp[]>> = {
  gVisor: [
    /^read-(token|canary|policy-file|tls-key|run-openshell)$/,
    /canary/,
    /^write-outside-/,
    /^o-tmpfile-/,
    // Debian's gVisor emulates them, and nothing can be done with them without a capability.
    /^device-[45]$/,
    /^mknod-block$/,
    // The statement calls the supervisor's process partly protected; the secrets' own tests are below.
    /^(init|supervisor)-(environ|fdinfo|descriptors|maps|auxv|namespace)$/,
    /^(supervisor|thread)-oom-score$/,
  ],
};

/** Without a supervisor the same attempts get through, or they would prove nothing. */
const OPEN_WITHOUT = [
  ...['tcp-other-host', 'tcp-metadata-address', 'tcp-gateway', 'udp-other-host', 'udp-dns-server'],
  ...[
    'socket-family-10',
    'netlink-generic',
    'abstract-unix-socket',
    'read-token',
    'read-canary',
    'write-canary',
  ],
  ...[
    'truncate-canary',
    'hard-link-canary',
    'memfd',
    'init-signal',
    'init-kill',
    'init-prlimit',
    'init-nice',
  ],
  ...['init-sigio-setown', 'namespace-user', 'seccomp-filter', 'everybody-nice', 'keyctl', 'environment'],
];

describeUnless(missing(), 'out of a container without a supervisor', () => {
  test('the same attempts succeed', async () => {
    const { result, packets } = await observe({
      name: 'none',
      fence: 'socket',
      mounts: false,
      pids: false,
      bare: true,
      options: { runtime: 'runc', seccomp: false },
    });
    const claims = readClaims(result.stdout);
    expect(OPEN_WITHOUT.filter((name) => claims.get(name)?.outcome !== 'escaped')).toEqual([]);
    expect(packets.filter((packet) => packet.startsWith('ipv4 17')).length).toBeGreaterThan(0);
  }, 300_000);
});

for (const place of PLACES) {
  const why = missing(...commandsOf(place), 'gcc', 'python3');
  describeUnless(why, `out of ${place.name}`, () => {
    let seen: Observed;
    beforeAll(async () => {
      seen = await observe(place);
    }, 300_000);

    test.for(names)('%s', (name, { skip }) => {
      const claim = seen.claims.get(name);
      expect(claim, `the program says nothing of ${name}:\n${seen.result.stderr}`).toBeDefined();
      if (claim?.outcome === 'impossible') return skip(claim.detail);
      const open = KNOWN_OPEN[place.name]?.some((pattern) => pattern.test(name)) === true;
      if (open && claim?.outcome === 'escaped') return skip(`known and stated: ${claim.detail}`);
      expect(claim).toMatchObject({ outcome: 'refused' });
    });

    test('no environment and no command line tells the token', () => {
      expect(seen.result.stdout).toContain('PATH=');
      expect(seen.result.stdout).not.toContain(TOKEN);
    });

    test('no packet left but the supervisor’s own', () => {
      // UDP and TCP to the name server, when a name of the policy was asked for.
      const own = new RegExp(`^ipv4 (6|17) ${ADDRESS.dns.replaceAll('.', '\\.')} 53$`);
      expect(seen.packets.filter((packet) => !own.test(packet))).toEqual([]);
    });

    test('nobody outside was reached', () => {
      expect(seen.abstract).toBe('');
      expect(
        world()
          .records()
          .filter((record) => /door|smuggled|pktinfo|scope/.test(JSON.stringify(record))),
      ).toEqual([]);
    });

    test('the supervisor stands as it stood, and the sandbox ended as its main process did', () => {
      expect(seen.after).toEqual(seen.before);
      expect(seen.result.code).toBe(0);
    });

    test.skipIf(place.name === 'gVisor')('the canary is whole and nothing lies beside it', () => {
      expect(seen.canary).toEqual({ text: SECRET, directory: ['canary', 'key', 'token'] });
    });
  });
}
