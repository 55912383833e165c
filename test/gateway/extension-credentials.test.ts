import { afterEach, describe, expect, test, vi } from 'vitest';
import type { GetSandboxConfigResponse } from '../../proto/generated/openshell/sandbox/v1/sandbox.ts';
import { ExtensionCredentials } from '../../supervisor/gateway/extension-credentials.ts';
import { type DevGateway, startDevGateway } from '../dev-gateway/server.ts';
import { linkTo, until } from './link-fixture.ts';
import { VirtualClock } from './virtual-clock.ts';

type Minted = Awaited<ReturnType<ConstructorParameters<typeof ExtensionCredentials>[0]['mint']>>;

function credentialsOf(answer: (services: readonly string[]) => Minted | Error) {
  const clock = new VirtualClock(1_000_000);
  const asked: (readonly string[])[] = [];
  const onFresh = vi.fn();
  const errors: string[] = [];
  const held = new ExtensionCredentials({
    clock,
    random: () => 0,
    mint: async (services) => {
      asked.push(services);
      const minted = answer(services);
      if (minted instanceof Error) throw minted;
      return minted;
    },
    onFresh,
    onError: (message) => errors.push(message),
  });
  /** Time passes, and what was asked is answered. */
  const pass = async (ms: number) => {
    clock.run(ms);
    await new Promise(setImmediate);
  };
  return { clock, asked, onFresh, errors, held, pass };
}
const minted = (services: readonly string[], expiresAtMs: number, token = 't'): Minted =>
  services.map((serviceName) => ({
    serviceName,
    token: `${token} ${serviceName}`,
    expiresAtMs: BigInt(expiresAtMs),
  }));

describe('credentials of middlewares', () => {
  test('are asked for by name, renewed in time, and gone when they have run out', async () => {
    let token = 'one';
    const { asked, onFresh, held, pass } = credentialsOf((services) => minted(services, 1_060_000, token));
    held.want(['b', 'a', 'b']);
    await pass(0);
    expect(asked).toEqual([['a', 'b']]);
    expect(onFresh).toHaveBeenCalledOnce();
    expect([held.current('a'), held.current('b'), held.current('c')]).toEqual(['one a', 'one b', undefined]);
    held.want(['a', 'b']);
    await pass(29_999);
    expect(asked).toHaveLength(1);
    token = 'two';
    await pass(1);
    expect(held.current('a')).toBe('two a');
    await pass(40_000);
    expect(held.current('a')).toBeUndefined();
    held.want([]);
    const before = asked.length;
    await pass(3_600_000);
    expect(asked).toHaveLength(before);
  });

  test('for other services than were asked for are not taken', async () => {
    for (const wrong of [['a', 'x'], ['a'], ['a', 'b', 'b'], []]) {
      const { held, errors, onFresh, pass } = credentialsOf(() => minted(wrong, 0));
      held.want(['a', 'b']);
      await pass(0);
      expect([held.current('a'), held.current('x')]).toEqual([undefined, undefined]);
      expect(onFresh).not.toHaveBeenCalled();
      expect(errors).toEqual([expect.stringContaining('other services')]);
    }
  });

  test('that cannot be had are asked for again, never more than the gateway takes', async () => {
    let answer: Minted | Error = new Error('away');
    const { held, asked, errors, pass } = credentialsOf(() => answer);
    held.want(['a']);
    for (let second = 0; second < 60; second++) await pass(1_000);
    expect(asked.length).toBeGreaterThan(2);
    expect(asked.length).toBeLessThan(10);
    expect(errors).toHaveLength(1);
    answer = minted(['a'], 0);
    await pass(120_000);
    expect(held.current('a')).toBe('t a');
  });

  test('that come for names of before are not taken', async () => {
    const answers: ((answer: Minted) => void)[] = [];
    const clock = new VirtualClock();
    const held = new ExtensionCredentials({
      clock,
      random: () => 0,
      mint: () => new Promise((resolve) => void answers.push(resolve)),
      onFresh: () => undefined,
      onError: () => undefined,
    });
    held.want(['a']);
    held.want(['b']);
    answers[0]?.(minted(['a'], 0));
    answers[1]?.(minted(['b'], 0));
    await new Promise(setImmediate);
    expect([held.current('a'), held.current('b')]).toEqual([undefined, 't b']);
  });
});

describe('with a gateway', () => {
  let gateway: DevGateway | undefined;
  afterEach(() => gateway?.stop());

  test('services are named in the configuration, and their credentials minted', async () => {
    const started = await startDevGateway();
    gateway = started;
    started.setMiddlewares(
      JSON.stringify({
        services: [{ name: 'scan', endpoint: 'https://scan.test', audience: 'aud', maxPayloadBytes: 7 }],
        authentication: true,
      }),
    );
    const onExtensions = vi.fn();
    const { link } = linkTo(started.port, () => started.mintToken('sb-1').token, { onExtensions });
    expect(await link.prepare()).toMatchObject({ ok: true });
    const config = await link.initialConfig();
    expect(config.ok && config.value).toMatchObject({
      extensionAuthenticationEnabled: true,
      supervisorMiddlewareServices: [{ name: 'scan', maxPayloadBytes: 7n, audience: 'aud' }],
    } satisfies Partial<Record<keyof GetSandboxConfigResponse, unknown>>);
    link.extensions.want(['scan']);
    await until(() => onExtensions.mock.calls.length > 0);
    const claims: unknown = JSON.parse(
      Buffer.from(link.extensions.current('scan')?.split('.')[1] ?? '', 'base64url').toString(),
    );
    expect(claims).toMatchObject({ aud: 'aud', sub: 'spiffe://openshell/sandbox/sb-1' });
    await link.stop(0);
  });
});
