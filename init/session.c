#include "session.h"
#include "control.h"
#include "fence.h"
#include "filter.h"
#include "hidden.h"
#include "kernel.h"
#include "landlock.h"
#include "report.h"
#include "sftp.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void set_limit(int resource, rlim_t value, const char *name)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit))
		control_fail(EXIT_INTERNAL, "cannot read the limit %s: %s", name, errno_name(errno));
	if (limit.rlim_max != RLIM_INFINITY && value > limit.rlim_max)
		value = limit.rlim_max;
	limit.rlim_max = value;
	if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > value)
		limit.rlim_cur = value;
	if (setrlimit(resource, &limit))
		control_fail(EXIT_INTERNAL, "cannot set the limit %s: %s", name, errno_name(errno));
}

static void set_limits(const struct spec *spec)
{
	set_limit(RLIMIT_CORE, 0, "core"); /* a core file would carry what the policy keeps in */
	if (spec->nofile > 0)
		set_limit(RLIMIT_NOFILE, (rlim_t)spec->nofile, "nofile");
	if (spec->nproc > 0)
		set_limit(RLIMIT_NPROC, (rlim_t)spec->nproc, "nproc");
}

static bool has_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct held[2] = { { 0 } };

	return !syscall(SYS_capget, &header, held) && (held[0].permitted | held[1].permitted);
}

/*
 * Raising it is free; the kernel then takes the workload before the supervisor. The file is ours only while we are
 * not hidden. That is harmless where what runs already is a Landlock domain, which looks at nothing outside of
 * itself (security/landlock/ptrace.c), and while we have capabilities that it lacks (security/commoncap.c,
 * cap_ptrace_access_check). Where neither holds the supervisor does it, when we have become the workload.
 */
static void raise_oom_score(const struct spec *spec, int proc)
{
	bool shielded = spec->landlock != LANDLOCK_OFF || spec->connect_port_count || has_capabilities();
	char text[16];

	if (spec->oom_score_adj >= 0 && shielded) {
		int size = snprintf(text, sizeof text, "%ld", spec->oom_score_adj);
		bool was_hidden = hidden();
		int file = unhide() ? openat(proc, "self/oom_score_adj", O_WRONLY | O_CLOEXEC) : -1;
		if (was_hidden)
			hide();
		if (file < 0 || write(file, text, (size_t)size) != size)
			control_say("warn oom_score_adj stays as it was: %s", errno_name(errno));
		if (file >= 0)
			close(file);
	} else if (spec->oom_score_adj >= 0 && !spec->sftp) {
		control_say("later oom_score_adj"); /* a file server's memory is bounded, so it needs none */
	}
}

/* Gives up ids and capabilities for good, as far as this process has any to give. */
static void drop_privileges(const struct spec *spec)
{
	/* Groups need CAP_SETGID; without it the runtime has set them and we cannot be worse off. */
	if (spec->has_gid && geteuid() == 0 && setgroups(spec->group_count, spec->groups))
		control_fail(EXIT_CONFINEMENT, "cannot set the groups: %s", errno_name(errno));
	/* Before the user id changes: the bounding set needs CAP_SETPCAP. EPERM without it is harmless,
	   because no_new_privs and the empty sets leave nothing for execve(2) to add. */
	for (int capability = 0; capability < 64; capability++)
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)) {
			if (errno == EPERM || errno == EINVAL)
				break; /* none of them, or behind the last that the kernel knows */
			control_fail(EXIT_CONFINEMENT, "cannot drop capability %d: %s", capability, errno_name(errno));
		}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) && errno != EINVAL)
		control_fail(EXIT_CONFINEMENT, "cannot clear ambient capabilities: %s", errno_name(errno));
	if (spec->has_gid && setresgid(spec->gid, spec->gid, spec->gid))
		control_fail(EXIT_CONFINEMENT, "cannot become group %u: %s", spec->gid, errno_name(errno));
	if (spec->has_uid && setresuid(spec->uid, spec->uid, spec->uid))
		control_fail(EXIT_CONFINEMENT, "cannot become user %u: %s", spec->uid, errno_name(errno));
	/* In a user namespace of our own the sets are full whatever the user id is, and stay so. */
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { { 0 } }, held[2];
	if (syscall(SYS_capset, &header, none) || syscall(SYS_capget, &header, held))
		control_fail(EXIT_CONFINEMENT, "cannot give up capabilities: %s", errno_name(errno));
	for (int i = 0; i < 2; i++)
		if (held[i].effective | held[i].permitted | held[i].inheritable)
			control_fail(EXIT_CONFINEMENT, "capabilities were left");
	/* Proof, not hope: nobody that was root may be able to return (setuid(2)). */
	if (spec->has_uid && (setuid(0) == 0 || geteuid() != spec->uid))
		control_fail(EXIT_CONFINEMENT, "the user id could be changed back");
	if (geteuid() == 0 && !spec->has_uid)
		control_fail(EXIT_CONFINEMENT, "refusing to run the workload as root; set OPENSHELL_SANDBOX_UID and OPENSHELL_SANDBOX_GID");
}

static const char *variable(const struct spec *spec, const char *name)
{
	size_t size = strlen(name);

	for (size_t i = 0; i < spec->envc; i++)
		if (!strncmp(spec->env[i], name, size) && spec->env[i][size] == '=')
			return spec->env[i] + size + 1;
	return NULL;
}

void session_close_from(int first)
{
	/* INT_MAX and not ~0: gVisor's of 2022 answers that with EINVAL. Older kernels and seccomp profiles know no such call. */
	if (syscall(SYS_close_range, (unsigned)first, (unsigned)INT_MAX, 0))
		for (int fd = first; fd < 65536; fd++)
			close(fd);
}

/* What execve(2) would have closed is closed here, the control socket with it: its end tells that we have begun. */
static void __attribute__((noreturn)) serve_files(const struct spec *spec)
{
	const char *home = variable(spec, "HOME");

	session_close_from(STDERR_FILENO + 1);
	/* scp(1) sends ~/x as x, and expects the server to start at home as sshd(8)'s does. */
	if (home && *home == '/' && chdir(home))
		home = NULL; /* it stays where it is, and "~" is there as well */
	_exit(sftp_serve(home));
}

static void __attribute__((noreturn)) execute(const struct spec *spec)
{
	const char *name = spec->argv[0], *path = variable(spec, "PATH");
	int error = ENOENT;

	if (strchr(name, '/')) {
		execve(name, spec->argv, spec->env);
		error = errno;
	} else {
		if (!path)
			path = "/usr/local/bin:/usr/bin:/bin";
		while (path) {
			char candidate[4096];
			const char *colon = strchr(path, ':');
			int length = colon ? (int)(colon - path) : (int)strlen(path);
			int wanted = snprintf(candidate, sizeof candidate, "%.*s%s%s", length, path, length ? "/" : "./", name);
			path = colon ? colon + 1 : NULL;
			if (wanted < 0 || (size_t)wanted >= sizeof candidate)
				continue;
			execve(candidate, spec->argv, spec->env);
			if (errno == EACCES)
				error = EACCES; /* remembered, as execvp(3) does, in case nothing better follows */
			else if (errno != ENOENT && errno != ENOTDIR) {
				error = errno;
				break;
			}
		}
	}
	if (error == ENOENT || error == ENOTDIR)
		control_fail(EXIT_NOT_FOUND, "%s: no such program, or its interpreter is missing", name);
	if (error == EACCES)
		control_fail(EXIT_NOT_EXECUTABLE, "%s: not executable, or filesystem_policy does not let it run", name);
	control_fail(EXIT_NOT_EXECUTABLE, "%s: cannot be executed: %s", name, errno_name(error));
}

void session_default_signals(void)
{
	for (int number = 1; number < 65; number++)
		signal(number, SIG_DFL);
}

/* Signal mask and file mode as a fresh login has them; a session of its own, so that kill(0) stays inside. */
static void reset_process(void)
{
	sigset_t none;

	if (setsid() < 0 && errno != EPERM)
		control_fail(EXIT_INTERNAL, "cannot start a session: %s", errno_name(errno));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(022);
}

/* The workload may have closed the directory since: that must not keep people from mending it. */
static void enter_directory(const struct spec *spec)
{
	if (!spec->cwd || !chdir(spec->cwd))
		return;
	if (!spec->changes_tolerated || chdir("/"))
		control_fail(EXIT_CONFINEMENT, "cannot enter the working directory %s: %s", spec->cwd, errno_name(errno));
	control_say("warn this session begins in /, for %s cannot be entered", spec->cwd);
}

/* The socket fence's half that lies here: hands the notifications to PID 1. */
static void join_socket_fence(int listener)
{
	int error = fence_register(FENCE_FD, listener);

	if (error)
		control_fail(EXIT_CONFINEMENT, "the socket broker did not take this session: %s", errno_name(error));
	close(listener);
	close(FENCE_FD);
}

/*
 * Its holder unlocks the terminal as soon as it is ours (pty.c), and a program may open it in its first step. As the
 * workload's user, to whom it belongs; and not as /dev/tty, which gVisor never opens.
 */
static void await_terminal(int proc)
{
	for (int tries = 0; tries < 1000; tries++) {
		int fd = openat(proc, "self/fd/0", O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (fd >= 0)
			close(fd);
		if (fd >= 0 || errno != EIO) /* EIO: locked (drivers/tty/pty.c, pty_open) */
			return;
		poll(NULL, 0, 1);
	}
}

/*
 * Hidden from beginning to end: until the filter stands we are unconfined, and afterwards we hold the listener of our
 * notifications, with which whoever writes our code could answer its own socket(2) (seccomp_unotify(2),
 * SECCOMP_USER_NOTIF_FLAG_CONTINUE). execve(2) shows what it starts by itself (fs/exec.c, begin_new_exec); the file
 * server stays hidden, and whoever identifies callers is told of it.
 */
void session_run(struct spec *spec, int proc)
{
	static struct filter filter;
	int listener = -1;
	bool socket_fence = spec->fence == FENCE_SOCKET;

	reset_process();
	if (spec->terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0))
		control_fail(EXIT_INTERNAL, "the terminal cannot become the session's own: %s", errno_name(errno));
	set_limits(spec);
	raise_oom_score(spec, proc);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		control_fail(EXIT_CONFINEMENT, "cannot set no_new_privs: %s", errno_name(errno));
	int ruleset = landlock_prepare(spec);
	drop_privileges(spec);
	hide(); /* a change of ids has made us what fs.suid_dumpable says (kernel/cred.c, commit_creds) */
	if (spec->terminal)
		await_terminal(proc);
	close(proc); /* before we are confined: it may be a /proc that the view does not show */
	enter_directory(spec);
	if (ruleset >= 0) {
		int error = landlock_enforce(ruleset);
		if (error)
			control_fail(EXIT_CONFINEMENT, "Landlock cannot be enforced: %s", errno_name(error));
		close(ruleset);
	}
	if (!filter_build(&filter, spec->fence, spec->protected_pids, spec->protected_count))
		control_fail(EXIT_INTERNAL, "the seccomp filter is too long");
	int error = filter_install(&filter, socket_fence ? &listener : NULL);
	if (error)
		control_fail(EXIT_CONFINEMENT, "the filter of system calls cannot be installed: seccomp %s", errno_name(error));
	if (socket_fence)
		join_socket_fence(listener);
	if (spec->sftp)
		serve_files(spec);
	execute(spec);
}
