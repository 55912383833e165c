/*
 * A program that tries to get out of its sandbox. Every attempt runs in a child of its own, for at most ten
 * seconds, and ends as one line on standard output: name, outcome, detail, separated by tabs. What it says is
 * only half of the proof: the tests look from outside whether anything got through.
 */
#ifndef ESCAPE_ATTEMPT_H
#define ESCAPE_ATTEMPT_H

#include <stddef.h>
#include <sys/types.h>

enum outcome {
	REFUSED,    /* what a sandbox must do */
	ESCAPED,    /* a hole */
	IMPOSSIBLE, /* this kernel or container has nothing to attack */
};

struct attempt {
	const char *name;
	enum outcome (*run)(int argument);
	int argument;
};

/* Where to, from the command line ("other=198.51.100.20"); "" when it was not given. */
const char *target(const char *name);

/* A remark beside the outcome. */
void detail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ESCAPED when `result` is not negative; else REFUSED, with the errno as the detail. */
enum outcome judge(long result);

/* The supervisor's pid as /proc shows it, 0 when it cannot be seen. */
pid_t supervisor_pid(void);

extern const struct attempt network_attempts[], socket_attempts[], broker_attempts[], file_attempts[],
	process_attempts[], kernel_attempts[], door_attempts[];

#endif
