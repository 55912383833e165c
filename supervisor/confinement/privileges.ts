/**
 * Who the supervisor is in a container that runs as root. It acts as the workload's user, so that the
 * kernel lets it read the workload's /proc entries without CAP_SYS_PTRACE (ptrace(2), "access mode
 * checking", goes by the file-system user id) and signal it without CAP_KILL, and so that a fault of ours
 * is not root's. Its real and saved ids stay 0: the workload can neither signal nor trace it, and it can
 * become root again for the few acts that need it.
 */
export interface Privileges {
  /** Runs `act`, which must be synchronous, as root where the container runs as root. */
  asRoot<T>(act: () => T): T;
}

/** Where the supervisor is no root, or has to stay it. */
export const unchanged: Privileges = { asRoot: (act) => act() };

/** The calls of `process` that this needs. */
export interface EffectiveIds {
  readonly setegid: (id: number) => void;
  readonly seteuid: (id: number) => void;
}

/** Gives up root for good measure. `ids` is `process`. */
export function actAs(
  identity: { readonly uid: number; readonly gid: number },
  ids: EffectiveIds,
): Privileges {
  // The group first: without an effective user id of 0 it could not be changed any more.
  const become = (uid: number, gid: number): void => {
    if (uid === 0) ids.seteuid(uid);
    ids.setegid(gid);
    if (uid !== 0) ids.seteuid(uid);
  };
  become(identity.uid, identity.gid);
  return {
    asRoot(act) {
      become(0, 0);
      try {
        return act();
      } finally {
        become(identity.uid, identity.gid);
      }
    },
  };
}
