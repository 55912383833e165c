#ifndef OPENSHELL_EXEC_H
#define OPENSHELL_EXEC_H

enum { EXEC_CONTROL_FD = 3, EXEC_FENCE_FD = 4 };

/*
 * `openshell-sandbox exec`: reads a spec from EXEC_CONTROL_FD, confines itself and executes the
 * workload. On the same socket it reports, one record a line:
 *   "landlock ABI RULES MISSING"  what is in force
 *   "warn TEXT"                   something best_effort could not do
 *   "fail CODE TEXT"              why it exits, and with which code
 * The end of the stream without "fail" means that the workload runs.
 */
int exec_main(void);

#endif
