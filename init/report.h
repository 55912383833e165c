/* How this binary speaks to a person, and the exit codes it uses itself (see supervisor/fault.ts). */
#ifndef OPENSHELL_REPORT_H
#define OPENSHELL_REPORT_H

enum {
	EXIT_USAGE_ERROR = 64,
	EXIT_INTERNAL = 70,
	EXIT_CONFINEMENT = 71,
	EXIT_SUPERVISOR_LOST = 122, /* the supervisor was killed; the sandbox ends with it */
	EXIT_NOT_EXECUTABLE = 126,
	EXIT_NOT_FOUND = 127,
};

/* One line on standard error, prefixed with the program's name. Safe between fork and exec:
   formats into the stack and calls write(2) once. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The symbolic name of an errno ("EPERM"), or "E?" for one that we have no reason to expect. */
const char *errno_name(int number);

#endif
