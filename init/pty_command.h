/*
 * What the supervisor tells the holder of a terminal, one line each:
 *   "size COLUMNS ROWS WIDTH HEIGHT"   the window, in characters and pixels
 *   "mode NAME VALUE"                  one terminal mode (pty_modes.h)
 *   "name"                             asks for "pts N", which is also said as soon as it is known
 *   "lock"                             the supervisor has opened the other end: nobody else may, before the session has it
 *   "run"                              the terminal is held by its session: bytes may flow
 *   "drain"                            the session has ended: hand over what it printed, then end
 * The end of the stream hangs up.
 */
#ifndef OPENSHELL_PTY_COMMAND_H
#define OPENSHELL_PTY_COMMAND_H

#include <stddef.h>
#include <sys/ioctl.h>

enum { PTY_LINE_MAX = 128 };

enum pty_word { PTY_WRONG, PTY_SIZE, PTY_MODE, PTY_NAME, PTY_LOCK, PTY_RUN, PTY_DRAIN };

struct pty_command {
	struct winsize size;
	const char *mode; /* points into the line */
	size_t mode_size;
	unsigned value;
};

/* Parses one line without its newline. */
enum pty_word pty_command_parse(const char *line, size_t size, struct pty_command *command);

#endif
