import { existsSync, readdirSync } from 'node:fs';
import { attempt, run } from './command.ts';
import { isOrphan, ownedName } from './owner.ts';

const PREFIX = 'oshn';
const DIRECTORY = '/run/netns';

/** The path by which a process enters a named network namespace (ip-netns(8)). */
export const namespacePath = (name: string): string => `${DIRECTORY}/${name}`;

/** Makes a network namespace with `lo` up, and returns its name. */
export const makeNamespace = async (): Promise<string> => {
  const name = ownedName(PREFIX);
  await run('ip', ['netns', 'add', name]);
  await run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
  return name;
};

/** Ends what runs in a namespace and removes it, with every interface in it. */
export const removeNamespace = async (name: string): Promise<void> => {
  const pids = await attempt('ip', ['netns', 'pids', name]);
  for (const pid of pids.stdout.split('\n').filter((line) => line !== '')) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }
  await attempt('ip', ['netns', 'delete', name]);
};

/** Removes the namespaces of processes that died without doing so. */
export const collectNamespaces = async (): Promise<void> => {
  if (!existsSync(DIRECTORY)) return;
  for (const name of readdirSync(DIRECTORY).filter((entry) => isOrphan(PREFIX, entry)))
    await removeNamespace(name);
};

/** Joins two namespaces by a cable. `near` and `far` are addresses with a prefix length. */
export const connect = async (
  near: { readonly namespace: string; readonly device: string; readonly address: string },
  far: { readonly namespace: string; readonly device: string; readonly address: string },
): Promise<void> => {
  const pair = ['type', 'veth', 'peer', 'name', far.device, 'netns', far.namespace];
  await run('ip', ['link', 'add', near.device, 'netns', near.namespace, ...pair]);
  for (const end of [near, far]) {
    await run('ip', ['-n', end.namespace, 'address', 'add', end.address, 'dev', end.device]);
    await run('ip', ['-n', end.namespace, 'link', 'set', end.device, 'up']);
  }
};
