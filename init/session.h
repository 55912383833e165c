/* One confined process: everything that happens to it between fork(2) and execve(2). */
#ifndef OPENSHELL_SESSION_H
#define OPENSHELL_SESSION_H

#include "spec.h"

/* Ends what was inherited: the supervisor ignores SIGPIPE, and execve(2) would pass that on to the workload. */
void session_default_signals(void);

/* Closes all descriptors from `first` on. */
void session_close_from(int first);

/*
 * Confines the calling process as `spec` says and executes the workload, or serves files; reports over the control socket
 * and never returns. With FENCE_SOCKET it registers over FENCE_FD; with FENCE_NAMESPACE it must have been
 * forked by the anchor, which stands inside. `proc` is an open directory, the container's own /proc, which
 * the workload's view may not have; it is closed.
 */
void session_run(struct spec *spec, int proc) __attribute__((noreturn));

#endif
