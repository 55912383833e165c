import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { probeGateway } from '../../supervisor/gateway/reachability.ts';
import { secureContext } from '../../supervisor/gateway/tls.ts';
import { ok } from '../../supervisor/result.ts';
import { type DevGateway, startDevGateway } from '../dev-gateway/server.ts';
import { issue, makeAuthority } from './certificates.ts';

const directory = mkdtempSync(join(tmpdir(), 'tls-test-'));
const at = (name: string) => join(directory, name);
const resolve = async () => ok(['127.0.0.1']);

let gateway: DevGateway;
beforeAll(async () => {
  for (const authority of ['ca', 'stranger']) makeAuthority(directory, authority);
  issue(directory, 'ca', 'server', 'gateway.test');
  issue(directory, 'ca', 'client', 'sandbox');
  issue(directory, 'stranger', 'impostor', 'sandbox');
  gateway = await startDevGateway({
    tls: {
      ca: readFileSync(at('ca.pem')),
      cert: readFileSync(at('server.pem')),
      key: readFileSync(at('server.key')),
    },
  });
});
afterAll(async () => {
  await gateway.stop();
  rmSync(directory, { recursive: true });
});

const files = (client: string, ca = 'ca', serverName?: string) => ({
  ca: at(`${ca}.pem`),
  cert: at(`${client}.pem`),
  key: at(`${client}.key`),
  serverName,
});
const url = (host: string) => new URL(`https://${host}:${gateway.port}`);

describe('mutual TLS', () => {
  test('reaches a gateway whose certificate the given authority signed', async () => {
    expect(await probeGateway(url('gateway.test'), files('client'), resolve)).toMatchObject({
      reachable: true,
    });
  });

  test('refuses a gateway that another authority signed: no system roots, only the given one', async () => {
    const answer = await probeGateway(url('gateway.test'), files('client', 'stranger'), resolve);
    expect(answer.reachable).toBe(false);
  });

  test('is refused by the gateway with a client certificate of a stranger', async () => {
    const answer = await probeGateway(url('gateway.test'), files('impostor'), resolve);
    expect(answer.reachable).toBe(false);
  });

  test('verifies the name in the URL, unless the server name overrides it', async () => {
    expect((await probeGateway(url('other.test'), files('client'), resolve)).reachable).toBe(false);
    const overridden = await probeGateway(url('other.test'), files('client', 'ca', 'gateway.test'), resolve);
    expect(overridden.reachable).toBe(true);
  });

  test('names the variable of a file that is missing or not set', () => {
    const unset = secureContext({ ...files('client'), key: undefined });
    expect(unset).toMatchObject({ ok: false, error: { kind: 'credentials', exitCode: 77 } });
    expect(!unset.ok && unset.error.message).toContain('OPENSHELL_TLS_KEY');
    const missing = secureContext({ ...files('client'), ca: at('nowhere.pem') });
    expect(!missing.ok && missing.error.message).toContain('OPENSHELL_TLS_CA');
    const mixed = secureContext({ ...files('client'), key: at('impostor.key') });
    expect(!mixed.ok && mixed.error.message).toContain('do not fit together');
  });
});
