/** Files that are replaced on disk while the supervisor runs: certificates and tokens (contract.md, 14: a gap). */
import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { GatewayLink } from '../../supervisor/gateway/link.ts';
import { RotationWatch } from '../../supervisor/gateway/rotation.ts';
import { ok } from '../../supervisor/result.ts';
import { type DevGateway, startDevGateway } from '../dev-gateway/server.ts';
import { issue, makeAuthority } from './certificates.ts';
import { linkTo, until } from './link-fixture.ts';
import { VirtualClock } from './virtual-clock.ts';

const directory = mkdtempSync(join(tmpdir(), 'rotation-'));
const at = (name: string) => join(directory, name);
let gateway: DevGateway;
const links: GatewayLink[] = [];

beforeAll(async () => {
  for (const authority of ['ca', 'stranger']) makeAuthority(directory, authority);
  issue(directory, 'ca', 'server', 'gateway.test');
  issue(directory, 'ca', 'first', 'sandbox');
  issue(directory, 'ca', 'second', 'sandbox');
  issue(directory, 'stranger', 'impostor', 'sandbox');
  gateway = await startDevGateway({
    heartbeatSeconds: 300,
    redialWindowSeconds: 5,
    tls: {
      ca: readFileSync(at('ca.pem')),
      cert: readFileSync(at('server.pem')),
      key: readFileSync(at('server.key')),
    },
  });
});
afterEach(async () => {
  for (const link of links.splice(0)) await link.stop(0);
});
afterAll(async () => {
  await gateway.stop();
  rmSync(directory, { recursive: true });
});

const install = (from: string) => {
  for (const kind of ['pem', 'key']) {
    copyFileSync(at(`${from}.${kind}`), at(`next.${kind}`));
    renameSync(at(`next.${kind}`), at(`client.${kind}`));
  }
};
const begin = async () => {
  const fixture = linkTo(gateway.port, () => gateway.mintToken('sb-1').token, {
    endpoints: [new URL(`https://gateway.test:${gateway.port}`)],
    tls: { ca: at('ca.pem'), cert: at('client.pem'), key: at('client.key'), serverName: undefined },
    resolve: async () => ok(['127.0.0.1']),
  });
  links.push(fixture.link);
  await fixture.link.prepare();
  fixture.link.startSession();
  return fixture;
};

test('a certificate that the gateway does not take is taken anew from disk by a later dial', async () => {
  install('impostor');
  const { states, established } = await begin();
  await until(() => states.some(({ kind }) => kind === 'offline'));
  install('first');
  await established();
});

test('a certificate that is replaced while the session stands moves it to a new connection, unbroken', async () => {
  install('first');
  const { established, kinds, states } = await begin();
  await established();
  install('second');
  await established(2);
  expect(kinds()).toEqual(['connecting', 'established', 'draining', 'established']);
  expect(states[2]).toMatchObject({ reason: 'the TLS files were replaced' });
});

test('files that do not fit together yet, because one of two was replaced, leave the session alone', async () => {
  install('first');
  const { established, kinds } = await begin();
  await established();
  copyFileSync(at('second.key'), at('client.key'));
  await until(() => kinds().includes('draining'));
  copyFileSync(at('second.pem'), at('client.pem'));
  await established(2);
  expect(kinds()).not.toContain('offline');
});

test('a watch tells a swapped link, as the kubelet makes it, once, and neither a touch nor a missing file', () => {
  const clock = new VirtualClock();
  let changes = 0;
  const write = (name: string, text: string) => writeFileSync(at(name), text);
  const point = (name: string) => {
    symlinkSync(name, at('..next'));
    renameSync(at('..next'), at('..data'));
  };
  write('one', 'a');
  write('two', 'b');
  point('one');
  const watch = new RotationWatch({
    clock,
    random: () => 0.5,
    readSecret: readFileSync,
    paths: [at('..data')],
    onChange: () => {
      changes += 1;
    },
  });
  watch.start();
  write('one', 'a');
  clock.run(120_000);
  expect(changes).toBe(0);
  rmSync(at('..data'));
  clock.run(60_000);
  expect(changes).toBe(0);
  point('two');
  clock.run(300_000);
  expect(changes).toBe(1);
  watch.stop();
  point('one');
  clock.run(300_000);
  expect(changes).toBe(1);
});

test('a token file that the driver replaces is read within a minute and a half, without a refusal first', async () => {
  const file = at('token');
  const first = gateway.mintToken('sb-1').token;
  writeFileSync(file, first);
  install('first');
  const fixture = linkTo(gateway.port, () => '', {
    endpoints: [new URL(`https://gateway.test:${gateway.port}`)],
    tls: { ca: at('ca.pem'), cert: at('client.pem'), key: at('client.key'), serverName: undefined },
    resolve: async () => ok(['127.0.0.1']),
    token: { kind: 'file', path: file },
  });
  links.push(fixture.link);
  await fixture.link.prepare();
  fixture.link.startSession();
  await fixture.established();
  // What cannot be used tells that it was read: a report is refused with it.
  writeFileSync(file, 'h.e30.s');
  await expect.poll(() => fixture.link.reportExit(0, 5_000), { timeout: 15_000, interval: 100 }).toBe(false);
  expect(fixture.kinds()).toEqual(['connecting', 'established']);
});
