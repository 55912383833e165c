#ifndef OPENSHELL_EXEC_H
#define OPENSHELL_EXEC_H

/*
 * `openshell-sandbox exec [pipes [UID]]`: reads a spec from CONTROL_FD, confines itself behind the socket fence, executes.
 * With `pipes` the standard streams are new pipes (pipes.h), which the user may open by name.
 */
int exec_main(int count, char *const words[]);

/*
 * `openshell-sandbox join [pipes [UID]]`: has the anchor run a session with our standard descriptors and control socket,
 * and ends as that session does. We stay outside, as its stand-in among the supervisor's children.
 */
int join_main(int count, char *const words[]);

#endif
