import { describe, expect, test } from 'vitest';
import { isKeptOut } from '../../supervisor/confinement/kept-out.ts';
import type { ConfinementPlan } from '../../supervisor/confinement/plan.ts';

const STATE = '/var/lib/openshell/state';
const SOCKET = { kind: 'socket' } as const;
const MOUNTS = { kind: 'namespace', user: true, ipc: true, mounts: true, pid: true } as const;
const plan = (part: object): ConfinementPlan => ({ hidden: [], ...part }) as unknown as ConfinementPlan;
const landlock = (...readWrite: string[]) => ({
  kind: 'landlock',
  abi: 6,
  rules: { readOnly: ['/var'], readWrite, compatibility: 'best_effort' },
});

describe('the workload is kept out of a directory', () => {
  test.each<[string, object, boolean]>([
    ['that mounts cover', { fence: MOUNTS, files: { kind: 'none' }, hidden: ['/var/lib/openshell'] }, true],
    ['that no rule reaches', { fence: SOCKET, files: landlock('/tmp', '/var/lib/openshell2') }, true],
    ['but not below a writable path', { fence: SOCKET, files: landlock('/var') }, false],
    ['but not when a writable path lies in it', { fence: SOCKET, files: landlock(`${STATE}/x`) }, false],
    ['but not when it is writable itself', { fence: SOCKET, files: landlock(STATE) }, false],
    ['but not where files are not confined', { fence: SOCKET, files: { kind: 'none', reason: '' } }, false],
    [
      'but not by a cover where mounts do not work',
      {
        fence: { ...MOUNTS, mounts: false },
        files: { kind: 'none', reason: '' },
        hidden: ['/var/lib/openshell'],
      },
      false,
    ],
  ])('%s', (_name, part, out) => {
    expect(isKeptOut(plan(part), STATE)).toBe(out);
  });
});
