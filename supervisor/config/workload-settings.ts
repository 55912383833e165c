import { Fault } from '../fault.ts';
import { type Get, number } from './given.ts';

/** Whom the driver wants the workload to be. */
export interface UserIds {
  readonly uid: number;
  readonly gid: number;
}

/** The ids of the driver; undefined where it leaves them to the image. Throws the Fault of what does not go together. */
export function readIdentity(get: Get): UserIds | undefined {
  const [uid, gid] = [get('', 'OPENSHELL_SANDBOX_UID'), get('', 'OPENSHELL_SANDBOX_GID')];
  if (uid === undefined && gid === undefined) return undefined;
  if (uid === undefined || gid === undefined)
    throw new Fault('config', 'OPENSHELL_SANDBOX_UID and OPENSHELL_SANDBOX_GID must both be set, or neither');
  if (get('', 'OPENSHELL_OCI_IMAGE_USER') !== undefined)
    throw new Fault(
      'config',
      'OPENSHELL_OCI_IMAGE_USER and OPENSHELL_SANDBOX_UID cannot both be set: keep the one that is meant',
    );
  return Object.freeze({
    uid: number('OPENSHELL_SANDBOX_UID', uid, 0, 1, 4_294_967_294),
    gid: number('OPENSHELL_SANDBOX_GID', gid, 0, 1, 4_294_967_294),
  });
}

/** The variables that a sandbox's owner has set, a JSON object of strings. Throws the Fault of what cannot be set; never with a value. */
export function readUserEnvironment(value: string | undefined): ReadonlyMap<string, string> {
  if (value === undefined || value === '') return new Map();
  let parsed: unknown;
  try {
    parsed = JSON.parse(value);
  } catch {
    throw new Fault('config', 'OPENSHELL_USER_ENVIRONMENT is not JSON');
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw new Fault('config', 'OPENSHELL_USER_ENVIRONMENT is not a JSON object');
  const variables = new Map<string, string>();
  for (const [name, entry] of Object.entries(parsed)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || typeof entry !== 'string' || entry.includes('\0'))
      throw new Fault(
        'config',
        `OPENSHELL_USER_ENVIRONMENT has a variable that cannot be set: "${name.slice(0, 100)}"`,
      );
    variables.set(name, entry);
  }
  return variables;
}
