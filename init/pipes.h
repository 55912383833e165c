/*
 * Standard streams of a session as pipes of the kernel. Node makes socket pairs only, and a program cannot open those by
 * name: /dev/stdout and /dev/stderr would fail with ENXIO (open(2)).
 */
#ifndef OPENSHELL_PIPES_H
#define OPENSHELL_PIPES_H

#include <stdbool.h>

/* What stands behind `exec` and `join`: nothing, or "pipes" and perhaps a user id. */
struct pipes_request {
	bool wanted;
	long owner; /* who may open them by name; -1: us */
};

/* False when `words` are none of that. */
bool pipes_parse(int count, char *const words[], struct pipes_request *request);

/*
 * Makes the three pipes our standard streams and sends the other ends to the supervisor over CHANNEL_FD, Node's
 * child-process IPC, as raw handles named "stdin", "stdout" and "stderr". Fails over the control socket. Does nothing when none are wanted.
 */
void pipes_open(const struct pipes_request *request);

#endif
