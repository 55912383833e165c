/** What a session brings in is code that nobody trusts either: the escape program, run through the gateway. */
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { ensureBuilt } from '../../scripts/lib/build.ts';
import { startSandbox } from '../../scripts/lib/sandbox.ts';
import { ADDRESS, startWorld } from '../../scripts/lib/world.ts';
import { client, established, runIn } from '../runtime/gateway-side.ts';
import { PLACES } from '../runtime/places.ts';
import { missing } from '../runtime/requirements.ts';
import { CURL_TO_API, sandboxPolicy } from '../runtime/sandbox-policy.ts';
import { temporaryDirectory } from '../temporary-directory.ts';
import { attemptNames, type Claim, compileEscape, readClaims } from './program.ts';

const SECRET = 'canary-91c2d5e6';
const POLICY = sandboxPolicy(CURL_TO_API, { readOnly: ['/sys', '/opt/escape'] });
const { directory } = temporaryDirectory('session-escape-test-');
const tools = join(directory, 'tools');
mkdirSync(tools);
compileEscape(join(tools, 'escape'));
const names = attemptNames(join(tools, 'escape'));

/**
 * Either fence, where the workload sees the supervisor's processes: a session differs from a main process in having no
 * signal scope of Landlock. All else is the same calls, which the escape test tries in every place.
 */
const places = PLACES.filter(({ name }) => name === 'runc, restricted' || name === 'runc without seccomp');

describe.each(places)('a session of $name', (place) => {
  const why = missing('runc', 'gcc');
  let claims: ReadonlyMap<string, Claim> = new Map();
  let canary = '';

  beforeAll(async () => {
    if (why !== undefined) return;
    await ensureBuilt();
    const home = mkdtempSync(join(directory, 'place-'));
    chmodSync(home, 0o777);
    for (const [name, mode] of [
      ['canary', 0o666],
      ['token', 0o444],
    ] as const) {
      writeFileSync(join(home, name), SECRET);
      chmodSync(join(home, name), mode);
    }
    chownSync(join(home, 'canary'), 1000, 1000);
    const world = await startWorld();
    try {
      await world.control('POST', '/policy', POLICY);
      const sandbox = await startSandbox({
        gateway: world.gatewayUrl,
        network: await world.network(),
        command: ['/bin/sleep', '300'],
        flags: ['--health-check'],
        binds: [
          { source: tools, destination: '/opt/escape' },
          { source: home, destination: '/srv/place', writable: true },
          { source: join(home, 'token'), destination: '/run/secrets/openshell/token' },
        ],
        ...place.options,
      });
      await established(world);
      const targets = [
        ...['other', 'metadata', 'gateway', 'internal', 'dns'].map(
          (name) => `${name}=${ADDRESS[name as 'other']}`,
        ),
        ...[`fence=${place.fence}`, 'abstract=nobody', 'token=/run/secrets/openshell/token'],
        ...['canary=/srv/place/canary', `secret=${SECRET}`],
      ];
      const { stdout } = await runIn(
        world,
        client(sandbox.sandboxId, 'exec', [], ['/opt/escape/escape', ...targets]),
      );
      claims = readClaims(stdout.toString());
      canary = readFileSync(join(home, 'canary'), 'utf8');
      // It is there, and serves the next one.
      await sandbox.stop();
    } finally {
      await world.stop();
    }
  }, 300_000);

  test.skipIf(why !== undefined).for(names)('does not get out: %s', (name, { skip }) => {
    const claim = claims.get(name);
    if (claim?.outcome === 'impossible') return skip(claim.detail);
    expect(claim).toMatchObject({ outcome: 'refused' });
  });

  test.skipIf(why !== undefined)('leaves the canary whole', () => {
    expect(canary).toBe(SECRET);
  });
});
