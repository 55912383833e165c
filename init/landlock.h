/* File rules and scopes by Landlock (Documentation/userspace-api/landlock.rst). */
#ifndef OPENSHELL_LANDLOCK_H
#define OPENSHELL_LANDLOCK_H

#include "spec.h"

struct landlock_outcome {
	int abi;	    /* what was used; 0 when Landlock is off or absent */
	int error;	    /* errno of the step that failed, 0 when none */
	const char *step;   /* that step, for a sentence */
	const char *path;   /* the path it failed on, or NULL */
	unsigned rules;	    /* rules in force */
	unsigned missing;   /* paths that do not exist or cannot be opened */
};

/* The ABI that this kernel and container offer, or -errno. */
int landlock_abi(void);

/*
 * Opens the paths of the spec and builds a ruleset; returns its descriptor, or -1 with the outcome's
 * error set. Call it before ids are dropped: root can open what the workload may not.
 */
int landlock_prepare(const struct spec *spec, struct landlock_outcome *outcome);

/* Restricts the calling thread. It needs no_new_privs. Returns 0 or an errno. */
int landlock_enforce(int ruleset);

#endif
