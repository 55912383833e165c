import * as fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { SandboxPolicy } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import type { JsonObject } from '../../supervisor/policy/document.ts';
import { describeFault } from '../../supervisor/policy/fault.ts';
import { RESTRICTIVE_DEFAULT } from '../../supervisor/policy/restrictive-default.ts';
import { jsonToStruct, structToJson } from '../../supervisor/policy/struct.ts';
import { policyFromWire, policyToWire } from '../../supervisor/policy/wire.ts';
import { parsePolicyYaml } from '../../supervisor/policy/yaml.ts';
import { policyToYaml } from '../../supervisor/policy/yaml-writer.ts';
import { EVERYTHING, endpoint } from './documents.ts';

// Thousands of cases, on a machine that may be busy.
vi.setConfig({ testTimeout: 60_000 });

const AT = 'network_policies.a.endpoints[0]';

describe('a policy on the wire', () => {
  const wire = (fields: Record<string, unknown>) =>
    policyFromWire(
      SandboxPolicy.fromPartial({
        version: 1,
        networkPolicies: { a: { endpoints: [{ host: 'a.test', port: 80, ...fields }] } },
      }),
    );

  test('means the same as in YAML', () => {
    const yaml = parsePolicyYaml(
      endpoint('{host: "*.a.example", ports: [80, 81], allowed_ips: [10.0.0.0/8]}'),
    );
    const same = wire({ host: '*.a.example', port: 80, ports: [80, 81], allowedIps: ['10.0.0.0/8'] });
    expect(same.ok && yaml.ok && same.value.networkPolicies).toEqual(yaml.ok && yaml.value.networkPolicies);
  });

  test.each([
    [{ protocol: 'quic' }, `${AT}.protocol`],
    [{ protocol: 'opaque' }, `${AT}.protocol`],
    [{ tls: 'maybe' }, `${AT}.tls`],
    [{ access: 'some' }, `${AT}.access`],
    [{ credentialSigning: 'sigv5' }, `${AT}.credential_signing`],
    [{ persistedQueries: 'perhaps' }, `${AT}.persisted_queries`],
  ])('with a word that this version does not know is refused, never weakened: %j', (fields, path) => {
    expect(wire(fields)).toMatchObject({
      ok: false,
      error: expect.arrayContaining([expect.objectContaining({ path })]),
    });
  });

  test('audits what does not enforce, whatever it says', () => {
    const read = wire({ protocol: 'REST', access: 'full', enforcement: 'whatever' });
    expect(read.ok && read.value.networkPolicies['a']?.endpoints[0]).toMatchObject({
      enforcement: 'audit',
      protocol: 'rest',
    });
  });

  test('with a configuration that is no struct is refused', () => {
    const policy = SandboxPolicy.fromPartial({
      version: 1,
      networkMiddlewares: {
        m: { middleware: 'x', config: Buffer.from([0x0a, 0xff, 0x01]), endpoints: { include: ['**'] } },
      },
    });
    expect(policyFromWire(policy)).toMatchObject({
      ok: false,
      error: [{ path: 'network_middlewares.m.config' }],
    });
  });
});

describe('a policy that is written', () => {
  const parsed = parsePolicyYaml(EVERYTHING);
  if (!parsed.ok) throw new Error(parsed.error.map(describeFault).join('\n'));
  const document = parsed.value;

  test('as YAML is read back as the same', () => {
    expect(parsePolicyYaml(policyToYaml(document))).toEqual({ ok: true, value: document });
    expect(parsePolicyYaml(policyToYaml(RESTRICTIVE_DEFAULT))).toEqual({
      ok: true,
      value: RESTRICTIVE_DEFAULT,
    });
  });

  test('to the wire is read back as the same, through its bytes', () => {
    const bytes = SandboxPolicy.encode(policyToWire(document)).finish();
    expect(policyFromWire(SandboxPolicy.decode(bytes))).toEqual({ ok: true, value: document });
  });

  test('says nothing that is not needed', () => {
    expect(policyToYaml({ ...RESTRICTIVE_DEFAULT, filesystem: undefined })).toBe(
      'version: 1\nlandlock:\n  compatibility: best_effort\nnetwork_policies: {}\nnetwork_middlewares: {}\n',
    );
  });

  test('keeps any JSON of a middleware', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
        const config = JSON.parse(JSON.stringify(value)) as JsonObject;
        const read = structToJson(jsonToStruct(config));
        expect(read.ok && JSON.parse(JSON.stringify(read.value))).toEqual(config);
      }),
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => void structToJson(bytes)));
  });
});
