#include "probe.h"
#include "fence.h"
#include "filter.h"
#include "hidden.h"
#include "landlock.h"
#include "messages.h"
#include "namespaces.h"
#include "report.h"
#include "spec.h"
#include "view.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

/* A try returns 0 or the errno that refused it; it runs in a child, which it may spoil. */
typedef int attempt(void);

static int failed(long result)
{
	return result < 0 ? errno : 0;
}

/* Runs one attempt in a child. A child that is killed counts as EINTR, one that hangs as ETIMEDOUT. */
static int in_child(attempt *try)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return errno;
	if (!child) {
		alarm(5);
		_exit(try() & 0xff);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return errno;
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGALRM ? ETIMEDOUT : EINTR;
	return WEXITSTATUS(status);
}

static int try_filter(void)
{
	static struct filter filter;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return errno;
	return filter_build(&filter, FENCE_NAMESPACE, NULL, 0) ? filter_install(&filter, NULL) : E2BIG;
}

/* The workload's side of the socket fence: its socket must be bound to lo, and stay so. */
static int fenced_child(int channel)
{
	static struct filter filter;
	char device[IFNAMSIZ] = "";
	socklen_t size = sizeof device;
	int listener;

	/* With CAP_NET_RAW the binding could be undone, so the shim gives it up first; as it does, so here. */
	if (geteuid() == 0 && setresuid(65534, 65534, 65534))
		return errno;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return errno;
	if (!filter_build(&filter, FENCE_SOCKET, NULL, 0))
		return E2BIG;
	int error = filter_install(&filter, &listener);
	if (error || (error = send_descriptors(channel, "l", 1, &listener, 1)))
		return error;
	close(listener);
	int made = socket(AF_INET, SOCK_STREAM, 0);
	if (made < 0)
		return errno;
	if (getsockopt(made, SOL_SOCKET, SO_BINDTODEVICE, device, &size))
		return errno;
	if (strcmp(device, "lo"))
		return ENODEV;
	/* Un-binding takes CAP_NET_RAW; if it works here, the fence would hold nothing. */
	if (!setsockopt(made, SOL_SOCKET, SO_BINDTODEVICE, "", 0))
		return EBADF;
	/* UDP would leave lo by IP_PKTINFO, so the filter must refuse it. */
	return socket(AF_INET, SOCK_DGRAM, 0) < 0 ? 0 : EBADF;
}

static int try_socket_fence(void)
{
	int pair[2], listener, status;
	size_t count;
	char text[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return errno;
	pid_t child = fork();
	if (child < 0)
		return errno;
	if (!child) {
		close(pair[0]);
		alarm(5);
		_exit(fenced_child(pair[1]) & 0xff);
	}
	close(pair[1]);
	struct pollfd wait = { pair[0], POLLIN, 0 };
	if (poll(&wait, 1, 3000) == 1 && receive_descriptors(pair[0], text, sizeof text, &listener, &count) == 1 && count == 1) {
		struct pollfd asked = { listener, POLLIN, 0 };
		while (poll(&asked, 1, 3000) == 1 && (asked.revents & POLLIN))
			if (!fence_answer(listener))
				break;
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

/* Enters namespaces as an anchor would: with a user namespace around them unless we need none. */
static int enter(unsigned flags)
{
	const char *step;
	/* Root without CAP_SYS_ADMIN maps the workload's user, from outside; any will do here. */
	struct namespaces wanted = { flags, geteuid() ? geteuid() : 65534, geteuid() ? getegid() : 65534 };

	if (!namespaces_privileged())
		wanted.flags |= CLONE_NEWUSER;
	return namespaces_enter(&wanted, &step);
}

static int try_user_namespace(void)
{
	const char *step;
	struct namespaces wanted = { CLONE_NEWUSER, geteuid(), getegid() };

	return namespaces_enter(&wanted, &step);
}

/* Whether a process in a user namespace of ours is kept from looking at one outside, as ptrace(2) has it. */
static int try_process_isolation(void)
{
	char path[64];
	int error = enter(CLONE_NEWUSER);

	if (error)
		return error;
	snprintf(path, sizeof path, "/proc/%d/environ", getppid());
	return open(path, O_RDONLY | O_CLOEXEC) < 0 ? 0 : EOPNOTSUPP;
}

static int try_network_namespace(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(443) };
	int error = enter(CLONE_NEWNET);

	if (error)
		return error;
	inet_pton(AF_INET, "127.64.0.5", &address.sin_addr);
	int listening = socket(AF_INET, SOCK_STREAM, 0);
	if (listening < 0 || bind(listening, (struct sockaddr *)&address, sizeof address))
		return errno;
	return failed(listen(listening, 1));
}

static int try_ipc_namespace(void)
{
	return enter(CLONE_NEWIPC);
}

static int build_view(unsigned flags, struct spec *spec)
{
	struct view_outcome outcome;

	spec->namespaces = flags;
	spec->landlock = LANDLOCK_BEST_EFFORT;
	return view_build(spec, &outcome) ? outcome.error : 0;
}

static int try_mounts(void)
{
	static struct spec spec;
	int error = enter(CLONE_NEWNS);

	return error ? error : build_view(CLONE_NEWNS, &spec);
}

static int try_private_view(void)
{
	static struct spec spec;
	int error = enter(CLONE_NEWNS);

	spec.private_view = true;
	spec.read_only[spec.read_only_count++] = "/proc";
	spec.read_write[spec.read_write_count++] = "/dev";
	return error ? error : build_view(CLONE_NEWNS, &spec);
}

static int try_pid_namespace(void)
{
	static struct spec spec;
	int status, error = enter(CLONE_NEWNS | CLONE_NEWPID);

	if (error)
		return error;
	pid_t child = fork();
	if (child < 0)
		return errno;
	if (!child)
		_exit(build_view(CLONE_NEWNS | CLONE_NEWPID, &spec) & 0xff);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

static int try_io_uring(void)
{
	return failed(syscall(SYS_io_uring_setup, 0, NULL)) == EPERM ? EPERM : errno == ENOSYS ? ENOSYS : 0;
}

static int try_pidfd_open(void)
{
	return failed(syscall(SYS_pidfd_open, getpid(), 0));
}

static int try_pidfd_getfd(void)
{
	/* EBADF means that the call was let through to look at its arguments. */
	return failed(syscall(SYS_pidfd_getfd, -1, 0, 0)) == EBADF ? 0 : errno;
}

static int try_process_vm_readv(void)
{
	return failed(syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0));
}

static int try_low_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(53) };
	int made = socket(AF_INET, SOCK_STREAM, 0);

	inet_pton(AF_INET, "127.64.0.5", &address.sin_addr);
	if (made < 0)
		return errno;
	return failed(bind(made, (struct sockaddr *)&address, sizeof address));
}

static const struct { const char *name; attempt *try; } attempts[] = {
	{ "seccomp_filter", try_filter },
	{ "socket_fence", try_socket_fence },
	{ "user_namespace", try_user_namespace },
	{ "process_isolation", try_process_isolation },
	{ "network_namespace", try_network_namespace },
	{ "ipc_namespace", try_ipc_namespace },
	{ "mounts", try_mounts },
	{ "private_view", try_private_view },
	{ "pid_namespace", try_pid_namespace },
	{ "low_ports", try_low_port },
	{ "io_uring", try_io_uring },
	{ "pidfd_open", try_pidfd_open },
	{ "pidfd_getfd", try_pidfd_getfd },
	{ "process_vm_readv", try_process_vm_readv },
};

/* A JSON string of what the kernel says about itself: printable ASCII without quotes and backslashes. */
static void print_text(const char *name, const char *text)
{
	printf("\"%s\":\"", name);
	for (; *text; text++)
		if (*text >= ' ' && *text < 127 && *text != '"' && *text != '\\')
			putchar(*text);
	printf("\",");
}

int probe_main(void)
{
	struct utsname kernel;
	char version[256] = "";
	unsigned long long effective = 0;
	FILE *file;
	bool was_hidden = hidden();

	/* Whether others are kept out must be the doing of what is tried, not of this. */
	if (!unhide())
		return EXIT_INTERNAL;
	putchar('{');
	print_text("release", uname(&kernel) ? "" : kernel.release);
	if ((file = fopen("/proc/version", "re"))) {
		if (!fgets(version, sizeof version, file))
			version[0] = 0;
		fclose(file);
	}
	print_text("version", version);
	if ((file = fopen("/proc/self/status", "re"))) {
		char line[256];
		while (fgets(line, sizeof line, file))
			if (!strncmp(line, "CapEff:", 7))
				effective = strtoull(line + 7, NULL, 16);
		fclose(file);
	}
	printf("\"uid\":%u,\"gid\":%u,\"capabilities\":\"%llx\",\"hidden\":%s,\"proc\":%s,\"privileged\":%s,", getuid(),
	       getgid(), effective, was_hidden ? "true" : "false", access("/proc/self/stat", R_OK) ? "false" : "true", namespaces_privileged() ? "true" : "false");
	int abi = landlock_abi();
	if (abi < 0)
		printf("\"landlock\":{\"ok\":false,\"errno\":\"%s\"}", errno_name(-abi));
	else
		printf("\"landlock\":{\"ok\":true,\"abi\":%d}", abi);
	fflush(stdout); /* the children must not print it again */
	for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
		int error = in_child(attempts[i].try);
		if (error)
			printf(",\"%s\":{\"ok\":false,\"errno\":\"%s\"}", attempts[i].name, errno_name(error));
		else
			printf(",\"%s\":{\"ok\":true}", attempts[i].name);
		fflush(stdout);
	}
	printf("}\n");
	return fflush(stdout) ? EXIT_INTERNAL : 0;
}
