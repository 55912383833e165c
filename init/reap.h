/* Ending the rest of the sandbox. */
#ifndef OPENSHELL_REAP_H
#define OPENSHELL_REAP_H

/*
 * Kills and reaps every process that is left: all of the pid namespace when this is its PID 1, else
 * all descendants, which are ours because of PR_SET_CHILD_SUBREAPER.
 */
void reap_everything(void);

#endif
