#include "shim.h"
#include "path.h"
#include "report.h"
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static bool runs(const char *path)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return false;
	if (!child) {
		char *const words[] = { (char *)"openshell-sandbox", (char *)"hidden", NULL }, *const none[] = { NULL };
		execve(path, words, none);
		_exit(EXIT_INTERNAL);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	/* Whether it was hidden is the probe's to tell: what is not is no worse than the launcher. */
	return WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 1);
}

/*
 * What was unpacked belongs to our own user id, so the workload could change its mode and then its contents. It loses
 * its name before anything runs, and is reached by a descriptor: no process that executes it is ever shown to the
 * workload, which therefore cannot get at it by /proc/PID/exe.
 */
static bool keep_without_name(struct home *home)
{
	int file = open(home->shim, O_PATH | O_CLOEXEC);

	if (file < 0)
		return false;
	/* The same number here and in the supervisor, so that one path serves both. */
	if (file == SUPERVISOR_SHIM_FD) {
		home->shim_descriptor = file;
	} else {
		home->shim_descriptor = dup3(file, SUPERVISOR_SHIM_FD, O_CLOEXEC);
		close(file);
	}
	if (home->shim_descriptor < 0 || unlink(home->shim))
		return false;
	snprintf(home->shim, sizeof home->shim, "/proc/self/fd/%d", SUPERVISOR_SHIM_FD);
	return true;
}

void shim_find(struct home *home)
{
	home->shim_descriptor = -1;
	if (path_join(home->shim, home->libraries, SHIM_NAME, "") && (!home->unpacked || keep_without_name(home)) &&
	    runs(home->shim))
		return;
	if (home->shim_descriptor >= 0)
		close(home->shim_descriptor);
	home->shim_descriptor = -1;
	snprintf(home->shim, sizeof home->shim, "%s", home->self);
}
