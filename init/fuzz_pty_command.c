/* Fuzzes the parser of what the holder of a terminal is told: whatever the bytes, no memory error. */
#include "pty_command.h"
#include "pty_modes.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pty_command command;
	struct termios modes = { 0 };
	char *copy = malloc(size ? size : 1); /* exactly so large, so that the sanitizer sees one byte too far */

	memcpy(copy, data, size);
	if (pty_command_parse(copy, size, &command) == PTY_MODE) {
		if (command.mode < copy || command.mode + command.mode_size > copy + size)
			abort();
		pty_mode_set(&modes, command.mode, command.mode_size, command.value);
	}
	free(copy);
	return 0;
}
