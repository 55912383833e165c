#include "hidden.h"
#include "report.h"

#include <errno.h>
#include <sys/prctl.h>
#include <unistd.h>

bool hidden(void)
{
	/* 2 (root alone may have a core of it) keeps others out as 0 does (kernel/ptrace.c, __ptrace_may_access). */
	return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 1;
}

void hide(void)
{
	if (!prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return;
	report("cannot hide from the workload: %s", errno_name(errno));
	_exit(EXIT_INTERNAL);
}

bool unhide(void)
{
	return !prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}
