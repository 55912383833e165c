/**
 * Hashes what a process of another user runs, while this process is root again for a moment; prints the outcome as JSON.
 * For a start without CAP_SYS_PTRACE, as a root container has it.
 */
import { spawn } from 'node:child_process';
import { pbkdf2 } from 'node:crypto';
import { once } from 'node:events';
import { actAs } from '../../supervisor/confinement/privileges.ts';
import { ExecutableHashes } from '../../supervisor/egress/identity/executable-hash.ts';

const USER = { uid: 1000, gid: 1000 };
const { setegid, seteuid } = process;
if (setegid === undefined || seteuid === undefined) throw new Error('this platform has no user ids');
const privileges = actAs(USER, { setegid, seteuid });
const child = privileges.asRoot(() =>
  spawn('/bin/sleep', ['60'], { ...USER, groups: [], stdio: 'ignore' } as object),
);
await once(child, 'spawn');
// What is left to libuv's four threads waits behind these.
for (let i = 0; i < 4; i++) pbkdf2('', '', 100_000, 64, 'sha512', () => undefined);
const checked = new ExecutableHashes().check('/proc', child.pid ?? 0, '/bin/sleep');
privileges.asRoot(() => {
  const until = performance.now() + 500;
  while (performance.now() < until); // a session that starts takes a while, too
});
console.log(JSON.stringify(await checked));
privileges.asRoot(() => child.kill('SIGKILL'));
