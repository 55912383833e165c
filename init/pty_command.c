#include "pty_command.h"

#include <stdbool.h>
#include <string.h>

static bool starts(const char **at, const char *stop, const char *word)
{
	size_t size = strlen(word);

	if ((size_t)(stop - *at) < size || memcmp(*at, word, size))
		return false;
	*at += size;
	return true;
}

/* A decimal number up to `limit`, and the blank behind it, if there is one. */
static bool number(const char **at, const char *stop, unsigned limit, unsigned *value)
{
	const char *from = *at;
	unsigned long long read = 0;

	for (; *at < stop && **at >= '0' && **at <= '9'; ++*at)
		if ((read = read * 10 + (unsigned)(**at - '0')) > limit)
			return false;
	*value = (unsigned)read;
	if (*at == from)
		return false;
	if (*at == stop)
		return true;
	return *(*at)++ == ' ';
}

static bool parse_size(const char *at, const char *stop, struct winsize *size)
{
	unsigned columns, rows, width, height;

	if (!number(&at, stop, 65535, &columns) || !number(&at, stop, 65535, &rows) || !number(&at, stop, 65535, &width) ||
	    !number(&at, stop, 65535, &height))
		return false;
	*size = (struct winsize){ .ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows,
				  .ws_xpixel = (unsigned short)width, .ws_ypixel = (unsigned short)height };
	return at == stop;
}

enum pty_word pty_command_parse(const char *line, size_t size, struct pty_command *command)
{
	const char *at = line, *stop = line + size;

	if (size == 4 && !memcmp(line, "name", 4))
		return PTY_NAME;
	if (size == 4 && !memcmp(line, "lock", 4))
		return PTY_LOCK;
	if (size == 3 && !memcmp(line, "run", 3))
		return PTY_RUN;
	if (size == 5 && !memcmp(line, "drain", 5))
		return PTY_DRAIN;
	if (starts(&at, stop, "size "))
		return parse_size(at, stop, &command->size) ? PTY_SIZE : PTY_WRONG;
	if (!starts(&at, stop, "mode "))
		return PTY_WRONG;
	command->mode = at;
	const char *blank = memchr(at, ' ', (size_t)(stop - at));
	if (!blank)
		return PTY_WRONG;
	command->mode_size = (size_t)(blank - at);
	at = blank + 1;
	return number(&at, stop, ~0u, &command->value) && at == stop ? PTY_MODE : PTY_WRONG;
}
