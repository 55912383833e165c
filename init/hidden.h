/*
 * Keeps a process of ours from the workload, which has its user id. Without Landlock nothing else does: whoever may
 * trace a process may write its code (ptrace(2), "Ptrace access mode checking"; /proc/PID/mem is opened by the same
 * rule), and what has been opened stays open when the process hides itself later. So a process that starts while a
 * workload runs has to be hidden from its first instruction on, by an executable that nobody may read (shim.h), and
 * what is here serves where the kernel does not do that (gVisor), and where a change of ids has undone it.
 */
#ifndef OPENSHELL_HIDDEN_H
#define OPENSHELL_HIDDEN_H

#include <stdbool.h>

/* Whether this process is hidden: asked first of all, it tells whether the kernel did that. */
bool hidden(void);

/* Hides this process, or ends it. */
void hide(void);

/* Shows this process to its own user id: then its /proc files are its own. Returns false when that cannot be. */
bool unhide(void);

#endif
