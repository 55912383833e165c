#include "exec.h"
#include "control.h"
#include "pipes.h"
#include "report.h"
#include "session.h"

#include <fcntl.h>
#include <unistd.h>

int exec_main(int count, char *const words[])
{
	struct pipes_request pipes;
	static struct spec spec;

	if (!pipes_parse(count, words, &pipes) || fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC)) {
		report("exec is for the supervisor: descriptor %d is not its control socket", CONTROL_FD);
		return EXIT_USAGE_ERROR;
	}
	pipes_open(&pipes);
	control_read_spec(&spec, SPEC_SESSION);
	if (spec.fence != FENCE_SOCKET)
		control_fail(EXIT_INTERNAL, "exec is for the socket fence; the namespace fence is joined");
	if (fcntl(FENCE_FD, F_SETFD, FD_CLOEXEC))
		control_fail(EXIT_INTERNAL, "descriptor %d is not the fence's socket", FENCE_FD);
	/* Whatever else the supervisor had open stays with it. */
	session_close_from(FENCE_FD + 1);
	session_default_signals();
	session_run(&spec, open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
}
