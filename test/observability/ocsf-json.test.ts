import { describe, expect, test } from 'vitest';
import type { OcsfEvent } from '../../supervisor/observability/ocsf.ts';
import { ocsfJson } from '../../supervisor/observability/ocsf-json.ts';

const PLACE = { sandboxId: 'id', sandboxName: 'box', version: '1.2', image: 'img', hostname: 'node' };
const json = (event: OcsfEvent) => ocsfJson(event, 1_234, PLACE);
const process = { name: 'curl', pid: 7 };
const network = {
  class: 'network',
  activity: 'OPEN',
  severity: 'medium',
  action: 'DENIED',
  process,
  host: 'a.test',
  port: 443,
  policy: 'api',
  engine: 'policy',
  reason: 'no rule',
} as const;

describe('a security event as JSON', () => {
  test('has every field that all classes share', () => {
    expect(json(network)).toMatchObject({
      class_uid: 4001,
      class_name: 'Network Activity',
      category_uid: 4,
      category_name: 'Network Activity',
      activity_id: 1,
      activity_name: 'Open',
      type_uid: 400101,
      type_name: 'Network Activity: Open',
      time: 1_234,
      severity_id: 3,
      severity: 'Medium',
      metadata: {
        version: '1.8.0',
        uid: 'id',
        product: { name: 'OpenShell Sandbox Supervisor', vendor_name: 'OpenShell', version: '1.2' },
        profiles: expect.any(Array),
      },
      device: { hostname: 'node', os: { name: 'Linux' } },
      container: { name: 'box', uid: 'id', image: { name: 'img' } },
    });
  });

  test('says who was denied what, by which rule and why', () => {
    expect(json(network)).toMatchObject({
      action_id: 2,
      action: 'Denied',
      disposition_id: 2,
      disposition: 'Blocked',
      status_id: 2,
      status_detail: 'no rule',
      actor: { process },
      dst_endpoint: { hostname: 'a.test', port: 443 },
      firewall_rule: { name: 'api', type: 'policy' },
    });
    expect(json({ ...network, host: '2001:db8::1' })['dst_endpoint']).toEqual({
      ip: '2001:db8::1',
      port: 443,
    });
    const bare = json({ ...network, process: undefined, policy: undefined, reason: undefined });
    for (const absent of ['actor', 'firewall_rule', 'status_detail']) expect(bare).not.toHaveProperty(absent);
  });

  test.each<[OcsfEvent, number, number, number]>([
    [network, 4001, 4, 400101],
    [
      {
        class: 'http',
        severity: 'low',
        action: 'OBSERVED',
        method: 'POST',
        process,
        url: 'a.test:80/',
        policy: 'p',
        reason: undefined,
      },
      4002,
      4,
      400206,
    ],
    [
      { class: 'ssh', activity: 'FAIL', severity: 'low', action: 'DENIED', peer: 'p', auth: undefined },
      4007,
      4,
      400704,
    ],
    [
      { class: 'process', activity: 'TERMINATE', severity: 'info', name: 'sh', pid: 1, exitCode: 3 },
      1007,
      1,
      100702,
    ],
    [{ class: 'finding', severity: 'high', title: 't', type: 'u' }, 2004, 2, 200401],
    [
      { class: 'lifecycle', activity: 'STOP', severity: 'info', app: 'a', status: 'SUCCESS' },
      6002,
      6,
      600204,
    ],
    [
      { class: 'config', state: 'LOADED', severity: 'info', message: 'm', version: 1, hash: 'h' },
      5019,
      5,
      501901,
    ],
    [
      {
        class: 'api',
        severity: 'info',
        status: 502,
        model: 'm',
        provider: 'p',
        durationMs: 3,
        operation: 'chat',
      },
      6003,
      6,
      600399,
    ],
    [{ class: 'base', severity: 'info', message: 'm' }, 0, 0, 99],
  ])('of class $class has the numbers of the contract', (event, classUid, category, type) => {
    const object = json(event);
    expect([object['class_uid'], object['category_uid'], object['type_uid']]).toEqual([
      classUid,
      category,
      type,
    ]);
    expect(JSON.parse(JSON.stringify(object))).toMatchObject({ severity_id: object['severity_id'] });
    expect(JSON.stringify(object)).not.toContain('\n');
  });
});
