#ifndef OPENSHELL_ANCHOR_H
#define OPENSHELL_ANCHOR_H

enum { ANCHOR_MAX_SESSIONS = 256 }; /* at once; the next one fails */

/*
 * `openshell-sandbox anchor`: reads an anchor's spec from CONTROL_FD, enters new namespaces, tells PID 1,
 * reports, and then forks a session for every shim that asks (exec.h, join_main), makes listeners for the
 * supervisor (channel.h) and reaps, until the supervisor closes CHANNEL_FD.
 */
int anchor_main(void);

/* What a shim and its session say to each other over the status socket of the session. */
struct anchor_exit {
	int status; /* as of waitpid(2) */
};

#endif
