import { describe, expect, test } from 'vitest';
import { err, ok } from '../../supervisor/result.ts';
import { parseEnvironment, workloadEnvironment } from '../../supervisor/workload/environment.ts';
import { MainProcess, type ProcessEnd } from '../../supervisor/workload/main-process.ts';
import { VirtualClock } from '../gateway/virtual-clock.ts';

const input = {
  user: new Map<string, string>(),
  proxy: '127.0.0.1:3128',
  provider: new Map(),
  trust: {},
  withheld: new Set<string>(),
  javaTrustStore: undefined,
  home: '/sandbox',
  tty: false,
};

describe('the workload’s environment', () => {
  test('is the container’s, then the user’s, then ours; nothing of the supervisor', () => {
    const inherited = parseEnvironment(
      Buffer.from(
        'PATH=/bin\0A=image\0A=second\0OPENSHELL_SANDBOX_TOKEN=secret\0OPENSHELL_ENDPOINT=http://g\0HTTP_PROXY=http://evil\0=x\0bare\0',
      ),
    );
    const environment = workloadEnvironment({
      ...input,
      inherited,
      user: new Map([
        ['A', 'user'],
        ['OPENSHELL_X', 'no'],
      ]),
    });
    expect(Object.fromEntries(environment)).toMatchObject({
      PATH: '/bin',
      A: 'user',
      HTTP_PROXY: 'http://127.0.0.1:3128',
      HOME: '/sandbox',
      TERM: 'dumb',
    });
    expect([...environment.keys()].filter((name) => name.startsWith('OPENSHELL'))).toEqual([
      'OPENSHELL_SANDBOX',
    ]);
    expect([...environment.values()].join()).not.toContain('secret');
  });

  test('tells Java of the proxy and of whom to trust, after what it was told before', () => {
    const options = (inherited: string, javaTrustStore?: string) =>
      workloadEnvironment({
        ...input,
        inherited: parseEnvironment(Buffer.from(inherited)),
        javaTrustStore,
      }).get('JAVA_TOOL_OPTIONS');
    const proxy =
      '-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=3128 -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=3128';
    expect(options('')).toBe(proxy);
    expect(options('JAVA_TOOL_OPTIONS=-Xmx64m\0', '/t/store')).toBe(
      `-Xmx64m ${proxy} -Djavax.net.ssl.trustStore=/t/store`,
    );
  });
});

describe('the main process', () => {
  function started(failure?: { readonly code: number; readonly message: string }) {
    const clock = new VirtualClock();
    const signals: string[] = [];
    let end: (how: ProcessEnd) => void = () => undefined;
    const exited = new Promise<ProcessEnd>((resolve) => {
      end = resolve;
    });
    const main = (timeoutMs = 0) =>
      new MainProcess({
        clock,
        timeoutMs,
        graceMs: 25_000,
        start: () => ({
          pid: 5,
          started: Promise.resolve(failure === undefined ? ok({ warnings: [] }) : err(failure)),
          exited,
          signal: (signal) => void signals.push(signal),
        }),
      });
    return { clock, signals, end, main };
  }

  test('gives the container its code, or 128 and its signal', async () => {
    const one = started();
    const main = one.main();
    one.end({ kind: 'signal', signal: 'SIGSEGV' });
    expect(await main.result).toMatchObject({ kind: 'exited', code: 139 });
  });

  test('says why it did not start', async () => {
    const one = started({ code: 127, message: 'no such program' });
    const main = one.main();
    one.end({ kind: 'code', code: 127 });
    expect(await main.result).toEqual({ kind: 'not-started', code: 127, message: 'no such program' });
  });

  test('is asked politely first, and killed once after the grace', () => {
    const one = started();
    const main = one.main();
    main.end('SIGTERM');
    main.end('SIGTERM');
    one.clock.run(24_999);
    expect(one.signals).toEqual(['SIGTERM', 'SIGTERM']);
    one.clock.run(60_000);
    expect(one.signals).toEqual(['SIGTERM', 'SIGTERM', 'SIGKILL']);
  });

  test('ends with 124 when the time is up: TERM, then KILL after 100 ms', async () => {
    const one = started();
    const main = one.main(1_000);
    one.clock.run(1_000);
    expect(one.signals).toEqual(['SIGTERM']);
    one.clock.run(100);
    expect(one.signals).toEqual(['SIGTERM', 'SIGKILL']);
    one.end({ kind: 'signal', signal: 'SIGKILL' });
    expect(await main.result).toEqual({ kind: 'timed-out', code: 124 });
  });
});
