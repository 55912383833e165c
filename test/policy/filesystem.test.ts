import { describe, expect, test } from 'vitest';
import type { PolicyDocument } from '../../supervisor/policy/document.ts';
import { filesystemRules } from '../../supervisor/policy/filesystem.ts';
import { RESTRICTIVE_DEFAULT } from '../../supervisor/policy/restrictive-default.ts';
import { parsePolicyYaml } from '../../supervisor/policy/yaml.ts';

const NETWORK = 'network_policies: {a: {endpoints: [{host: a.test, port: 80}]}}';
const policy = (...lines: readonly string[]): PolicyDocument => {
  const parsed = parsePolicyYaml(['version: 1', ...lines].join('\n'));
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.error));
  return parsed.value;
};
const only =
  (...paths: readonly string[]) =>
  (path: string) =>
    paths.includes(path);
const noGpu = (path: string) => !path.startsWith('/dev/nvidia') && path !== '/dev/dxg';
const BASELINE = ['/usr', '/lib', '/etc', '/app', '/var/log', '/proc', '/dev/urandom'];

describe('the file rules of a policy', () => {
  test('are the contract’s when there is no policy at all', () => {
    expect(filesystemRules(RESTRICTIVE_DEFAULT, '/sandbox', noGpu)).toEqual({
      readOnly: ['/usr', '/lib', '/proc', '/dev/urandom', '/app', '/etc', '/var/log'],
      readWrite: ['/tmp', '/dev/null', '/sandbox'],
      compatibility: 'best_effort',
    });
  });

  test('keep what the policy names whether it exists or not, and its compatibility', () => {
    const document = policy(
      'filesystem_policy: {read_only: [/a], read_write: [/b]}',
      'landlock: {compatibility: hard_requirement}',
    );
    expect(filesystemRules(document, undefined, only())).toEqual({
      readOnly: ['/a'],
      readWrite: ['/b'],
      compatibility: 'hard_requirement',
    });
  });

  test('name a path once, without superfluous slashes and dots', () => {
    const document = policy(
      'filesystem_policy: {read_only: [/usr//lib/./, /usr/lib, /], read_write: [/tmp/]}',
      NETWORK,
    );
    expect(filesystemRules(document, undefined, only('/tmp'))).toMatchObject({
      readOnly: ['/usr/lib', '/'],
      readWrite: ['/tmp'],
    });
  });
});

describe('the baseline', () => {
  test('is added with network rules, as far as it exists', () => {
    expect(filesystemRules(policy(NETWORK), undefined, noGpu)).toMatchObject({
      readOnly: BASELINE,
      readWrite: ['/tmp'],
    });
    expect(filesystemRules(policy(NETWORK), undefined, only('/usr', '/tmp'))).toMatchObject({
      readOnly: ['/usr'],
      readWrite: ['/tmp'],
    });
  });

  test('is not added without network rules', () => {
    expect(filesystemRules(policy('filesystem_policy: {read_only: [/usr]}'), undefined, noGpu)).toMatchObject(
      {
        readOnly: ['/usr'],
        readWrite: [],
      },
    );
  });

  test('never moves a path from the list that the policy chose', () => {
    const document = policy('filesystem_policy: {read_only: [/tmp/], read_write: [/app, /proc]}', NETWORK);
    expect(filesystemRules(document, undefined, noGpu)).toMatchObject({
      readOnly: ['/tmp', '/usr', '/lib', '/etc', '/var/log', '/dev/urandom'],
      readWrite: ['/app', '/proc'],
    });
  });
});

describe('the working directory', () => {
  test.each([
    ['when the section is absent', [], ['/sandbox']],
    ['when include_workdir is true', ['filesystem_policy: {include_workdir: true}'], ['/sandbox']],
    ['not when the section stands without it', ['filesystem_policy: {read_only: [/usr]}'], []],
    ['not when include_workdir is false', ['filesystem_policy: {include_workdir: false}'], []],
    [
      'once when the policy names it too',
      ['filesystem_policy: {include_workdir: true, read_write: [/sandbox]}'],
      ['/sandbox'],
    ],
  ])('is writable %s', (_when, lines, readWrite) => {
    expect(filesystemRules(policy(...lines), '/sandbox/', noGpu).readWrite).toEqual(readWrite);
  });

  test('does not make the whole root writable', () => {
    for (const root of ['/', '//', '/./'])
      expect(filesystemRules(policy(), root, noGpu).readWrite).toEqual([]);
  });
});

describe('a GPU', () => {
  test('is made usable where there is one, with or without network rules', () => {
    const there = only(
      '/dev/nvidiactl',
      '/dev/nvidia-uvm',
      '/dev/nvidia0',
      '/dev/nvidia12',
      '/dev/nvidia-caps',
      '/proc',
    );
    for (const lines of [[], [NETWORK]])
      expect(
        filesystemRules(policy('filesystem_policy: {read_only: [/proc]}', ...lines), undefined, there),
      ).toEqual({
        readOnly: [],
        readWrite: ['/dev/nvidiactl', '/dev/nvidia-uvm', '/dev/nvidia0', '/dev/nvidia12', '/proc'],
        compatibility: 'best_effort',
      });
  });

  test('of WSL2 is recognised by its own device', () => {
    const there = only('/dev/dxg', '/usr/lib/wsl', '/run/nvidia-persistenced');
    expect(filesystemRules(policy(), undefined, there)).toMatchObject({
      readOnly: ['/run/nvidia-persistenced', '/usr/lib/wsl'],
      readWrite: ['/dev/dxg'],
    });
  });

  test('that is not there changes nothing, whatever else has its name', () => {
    expect(filesystemRules(policy(), undefined, only('/dev/nvidia0', '/usr/lib/wsl', '/proc'))).toMatchObject(
      {
        readOnly: [],
        readWrite: [],
      },
    );
  });
});
