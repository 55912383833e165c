/** One idle link on a virtual clock (see link.ts); prints its figures as JSON. Its argument is the gateway's port. */
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { createMemoryBuffer } from '../../supervisor/buffer/memory-buffer.ts';
import { GatewayLink } from '../../supervisor/gateway/link.ts';
import { err, ok } from '../../supervisor/result.ts';
import { VirtualClock } from '../../test/gateway/virtual-clock.ts';

export interface LinkFigures {
  readonly beats: number;
  /** What the steps of the clock cost without a link has been taken off. */
  readonly cpuMs: number;
  readonly privateKibBefore: number;
  readonly privateKibAfter: number;
}

/** Printed on a line of its own when the hour that counts begins. */
const BEGIN = 'begin';
const HOUR_S = 3_600;
const WARM_S = 300;
/** Real time for what the sockets carry within a virtual second. */
const STEP_MS = 3;

const privateKib = (): number =>
  Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? Number.NaN);

const clock = new VirtualClock(Date.now());
let beats = 0;
const link = new GatewayLink({
  endpoints: [new URL(`http://127.0.0.1:${process.argv[2]}`)],
  tls: { ca: undefined, cert: undefined, key: undefined, serverName: undefined },
  token: { kind: 'env', reveal: () => 'bench' },
  sandboxId: 'bench',
  instanceId: 'bench',
  bootId: 'bench',
  version: 'bench',
  enforcement: () => [],
  readSecret: readFileSync,
  policyVersion: () => 1,
  clock,
  random: Math.random,
  resolve: async (host) => ok([host]),
  buffer: createMemoryBuffer({ boot: 'bench' }),
  pollIntervalMs: 10_000,
  maxConnectionAgeMs: 0,
  onConfig: async () => undefined,
  onState: () => undefined,
  onBeat: () => {
    beats += 1;
  },
  relays: { connect: async () => err('not here'), max: 8, observe: () => undefined },
  onError: () => undefined,
});

const pass = async (seconds: number): Promise<void> => {
  for (let second = 0; second < seconds; second += 1) {
    clock.run(1_000);
    await pause(STEP_MS);
  }
};

/** Milliseconds of CPU that an hour takes. */
const hour = async (): Promise<number> => {
  const before = process.cpuUsage();
  await pass(HOUR_S);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
};
const mustStand = (): void => {
  if (link.state.kind !== 'established') throw new Error(`the link is ${link.state.kind}`);
};

const emptyMs = await hour();
await link.prepare();
link.startSession();
link.startSync();
await pass(WARM_S);
mustStand();
const [privateKibBefore, beatsBefore] = [privateKib(), beats];
process.stdout.write(`${BEGIN}\n`);
const cpuMs = (await hour()) - emptyMs;
mustStand();
const figures: LinkFigures = {
  beats: beats - beatsBefore,
  cpuMs,
  privateKibBefore,
  privateKibAfter: privateKib(),
};
process.stdout.write(JSON.stringify(figures), () => process.exit(0));
