/* Terminal modes by the names that RFC 4254, 8, gives them. */
#ifndef OPENSHELL_PTY_MODES_H
#define OPENSHELL_PTY_MODES_H

#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

/* Sets one mode. False when the name is none that this kernel knows: then nothing has changed. */
bool pty_mode_set(struct termios *modes, const char *name, size_t size, unsigned value);

#endif
