/*
 * A broker and a fenced child on this kernel, with the kernel's answers to the broker changed on request:
 *   old         no SECCOMP_ADDFD_FLAG_SEND, as before Linux 5.14
 *   no-memory   every injection fails with ENOMEM
 *   new         as it is
 * fence.c is compiled with ioctl renamed to harness_ioctl. Prints what the child saw, one word a line.
 */
#include "../../init/fence.h"
#include "../../init/filter.h"
#include "../../init/messages.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

static const char *mode;
static int injections, answers;

int harness_ioctl(int fd, int request, ...)
{
	va_list arguments;

	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);
	if ((unsigned)request == (unsigned)SECCOMP_IOCTL_NOTIF_ADDFD) {
		injections++;
		if (!strcmp(mode, "no-memory")) {
			errno = ENOMEM;
			return -1;
		}
		if (!strcmp(mode, "old") && ((struct seccomp_notif_addfd *)argument)->flags) {
			errno = EINVAL;
			return -1;
		}
	}
	answers += (unsigned)request == (unsigned)SECCOMP_IOCTL_NOTIF_SEND;
	return (int)syscall(SYS_ioctl, fd, request, argument);
}

static int child(int channel)
{
	static struct filter filter;
	int listener;

	if (geteuid() == 0 && setresuid(65534, 65534, 65534))
		return 1;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || !filter_build(&filter, FENCE_SOCKET, NULL, 0) ||
	    filter_install(&filter, &listener) || send_descriptors(channel, "l", 1, &listener, 1))
		return 2;
	close(listener);
	for (int i = 0; i < 3; i++) {
		char device[IFNAMSIZ] = "";
		socklen_t size = sizeof device;
		int made = socket(AF_INET, SOCK_STREAM | (i == 1 ? SOCK_CLOEXEC : 0) | (i == 2 ? SOCK_NONBLOCK : 0), 0);
		if (made < 0) {
			printf("errno %d\n", errno);
			continue;
		}
		if (getsockopt(made, SOL_SOCKET, SO_BINDTODEVICE, device, &size))
			return 3;
		printf("%s%s%s\n", device, fcntl(made, F_GETFD) & FD_CLOEXEC ? " cloexec" : "",
		       fcntl(made, F_GETFL) & O_NONBLOCK ? " nonblock" : "");
	}
	fflush(stdout);
	return 0;
}

int main(int argc, char *argv[])
{
	int pair[2], listener, status;
	size_t count;
	char text[2];

	if (argc != 2 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return 1;
	mode = argv[1];
	pid_t fenced = fork();
	if (!fenced) {
		alarm(10);
		_exit(child(pair[1]));
	}
	close(pair[1]);
	struct pollfd wait = { pair[0], POLLIN, 0 };
	if (poll(&wait, 1, 5000) != 1 || receive_descriptors(pair[0], text, sizeof text, &listener, &count) != 1)
		return 2;
	for (struct pollfd asked = { listener, POLLIN, 0 }; poll(&asked, 1, 5000) == 1 && (asked.revents & POLLIN);)
		if (!fence_answer(listener))
			break;
	waitpid(fenced, &status, 0);
	printf("injections %d answers %d\n", injections, answers);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 9;
}
