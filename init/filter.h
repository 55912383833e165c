/*
 * The seccomp filter of a workload: the deny list and the socket fence in one program.
 * A classic BPF program sees the system call's number and the six argument registers, never memory
 * (Documentation/userspace-api/seccomp_filter.rst), so every rule here is free of races.
 */
#ifndef OPENSHELL_FILTER_H
#define OPENSHELL_FILTER_H

#include "kernel.h"
#include "spec.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { FILTER_MAX = 2048 }; /* the kernel's own limit, BPF_MAXINSNS, is 4096 */

struct filter {
	struct sock_filter code[FILTER_MAX];
	unsigned short length;
	bool overflow;
};

/*
 * Builds the filter. `fence`: with FENCE_SOCKET TCP sockets go to the user notification and every other
 * internet socket is refused. `protected_pids`: the supervisor, its threads and init, which the workload may not
 * signal, renice or re-limit. Returns false when the program would be too long.
 */
bool filter_build(struct filter *filter, enum fence_mode fence, const pid_t *protected_pids, size_t protected_count);

/*
 * Installs it on the calling thread, which needs no_new_privs. With `listener`, stores the descriptor
 * of the notification there. Returns 0 or an errno.
 */
int filter_install(const struct filter *filter, int *listener);

#endif
