#include "pipes.h"
#include "control.h"
#include "messages.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool pipes_parse(int count, char *const words[], struct pipes_request *request)
{
	char *end;

	*request = (struct pipes_request){ count > 0, -1 };
	if (count == 0)
		return true;
	if (count > 2 || strcmp(words[0], "pipes"))
		return false;
	if (count == 1)
		return true;
	errno = 0;
	request->owner = strtol(words[1], &end, 10);
	return !errno && !*end && *words[1] >= '1' && *words[1] <= '9' && request->owner <= 4294967294L;
}

static void open_one(int stream, const char *name, long owner)
{
	char line[96];
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		control_fail(EXIT_INTERNAL, "cannot make a pipe: %s", errno_name(errno));
	int ours = ends[stream != STDIN_FILENO], theirs = ends[stream == STDIN_FILENO];
	/* A pipe belongs to whoever makes it, and opening it by name asks for permission as with any file. */
	if (owner >= 0 && fchown(ours, (uid_t)owner, (gid_t)-1))
		control_fail(EXIT_INTERNAL, "cannot give a pipe to user %ld: %s", owner, errno_name(errno));
	/* The flag is of this end's open file alone: the workload's end blocks as programs expect it. */
	if (fcntl(theirs, F_SETFL, fcntl(theirs, F_GETFL) | O_NONBLOCK) || dup2(ours, stream) < 0)
		control_fail(EXIT_INTERNAL, "cannot prepare a pipe: %s", errno_name(errno));
	int size = snprintf(line, sizeof line, "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":\"%s\"}\n", name);
	int error = send_descriptors(CHANNEL_FD, line, (size_t)size, &theirs, 1);
	if (error)
		control_fail(EXIT_INTERNAL, "the supervisor does not take a pipe: %s", errno_name(error));
	close(theirs);
	close(ours);
}

void pipes_open(const struct pipes_request *request)
{
	if (!request->wanted)
		return;
	/* Before any of them: a standard stream that was closed would otherwise be one of the pipes' own numbers. */
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			control_fail(EXIT_INTERNAL, "standard stream %d is closed", fd);
	open_one(STDIN_FILENO, "stdin", request->owner);
	open_one(STDOUT_FILENO, "stdout", request->owner);
	open_one(STDERR_FILENO, "stderr", request->owner);
	close(CHANNEL_FD);
}
