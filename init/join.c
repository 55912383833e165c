#include "anchor.h"
#include "control.h"
#include "exec.h"
#include "messages.h"
#include "pipes.h"
#include "report.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Waits for the session's first word, which the kernel stamps with its pid as we count it. Returns 0 when there is none. */
static pid_t receive_pid(int status)
{
	union {
		char room[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec part = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room,
	};
	struct ucred sender;
	ssize_t got;

	do
		got = recvmsg(status, &message, 0);
	while (got < 0 && errno == EINTR);
	struct cmsghdr *header = got == 1 ? CMSG_FIRSTHDR(&message) : NULL;
	if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_CREDENTIALS)
		return 0;
	memcpy(&sender, CMSG_DATA(header), sizeof sender);
	return sender.pid;
}

/* Ends this process as the session ended, so that the supervisor sees the one in the other. */
static int end_as(int status)
{
	struct rlimit none = { 0, 0 };

	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	setrlimit(RLIMIT_CORE, &none);
	signal(WTERMSIG(status), SIG_DFL);
	kill(getpid(), WTERMSIG(status));
	return 128 + WTERMSIG(status);
}

static void ask_for_session(int status)
{
	char text[32];
	int sent[] = { CONTROL_FD, 0, 1, 2, status };
	int size = snprintf(text, sizeof text, "session %d", getpid());
	int error = send_descriptors(FENCE_FD, text, (size_t)size, sent, sizeof sent / sizeof *sent);

	if (error)
		control_fail(EXIT_INTERNAL, "PID 1 does not answer: %s", errno_name(error));
}

int join_main(int count, char *const words[])
{
	struct pipes_request pipes;
	int pair[2], one = 1;
	struct anchor_exit end;

	if (!pipes_parse(count, words, &pipes) || fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC) || fcntl(FENCE_FD, F_SETFD, FD_CLOEXEC)) {
		report("join is for the supervisor: its descriptors are missing");
		return EXIT_USAGE_ERROR;
	}
	pipes_open(&pipes);
	session_close_from(FENCE_FD + 1);
	setsid(); /* the terminal's signals are the session's business */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) ||
	    setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof one))
		control_fail(EXIT_INTERNAL, "cannot set up the session: %s", errno_name(errno));
	ask_for_session(pair[1]);
	close(pair[1]);
	close(FENCE_FD);
	for (int fd = 0; fd < 3; fd++)
		close(fd); /* whoever reads the workload's output must see its end */
	pid_t session = receive_pid(pair[0]);
	if (!session)
		control_fail(EXIT_CONFINEMENT, "the anchor of the namespace fence did not take this session");
	control_say("pid %d", session);
	close(CONTROL_FD);
	if (send(pair[0], "g", 1, MSG_NOSIGNAL) != 1)
		return EXIT_INTERNAL;
	ssize_t got;
	do
		got = recv(pair[0], &end, sizeof end, 0);
	while (got < 0 && errno == EINTR);
	/* Without a status the anchor has gone, and all of its sessions with it. */
	return got == sizeof end ? end_as(end.status) : EXIT_INTERNAL;
}
