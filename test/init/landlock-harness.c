/* Reads a spec, applies its Landlock half and nothing else, and becomes the program that it names. */
#include "control.h"
#include "kernel.h"
#include "landlock.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(void)
{
	static struct spec spec;

	fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC);
	control_read_spec(&spec, SPEC_SESSION);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	int ruleset = landlock_prepare(&spec);
	if (spec.has_uid && (setresgid(spec.uid, spec.uid, spec.uid) || setresuid(spec.uid, spec.uid, spec.uid)))
		return 99;
	if (ruleset >= 0) {
		int error = landlock_enforce(ruleset);
		if (error)
			control_fail(EXIT_CONFINEMENT, "enforce: %s", errno_name(error));
	}
	execve(spec.argv[0], spec.argv, spec.env);
	return 98;
}
