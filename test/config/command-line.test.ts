import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { closest, editDistance } from '../../supervisor/cli/suggestion.ts';
import { parseCommandLine } from '../../supervisor/config.ts';

type Env = Readonly<Record<string, string>>;
const run = (argv: readonly string[], env: Env = {}) => {
  const parsed = parseCommandLine(argv, env);
  if (!parsed.ok) throw parsed.error;
  if (parsed.value.kind !== 'run') throw new Error(parsed.value.kind);
  return parsed.value.config;
};
const fault = (argv: readonly string[], env: Env = {}) => {
  const parsed = parseCommandLine(argv, env);
  return parsed.ok ? undefined : { code: parsed.error.exitCode, message: parsed.error.message };
};
const GATEWAY = { OPENSHELL_ENDPOINT: 'http://gateway:8080', OPENSHELL_SANDBOX_ID: 'sb' };

describe('the command line', () => {
  test('leaves the command’s own flags to the command', () => {
    expect(run(['--workdir', '/w', 'ls', '--log-level=x', '-la']).main.argv).toEqual([
      'ls',
      '--log-level=x',
      '-la',
    ]);
    expect(run(['-w', '/w', '--', '--odd']).main.argv).toEqual(['--odd']);
    expect(run(['-w', '/w', '--', 'doctor']).main.argv).toEqual(['doctor']);
  });

  test.each([
    [['--worksdir', '/w'], /^unknown flag --worksdir; did you mean --workdir\?$/],
    [['--zzzzzzzzzzzz'], /^unknown flag --zzzzzzzzzzzz$/],
    [['--workdir', 'relative'], /^--workdir must be an absolute path/],
    [['--timeout', '-1'], /--timeout/],
    [['--health-port', '70000'], /^--health-port must be a number from 1 to 65535, is "70000"$/],
    [['--mode', 'network'], /^--mode network does not exist here/],
    [['--policy-rules', '/x.rego'], /^--policy-rules needs --policy-data$/],
    [['--upstream-proxy', 'https://p:1'], /^--upstream-proxy must be http:\/\/host:port/],
    [['--upstream-proxy', 'http://p'], /^--upstream-proxy must be http:\/\/host:port/],
    [['--upstream-proxy', 'http://u:p@p:1'], /^--upstream-proxy must be http:\/\/host:port/],
    [['--upstream-no-proxy', 'a'], /need --upstream-proxy$/],
    [['--upstream-proxy-connect-by-hostname'], /need --upstream-proxy$/],
    [
      ['--upstream-proxy', 'http://p:1', '--upstream-proxy-auth-file', '/x'],
      /accept that with --upstream-proxy-auth-allow-insecure$/,
    ],
    [['--log-format', 'xml'], /^--log-format must be json or pretty/],
    [['doctor', 'now'], /^doctor takes no argument now$/],
  ])('refuses %j with code 64 and one sentence', (argv, message) => {
    expect(fault(argv)).toMatchObject({ code: 64, message: expect.stringMatching(message) });
  });

  test('knows every flag that the drivers pass', () => {
    for (const name of [
      'timeout',
      'sandbox-id',
      'sandbox',
      'ssh-socket-path',
      'proxy-uid',
      'proxy-gid',
      'sidecar-state-dir',
      'sidecar-tls-dir',
    ])
      expect(fault([`--${name}`, '1', '--', 'true'])).toBeUndefined();
    for (const name of ['interactive', 'health-check'])
      expect(fault([`--${name}`, '--', 'true'])).toBeUndefined();
    const proxy = ['--upstream-proxy', 'http://proxy.corp.test:3128'];
    expect(fault([...proxy, '--upstream-no-proxy', 'a,b', '--', 'true'])).toBeUndefined();
    const more = ['--upstream-proxy-auth-file', '/x', '--upstream-proxy-auth-allow-insecure'];
    expect(fault([...proxy, ...more, '--upstream-proxy-connect-by-hostname', '--', 'true'])).toBeUndefined();
  });

  test('suggests the nearest word, by Levenshtein’s distance', () => {
    expect(closest('helth-port', ['health-port', 'proxy-port'])).toBe('health-port');
    fc.assert(
      fc.property(fc.string(), fc.string(), (a, b) => {
        expect(editDistance(a, b)).toBe(editDistance(b, a));
        expect(editDistance(a, b) === 0).toBe(a === b);
        expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length));
      }),
    );
  });
});

describe('the environment', () => {
  test('gives way to flags', () => {
    expect(run(['--log-level', 'debug'], { OPENSHELL_LOG_LEVEL: 'error' }).logLevel).toBe('debug');
    expect(run([], { OPENSHELL_LOG_LEVEL: 'error' }).logLevel).toBe('error');
    expect(run([]).logLevel).toBe('warn');
  });

  test.each([
    [{ OPENSHELL_ENDPOINT: 'gateway:1' }, /not an http or https URL; set OPENSHELL_ENDPOINT/],
    [{ OPENSHELL_ENDPOINT: 'ftp://gateway' }, /not an http or https URL/],
    [{ OPENSHELL_ENDPOINT: 'http://u:p@gateway' }, /must not hold credentials/],
    [{ OPENSHELL_ENDPOINT: 'http://gateway' }, /set OPENSHELL_SANDBOX_ID/],
    [{ OPENSHELL_SANDBOX_UID: '1000' }, /must both be set, or neither/],
    [
      { OPENSHELL_SANDBOX_UID: '0', OPENSHELL_SANDBOX_GID: '0' },
      /OPENSHELL_SANDBOX_UID must be a number from 1/,
    ],
    [
      { OPENSHELL_POLICY_POLL_INTERVAL_SECS: 'often' },
      /OPENSHELL_POLICY_POLL_INTERVAL_SECS must be a number from 1 to 3600/,
    ],
    [{ OPENSHELL_USER_ENVIRONMENT: '[1]' }, /not a JSON object/],
    [{ OPENSHELL_USER_ENVIRONMENT: '{"A=B":"x"}' }, /variable that cannot be set: "A=B"/],
    [{ OPENSHELL_LOG_PUSH_LEVEL: 'loud' }, /OPENSHELL_LOG_PUSH_LEVEL must be one of/],
  ])('is refused with code 78: %j', (env, message) => {
    expect(fault([], env as Env)).toMatchObject({ code: 78, message: expect.stringMatching(message) });
  });

  test('lets an image move the state directory only within the usual places', () => {
    expect(run(['--state-dir', '/data/state'], GATEWAY).stateDir).toBe('/data/state');
    expect(run([], { ...GATEWAY, OPENSHELL_STATE_DIR: '/var/lib/openshell/a' }).stateDir).toBe(
      '/var/lib/openshell/a',
    );
    for (const place of ['/sandbox', '/var/lib/openshell/../../../sandbox', '/run/openshellx', 'relative'])
      expect(run([], { ...GATEWAY, OPENSHELL_STATE_DIR: place })).toMatchObject({
        stateDir: undefined,
        warnings: [expect.stringContaining('OPENSHELL_STATE_DIR is ignored')],
      });
    expect(fault(['--state-dir', '/a/../b'], GATEWAY)?.message).toMatch(
      /^--state-dir must be an absolute path/,
    );
  });

  test('does not let an image replace the gateway’s policy, while a flag may', () => {
    const hostile = { ...GATEWAY, OPENSHELL_POLICY_DATA: '/evil.yaml' };
    expect(run([], hostile)).toMatchObject({
      policySource: { kind: 'gateway' },
      warnings: [expect.stringContaining('OPENSHELL_POLICY_DATA is ignored')],
    });
    expect(run(['--policy', '/mine.yaml'], hostile).policySource).toEqual({
      kind: 'file',
      path: '/mine.yaml',
    });
    expect(run([], { OPENSHELL_POLICY_DATA: '/local.yaml' }).policySource).toEqual({
      kind: 'file',
      path: '/local.yaml',
    });
    expect(run([]).policySource).toEqual({ kind: 'default' });
  });

  test('names the token in the contract’s order, and never shows its value', () => {
    const all = {
      OPENSHELL_SANDBOX_TOKEN: 'very-secret',
      OPENSHELL_SANDBOX_TOKEN_FILE: '/f',
      OPENSHELL_K8S_SA_TOKEN_FILE: '/k',
    };
    const config = run([], all);
    expect(config.token.kind === 'env' && config.token.value.reveal()).toBe('very-secret');
    expect(JSON.stringify(config)).not.toContain('very-secret');
    expect(`${config.token.kind === 'env' && config.token.value}`).toBe('[redacted]');
    expect(run([], { ...all, OPENSHELL_SANDBOX_TOKEN: '' }).token).toEqual({ kind: 'file', path: '/f' });
    expect(run([], { OPENSHELL_K8S_SA_TOKEN_FILE: '/k' }).token).toEqual({ kind: 'kubernetes', path: '/k' });
  });
});

describe('the main process', () => {
  const spec = (value: unknown) => ({ OPENSHELL_MAIN_PROCESS_SPEC: JSON.stringify(value) });
  test('is the trailing words, then the spec in both encodings, then a login shell', () => {
    const value = { version: 1, command: ['a', 'b c'], tty: true };
    expect(run(['x'], spec(value)).main).toEqual({ argv: ['x'], tty: false });
    expect(run([], spec(value)).main).toEqual({ argv: ['a', 'b c'], tty: true });
    const encoded = `base64url:${Buffer.from(JSON.stringify(value)).toString('base64url')}`;
    expect(run([], { OPENSHELL_MAIN_PROCESS_SPEC: encoded }).main).toEqual({ argv: ['a', 'b c'], tty: true });
    expect(run([]).main).toEqual({ argv: ['/bin/bash', '-l'], tty: true });
  });

  test.each([
    [spec({ version: 2, command: ['a'] }), /has version 2; this supervisor knows 1/],
    [spec({ version: 1, command: [] }), /is empty/],
    [spec({ version: 1, command: [''] }), /is empty/],
    [spec({ version: 1, command: 'a' }), /no command that is a list of strings/],
    [spec({ version: 1, command: ['a'], tty: 1 }), /a tty that is not true or false/],
    [spec({ version: 1, command: ['a'], x: 1 }), /unknown key "x"/],
    [spec({ version: 1, command: Array(257).fill('a') }), /more than 256 arguments/],
    [spec({ version: 1, command: ['a'.repeat(32769)] }), /more than 32768 bytes/],
    [spec({ version: 1, command: ['a\0b'] }), /holds a NUL byte/],
    [{ OPENSHELL_MAIN_PROCESS_SPEC: 'base64url:!!' }, /not unpadded base64url/],
    [{ OPENSHELL_MAIN_PROCESS_SPEC: '{' }, /is not JSON/],
  ])('of a spec like %j is refused with code 78', (env, message) => {
    expect(fault([], env)).toMatchObject({ code: 78, message: expect.stringMatching(message) });
  });
});
