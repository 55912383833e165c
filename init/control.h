/*
 * The socket between the supervisor and what it starts: exec, join and anchor. First a spec comes in
 * (spec.h); then these records go out, one a line, until the end of the stream means success:
 *   "landlock ABI RULES MISSING"  what is in force
 *   "pid N"                       the process, as the supervisor's own pid namespace counts it
 *   "warn TEXT"                   something best_effort could not do
 *   "later oom_score_adj"         what the supervisor is to write when the stream has ended
 *   "fail CODE TEXT"              why it exits, and with which code
 */
#ifndef OPENSHELL_CONTROL_H
#define OPENSHELL_CONTROL_H

#include "spec.h"

enum {
	CONTROL_FD = 3,
	FENCE_FD = 4,	/* the way to PID 1 */
	CHANNEL_FD = 5, /* Node's child-process IPC: an anchor's (channel.h), or for the pipes of a session (pipes.h) */
};

/* Sends one record. It is lost when the supervisor has gone: init ends us with it. */
void control_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Sends "fail" and exits with `code`. */
void control_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

/* Reads the spec, or fails. */
void control_read_spec(struct spec *spec, enum spec_purpose purpose);

#endif
