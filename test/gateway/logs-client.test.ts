import { expect, test } from 'vitest';
import { durationOf, lineOf } from '../dev-gateway/client/logs.ts';

test.each([
  ['30s', 30_000],
  ['5m', 300_000],
  ['2h', 7_200_000],
  ['1d', 86_400_000],
])('logs since %s are those of so many milliseconds', (text, duration) => {
  expect(durationOf(text)).toBe(duration);
});

test.each(['', '5', 'm', '-5m', '5 m', '1.5h', '9999999s'])('logs since %j are refused', (text) => {
  expect(() => durationOf(text)).toThrow(/--since must be a number with s, m, h or d/);
});

test('a line says when, how grave, where from, what and with which fields', () => {
  const line = {
    sandboxId: 'dev',
    timestampMs: 1_700_000_000_000n,
    level: 'WARN',
    target: 'egress',
    message: 'denied',
    source: 'sandbox',
    fields: { host: 'example.com', 'openshell.boot': 'b', 'openshell.sequence': '7' },
  };
  expect(lineOf(line)).toBe('2023-11-14T22:13:20.000Z WARN  egress denied host=example.com');
  const hostile = { ...line, message: 'a\u001b[2Jb\rc\u202ed', fields: { '\u0007': '\n' } };
  expect(lineOf(hostile)).toBe(
    '2023-11-14T22:13:20.000Z WARN  egress a\\u001b[2Jb\\u000dc\\u202ed \\u0007=\\u000a',
  );
});
