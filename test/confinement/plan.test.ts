import { describe, expect, test } from 'vitest';
import { parsePidsMax } from '../../supervisor/confinement/limits.ts';
import { planConfinement } from '../../supervisor/confinement/plan.ts';
import { type Probe, parseProbe } from '../../supervisor/confinement/probe.ts';
import { parseShimReport } from '../../supervisor/confinement/shim.ts';
import { encodeShimSpec } from '../../supervisor/confinement/shim-spec.ts';

const yes = { ok: true } as const;
const no = (errno: string) => ({ ok: false, errno }) as const;
const PROBE: Probe = {
  release: '6.18.0',
  version: '',
  uid: 1000,
  gid: 1000,
  capabilities: '0',
  proc: true,
  hidden: true,
  privileged: false,
  landlock: { ok: true, abi: 7 },
  seccomp_filter: yes,
  socket_fence: yes,
  user_namespace: no('EPERM'),
  process_isolation: no('EPERM'),
  network_namespace: no('EPERM'),
  ipc_namespace: no('EPERM'),
  mounts: no('EPERM'),
  private_view: no('EPERM'),
  pid_namespace: no('EPERM'),
  low_ports: no('EACCES'),
  io_uring: no('EPERM'),
  pidfd_open: yes,
  pidfd_getfd: no('EPERM'),
  process_vm_readv: no('EPERM'),
};
const FILES = { readOnly: ['/usr'], readWrite: ['/tmp'], compatibility: 'best_effort' } as const;
const plan = (probe: Partial<Probe>, more: Partial<Parameters<typeof planConfinement>[0]> = {}) =>
  planConfinement({
    probe: { ...PROBE, ...probe },
    files: FILES,
    identity: undefined,
    limits: LIMITS,
    ...more,
  });
const LIMITS = { openFiles: undefined, processes: undefined, pidsMax: 100, requirePidsMax: false } as const;
const refusal = (result: ReturnType<typeof plan>) =>
  result.ok ? '' : `${result.error.exitCode} ${result.error.message}`;

describe('the plan', () => {
  test('fences, confines files and says so', () => {
    const made = plan({});
    expect(made).toMatchObject({
      ok: true,
      value: { fence: { kind: 'socket' }, files: { kind: 'landlock', abi: 7 }, identity: undefined },
    });
    const levels = made.ok ? made.value.statement.map(({ aspect, level }) => [aspect, level]) : [];
    expect(Object.fromEntries(levels)).toEqual({
      network: 'full',
      loopback: 'none',
      files: 'full',
      'supervisor-files': 'full',
      processes: 'none',
      'supervisor-process': 'full',
      resources: 'full',
      syscalls: 'full',
      identity: 'full',
    });
  });

  test('refuses a kernel without user notification, and a container without seccomp, and says what to change', () => {
    expect(refusal(plan({ socket_fence: no('EINVAL') }))).toMatch(
      /^71 the network cannot be fenced.*namespaces \(EPERM\).*Linux 5\.9 or newer: EINVAL.*RuntimeDefault/,
    );
    expect(refusal(plan({ socket_fence: no('EPERM'), seccomp_filter: no('EPERM') }))).toMatch(
      /^71 .*forbids seccomp filters \(EPERM\)/,
    );
  });

  test('without Landlock goes on in best_effort, aloud, and refuses a hard requirement', () => {
    const made = plan({ landlock: no('ENOSYS') });
    expect(made.ok && made.value.statement.find(({ aspect }) => aspect === 'files')).toMatchObject({
      level: 'none',
      note: 'Landlock is not available (ENOSYS), and neither are mounts (no namespaces)',
    });
    expect(
      refusal(
        plan({ landlock: no('EOPNOTSUPP') }, { files: { ...FILES, compatibility: 'hard_requirement' } }),
      ),
    ).toMatch(/^71 files cannot be confined: .*EOPNOTSUPP.*landlock\.compatibility/);
  });

  describe('where namespaces work', () => {
    const namespaces = {
      network_namespace: yes,
      ipc_namespace: yes,
      user_namespace: yes,
      process_isolation: yes,
    };
    const mounts = { mounts: yes, private_view: yes };

    test('prefers the namespace fence, with as much around the network as the container allows', () => {
      const fence = (probe: Partial<Probe>) => {
        const made = plan({ ...namespaces, ...probe });
        return made.ok ? made.value.fence : made.error;
      };
      const bare = { kind: 'namespace', user: true, ipc: true, mounts: false, pid: false };
      expect(fence({ socket_fence: no('EINVAL') })).toEqual(bare);
      expect(fence(mounts)).toEqual({ ...bare, mounts: true });
      expect(fence({ ...mounts, pid_namespace: yes })).toEqual({ ...bare, mounts: true, pid: true });
      expect(fence({ ...mounts, privileged: true })).toEqual({ ...bare, mounts: true, user: false });
    });

    test('takes a private mount view for a kernel without Landlock, even for a hard requirement', () => {
      const made = plan(
        { ...namespaces, ...mounts, landlock: no('EOPNOTSUPP') },
        { files: { ...FILES, compatibility: 'hard_requirement' } },
      );
      expect(made).toMatchObject({ ok: true, value: { files: { kind: 'view' } } });
    });

    test('adds a mount view to a Landlock that cannot restrict truncating', () => {
      const files = (abi: number, probe: Partial<Probe> = mounts) => {
        const made = plan({ ...namespaces, ...probe, landlock: { ok: true, abi } });
        if (!made.ok || made.value.files.kind !== 'landlock') return undefined;
        const line = made.value.statement.find(({ aspect }) => aspect === 'files');
        return [made.value.files.view, line?.level, line?.note.includes('truncating')];
      };
      expect(files(2)).toEqual([FILES, 'full', false]);
      expect(files(3)).toEqual([undefined, 'full', false]);
      expect(files(2, {})).toEqual([undefined, 'partial', true]);
    });

    test('says so where the supervisor’s processes can be looked at', () => {
      const level = (probe: Partial<Probe>) => {
        const made = plan({ ...namespaces, ...probe });
        return made.ok && made.value.statement.find(({ aspect }) => aspect === 'supervisor-process')?.level;
      };
      expect(level({})).toBe('full');
      expect(level({ process_isolation: no('EOPNOTSUPP') })).toBe('partial');
      expect(level({ process_isolation: no('EOPNOTSUPP'), ...mounts, pid_namespace: yes })).toBe('full');
      expect(level({ process_isolation: no('EOPNOTSUPP'), privileged: true })).toBe('full');
    });

    test('says so where what starts a session can be traced', () => {
      const level = (probe: Partial<Probe>) => {
        const identity = { uid: 5, gid: 6, groups: [] };
        const made = plan({ landlock: no('ENOSYS'), hidden: false, ...probe }, { identity });
        return made.ok && made.value.statement.find(({ aspect }) => aspect === 'supervisor-process')?.level;
      };
      expect(level({})).toBe('partial');
      expect(level({ hidden: true })).toBe('full');
      expect(level({ landlock: { ok: true, abi: 1 } })).toBe('full');
      expect(level({ ...namespaces })).toBe('full');
      expect(level({ uid: 0, capabilities: 'c0' })).toBe('full');
    });

    test('says what is left open', () => {
      const made = plan({ ...namespaces, landlock: no('ENOSYS') });
      const open = made.ok ? made.value.statement.filter(({ level }) => level === 'none') : [];
      expect(open.map(({ aspect }) => aspect)).toEqual(['files', 'supervisor-files', 'processes']);
    });
  });

  test('needs an identity when the container runs as root, and never runs the workload as root', () => {
    expect(refusal(plan({ uid: 0 }))).toMatch(/^71 .*set OPENSHELL_SANDBOX_UID and OPENSHELL_SANDBOX_GID/);
    const identity = { uid: 5, gid: 6, groups: [] };
    expect(plan({ uid: 0, capabilities: 'c0' }, { identity })).toMatchObject({
      ok: true,
      value: { identity: { uid: 5 } },
    });
    expect(refusal(plan({ uid: 0, capabilities: '40' }, { identity }))).toMatch(
      /^71 .*without the capabilities SETUID and SETGID.*set runAsUser/,
    );
  });

  test('bounds open files always, processes where they can be counted, and demands pids.max when told to', () => {
    const limits = (probe: Partial<Probe>, more: Partial<typeof LIMITS> | object = {}) => {
      const made = plan(probe, { limits: { ...LIMITS, ...more } });
      return made.ok ? made.value.limits : made.error.message;
    };
    expect(limits({})).toEqual({ openFiles: 65_536, processes: undefined, oomScoreAdj: 500 });
    expect(limits({ network_namespace: yes })).toMatchObject({ processes: 4096 });
    expect(limits({ network_namespace: yes, privileged: true })).toMatchObject({ processes: undefined });
    expect(limits({}, { processes: 50, openFiles: 100 })).toMatchObject({ processes: 50, openFiles: 100 });
    expect(limits({}, { requirePidsMax: true })).toMatchObject({ openFiles: 65_536 });
    for (const pidsMax of ['unlimited', 'unknown'])
      expect(limits({}, { requirePidsMax: true, pidsMax })).toMatch(/pids\.max is un.*podPidsLimit/);
    const resources = (pidsMax: 100 | 'unlimited', probe: Partial<Probe> = {}) => {
      const made = plan(probe, { limits: { ...LIMITS, pidsMax } });
      return made.ok && made.value.statement.find(({ aspect }) => aspect === 'resources');
    };
    expect(resources(100)).toMatchObject({ level: 'full', mechanism: 'rlimits, pids cgroup' });
    expect(resources('unlimited')).toMatchObject({ level: 'partial', mechanism: 'rlimits' });
    expect(resources('unlimited', { network_namespace: yes })).toMatchObject({ level: 'full' });
    expect([parsePidsMax('max\n'), parsePidsMax('12\n'), parsePidsMax('x'), parsePidsMax(undefined)]).toEqual(
      ['unlimited', 12, 'unknown', 'unknown'],
    );
  });

  test('needs /proc', () => {
    expect(refusal(plan({ proc: false }))).toMatch(/^71 \/proc is not mounted/);
  });

  test('claims Landlock’s scopes only where the ABI has them', () => {
    const mechanism = (abi: number) => {
      const made = plan({ landlock: { ok: true, abi } });
      return made.ok
        ? made.value.statement.find(({ aspect }) => aspect === 'supervisor-process')?.mechanism
        : '';
    };
    expect([mechanism(5), mechanism(6)]).toEqual(['seccomp', 'seccomp, Landlock scopes']);
  });

  test('comes from a probe that is whole', () => {
    expect(parseProbe(JSON.stringify(PROBE))).toEqual({ ok: true, value: PROBE });
    const { landlock: _, ...torn } = PROBE;
    expect(parseProbe(JSON.stringify(torn))).toMatchObject({
      ok: false,
      error: { message: expect.stringContaining('landlock') },
    });
    expect(parseProbe('{')).toMatchObject({ ok: false });
  });
});

describe('what the shim is told and tells', () => {
  const made = plan(
    {},
    { identity: { uid: 5, gid: 6, groups: [7] }, probe: { ...PROBE, uid: 0, capabilities: 'c0' } },
  );
  if (!made.ok) throw made.error;
  const limits = { openFiles: 100, processes: undefined, oomScoreAdj: 500 };

  test('is a list of records that needs no quoting', () => {
    const spec = encodeShimSpec(
      made.value,
      { argv: ['a b', 'c\nd'], cwd: '/w', environment: new Map([['X', "'\n="]]) },
      limits,
      [1, 7],
    );
    expect(spec.toString().split('\0')).toEqual([
      'fence socket',
      'landlock best_effort',
      'landlock-abi-max 7',
      'read-only /usr',
      'read-write /tmp',
      'uid 5',
      'gid 6',
      'group 7',
      'protect 1',
      'protect 7',
      'nofile 100',
      'oom-score-adj 500',
      'cwd /w',
      "env X='\n=",
      'arg a b',
      'arg c\nd',
      'end',
      '',
    ]);
  });

  test('leaves the signals of a session to the filter', () => {
    const launch = { argv: ['a'], cwd: undefined, environment: new Map(), signalsOthers: true };
    const spec = encodeShimSpec(made.value, launch, limits, [1]);
    expect(spec.toString().split('\0')).toContain('signals unscoped');
  });

  test('lets a session begin whatever the workload has closed, and the main process not', () => {
    const launch = { argv: ['a'], cwd: undefined, environment: new Map() };
    const records = (toleratesChanges: boolean) =>
      encodeShimSpec(made.value, { ...launch, toleratesChanges }, limits, [1])
        .toString()
        .split('\0')
        .filter((record) => record.startsWith('changes'));
    expect([records(true), records(false)]).toEqual([['changes tolerated'], []]);
  });

  test('never holds a NUL inside a record', () => {
    expect(() =>
      encodeShimSpec(made.value, { argv: ['a\0end'], cwd: undefined, environment: new Map() }, limits, []),
    ).toThrow('a NUL byte');
  });

  test('is a report or the reason of a failure', () => {
    const records = (text: string) => text.split('\n').map((line) => line.split(' '));
    expect(parseShimReport(records('landlock 7 12 3\nwarn no oom'))).toEqual({
      ok: true,
      value: { landlock: { abi: 7, rules: 12, missing: 3 }, warnings: ['no oom'] },
    });
    expect(parseShimReport(records('landlock 7 1 0\nfail 127 /x: no such program'))).toEqual({
      ok: false,
      error: { code: 127, message: '/x: no such program' },
    });
  });
});
