/*
 * `openshell-sandbox pty [UID GID]`: holds a pseudo terminal for one session. It stands outside the session's
 * confinement, because Landlock and a private view keep this binary from the workload: it opens the pair, the
 * supervisor hands the other end to the session's shim, which makes it its controlling terminal ("terminal" in
 * spec.h), and this one copies bytes between the terminal and its own stdin and stdout.
 * Commands come over descriptor 3 (pty_command.h). With ids, it becomes them before it opens anything.
 */
#ifndef OPENSHELL_PTY_H
#define OPENSHELL_PTY_H

int pty_main(int argc, char *argv[]);

#endif
