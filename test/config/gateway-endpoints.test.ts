import { expect, test } from 'vitest';
import { parseCommandLine } from '../../supervisor/config.ts';

const read = (endpoint: string, ...argv: readonly string[]) => {
  const parsed = parseCommandLine([...argv, '--', 'true'], {
    OPENSHELL_ENDPOINT: endpoint,
    OPENSHELL_SANDBOX_ID: 'sb',
  });
  if (!parsed.ok) return { code: parsed.error.exitCode, message: parsed.error.message };
  if (parsed.value.kind !== 'run') throw new Error(parsed.value.kind);
  const { endpoint: first, endpoints, maxConnectionAgeMs } = parsed.value.config;
  return { first: first?.href, endpoints: endpoints.map(({ href }) => href), maxConnectionAgeMs };
};

test('one endpoint is one; several stand between commas, in the variable or the flag', () => {
  expect(read('https://a:1').endpoints).toEqual(['https://a:1/']);
  expect(read('http://a, http://b:8080,')).toMatchObject({
    first: 'http://a/',
    endpoints: ['http://a/', 'http://b:8080/'],
  });
  expect(read('http://a', '--openshell-endpoint', 'http://c,http://d').endpoints).toEqual([
    'http://c/',
    'http://d/',
  ]);
});

test('each of several is checked as one would be, and schemes are not mixed: the token would leak by chance', () => {
  expect(read('http://a,nonsense')).toMatchObject({
    code: 78,
    message: expect.stringContaining('"nonsense"'),
  });
  expect(read('http://a,http://u:p@b')).toMatchObject({
    code: 78,
    message: expect.stringContaining('credentials'),
  });
  expect(read('https://a,http://b')).toMatchObject({ code: 78, message: expect.stringContaining('mix') });
});

test('a password in what is no URL is not told of', () => {
  const { code, message } = read('htp:/u:hunter2@gateway:1') as { code: number; message: string };
  expect([code, message]).toEqual([78, expect.stringContaining('"…@gateway:1"')]);
  expect(message).not.toContain('hunter2');
});

test('a connection lives an hour at most, unless the flag says otherwise; 0 is for ever', () => {
  expect(read('http://a').maxConnectionAgeMs).toBe(3_600_000);
  expect(read('http://a', '--gateway-max-age', '60').maxConnectionAgeMs).toBe(60_000);
  expect(read('http://a', '--gateway-max-age', '0').maxConnectionAgeMs).toBe(0);
});
