import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createLogging, type LogRecord } from '../../supervisor/observability/log.ts';
import { ocsfJson } from '../../supervisor/observability/ocsf-json.ts';
import { redactText } from '../../supervisor/observability/redaction.ts';
import { Secret } from '../../supervisor/observability/secret.ts';

describe('a text of others', () => {
  test.each([
    ['https://user:hunter2@a.test/x', 'https://[redacted]@a.test/x'],
    ['GET /x?key=hunter2 failed', 'GET /x?[redacted] failed'],
    ['https://a.test/x?key=hunter2&b=c#top', 'https://a.test/x?[redacted]#top'],
    ['Authorization: Bearer hunter2', 'Authorization: [redacted]'],
    ['"authorization":"Basic aHVudGVyMg=="', '"authorization":"[redacted]"'],
    ['x-api-key=hunter2; next', 'x-api-key=[redacted]; next'],
    ['sent bearer hunter2 there', 'sent bearer [redacted] there'],
    ['Proxy-Authorization: Basic aHVudGVyMg==', 'Proxy-Authorization: [redacted]'],
  ])('loses its credentials: %s', (text, redacted) => {
    expect(redactText(text)).toBe(redacted);
  });

  test.each([
    'a.test:443 is not allowed by policy',
    'the basic approach: digest mismatch at 12:00:01',
    '/usr/bin/curl was denied https://a.test:443/path',
    'what? that.',
  ])('is left alone otherwise: %s', (text) => {
    expect(redactText(text)).toBe(text);
  });

  test.each(['a', '/', 'x-', 'https://', 'bearer ', 'authorization:', '?/'])(
    'takes no time to speak of however it is made: %j',
    (part) => {
      const started = performance.now();
      redactText(part.repeat(1 << 18));
      expect(performance.now() - started).toBeLessThan(1_000);
    },
  );
});

test('no secret of the process gets out by any way that a line or an event takes', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[A-Za-z0-9_-]{12,40}$/), (value) => {
      const secret = new Secret(value);
      const out: string[] = [];
      const pushed: LogRecord[] = [];
      const place = { sandboxId: 'i', sandboxName: 'n', version: '0', image: undefined, hostname: 'h' };
      const logging = createLogging({
        level: 'trace',
        format: 'json',
        pushLevel: 'trace',
        now: () => 0,
        push: (record) => pushed.push(record),
        onLine: (_at, text) => out.push(text),
        onEvent: (at, event) => out.push(JSON.stringify(ocsfJson(event, at, place))),
        write: (line) => out.push(line),
      });
      const log = logging.logger('x');
      log.warn(`it is ${secret}`, {
        secret,
        deep: [{ secret }],
        token: value,
        error: new Error(`${secret}`),
      });
      log.info(`asked https://u:${value}@a.test/`, { url: `http://a.test/?t=${value}` });
      log.info('sent', { header: `Authorization: Bearer ${value}` });
      logging.ocsf({
        class: 'http',
        severity: 'medium',
        action: 'DENIED',
        method: 'GET',
        process: { name: 'curl', pid: 1 },
        url: `a.test:80/x?t=${value}`,
        policy: 'p',
        reason: `Authorization: Basic ${value}`,
      });
      logging.ocsf({ class: 'base', severity: 'low', message: `https://u:${value}@a.test` });
      const told = `${out.join('\n')}${JSON.stringify(pushed)}`;
      expect(out.length).toBeGreaterThan(8);
      expect(told).not.toContain(value);
    }),
  );
});
