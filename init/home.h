/* Where this binary lies, and what lies beside it. */
#ifndef OPENSHELL_HOME_H
#define OPENSHELL_HOME_H

#include <limits.h>
#include <stdbool.h>

struct home {
	char self[PATH_MAX];	   /* this binary */
	char directory[PATH_MAX];  /* where supervisor and lib/ are */
	char loader[PATH_MAX];	   /* the dynamic loader that starts the supervisor */
	char supervisor[PATH_MAX];
	char shim[PATH_MAX];	   /* what the supervisor executes beside a workload (shim.h) */
	int shim_descriptor;	   /* -1, or what that path leads through */
	char libraries[PATH_MAX];
	bool unpacked;		   /* the directory is ours, from the appended payload */
};

/* Fills in `self`. Returns false, having reported, when it cannot be found. */
bool home_find_self(struct home *home);

/*
 * Finds the siblings, or unpacks the payload that is appended to this binary when there are none.
 * Returns false, having reported why.
 */
bool home_find(struct home *home);

/* Removes what home_find unpacked; the running supervisor keeps what it has mapped. */
void home_forget(struct home *home);

#endif
