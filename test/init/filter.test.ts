import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join, resolve } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { temporaryDirectory } from '../temporary-directory.ts';
import { ARCH_I386, type Call, type Instruction, runFilter } from './bpf-machine.ts';

const here = import.meta.dirname;
const init = resolve(here, '../../init');
const { directory } = temporaryDirectory('filter-test-');

const { EPERM, ENOSYS, EAFNOSUPPORT, EPROTONOSUPPORT, EOPNOTSUPP } = constants.errno;
const refused = (errno: number) => ({ errno });

const dumper = join(directory, 'dump-filter');
execFileSync('musl-gcc', [
  ...['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-D_GNU_SOURCE', '-static', '-o', dumper],
  ...['-idirafter', '/usr/include', '-idirafter', '/usr/include/x86_64-linux-gnu'],
  ...[join(here, 'dump-filter.c'), join(init, 'filter.c'), join(init, 'bpf.c')],
]);
const dump = (fence: string, ...pids: number[]): readonly Instruction[] =>
  execFileSync(dumper, [fence, ...pids.map(String)], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => {
      const [code = 0, jt = 0, jf = 0, k = 0] = line.split(' ').map(Number);
      return { code, jt, jf, k };
    });

const PROTECTED = [1, 7, 4242];
const FENCES = { socket: dump('socket', ...PROTECTED), namespace: dump('namespace', ...PROTECTED) } as const;
type Fence = keyof typeof FENCES;
const each = Object.keys(FENCES) as Fence[];
const verdict = (fence: Fence, call: Call) => runFilter(FENCES[fence], call).verdict;

/** Call numbers of x86-64: those of the installed headers, and the newer ones by hand (syscall_64.tbl). */
const NUMBERS: ReadonlyMap<string, number> = new Map([
  ...[
    ...readFileSync('/usr/include/x86_64-linux-gnu/asm/unistd_64.h', 'utf8').matchAll(
      /^#define __NR_(\w+) (\d+)$/gm,
    ),
  ].map((match): [string, number] => [match[1] ?? '', Number(match[2])]),
  ...Object.entries({
    cachestat: 451,
    fchmodat2: 452,
    map_shadow_stack: 453,
    futex_wake: 454,
    futex_wait: 455,
    futex_requeue: 456,
    statmount: 457,
    listmount: 458,
    lsm_get_self_attr: 459,
    lsm_set_self_attr: 460,
    lsm_list_modules: 461,
    mseal: 462,
    setxattrat: 463,
    getxattrat: 464,
    listxattrat: 465,
    removexattrat: 466,
    open_tree_attr: 467,
  }),
]);
const nr = (name: string): number => {
  const number = NUMBERS.get(name);
  if (number === undefined) throw new Error(`no call ${name}`);
  return number;
};
const call = (name: string, ...args: (number | bigint)[]): Call => ({ nr: nr(name), args });

describe.each(each)('the filter of the %s fence', (fence) => {
  test('is at least as strict as Docker’s default profile for a container without capabilities', () => {
    const docker = JSON.parse(readFileSync(join(here, 'docker-default-seccomp.json'), 'utf8')) as {
      readonly allowed: readonly string[];
    };
    /** Refused by Docker whatever their arguments, and why not all of them here. */
    const BY_ARGUMENT = new Set(['clone', 'personality', 'socket', 'unshare']);
    /** No kernel has them: they answer ENOSYS by themselves. */
    const UNIMPLEMENTED = new Set(['afs_syscall', 'getpmsg', 'putpmsg', 'security', 'tuxcall', 'vserver']);
    const wider = [...NUMBERS.keys()].filter(
      (name) =>
        !docker.allowed.includes(name) &&
        !BY_ARGUMENT.has(name) &&
        !UNIMPLEMENTED.has(name) &&
        verdict(fence, call(name)) === 'allow',
    );
    expect(wider).toEqual([]);
    const namespaces = 0x7e02_0000;
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (flags) => {
        const bits = Number(BigInt.asUintN(32, flags));
        for (const name of ['clone', 'unshare'])
          expect(verdict(fence, call(name, flags))).toEqual(
            (bits & namespaces) !== 0 || (name === 'unshare' && (bits & 0x80) !== 0)
              ? refused(EPERM)
              : 'allow',
          );
      }),
    );
    for (const [persona, allowed] of [
      ...[0, 8, 0x20000, 0x20008, 0xffffffff].map((value) => [value, true] as const),
      ...[0x40000, 0x400000, 1, 0x20001].map((value) => [value, false] as const),
    ])
      expect(verdict(fence, call('personality', persona))).toEqual(allowed ? 'allow' : refused(EPERM));
  });

  test('refuses what upstream’s supervisor refuses', () => {
    // contract.md, 4.5
    for (const name of [
      ...['memfd_create', 'ptrace', 'bpf', 'process_vm_readv', 'process_vm_writev', 'pidfd_open'],
      ...['pidfd_getfd', 'pidfd_send_signal', 'io_uring_setup', 'setns', 'umount2', 'pivot_root'],
      ...['userfaultfd', 'perf_event_open', 'mount', 'fsopen', 'fsconfig', 'fsmount', 'fspick'],
      ...['move_mount', 'open_tree', 'mount_setattr'],
    ])
      expect([name, verdict(fence, call(name))]).toEqual([name, refused(EPERM)]);
    expect(verdict(fence, call('clone3'))).toEqual(refused(ENOSYS));
    expect(verdict(fence, call('execveat', 3, 0, 0, 0, 0x1000))).toEqual(refused(EPERM));
    expect(verdict(fence, call('execveat', 3, 0, 0, 0, 0x100))).toBe('allow');
    expect(verdict(fence, call('seccomp', 1))).toEqual(refused(EPERM));
    expect(verdict(fence, call('prctl', 22))).toEqual(refused(EPERM));
    for (const family of [17, 31, 40])
      expect(verdict(fence, call('socket', family, 1, 0))).toEqual(refused(EAFNOSUPPORT));
    expect(verdict(fence, call('socket', 16, 3, 16))).toEqual(refused(EPERM));
    expect(verdict(fence, call('socket', 16, 3, 0))).toBe('allow');
  });

  test('does not know foreign ABIs, nor calls newer than itself', () => {
    fc.assert(
      fc.property(fc.nat(0xffff), fc.integer({ min: 0, max: 0xffff_ffff }), (number, arch) => {
        expect(verdict(fence, { nr: number, arch: ARCH_I386 })).toEqual(refused(ENOSYS));
        if (arch !== 0xc000003e) expect(verdict(fence, { nr: number, arch })).toEqual(refused(ENOSYS));
        expect(verdict(fence, { nr: (number | 0x4000_0000) >>> 0 })).toEqual(refused(ENOSYS));
      }),
    );
    for (const number of [467, 468, 512, 547, 10_000, 0x3fff_ffff, 0xffff_ffff])
      expect(verdict(fence, { nr: number })).toEqual(refused(ENOSYS));
  });

  test('keeps signals, limits and priorities away from the protected, however their pid is written', () => {
    const named = [
      ...['kill', 'tkill', 'tgkill', 'rt_sigqueueinfo', 'rt_tgsigqueueinfo', 'prlimit64'],
      ...['sched_setaffinity', 'sched_setscheduler', 'sched_setparam', 'sched_setattr'],
    ];
    fc.assert(
      fc.property(
        fc.oneof(fc.constantFrom(...PROTECTED, ...PROTECTED.map((pid) => -pid)), fc.integer()),
        fc.nat(0xffff_ffff),
        fc.constantFrom(...named),
        (pid, high, name) => {
          // The kernel takes a pid_t: what stands above 32 bits changes nothing for it, nor for us.
          const written = (BigInt(high) << 32n) | BigInt.asUintN(32, BigInt(pid));
          const kept = PROTECTED.includes(Math.abs(pid)) || (name === 'kill' && pid === -1);
          expect(verdict(fence, call(name, written, 9))).toEqual(kept ? refused(EPERM) : 'allow');
          expect(verdict(fence, call('fcntl', 3, 8, written))).toEqual(
            PROTECTED.includes(Math.abs(pid)) ? refused(EPERM) : 'allow',
          );
          for (const [ranked, user] of [
            ['setpriority', 2],
            ['ioprio_set', 3],
          ] as const) {
            expect(verdict(fence, call(ranked, user, written))).toEqual(refused(EPERM));
            expect(verdict(fence, call(ranked, 0, written))).toEqual(
              PROTECTED.includes(Math.abs(pid)) ? refused(EPERM) : 'allow',
            );
          }
        },
      ),
    );
    expect(verdict(fence, call('fcntl', 3, 15, 0))).toEqual(refused(EPERM)); // F_SETOWN_EX
    expect(verdict(fence, call('fcntl', 3, 4, 1))).toBe('allow'); // F_SETFL
    for (const request of [0x8901, 0x8902, 0x5412, 0x541c])
      expect(verdict(fence, call('ioctl', 0, request))).toEqual(refused(EPERM));
    expect(verdict(fence, call('ioctl', 0, 0x5401))).toBe('allow'); // TCGETS
    expect(verdict(fence, call('prctl', 62, 1))).toEqual(refused(EPERM)); // PR_SCHED_CORE
  });

  test('lets nobody set the limits of another process, however the new ones are pointed at', () => {
    const half = fc.oneof(fc.constant(0), fc.nat(0xffff_ffff));
    fc.assert(
      fc.property(fc.oneof(fc.constantFrom(0, ...PROTECTED), fc.integer()), half, half, (pid, high, low) => {
        const limits = (BigInt(high) << 32n) | BigInt(low);
        const kept = PROTECTED.includes(Math.abs(pid)) || (pid !== 0 && limits !== 0n);
        expect(verdict(fence, call('prlimit64', pid, 7, limits))).toEqual(kept ? refused(EPERM) : 'allow');
        // A pid_t is what the kernel takes of it.
        expect(verdict(fence, call('prlimit64', BigInt(high) << 32n, 7, limits))).toBe('allow');
      }),
    );
  });

  test('lets nobody connect by a send, or route a packet by its options', () => {
    const FASTOPEN = 0x2000_0000;
    for (const [name, place] of [
      ['sendto', 3],
      ['sendmsg', 2],
      ['sendmmsg', 3],
    ] as const) {
      const args = [3, 0, 0, 0];
      expect(verdict(fence, call(name, ...args))).toBe('allow');
      args[place] = FASTOPEN | 0x4000;
      expect(verdict(fence, call(name, ...args))).toEqual(refused(EOPNOTSUPP));
    }
    for (const [level, option] of [
      [0, 4], // IP_OPTIONS
      [41, 54], // IPV6_HOPOPTS
      [41, 55],
      [41, 57], // IPV6_RTHDR
      [41, 59],
    ] as const)
      expect(verdict(fence, call('setsockopt', 3, level, option))).toEqual(refused(EPERM));
    expect(verdict(fence, call('setsockopt', 3, 6, 1))).toBe('allow'); // TCP_NODELAY
    expect(verdict(fence, call('setsockopt', 3, 1, 4))).toBe('allow'); // no other level is touched
  });

  test('takes few steps for what programs do all the time', () => {
    const steps = (name: string, ...args: number[]) => runFilter(FENCES[fence], call(name, ...args)).steps;
    for (const name of ['sendto', 'sendmsg', 'ioctl', 'fcntl']) expect(steps(name)).toBeLessThan(25);
    const busy = [
      'read',
      'write',
      'openat',
      'close',
      'futex',
      'mmap',
      'epoll_wait',
      'recvfrom',
      'newfstatat',
    ];
    for (const name of busy) expect([name, steps(name) < 80]).toEqual([name, true]);
  });

  test('ends for every number, and has room for as many protected processes as a spec may name', () => {
    for (let number = 0; number < 1024; number++) verdict(fence, { nr: number });
    expect(dump(fence, ...Array.from({ length: 64 }, (_, index) => index + 2)).length).toBeLessThan(1024);
  });
});

describe('sockets', () => {
  const SOCKETS: readonly (readonly [string, readonly number[], Verdicts])[] = [
    ['TCP over IPv4', [2, 1, 0], { socket: 'notify', namespace: 'allow' }],
    ['TCP over IPv6 by its number', [10, 1, 6], { socket: 'notify', namespace: 'allow' }],
    ['TCP, non-blocking and close-on-exec', [2, 1 | 0o4000 | 0o2000000, 0], both('notify', 'allow')],
    ['UDP', [2, 2, 0], both(refused(EPERM), 'allow')],
    ['UDP over IPv6 by its number', [10, 2, 17], both(refused(EPERM), 'allow')],
    ['UDP-Lite', [2, 2, 136], both(refused(EPERM), refused(EPROTONOSUPPORT))],
    ['ping', [2, 2, 1], both(refused(EPERM), refused(EPROTONOSUPPORT))],
    ['raw', [2, 3, 1], both(refused(EPERM), refused(EPERM))],
    ['SCTP', [2, 1, 132], both(refused(EPROTONOSUPPORT), refused(EPROTONOSUPPORT))],
    ['MPTCP', [2, 1, 262], both(refused(EPROTONOSUPPORT), refused(EPROTONOSUPPORT))],
    ['SMC by protocol', [2, 1, 256], both(refused(EPROTONOSUPPORT), refused(EPROTONOSUPPORT))],
    ['unix', [1, 1, 0], both('allow', 'allow')],
  ];
  test.each(SOCKETS)('%s', (_name, args, expected) => {
    for (const fence of each)
      expect([fence, verdict(fence, call('socket', ...args))]).toEqual([fence, expected[fence]]);
  });

  test('of every other family are refused, whatever their type', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 0xffff_ffff }).filter((family) => ![1, 2, 10, 16].includes(family)),
        fc.nat(16),
        fc.nat(300),
        (family, type, protocol) => {
          for (const fence of each)
            expect(verdict(fence, call('socket', family, type, protocol))).toEqual(refused(EAFNOSUPPORT));
        },
      ),
    );
    expect(verdict('socket', call('socketpair', 1, 1, 0))).toBe('allow');
    expect(verdict('socket', call('socketpair', 2, 1, 0))).toEqual(refused(EAFNOSUPPORT));
  });

  test('cannot be hidden from whoever identifies callers: the request to be undumpable is answered and not made', () => {
    expect(verdict('socket', call('prctl', 4, 0))).toEqual({ errno: 0 });
    expect(verdict('socket', call('prctl', 4, 1))).toBe('allow');
    expect(verdict('namespace', call('prctl', 4, 0))).toBe('allow');
  });
});

type Verdicts = Readonly<Record<Fence, ReturnType<typeof verdict>>>;
function both(socket: Verdicts['socket'], namespace: Verdicts['namespace']): Verdicts {
  return { socket, namespace };
}
