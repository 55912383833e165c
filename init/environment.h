/* Which variables reach the supervisor (contract.md, 4.3): an image's ENV is hostile input. */
#ifndef OPENSHELL_ENVIRONMENT_H
#define OPENSHELL_ENVIRONMENT_H

#include "home.h"

enum { SUPERVISOR_ENV_MAX = 64 };

/*
 * Fills `out` with the supervisor's environment: the contract's variables out of `inherited`, and the
 * fixed ones that keep the runtime inside its own image. The strings live as long as both arguments.
 */
void environment_for_supervisor(char *const inherited[], const struct home *home, char *out[SUPERVISOR_ENV_MAX]);

/* Overwrites the strings, which /proc/<pid>/environ shows (proc_pid_environ(5)). */
void environment_forget(char *const inherited[]);

#endif
