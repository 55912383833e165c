#include "namespaces.h"
#include "hidden.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

bool namespaces_privileged(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct held[2];

	/* To make them, to bring lo up, and to listen on its low ports: inside, a user namespace of our own gives all three. */
	const unsigned needed = 1u << CAP_SYS_ADMIN | 1u << CAP_NET_ADMIN | 1u << CAP_NET_BIND_SERVICE;

	return !syscall(SYS_capget, &header, held) && (held[0].effective & needed) == needed;
}

static int write_process_file(pid_t process, const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/%s", process, name);
	int file = open(path, O_WRONLY | O_CLOEXEC);
	if (file < 0)
		return errno;
	ssize_t written = write(file, text, strlen(text));
	int error = written < 0 ? errno : 0;
	close(file);
	return error;
}

/* Maps one user and one group to themselves: whoever is not mapped is nobody inside. */
static int write_maps(pid_t process, uid_t uid, gid_t gid, bool deny_setgroups)
{
	char map[64];
	int error;

	/* user_namespaces(7): without privilege a group map needs setgroups denied first. gVisor has no such file. */
	if (deny_setgroups && (error = write_process_file(process, "setgroups", "deny")) && error != ENOENT)
		return error;
	snprintf(map, sizeof map, "%u %u 1", uid, uid);
	if ((error = write_process_file(process, "uid_map", map)))
		return error;
	snprintf(map, sizeof map, "%u %u 1", gid, gid);
	return write_process_file(process, "gid_map", map);
}

/* Another user than our own can be mapped only from outside, with CAP_SETUID there. */
static int unshare_mapped_from_outside(const struct namespaces *wanted)
{
	int ready[2], status;
	char byte = 0;

	if (pipe2(ready, O_CLOEXEC))
		return errno;
	pid_t self = getpid(), helper = fork();
	if (helper < 0)
		return errno;
	if (!helper) {
		close(ready[1]);
		if (read(ready[0], &byte, 1) != 1)
			_exit(EINTR);
		_exit(write_maps(self, wanted->uid, wanted->gid, false) & 0xff);
	}
	close(ready[0]);
	int error = unshare((int)wanted->flags) ? errno : 0;
	if (!error && write(ready[1], &byte, 1) != 1)
		error = errno;
	close(ready[1]);
	while (waitpid(helper, &status, 0) < 0 && errno == EINTR)
		;
	if (error)
		return error;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
	/* Root outside has no id inside; what it makes there must belong to somebody. Capabilities stay. */
	return setgroups(0, NULL) || setresgid(wanted->gid, wanted->gid, wanted->gid) ||
	       setresuid(wanted->uid, wanted->uid, wanted->uid) ? errno : 0;
}

static int bring_loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int made = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int error = 0;

	if (made < 0)
		return errno;
	/* gVisor's is up from the start. */
	if (ioctl(made, SIOCGIFFLAGS, &request))
		error = errno;
	else if (!(request.ifr_flags & IFF_UP)) {
		request.ifr_flags |= IFF_UP;
		error = ioctl(made, SIOCSIFFLAGS, &request) ? errno : 0;
	}
	close(made);
	return error;
}

static int enter(const struct namespaces *wanted, const char **step)
{
	int error;

	/* The files that map a user namespace belong to root in a process that is hidden (fs/proc/base.c, task_dump_owner).
	   It is for the anchor alone, before there is a workload, and for the probe's children. */
	*step = "own its /proc files";
	if ((wanted->flags & CLONE_NEWUSER) && !unhide())
		return errno;
	*step = "enter new namespaces";
	if ((wanted->flags & CLONE_NEWUSER) && (wanted->uid != geteuid() || wanted->gid != getegid())) {
		error = unshare_mapped_from_outside(wanted);
	} else {
		error = unshare((int)wanted->flags) ? errno : 0;
		if (!error && (wanted->flags & CLONE_NEWUSER)) {
			*step = "map its own user and group";
			error = write_maps(getpid(), wanted->uid, wanted->gid, true);
		}
	}
	if (error || !(wanted->flags & CLONE_NEWNET))
		return error;
	*step = "bring up lo";
	return bring_loopback_up();
}

int namespaces_enter(const struct namespaces *wanted, const char **step)
{
	bool was_hidden = hidden();
	int error = enter(wanted, step);

	if (was_hidden)
		hide();
	return error;
}
