#include "control.h"
#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static void write_control(const char *line, size_t size)
{
	while (size) {
		ssize_t written = send(CONTROL_FD, line, size, MSG_NOSIGNAL);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return; /* the supervisor has gone, and init ends us with it */
		line += written;
		size -= (size_t)written;
	}
}

void control_say(const char *format, ...)
{
	char line[1024];
	va_list arguments;

	va_start(arguments, format);
	int wanted = vsnprintf(line, sizeof line - 1, format, arguments);
	va_end(arguments);
	size_t size = wanted < 0 ? 0 : (size_t)wanted < sizeof line - 1 ? (size_t)wanted : sizeof line - 2;
	line[size++] = '\n';
	write_control(line, size);
}

void control_fail(int code, const char *format, ...)
{
	char text[900];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	control_say("fail %d %s", code, text);
	_exit(code);
}

void control_read_spec(struct spec *spec, enum spec_purpose purpose)
{
	size_t used = 0;
	bool complete = false;
	char *text = mmap(NULL, SPEC_MAX_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (text == MAP_FAILED)
		control_fail(EXIT_INTERNAL, "no memory for the spec: %s", errno_name(errno));
	while (!complete) {
		if (used == SPEC_MAX_BYTES)
			control_fail(EXIT_INTERNAL, "the arguments and variables of the workload exceed %d bytes", SPEC_MAX_BYTES);
		ssize_t got = read(CONTROL_FD, text + used, SPEC_MAX_BYTES - used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			control_fail(EXIT_INTERNAL, "the spec ended early");
		used += (size_t)got;
		if (used < 4 || memcmp(text + used - 4, "end", 4))
			continue; /* parse once, when it can be whole */
		const char *wrong = spec_parse(text, used, purpose, spec, &complete);
		if (wrong)
			control_fail(EXIT_INTERNAL, "the spec is wrong: %s", wrong);
	}
}
