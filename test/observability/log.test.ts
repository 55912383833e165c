import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createLogging, type LogRecord } from '../../supervisor/observability/log.ts';
import { type OcsfEvent, shorthand } from '../../supervisor/observability/ocsf.ts';
import { Secret } from '../../supervisor/observability/secret.ts';

function logging(format: 'json' | 'pretty' = 'json', level: 'warn' | 'trace' = 'trace') {
  const lines: string[] = [];
  const pushed: LogRecord[] = [];
  const made = createLogging({
    level,
    format,
    pushLevel: 'info',
    now: () => 0,
    push: (record) => pushed.push(record),
    write: (line) => lines.push(line),
  });
  return { made, lines, pushed };
}

describe('a log line', () => {
  test('is JSON with time, level and target, and goes to the gateway at its own level', () => {
    const { made, lines, pushed } = logging('json', 'warn');
    made.logger('egress').info('told', { port: 1, none: undefined });
    made.logger('egress').warn('loud', { host: 'a' });
    made.logger('egress').debug('quiet');
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      { level: 'warn', time: '1970-01-01T00:00:00.000Z', target: 'egress', host: 'a', msg: 'loud' },
    ]);
    expect(pushed).toEqual([
      { at: 0, level: 'INFO', target: 'egress', message: 'told', fields: { port: '1' } },
      { at: 0, level: 'WARN', target: 'egress', message: 'loud', fields: { host: 'a' } },
    ]);
  });

  test('is one readable line when asked for, whatever is in it', () => {
    const { made, lines } = logging('pretty');
    made.logger('x').error('two\nlines', { a: 'b\r\nc' });
    expect(lines).toEqual(['00:00:00.000 ERROR x: two lines a=b c\n']);
  });

  test('never shows a secret, by type or by name', () => {
    const secret = new Secret('hunter2');
    const { made, lines, pushed } = logging();
    made.logger('x').warn(`it is ${secret}`, {
      value: secret,
      token: 'hunter2',
      nested: { secret },
      Authorization: 'Bearer hunter2',
    });
    expect(
      [
        lines.join(),
        JSON.stringify(pushed),
        inspect(secret, { showHidden: true }),
        JSON.stringify({ secret }),
      ].join(),
    ).not.toContain('hunter2');
    expect(secret.reveal()).toBe('hunter2');
  });
});

describe('the shorthand of a security event', () => {
  const denied: OcsfEvent = {
    class: 'network',
    activity: 'OPEN',
    severity: 'medium',
    action: 'DENIED',
    process: { name: 'curl', pid: 7 },
    host: 'a.test',
    port: 443,
    policy: undefined,
    engine: 'policy',
    reason: 'no rule',
  };

  test.each<[OcsfEvent, string]>([
    [denied, 'NET:OPEN [MED] DENIED curl(7) -> a.test:443 [policy:- engine:policy] [reason:no rule]'],
    [
      { ...denied, action: 'ALLOWED', severity: 'info', policy: 'api' },
      'NET:OPEN [INFO] ALLOWED curl(7) -> a.test:443 [policy:api engine:policy]',
    ],
    [
      { class: 'process', activity: 'TERMINATE', severity: 'info', name: 'sh', pid: 3, exitCode: 7 },
      'PROC:TERMINATE [INFO] sh(3) [exit:7]',
    ],
    [
      { class: 'lifecycle', activity: 'START', severity: 'info', app: 'supervisor', status: 'SUCCESS' },
      'LIFECYCLE:START [INFO] supervisor success',
    ],
    [
      {
        class: 'config',
        state: 'LOADED',
        severity: 'info',
        message: 'policy loaded',
        version: 3,
        hash: 'ab',
      },
      'CONFIG:LOADED [INFO] policy loaded [version:3 hash:ab]',
    ],
    [
      { class: 'finding', severity: 'high', title: 'files', type: 'files-unenforced' },
      'FINDING:DETECTED [HIGH] "files" [type:files-unenforced]',
    ],
    [
      { ...denied, process: undefined },
      'NET:OPEN [MED] DENIED a.test:443 [policy:- engine:policy] [reason:no rule]',
    ],
    [
      {
        class: 'http',
        severity: 'medium',
        action: 'DENIED',
        method: 'GET',
        process: { name: 'x] -> y', pid: 1 },
        url: 'a.test:80/p',
        policy: 'api',
        reason: 'no',
      },
      'HTTP:GET [MED] DENIED x\\]\\u{20}->\\u{20}y(1) -> GET a.test:80/p [policy:api engine:l7] [reason:no]',
    ],
    [
      { class: 'ssh', activity: 'OPEN', severity: 'info', action: 'ALLOWED', peer: 'relay', auth: 'key' },
      'SSH:OPEN [INFO] ALLOWED relay [auth:key]',
    ],
    [
      {
        class: 'api',
        severity: 'info',
        status: 200,
        model: 'm',
        provider: 'p',
        durationMs: 1.6,
        operation: 'chat',
      },
      'API:INFERENCE [INFO] Success m via p 2ms [chat]',
    ],
    [{ class: 'base', severity: 'low', message: 'two\nlines' }, 'EVENT [LOW] two lines'],
  ])('%j', (event, line) => {
    expect(shorthand(event)).toBe(line);
  });

  test('is one line of bounded length whatever a workload calls itself or a policy says', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 2000 }), (reason) => {
        const line = shorthand({
          ...denied,
          reason,
          policy: 'a]b c\\',
          process: { name: reason.slice(0, 8), pid: 1 },
        });
        expect(line).not.toMatch(/[\r\n]/);
        expect(Buffer.byteLength(line)).toBeLessThan(400);
        expect(line).toContain('[policy:a\\]b\\u{20}c\\\\ engine');
      }),
    );
  });
});
