/*
 * What a workload sees of the file system, by mounts: for kernels without Landlock, and to hide the
 * supervisor's own files on any (mount_namespaces(7)). The caller stands in a mount namespace of its own
 * with CAP_SYS_ADMIN over it; the workload has no capability, so none of this can be undone.
 */
#ifndef OPENSHELL_VIEW_H
#define OPENSHELL_VIEW_H

#include "spec.h"

struct view_outcome {
	int error;	  /* errno of the step that failed, 0 when none */
	const char *step; /* that step, for a sentence */
	const char *path; /* what it failed on, or NULL */
	bool fresh_proc;  /* /proc is one of this pid namespace */
	bool resolv_conf; /* /etc/resolv.conf is our own */
	unsigned missing; /* paths of the policy that do not exist */
};

/*
 * Builds the view that `spec` asks for: a fresh proc (with CLONE_NEWPID; the caller is its PID 1), a
 * private root that holds only the policy's paths, hidden paths, our own resolv.conf. Returns 0, or -1 with
 * the outcome's error set; then the namespace is spoilt and must not be used.
 */
int view_build(const struct spec *spec, struct view_outcome *outcome);

#endif
