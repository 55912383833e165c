#include "run.h"
#include "environment.h"
#include "fence.h"
#include "hidden.h"
#include "home.h"
#include "path.h"
#include "reap.h"
#include "relay.h"
#include "report.h"
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct home home;

/* The workload's environment goes through a pipe, written by a child: it may exceed what a pipe holds. */
static int environment_pipe(char *const environment[])
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return -1;
	pid_t writer = fork();
	if (writer < 0)
		return -1;
	if (writer)
		return close(ends[1]), ends[0];
	close(ends[0]);
	for (char *const *variable = environment; *variable; variable++) {
		size_t left = strlen(*variable) + 1;
		for (const char *at = *variable; left;) {
			ssize_t written = write(ends[1], at, left);
			if (written < 0 && errno == EINTR)
				continue;
			if (written <= 0)
				_exit(1); /* the supervisor has gone */
			at += written;
			left -= (size_t)written;
		}
	}
	_exit(0);
}

/* Child side: only async-signal-safe calls from here to execve(2). */
static void become_supervisor(char *const argv[], char *const environment[], int fence, int variables)
{
	static char *arguments[4096 + 8];
	sigset_t none;
	size_t count = 0;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Move both out of the way first: either may lie on the number that the other one is to have. */
	int fence_high = fcntl(fence, F_DUPFD, 10), variables_high = fcntl(variables, F_DUPFD, 10);
	bool has_shim = home.shim_descriptor < 0 || !fcntl(home.shim_descriptor, F_SETFD, 0);
	if (!has_shim || fence_high < 0 || variables_high < 0 || dup2(fence_high, SUPERVISOR_FENCE_FD) < 0 ||
	    dup2(variables_high, SUPERVISOR_ENVIRONMENT_FD) < 0) {
		report("cannot hand descriptors to the supervisor: %s", errno_name(errno));
		_exit(EXIT_INTERNAL);
	}
	close(fence_high);
	close(variables_high);
	close(3);
	if (getppid() != 1) {
		/* As a subreaper we can be killed from outside without our children: then they end with us. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	}
	arguments[count++] = home.loader;
	arguments[count++] = (char *)"--inhibit-cache"; /* never the image's ld.so.cache */
	arguments[count++] = (char *)"--library-path";
	arguments[count++] = home.libraries;
	arguments[count++] = (char *)"--argv0";
	arguments[count++] = (char *)"openshell-supervisor";
	arguments[count++] = home.supervisor;
	for (size_t i = 0; argv[i] && count < sizeof arguments / sizeof *arguments - 1; i++)
		arguments[count++] = argv[i];
	arguments[count] = NULL;
	execve(home.loader, arguments, environment);
	/* gVisor's gofer must read what it executes, and says so only here; the readable twin serves there. */
	static char readable[PATH_MAX];
	if (errno == EACCES && path_join(readable, home.libraries, strrchr(home.loader, '/') + 1, ".readable")) {
		arguments[0] = readable;
		execve(readable, arguments, environment);
	}
	report("cannot start the supervisor %s: %s", home.loader, errno_name(errno));
	_exit(EXIT_INTERNAL);
}

static int exit_code(int status)
{
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	report("the supervisor was killed by signal %d, so the sandbox ends: nothing would enforce its policy; "
	       "look for an out-of-memory kill, or a kill from outside the container", WTERMSIG(status));
	return EXIT_SUPERVISOR_LOST;
}

/* Reaps what has ended. Returns true, with its wait status, when the supervisor has. */
static bool reap_ended(pid_t supervisor, int *status)
{
	pid_t pid;
	int one;

	while ((pid = waitpid(-1, &one, WNOHANG)) > 0)
		if (pid == supervisor) {
			*status = one;
			return true;
		}
	return false;
}

static int serve(pid_t supervisor, int signals, int fence)
{
	static struct pollfd polled[FENCE_MAX_LISTENERS + 3];
	int status;

	fence_start(fence);
	for (;;) {
		polled[0] = (struct pollfd){ signals, POLLIN, 0 };
		int count = fence_poll_set(polled + 1);
		struct pollfd *anchor = polled + 1 + count;
		*anchor = (struct pollfd){ relay_anchor(), 0, 0 }; /* poll(2) skips a negative one */
		if (poll(polled, (nfds_t)count + 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			report("poll failed: %s", errno_name(errno));
			return EXIT_INTERNAL;
		}
		if (fence_serve(polled + 1, count))
			home_forget(&home); /* before the first workload runs: it shares our user id */
		if (anchor->revents) {
			report("the anchor of the namespace fence was killed, so the sandbox ends: nothing would hold "
			       "its workload; look for an out-of-memory kill, or a kill from outside the container");
			return EXIT_SUPERVISOR_LOST;
		}
		struct signalfd_siginfo signal;
		if (!(polled[0].revents & POLLIN) || read(signals, &signal, sizeof signal) != sizeof signal)
			continue;
		if (signal.ssi_signo != SIGCHLD)
			kill(supervisor, (int)signal.ssi_signo);
		else if (reap_ended(supervisor, &status))
			return exit_code(status);
	}
}

int run_main(char *const argv[], char *const environment[])
{
	char *supervisor_environment[SUPERVISOR_ENV_MAX];
	sigset_t forwarded;
	int pair[2];

	if (!home_find(&home))
		return EXIT_INTERNAL;
	if (access("/proc/self/stat", R_OK)) {
		report("/proc is not mounted: the supervisor identifies callers by it; mount proc at /proc");
		home_forget(&home);
		return EXIT_CONFINEMENT;
	}
	shim_find(&home);
	/* The token can be in our environment: keep /proc/1/environ and our memory from our own user id. */
	hide();
	if (getpid() != 1)
		prctl(PR_SET_CHILD_SUBREAPER, 1);

	sigemptyset(&forwarded);
	for (const int *number = (const int[]){ SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR2, 0 }; *number; number++)
		sigaddset(&forwarded, *number);
	sigprocmask(SIG_BLOCK, &forwarded, NULL);
	int signals = signalfd(-1, &forwarded, SFD_CLOEXEC | SFD_NONBLOCK);
	int variables = environment_pipe(environment);
	if (signals < 0 || variables < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		report("cannot set up: %s", errno_name(errno));
		home_forget(&home);
		return EXIT_INTERNAL;
	}
	environment_for_supervisor(environment, &home, supervisor_environment);
	pid_t supervisor = fork();
	if (supervisor == 0)
		become_supervisor(argv, supervisor_environment, pair[1], variables);
	close(pair[1]);
	close(variables);
	environment_forget(environment); /* both children have copies of their own */
	int code = EXIT_INTERNAL;
	if (supervisor < 0)
		report("cannot start a process: %s", errno_name(errno));
	else
		code = serve(supervisor, signals, pair[0]);
	home_forget(&home);
	reap_everything();
	return code;
}
