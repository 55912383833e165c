import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { WorldRecord } from '../world/record.ts';
import type { ControlReply, ControlRequest, WorldSettings } from '../world/settings.ts';
import { makeCertificate } from './certificate.ts';
import { undoAtExit } from './cleanup.ts';
import { attempt, type CommandOptions, type CommandResult, run } from './command.ts';
import { collectNamespaces, connect, makeNamespace, namespacePath, removeNamespace } from './network.ts';
import { isOrphan, ownedName } from './owner.ts';
import { NODE, ROOT } from './paths.ts';
import type { SandboxNetwork } from './sandbox.ts';

/** The addresses that stand for the parts of the internet. They exist only inside the namespaces. */
export const ADDRESS = {
  gateway: '10.77.0.1',
  internal: '10.77.0.10',
  dns: '10.77.0.53',
  allowed: '198.51.100.10',
  other: '198.51.100.20',
  third: '203.0.113.10',
  /** No reserved range, so that the SSRF rules see a public address. */
  public: '8.8.100.10',
  metadata: '169.254.169.254',
} as const;

/** What the world's DNS answers; every other name is NXDOMAIN. */
export const NAMES: Readonly<Record<string, readonly string[]>> = {
  'gateway.test': [ADDRESS.gateway],
  'api.allowed.test': [ADDRESS.allowed],
  'other.test': [ADDRESS.other],
  'third.test': [ADDRESS.third],
  'internal.wild.test': [ADDRESS.internal],
  'public.wild.test': [ADDRESS.public],
  'metadata.wild.test': [ADDRESS.metadata],
};

const PREFIX = 'oshw';
const PARENT = '/tmp';
const GATEWAY_PORT = 8080;
const GATEWAY_CONTROL_PORT = 8081;
const START_MS = 15_000;
/** The last 64 KiB of what the gateway printed are kept. */
const PRINTED_LIMIT = 64 << 10;

export interface WorldOptions {
  /** More names, or other addresses for ours. The addresses must be among those of `ADDRESS`. */
  readonly names?: Readonly<Record<string, readonly string[]>>;
  /** Whether a development gateway runs; true by default. */
  readonly gateway?: boolean;
  /** The URL of a gateway outside, which takes the development gateway's place. */
  readonly outsideGateway?: string;
  /** More arguments for the gateway's `serve`. */
  readonly gatewayArgs?: readonly string[];
}

/** A place in the world from where one sandbox sees it. */
export interface Network extends SandboxNetwork {
  /** The name for ip-netns(8). */
  readonly namespace: string;
  /** The address that the world sees. */
  readonly address: string;
  /** Runs a command in it, as root and outside any sandbox: for comparisons. */
  readonly exec: (command: readonly string[], options?: CommandOptions) => Promise<CommandResult>;
  readonly remove: () => Promise<void>;
}

export interface World {
  readonly namespace: string;
  /** The certificate authority of the HTTPS hosts. */
  readonly caFile: string;
  /** The key and the certificate of the HTTPS hosts, for more of them: one for all names; and who signed it. */
  readonly identity: { readonly key: string; readonly certificate: string; readonly authorityKey: string };
  /** The gateway's URL as a sandbox sees it. */
  readonly gatewayUrl: string;
  /** What has arrived so far, the oldest first. */
  readonly records: () => readonly WorldRecord[];
  /** Makes a place for one more sandbox. gVisor takes the addresses away for good: use each place once. */
  readonly network: () => Promise<Network>;
  /** Calls the gateway's control address; `body` is sent as JSON. Resolves with the parsed answer. */
  readonly control: (method: string, path: string, body?: unknown) => Promise<unknown>;
  /** What the gateway printed, its last 64 KiB. */
  readonly gatewayOutput: () => string;
  /** Ends the gateway's process as a crash would, and waits for its end. */
  readonly stopGateway: () => Promise<void>;
  /** Starts the gateway again, with empty state. */
  readonly startGateway: () => Promise<void>;
  /** Runs a command in the world's own namespace, as root. */
  readonly exec: (command: readonly string[], options?: CommandOptions) => Promise<CommandResult>;
  /** Starts a process in the world's own namespace; it dies with this process at the latest. */
  readonly spawn: (command: readonly string[]) => ChildProcess;
  readonly stop: () => Promise<void>;
}

/** Arguments of nsenter(1): in a namespace, killed when this process dies. */
const inside = (namespace: string, command: readonly string[]): string[] => [
  `--net=${namespacePath(namespace)}`,
  '--',
  'setpriv',
  '--pdeathsig',
  'KILL',
  ...command,
];

const execIn =
  (namespace: string) =>
  ([command = 'true', ...args]: readonly string[], options?: CommandOptions): Promise<CommandResult> =>
    attempt('nsenter', [`--net=${namespacePath(namespace)}`, '--', command, ...args], options);

const addAddresses = async (namespace: string): Promise<void> => {
  for (const address of Object.values(ADDRESS)) {
    await run('ip', ['-n', namespace, 'address', 'add', `${address}/32`, 'dev', 'lo']);
  }
};

const endOf = (child: ChildProcess): Promise<void> =>
  new Promise((done) => {
    if (child.exitCode !== null || child.signalCode !== null) done();
    else child.once('exit', () => done());
  });

const kill = async (child: ChildProcess | undefined): Promise<void> => {
  child?.kill('SIGKILL');
  if (child?.pid !== undefined) await endOf(child);
};

interface Server {
  readonly child: ChildProcess;
  readonly ask: (url: string, method: string, body?: string) => Promise<ControlReply>;
}

/** Joins a connection from inside the world to a gateway outside, whose names this machine resolves. */
const relayTo = (outside: URL, inner: Socket): void => {
  const port = outside.port === '' ? (outside.protocol === 'https:' ? 443 : 80) : Number(outside.port);
  const outer = createConnection({ host: outside.hostname.replace(/^\[|\]$/g, ''), port });
  for (const [one, other] of [
    [inner, outer],
    [outer, inner],
  ] as const) {
    one.on('error', () => other.destroy());
    one.on('close', () => other.destroy());
    one.pipe(other);
  }
};

/** Starts the world's hosts, and resolves when all of them listen. */
const startServer = async (namespace: string, settings: WorldSettings, outside?: URL): Promise<Server> => {
  const command = [NODE, join(ROOT, 'scripts/world/server.ts'), JSON.stringify(settings)];
  const child = spawn('nsenter', inside(namespace, command), {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const waiting = new Map<number, (reply: ControlReply) => void>();
  let last = 0;
  const ready = new Promise<void>((done, fail) => {
    child.on('message', (message: 'ready' | 'relay' | ControlReply, handle) => {
      if (message === 'ready') done();
      else if (message === 'relay') {
        if (outside !== undefined && handle instanceof Socket) relayTo(outside, handle);
      } else waiting.get(message.id)?.(message);
    });
    child.once('error', fail);
    child.once('exit', (code) => {
      fail(new Error(`the world's server ended with ${code}`));
      for (const [id, reply] of waiting) reply({ id, status: 0, body: 'the world has ended' });
    });
  });
  await ready;
  return {
    child,
    ask: (url, method, body) =>
      new Promise((done) => {
        last += 1;
        const id = last;
        const request: ControlRequest = { id, url, method, ...(body === undefined ? {} : { body }) };
        waiting.set(id, (reply) => {
          waiting.delete(id);
          done(reply);
        });
        child.send(request);
      }),
  };
};

const parsed = (method: string, path: string, reply: ControlReply): unknown => {
  if (reply.status < 200 || reply.status > 299) {
    throw new Error(`${method} ${path} on the gateway: ${reply.status || 'no answer'} ${reply.body}`);
  }
  try {
    return JSON.parse(reply.body);
  } catch {
    return reply.body;
  }
};

const readRecords = (file: string): readonly WorldRecord[] =>
  existsSync(file)
    ? readFileSync(file, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as WorldRecord)
    : [];

/** Makes the gateway of a world, stopped at first. */
const gatewayProcess = (namespace: string, server: Server, args: readonly string[]) => {
  const control = `http://${ADDRESS.gateway}:${GATEWAY_CONTROL_PORT}`;
  const state: { child: ChildProcess | undefined; printed: string } = { child: undefined, printed: '' };
  const start = async (): Promise<void> => {
    const place = ['--host', ADDRESS.gateway, '--port', `${GATEWAY_PORT}`];
    const controlPlace = ['--control-host', ADDRESS.gateway, '--control-port', `${GATEWAY_CONTROL_PORT}`];
    const command = [
      NODE,
      join(ROOT, 'test/dev-gateway/main.ts'),
      'serve',
      ...place,
      ...controlPlace,
      ...args,
    ];
    const child = spawn('nsenter', inside(namespace, command), { stdio: ['ignore', 'pipe', 'pipe'] });
    state.child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        state.printed = (state.printed + text).slice(-PRINTED_LIMIT);
      });
    }
    const deadline = Date.now() + START_MS;
    // Any answer will do, even "not found": then it listens.
    while ((await server.ask(`${control}/`, 'GET')).status === 0) {
      if (child.exitCode !== null || Date.now() > deadline) {
        throw new Error(`the gateway does not start:\n${state.printed}`);
      }
      await pause(50);
    }
  };
  return {
    url: `http://${ADDRESS.gateway}:${GATEWAY_PORT}`,
    control: async (method: string, path: string, body?: unknown): Promise<unknown> => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      return parsed(method, path, await server.ask(control + path, method, text));
    },
    printed: () => state.printed,
    start,
    stop: async (): Promise<void> => {
      await kill(state.child);
      state.child = undefined;
    },
  };
};

/** Removes the files of worlds whose makers have died. */
const collectDirectories = (): void => {
  for (const name of readdirSync(PARENT).filter((entry) => isOrphan(PREFIX, entry))) {
    rmSync(join(PARENT, name), { recursive: true, force: true });
  }
};

/** How many places a world can have, which is what its address plan holds. */
const NETWORK_LIMIT = 200;

/** Joins place number `index` to the world: 172.31.<index>.2 in it, the world at .1. */
const joinWorld = async (world: string, index: number, resolvConf: string): Promise<Network> => {
  if (index > NETWORK_LIMIT) throw new Error(`a world has at most ${NETWORK_LIMIT} networks; start another`);
  const namespace = await makeNamespace();
  const address = `172.31.${index}.2`;
  const far = `172.31.${index}.1`;
  await connect(
    { namespace, device: 'eth0', address: `${address}/24` },
    { namespace: world, device: `place${index}`, address: `${far}/24` },
  );
  await run('ip', ['-n', namespace, 'route', 'add', 'default', 'via', far]);
  // The metadata address is link-local: without a route of its own no default route may lead there.
  await run('ip', ['-n', namespace, 'route', 'add', ADDRESS.metadata, 'via', far]);
  const remove = undoAtExit(() => removeNamespace(namespace));
  return { namespace, path: namespacePath(namespace), resolvConf, address, exec: execIn(namespace), remove };
};

const settingsIn = async (directory: string, names: WorldSettings['names']): Promise<WorldSettings> => {
  const { key, certificate } = await makeCertificate(directory, Object.keys(names));
  return {
    records: join(directory, 'records.jsonl'),
    key,
    certificate,
    names,
    dnsAddress: ADDRESS.dns,
    httpPorts: [80, 3000],
    httpsPorts: [443, 8443],
    tcpPorts: [22, 25, 5432, 6379, 9000, 9999],
    udpAddresses: [
      ADDRESS.allowed,
      ADDRESS.other,
      ADDRESS.internal,
      ADDRESS.public,
      ADDRESS.metadata,
      ADDRESS.dns,
    ],
    udpPorts: [53, 123, 443, 9999],
  };
};

/**
 * Starts a world: a network namespace with hosts that speak HTTP, HTTPS and DNS, and a development gateway.
 * Needs root. Everything is gone after `stop`, after an interrupt, and at the latest when the next world starts.
 */
export const startWorld = async (options: WorldOptions = {}): Promise<World> => {
  await collectNamespaces();
  collectDirectories();
  const directory = join(PARENT, ownedName(PREFIX));
  mkdirSync(directory, { mode: 0o755 });
  const namespace = await makeNamespace();
  const networks: Network[] = [];
  const children: ChildProcess[] = [];
  const stop = undoAtExit(async () => {
    for (const child of children) await kill(child);
    for (const network of networks) await network.remove();
    await removeNamespace(namespace);
    rmSync(directory, { recursive: true, force: true });
  });
  try {
    await addAddresses(namespace);
    const settings = await settingsIn(directory, { ...NAMES, ...options.names });
    const resolvConf = join(directory, 'resolv.conf');
    writeFileSync(resolvConf, `nameserver ${ADDRESS.dns}\noptions timeout:2 attempts:2\n`, { mode: 0o644 });
    const outside = options.outsideGateway === undefined ? undefined : new URL(options.outsideGateway);
    const relay = { host: ADDRESS.gateway, port: GATEWAY_PORT };
    const server = await startServer(
      namespace,
      outside === undefined ? settings : { ...settings, relay },
      outside,
    );
    children.push(server.child);
    const gateway = gatewayProcess(namespace, server, options.gatewayArgs ?? []);
    if (outside === undefined && (options.gateway ?? true)) await gateway.start();
    let joined = 0;
    return {
      namespace,
      caFile: join(directory, 'ca.pem'),
      identity: {
        key: settings.key,
        certificate: settings.certificate,
        authorityKey: join(directory, 'ca.key'),
      },
      gatewayUrl: outside?.protocol === 'https:' ? gateway.url.replace('http:', 'https:') : gateway.url,
      records: () => readRecords(settings.records),
      network: async () => {
        joined += 1;
        const network = await joinWorld(namespace, joined, resolvConf);
        networks.push(network);
        return network;
      },
      control: gateway.control,
      gatewayOutput: gateway.printed,
      startGateway: gateway.start,
      stopGateway: gateway.stop,
      exec: execIn(namespace),
      spawn: (command) => {
        const child = spawn('nsenter', inside(namespace, command), { stdio: ['ignore', 'pipe', 'pipe'] });
        children.push(child);
        return child;
      },
      stop: async () => {
        await gateway.stop();
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
};
