import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Built, ensureBuilt } from '../../scripts/lib/build.ts';

const POLICY = `version: 1
network_policies:
  api: { endpoints: [{ host: api.test, port: 443 }], binaries: [{ path: /usr/bin/curl }] }
`;

/** The launcher is not process 1 here, there is no gateway, and nothing of the environment is ours. */
describe('the policy command of what ships', { timeout: 60_000 }, () => {
  let built: Built;
  beforeAll(async () => {
    built = await ensureBuilt();
  }, 400_000);

  const run = (launcher: string, input: string, ...argv: readonly string[]) => {
    const { status, stdout, stderr } = spawnSync(launcher, ['policy', ...argv], {
      input,
      encoding: 'utf8',
      env: {},
      timeout: 30_000,
    });
    return { status, stdout, stderr };
  };

  test.each([
    ['the image’s', ({ image }: Built) => join(image, 'openshell-sandbox')],
    ['the single file', ({ singleFile }: Built) => singleFile],
  ])('works through %s launcher', (_what, launcherOf) => {
    const launcher = launcherOf(built);
    expect(run(launcher, POLICY, 'check', '-')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('valid: version 1, 1 network rule'),
    });
    expect(run(launcher, 'version: 1\nnope: 2\n', 'check', '-')).toMatchObject({
      status: 1,
      stdout: 'nope (line 2, column 1): is not a key of the policy schema\n',
    });
    const asked = ['--host', 'api.test', '--port', '443', '--binary', '/usr/bin/curl', '--json'];
    const { status, stdout } = run(launcher, POLICY, 'explain', '-', ...asked);
    expect([status, JSON.parse(stdout)]).toEqual([
      0,
      {
        decision: 'allow',
        policy: 'api',
        rule: 'network_policies.api.endpoints[0]',
        reason: expect.any(String),
      },
    ]);
    expect(run(launcher, '', 'check').status).toBe(2);
  });
});
