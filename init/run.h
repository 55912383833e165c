#ifndef OPENSHELL_RUN_H
#define OPENSHELL_RUN_H

enum {
	SUPERVISOR_FENCE_FD = 4,	/* shims register with the broker through it */
	SUPERVISOR_ENVIRONMENT_FD = 5,	/* the container's whole environment, NUL-terminated records */
	SUPERVISOR_SHIM_FD = 9,		/* of a single file: what shim.h finds; above what a child's streams are put on */
};

/*
 * Starts the supervisor with `argv`, serves as PID 1 (or as a subreaper) until it ends, kills what is
 * left and returns the exit code.
 */
int run_main(char *const argv[], char *const environment[]);

#endif
