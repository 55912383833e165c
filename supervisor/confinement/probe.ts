import { execFile } from 'node:child_process';
import * as v from 'valibot';
import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';

const outcome = v.variant('ok', [
  v.object({ ok: v.literal(true) }),
  v.object({ ok: v.literal(false), errno: v.string() }),
]);

const schema = v.object({
  release: v.string(),
  version: v.string(),
  uid: v.number(),
  gid: v.number(),
  /** The effective capability set, in hexadecimal. */
  capabilities: v.string(),
  /** Whether the kernel hides from the workload's user id what we start, from its first instruction on. */
  hidden: v.boolean(),
  /** Whether /proc is mounted and readable. */
  proc: v.boolean(),
  /** Whether namespaces can be made without a user namespace around them. */
  privileged: v.boolean(),
  landlock: v.variant('ok', [
    v.object({ ok: v.literal(true), abi: v.number() }),
    v.object({ ok: v.literal(false), errno: v.string() }),
  ]),
  seccomp_filter: outcome,
  socket_fence: outcome,
  user_namespace: outcome,
  /** Whether a process in a user namespace cannot look at one of the same user outside. */
  process_isolation: outcome,
  network_namespace: outcome,
  ipc_namespace: outcome,
  /** tmpfs and bind mounts in a mount namespace of its own. */
  mounts: outcome,
  /** A root of its own, entered by pivot_root(2). */
  private_view: outcome,
  /** A pid namespace with a proc file system of its own. */
  pid_namespace: outcome,
  low_ports: outcome,
  io_uring: outcome,
  pidfd_open: outcome,
  pidfd_getfd: outcome,
  process_vm_readv: outcome,
});

/** What this kernel and container allow; every mechanism was really tried. */
export type Probe = Readonly<v.InferOutput<typeof schema>>;

/** One tried mechanism. */
export type ProbeOutcome = Readonly<v.InferOutput<typeof outcome>>;

/** Reads the probe's JSON. */
export function parseProbe(text: string): Result<Probe, Fault> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    return err(new Fault('internal', 'the probe of the kernel printed no JSON', { cause }));
  }
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return ok(parsed.output);
  const issue = parsed.issues[0];
  const place = v.getDotPath(issue) ?? 'the whole';
  return err(new Fault('internal', `the probe of the kernel misses ${place}: ${issue.message}`));
}

/** Runs `openshell-sandbox probe`, at most 70 s: thirteen attempts of at most 5 s each. */
export function runProbe(launcher: string): Promise<Result<Probe, Fault>> {
  return new Promise((resolve) => {
    execFile(launcher, ['probe'], { env: {}, timeout: 70_000, maxBuffer: 64 * 1024 }, (failure, stdout) => {
      if (failure)
        resolve(err(new Fault('internal', `cannot run the probe ${launcher}`, { cause: failure })));
      else resolve(parseProbe(stdout));
    });
  });
}
