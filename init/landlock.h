/*
 * File rules, TCP ports and scopes by Landlock (Documentation/userspace-api/landlock.rst).
 *
 * What each ABI adds, and what is done with it: 1 file rights; 2 REFER (below it every rename and link
 * across directories is refused); 3 truncation; 4 TCP ports; 5 ioctl on devices; 6 scopes of signals and
 * abstract unix sockets; 9 unix sockets by path. 7 (audit records) and 8 (all threads of a process at
 * once) add no protection to a process of one thread, and 10 (UDP ports) none to a fence that refuses UDP
 * or holds nothing but lo.
 */
#ifndef OPENSHELL_LANDLOCK_H
#define OPENSHELL_LANDLOCK_H

#include "spec.h"

/* The ABI that this kernel and container offer, or -errno. */
int landlock_abi(void);

/*
 * Opens the paths of the spec, builds a ruleset and says over the control socket what came of it. Returns
 * its descriptor, or -1 when the spec has Landlock off. Ends the process (71) when Landlock or the ports that
 * were asked for cannot be had, when a hard requirement cannot be kept, and when the rules would let no
 * program run: best_effort is about single paths, and about the plan, which knows what to say of a kernel
 * without Landlock. Call it before ids are dropped: root can open what the workload may not.
 */
int landlock_prepare(const struct spec *spec);

/* Restricts the calling thread. It needs no_new_privs. Returns 0 or an errno. */
int landlock_enforce(int ruleset);

#endif
