#ifndef OPENSHELL_MOUNTS_H
#define OPENSHELL_MOUNTS_H

/*
 * Makes the mount at `path`, and every mount below it, read-only: mount_setattr(2) (Linux 5.12), or one remount
 * each where that is missing. Returns 0, or -1 with errno. `path` must be canonical.
 */
int mounts_read_only(const char *path);

#endif
