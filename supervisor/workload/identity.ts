import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';

/** Whom the workload runs as. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** What decides it in a container that runs as root (contract.md, 4.5). */
export interface IdentityInput {
  /** OPENSHELL_SANDBOX_UID and _GID. */
  readonly configured: { readonly uid: number; readonly gid: number } | undefined;
  /** OPENSHELL_OCI_IMAGE_USER: the image's USER, which may be empty; undefined when the variable is absent. */
  readonly imageUser: string | undefined;
  /** The policy's process.run_as_user and run_as_group: `sandbox` or a number. */
  readonly runAsUser: string | undefined;
  readonly runAsGroup: string | undefined;
  /** The image's /etc/passwd and /etc/group; empty where there are none. */
  readonly passwd: string;
  readonly group: string;
}

/** The user that the contract falls back on. */
const DEFAULT_NAME = 'sandbox';
const MAX_LINE = 8192;
const MAX_ID = 4_294_967_294;

/**
 * Resolves the workload's ids: the configured ones, else the policy's where it names both, else the image's
 * user, else `sandbox`. Root is always refused. Ids need no passwd entry; names do.
 */
export function resolveIdentity(input: IdentityInput): Result<Identity, Fault> {
  const { configured, imageUser, runAsUser, runAsGroup } = input;
  if (configured !== undefined) return ok({ ...configured, groups: [] });
  if (imageUser !== undefined && (runAsUser === undefined || runAsGroup === undefined))
    return fromImage(input, imageUser);
  const user = runAsUser ?? DEFAULT_NAME;
  return lookUp(input, user, runAsGroup ?? (runAsUser === undefined ? DEFAULT_NAME : undefined), [
    'process.run_as_user',
    'OPENSHELL_SANDBOX_UID and OPENSHELL_SANDBOX_GID',
  ]);
}

function fromImage(input: IdentityInput, imageUser: string): Result<Identity, Fault> {
  const [user = '', group] = imageUser.split(':');
  const setting = [
    'OPENSHELL_OCI_IMAGE_USER',
    'USER in the image, or process.run_as_user in the policy',
  ] as const;
  if (user === '') return err(refuse('the image names no user, which means root', setting[1]));
  return lookUp(input, user, group === '' ? undefined : group, setting);
}

const refuse = (what: string, setting: string): Fault =>
  new Fault('confinement', `the workload cannot be given a user: ${what}; set ${setting}`);

function lookUp(
  input: IdentityInput,
  user: string,
  group: string | undefined,
  [source, remedy]: readonly [string, string],
): Result<Identity, Fault> {
  const numeric = parseId(user);
  const entries = records(input.passwd, 4).filter((fields) =>
    numeric === undefined ? fields[0] === user : parseId(fields[2] ?? '') === numeric,
  );
  if (numeric === undefined && entries.length > 1)
    return err(refuse(`${source} is ${user}, which /etc/passwd has ${entries.length} times`, remedy));
  const [entry] = entries;
  const uid = numeric ?? parseId(entry?.[2] ?? '');
  if (uid === undefined) return err(refuse(`${source} is ${user}, which /etc/passwd does not have`, remedy));
  const gid = group === undefined ? parseId(entry?.[3] ?? '') : groupId(input, group);
  if (gid === undefined)
    return err(
      refuse(
        group === undefined
          ? `${source} is ${user} without a group, and /etc/passwd has no entry for it`
          : `the group ${group} is not in /etc/group`,
        remedy,
      ),
    );
  if (uid === 0 || gid === 0) return err(refuse(`${source} is ${user}, which is root or of group 0`, remedy));
  const name = entry?.[0];
  const groups = name === undefined ? [] : supplementary(input.group, name).filter((id) => id !== gid);
  return ok({ uid, gid, groups });
}

function groupId(input: IdentityInput, group: string): number | undefined {
  const numeric = parseId(group);
  if (numeric !== undefined) return numeric;
  const found = records(input.group, 3).filter(([name]) => name === group);
  return found.length === 1 ? parseId(found[0]?.[2] ?? '') : undefined;
}

/** Groups that list the user as a member; root's own group is never among them. */
function supplementary(group: string, user: string): readonly number[] {
  const ids = records(group, 4)
    .filter(([, , , members = '']) => members.split(',').includes(user))
    .map(([, , id = '']) => parseId(id))
    .filter((id) => id !== undefined && id !== 0);
  return [...new Set(ids)].filter((id) => id !== undefined).slice(0, 64);
}

const parseId = (text: string): number | undefined => {
  if (!/^\d{1,10}$/.test(text)) return undefined;
  const id = Number(text);
  return id <= MAX_ID ? id : undefined;
};

/** Lines of passwd(5) or group(5) with at least `fields` fields; longer lines than 8 KiB are left out. */
function records(text: string, fields: number): readonly (readonly string[])[] {
  return text
    .split('\n')
    .filter((line) => line.length <= MAX_LINE && line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'))
    .filter((parts) => parts.length >= fields && parts[0] !== '');
}

/**
 * The passwd and group texts with their `sandbox` lines naming the identity, as tools that look the user up
 * expect; undefined for a text that needs no change.
 */
export function withSandboxEntry(
  { passwd, group }: { readonly passwd: string; readonly group: string },
  { uid, gid }: Identity,
): { readonly passwd: string | undefined; readonly group: string | undefined } {
  const replace = (text: string, line: string): string | undefined => {
    const lines = text.split('\n').filter((one) => one !== '' && !one.startsWith(`${DEFAULT_NAME}:`));
    const next = `${[...lines, line].join('\n')}\n`;
    return next === text ? undefined : next;
  };
  return {
    passwd: replace(passwd, `${DEFAULT_NAME}:x:${uid}:${gid}::/sandbox:/bin/sh`),
    group: replace(group, `${DEFAULT_NAME}:x:${gid}:`),
  };
}
