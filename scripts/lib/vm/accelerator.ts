import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { attempt } from '../command.ts';
import { cached } from '../paths.ts';

export type Accelerator = 'kvm' | 'tcg';

/** A kernel says something on the console within a second under a KVM that works: 5 s. */
const PROBE_SECONDS = '5';

/** The processor to ask for. Setting MSR 0x10a fails under some nested hypervisors, and ends qemu. */
export const CPU: Readonly<Record<Accelerator, string>> = { kvm: 'host,-arch-capabilities', tcg: 'max' };

/**
 * How many processors. An emulated guest has one: with two, one start in fifty hung on a busy machine, both processors of it
 * spinning in the kernel's allocator (QEMU 7.2; "soft lockup" on its console).
 */
export const CPUS: Readonly<Record<Accelerator, string>> = { kvm: '2', tcg: '1' };

const probe = async (kernel: string): Promise<Accelerator> => {
  if (!existsSync('/dev/kvm')) return 'tcg';
  const machine = ['-M', 'q35,accel=kvm', '-cpu', CPU.kvm, '-m', '256', '-display', 'none', '-nodefaults'];
  const boot = ['-no-reboot', '-serial', 'stdio', '-kernel', kernel];
  const { stdout } = await attempt('timeout', [
    '-s',
    'KILL',
    PROBE_SECONDS,
    'qemu-system-x86_64',
    ...machine,
    ...boot,
    '-append',
    'console=ttyS0 panic=-1',
  ]);
  return stdout.includes('Linux version') ? 'kvm' : 'tcg';
};

/**
 * `kvm` where a kernel really boots with it, else emulation: /dev/kvm can exist and hang. Asked once for each
 * start of this machine.
 */
export const accelerator = async (kernel: string): Promise<Accelerator> => {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const path = cached('vm', `accelerator-${boot}`);
  const known = existsSync(path) ? readFileSync(path, 'utf8') : '';
  if (known === 'kvm' || known === 'tcg') return known;
  const found = await probe(kernel);
  writeFileSync(path, found);
  return found;
};
