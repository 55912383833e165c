#include "anchor.h"
#include "channel.h"
#include "control.h"
#include "hidden.h"
#include "kernel.h"
#include "messages.h"
#include "namespaces.h"
#include "report.h"
#include "session.h"
#include "view.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The descriptors of a "session" message, in their order. */
enum { SESSION_CONTROL, SESSION_STDIN, SESSION_STDOUT, SESSION_STDERR, SESSION_STATUS, SESSION_DESCRIPTORS };

static struct { pid_t pid; int status; } sessions[ANCHOR_MAX_SESSIONS];
static size_t session_count;
static int proc_directory; /* the container's, from before the view; "self" in it is whoever asks */

/* In the child: the session's descriptors take their places, and everything of the anchor goes. */
static void become_session(const int *received, pid_t stand_in)
{
	static struct spec spec;
	int high[SESSION_DESCRIPTORS];
	char byte = 'r';

	/* First out of the way: each may lie on the number that another is to have. */
	for (int i = 0; i < SESSION_DESCRIPTORS; i++)
		if ((high[i] = fcntl(received[i], F_DUPFD_CLOEXEC, 64)) < 0)
			_exit(EXIT_INTERNAL);
	if (dup2(high[SESSION_STDIN], 0) < 0 || dup2(high[SESSION_STDOUT], 1) < 0 || dup2(high[SESSION_STDERR], 2) < 0 ||
	    dup3(high[SESSION_CONTROL], CONTROL_FD, O_CLOEXEC) < 0)
		_exit(EXIT_INTERNAL);
	setsid(); /* whoever learns our pid may signal the group that it leads */
	/* Our pid in the supervisor's own pid namespace is known only to the kernel: it stamps this message
	   with it (SCM_CREDENTIALS), and the stand-in passes it on before it lets us go. */
	if (send(high[SESSION_STATUS], &byte, 1, MSG_NOSIGNAL) != 1 || recv(high[SESSION_STATUS], &byte, 1, 0) != 1)
		_exit(EXIT_INTERNAL);
	if (dup3(proc_directory, FENCE_FD, O_CLOEXEC) < 0)
		_exit(EXIT_INTERNAL);
	session_close_from(FENCE_FD + 1);
	control_read_spec(&spec, SPEC_SESSION);
	if (spec.fence != FENCE_NAMESPACE)
		control_fail(EXIT_INTERNAL, "the anchor runs only sessions of the namespace fence");
	/* Its own stand-in is one more process that a workload in the same pid namespace must not touch. */
	if (spec.protected_count < SPEC_MAX_PROTECTED && stand_in > 0)
		spec.protected_pids[spec.protected_count++] = stand_in;
	session_run(&spec, FENCE_FD);
}

static void start_session(int registrations)
{
	char text[32];
	int received[MAX_DESCRIPTORS];
	size_t count;
	ssize_t size = receive_descriptors(registrations, text, sizeof text - 1, received, &count);

	if (size <= 0)
		return;
	text[size] = 0;
	if (count == SESSION_DESCRIPTORS && session_count < ANCHOR_MAX_SESSIONS) {
		pid_t child = fork();
		if (!child)
			become_session(received, (pid_t)strtol(text + 8, NULL, 10));
		if (child > 0) {
			sessions[session_count].pid = child;
			sessions[session_count++].status = fcntl(received[SESSION_STATUS], F_DUPFD_CLOEXEC, 64);
		}
	}
	for (size_t i = 0; i < count; i++)
		close(received[i]); /* a stand-in without its session sees its status socket end */
}

static void reap_sessions(void)
{
	struct anchor_exit end;
	pid_t pid;

	while ((pid = waitpid(-1, &end.status, WNOHANG)) > 0)
		for (size_t i = 0; i < session_count; i++)
			if (sessions[i].pid == pid) {
				/* One small message into an empty queue: it cannot block. */
				ssize_t told = send(sessions[i].status, &end, sizeof end, MSG_NOSIGNAL | MSG_DONTWAIT);
				(void)told; /* a stand-in that was killed has nobody to tell */
				close(sessions[i].status);
				sessions[i] = sessions[--session_count];
				break;
			}
}

/* A session whose stand-in was killed has nobody who would ever end it, or learn of its end. */
static void end_deserted(const struct pollfd *polled, size_t count)
{
	/* Backwards: a session that is forgotten leaves its place to the last one. */
	for (size_t i = count; i-- > 0;)
		if (polled[i].revents & (POLLHUP | POLLERR)) {
			/* It leads a group from its first steps on; it is our child and not waited for, so the pid is its own. */
			if (kill(-sessions[i].pid, SIGKILL))
				kill(sessions[i].pid, SIGKILL);
			close(sessions[i].status);
			sessions[i] = sessions[--session_count];
		}
}

/* Serves the commands that have arrived. Returns false at the end of the channel, or when it is broken. */
static bool serve_channel(void)
{
	static char line[CHANNEL_LINE_MAX];
	static size_t used;
	struct channel_request request;
	char *newline;

	ssize_t got = read(CHANNEL_FD, line + used, sizeof line - used);
	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (got <= 0)
		return false;
	used += (size_t)got;
	while ((newline = memchr(line, '\n', used))) {
		size_t size = (size_t)(newline - line);
		switch (channel_parse(line, size, &request)) {
		case CHANNEL_SKIP:
			break;
		case CHANNEL_REQUEST:
			if (!channel_answer(CHANNEL_FD, &request))
				return false;
			break;
		case CHANNEL_WRONG:
			report("the supervisor sent the anchor a command that it does not know");
			return false;
		}
		used -= size + 1;
		memmove(line, newline + 1, used);
	}
	return used < sizeof line;
}

static int serve(int registrations, int signals)
{
	int channel = CHANNEL_FD;

	for (;;) {
		static struct pollfd polled[3 + ANCHOR_MAX_SESSIONS];
		struct signalfd_siginfo signal;
		size_t count = session_count;

		polled[0] = (struct pollfd){ channel, POLLIN, 0 };
		polled[1] = (struct pollfd){ signals, POLLIN, 0 };
		polled[2] = (struct pollfd){ registrations, POLLIN, 0 };
		for (size_t i = 0; i < count; i++)
			polled[3 + i] = (struct pollfd){ sessions[i].status, 0, 0 };
		if (poll(polled, 3 + count, -1) < 0) {
			if (errno != EINTR)
				return EXIT_INTERNAL;
			continue;
		}
		end_deserted(polled + 3, count); /* first: what follows moves the sessions */
		if ((polled[1].revents & POLLIN) && read(signals, &signal, sizeof signal) == sizeof signal)
			reap_sessions();
		if (polled[2].revents & POLLIN)
			start_session(registrations);
		else if (polled[2].revents)
			return 0; /* PID 1 has gone */
		if (polled[0].revents && !serve_channel()) {
			/* The supervisor has gone, and PID 1 ends everything, us last: until then the fence stands. */
			close(CHANNEL_FD);
			channel = -1;
		}
	}
}

/* With a pid namespace: the process outside, which only waits for its PID 1 and ends as it does. */
static void wait_outside(pid_t inner)
{
	int status;

	control_say("pid %d", inner);
	close(CONTROL_FD);
	close(FENCE_FD);
	close(CHANNEL_FD);
	hide();
	while (waitpid(inner, &status, 0) < 0)
		if (errno != EINTR)
			_exit(EXIT_INTERNAL);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_INTERNAL);
}

static void enter(const struct spec *spec)
{
	struct namespaces wanted = { spec->namespaces, spec->has_uid ? spec->uid : geteuid(), spec->has_gid ? spec->gid : getegid() };
	struct view_outcome view;
	const char *step;
	int error = namespaces_enter(&wanted, &step);

	if (error)
		control_fail(EXIT_CONFINEMENT, "the namespace fence cannot %s: %s", step, errno_name(error));
	if (spec->namespaces & CLONE_NEWPID) {
		pid_t inner = fork();
		if (inner < 0)
			control_fail(EXIT_CONFINEMENT, "the namespace fence cannot start its first process: %s", errno_name(errno));
		if (inner)
			wait_outside(inner);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	}
	if (!(spec->namespaces & CLONE_NEWNS))
		return;
	if (view_build(spec, &view))
		control_fail(EXIT_CONFINEMENT, "the namespace fence cannot %s%s%s: %s", view.step, view.path ? " " : "",
			     view.path ? view.path : "", errno_name(view.error));
	control_say("view %d %d %u", view.fresh_proc, view.resolv_conf, view.missing);
}

int anchor_main(void)
{
	static struct spec spec;
	sigset_t child;
	int pair[2];

	if (fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC) || fcntl(FENCE_FD, F_SETFD, FD_CLOEXEC) || fcntl(CHANNEL_FD, F_SETFD, FD_CLOEXEC)) {
		report("anchor is for the supervisor: its descriptors are missing");
		return EXIT_USAGE_ERROR;
	}
	control_read_spec(&spec, SPEC_ANCHOR);
	session_close_from(CHANNEL_FD + 1);
	setsid();
	session_default_signals(); /* here once, for all sessions */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		control_fail(EXIT_CONFINEMENT, "cannot set no_new_privs: %s", errno_name(errno));
	proc_directory = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc_directory < 0)
		control_fail(EXIT_CONFINEMENT, "cannot open /proc: %s", errno_name(errno));
	enter(&spec);
	hide(); /* and all that it forks is born hidden */
	/* Orphans of sessions come to us, not to a PID 1 outside that might be shared. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &child, NULL))
		control_fail(EXIT_INTERNAL, "cannot block signals: %s", errno_name(errno));
	int signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		control_fail(EXIT_INTERNAL, "cannot set up the anchor: %s", errno_name(errno));
	int error = send_descriptors(FENCE_FD, "anchor", 6, &pair[1], 1);
	if (error)
		control_fail(EXIT_INTERNAL, "PID 1 does not answer: %s", errno_name(error));
	close(pair[1]);
	close(FENCE_FD);
	close(CONTROL_FD); /* the end of the stream: it stands */
	return serve(pair[0], signals);
}
