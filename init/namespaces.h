/* Entering new namespaces (namespaces(7), user_namespaces(7)), for the anchor and for the probe. */
#ifndef OPENSHELL_NAMESPACES_H
#define OPENSHELL_NAMESPACES_H

#include <stdbool.h>
#include <sys/types.h>

struct namespaces {
	unsigned flags; /* CLONE_NEW* */
	/* Who exists inside a new user namespace: each is mapped to itself, and nobody else is. */
	uid_t uid;
	gid_t gid;
};

/* Whether the calling process may make namespaces without a user namespace around them. */
bool namespaces_privileged(void);

/*
 * Moves the calling process into new namespaces, and brings `lo` up when there is a new network. With
 * CLONE_NEWPID only children are inside. Returns 0, or an errno with the step that failed in `*step`.
 */
int namespaces_enter(const struct namespaces *wanted, const char **step);

#endif
