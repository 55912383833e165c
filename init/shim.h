/*
 * The file that the supervisor executes for whatever of ours starts beside a workload: shims, holders of terminals,
 * stand-ins, the anchor. It is the launcher's twin `lib/openshell-shim`, which nobody may read, so that the kernel
 * hides what it starts from the first instruction on (fs/exec.c, would_dump; hidden.h).
 */
#ifndef OPENSHELL_SHIM_H
#define OPENSHELL_SHIM_H

#include "home.h"

#define SHIM_NAME "openshell-shim"

/*
 * Fills in `shim`, and `shim_descriptor` where its path leads through that. Where the twin cannot be executed (gVisor's
 * gofer must read what it executes) the launcher itself has to do: it is tried, for access(2) does not tell.
 */
void shim_find(struct home *home);

#endif
