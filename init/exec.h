#ifndef OPENSHELL_EXEC_H
#define OPENSHELL_EXEC_H

/* `openshell-sandbox exec`: reads a spec from CONTROL_FD, confines itself behind the socket fence, executes. */
int exec_main(void);

/*
 * `openshell-sandbox join`: has the anchor run a session with our standard descriptors and control socket,
 * and ends as that session does. We stay outside, as its stand-in among the supervisor's children.
 */
int join_main(void);

#endif
