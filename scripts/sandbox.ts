/** `scripts/sandbox`: runs a command in a sandbox, as a cluster would, and ends with its code. */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Bind } from './lib/bundle.ts';
import type { RootfsKind } from './lib/rootfs.ts';
import { isRuntime, RUNTIMES } from './lib/runtime.ts';
import { startSandbox } from './lib/sandbox.ts';
import { startWorld } from './lib/world.ts';

const HELP = `Usage: scripts/sandbox [options] -- COMMAND [ARGUMENT…]

Runs a command in a sandbox as a cluster would: the supervisor from a read-only volume, user 1000, no capability,
no new privileges, read-only root, RuntimeDefault seccomp, a network namespace with a small world beside it.
Prints the command's output and ends with its code. Needs root.

  --runtime ${RUNTIMES.join('|')}   what runs it (default runc); host: no container at all; vm: runc in a virtual machine
  --policy FILE       a policy in YAML, instead of the gateway's
  --gateway URL       a gateway that this machine reaches (default: a development gateway of its own)
  --no-gateway        no gateway at all
  --rootfs DIR        debian (default), busybox, or a directory
  --bind SRC:DST[:rw] mounts a file or directory, read-only by default; may be repeated
  --env KEY=VALUE     a variable of the container, as from an image; may be repeated
  --flag FLAG         one more argument for the supervisor itself; may be repeated
  --kernel-argument WORD  one more word for the guest kernel's command line (vm only); may be repeated
  --keep              leaves the bundle on disk and tells where
  --help              this text
`;

const fail = (message: string): never => {
  console.error(`scripts/sandbox: ${message}`);
  process.exit(64);
};

const parse = () => {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        runtime: { type: 'string', default: 'runc' },
        policy: { type: 'string' },
        gateway: { type: 'string' },
        'no-gateway': { type: 'boolean', default: false },
        rootfs: { type: 'string', default: 'debian' },
        bind: { type: 'string', multiple: true, default: [] },
        env: { type: 'string', multiple: true, default: [] },
        flag: { type: 'string', multiple: true, default: [] },
        'kernel-argument': { type: 'string', multiple: true, default: [] },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
};

const toBind = (text: string): Bind => {
  const [source = '', destination = '', mode = 'ro'] = text.split(':');
  if (source === '' || !destination.startsWith('/') || (mode !== 'ro' && mode !== 'rw')) {
    return fail(`--bind ${text}: expected SRC:DST or SRC:DST:rw with an absolute DST`);
  }
  return { source: resolve(source), destination, writable: mode === 'rw' };
};

const toVariable = (text: string): readonly [string, string] => {
  const at = text.indexOf('=');
  return at > 0 ? [text.slice(0, at), text.slice(at + 1)] : fail(`--env ${text}: expected KEY=VALUE`);
};

const toRootfs = (text: string): RootfsKind | { readonly path: string } =>
  text === 'debian' || text === 'busybox' ? text : { path: resolve(text) };

const toUrl = (text: string): URL => {
  const url = URL.parse(text);
  return url?.protocol === 'http:' || url?.protocol === 'https:'
    ? url
    : fail(`--gateway ${text}: expected a URL that begins with http:// or https://`);
};

const { values, positionals } = parse();
if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}
if (process.getuid?.() !== 0) fail('network namespaces and container runtimes need root here');
const runtime = isRuntime(values.runtime)
  ? values.runtime
  : fail(`--runtime ${values.runtime}: expected one of ${RUNTIMES.join(', ')}`);
const binds = values.bind.map(toBind);
const outside = values.gateway === undefined ? undefined : toUrl(values.gateway);
// Inside, the gateway has another address than its certificate names.
const serverName =
  outside?.protocol === 'https:' ? { OPENSHELL_GATEWAY_TLS_SERVER_NAME: outside.hostname } : {};
const env = { ...serverName, ...Object.fromEntries(values.env.map(toVariable)) };

const world = await startWorld(
  outside === undefined ? { gateway: !values['no-gateway'] } : { outsideGateway: outside.href },
);
const sandbox = await startSandbox({
  runtime,
  command: positionals,
  rootfs: toRootfs(values.rootfs),
  ...(values.policy === undefined ? {} : { policy: values.policy }),
  ...(values['no-gateway'] ? {} : { gateway: world.gatewayUrl }),
  env,
  binds,
  flags: values.flag,
  kernelArguments: values['kernel-argument'],
  network: await world.network(),
  keep: values.keep,
  output: 'inherit',
  stdin: 'inherit',
  timeout: 0,
});
// Instead of ending at once: the sandbox ends as a pod does, and its code is ours.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.removeAllListeners(signal);
  process.on(signal, () => sandbox.signal(signal));
}
const { code, stderr } = await sandbox.ended;
process.stderr.write(stderr);
await world.stop();
if (values.keep) console.error(`kept: ${sandbox.directory}`);
process.exit(code);
