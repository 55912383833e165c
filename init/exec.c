#include "exec.h"
#include "fence.h"
#include "filter.h"
#include "landlock.h"
#include "report.h"
#include "spec.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

static void write_control(const char *line, size_t size)
{
	while (size) {
		ssize_t written = send(EXEC_CONTROL_FD, line, size, MSG_NOSIGNAL);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return; /* the supervisor has gone, and init ends us with it */
		line += written;
		size -= (size_t)written;
	}
}

static void say(const char *format, ...)
{
	char line[1024];
	va_list arguments;

	va_start(arguments, format);
	int wanted = vsnprintf(line, sizeof line - 1, format, arguments);
	va_end(arguments);
	size_t size = wanted < 0 ? 0 : (size_t)wanted < sizeof line - 1 ? (size_t)wanted : sizeof line - 2;
	line[size++] = '\n';
	write_control(line, size);
}

static void fail(int code, const char *format, ...)
{
	char text[900];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	say("fail %d %s", code, text);
	_exit(code);
}

static void read_spec(struct spec *spec)
{
	size_t used = 0;
	bool complete = false;
	char *text = mmap(NULL, SPEC_MAX_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (text == MAP_FAILED)
		fail(EXIT_INTERNAL, "no memory for the spec: %s", errno_name(errno));
	while (!complete) {
		if (used == SPEC_MAX_BYTES)
			fail(EXIT_INTERNAL, "the arguments and variables of the workload exceed %d bytes", SPEC_MAX_BYTES);
		ssize_t got = read(EXEC_CONTROL_FD, text + used, SPEC_MAX_BYTES - used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			fail(EXIT_INTERNAL, "the spec ended early");
		used += (size_t)got;
		if (used < 4 || memcmp(text + used - 4, "end", 4))
			continue; /* parse once, when it can be whole */
		const char *wrong = spec_parse(text, used, spec, &complete);
		if (wrong)
			fail(EXIT_INTERNAL, "the spec is wrong: %s", wrong);
	}
}

static void set_limit(int resource, rlim_t value, const char *name)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit))
		fail(EXIT_INTERNAL, "cannot read the limit %s: %s", name, errno_name(errno));
	if (limit.rlim_max != RLIM_INFINITY && value > limit.rlim_max)
		value = limit.rlim_max;
	limit.rlim_cur = limit.rlim_max = value;
	if (setrlimit(resource, &limit))
		fail(EXIT_INTERNAL, "cannot set the limit %s: %s", name, errno_name(errno));
}

static void set_limits(const struct spec *spec)
{
	char text[16];

	set_limit(RLIMIT_CORE, 0, "core"); /* a core file would carry what the policy keeps in */
	if (spec->nofile > 0)
		set_limit(RLIMIT_NOFILE, (rlim_t)spec->nofile, "nofile");
	if (spec->nproc > 0)
		set_limit(RLIMIT_NPROC, (rlim_t)spec->nproc, "nproc");
	if (spec->oom_score_adj < 0)
		return;
	/* Raising it is free; the kernel then takes the workload before the supervisor. */
	int size = snprintf(text, sizeof text, "%ld", spec->oom_score_adj);
	int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (file < 0 || write(file, text, (size_t)size) != size)
		say("warn oom_score_adj stays as it was: %s", errno_name(errno));
	if (file >= 0)
		close(file);
}

/* Gives up ids and capabilities for good, as far as this process has any to give. */
static void drop_privileges(const struct spec *spec)
{
	/* Groups need CAP_SETGID; without it the runtime has set them and we cannot be worse off. */
	if (spec->has_gid && geteuid() == 0 && setgroups(spec->group_count, spec->groups))
		fail(EXIT_CONFINEMENT, "cannot set the groups: %s", errno_name(errno));
	/* Before the user id changes: the bounding set needs CAP_SETPCAP. EPERM without it is harmless,
	   because no_new_privs and the empty sets leave nothing for execve(2) to add. */
	for (int capability = 0; capability < 64; capability++)
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) && errno != EPERM && errno != EINVAL)
			fail(EXIT_CONFINEMENT, "cannot drop capability %d: %s", capability, errno_name(errno));
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) && errno != EINVAL)
		fail(EXIT_CONFINEMENT, "cannot clear ambient capabilities: %s", errno_name(errno));
	if (spec->has_gid && setresgid(spec->gid, spec->gid, spec->gid))
		fail(EXIT_CONFINEMENT, "cannot become group %u: %s", spec->gid, errno_name(errno));
	if (spec->has_uid && setresuid(spec->uid, spec->uid, spec->uid))
		fail(EXIT_CONFINEMENT, "cannot become user %u: %s", spec->uid, errno_name(errno));
	/* Proof, not hope: nobody that was root may be able to return (setuid(2)). */
	if (spec->has_uid && (setuid(0) == 0 || geteuid() != spec->uid))
		fail(EXIT_CONFINEMENT, "the user id could be changed back");
	if (geteuid() == 0 && !spec->has_uid)
		fail(EXIT_CONFINEMENT, "refusing to run the workload as root; set OPENSHELL_SANDBOX_UID and OPENSHELL_SANDBOX_GID");
}

/* Landlock as the spec wants it; returns the ruleset or -1 when the workload goes without. */
static int prepare_files(const struct spec *spec)
{
	struct landlock_outcome outcome;

	if (spec->landlock == LANDLOCK_OFF)
		return -1;
	int ruleset = landlock_prepare(spec, &outcome);
	if (ruleset >= 0) {
		say("landlock %d %u %u", outcome.abi, outcome.rules, outcome.missing);
		return ruleset;
	}
	if (spec->landlock == LANDLOCK_HARD_REQUIREMENT)
		fail(EXIT_CONFINEMENT, "Landlock cannot %s%s%s: %s; set landlock.compatibility to best_effort to run without",
		     outcome.step, outcome.path ? " " : "", outcome.path ? outcome.path : "", errno_name(outcome.error));
	say("warn files are not confined: Landlock cannot %s%s%s: %s", outcome.step, outcome.path ? " " : "",
	    outcome.path ? outcome.path : "", errno_name(outcome.error));
	return -1;
}

static void execute(const struct spec *spec)
{
	const char *name = spec->argv[0], *path = NULL;
	int error = ENOENT;

	if (strchr(name, '/')) {
		execve(name, spec->argv, spec->env);
		error = errno;
	} else {
		for (size_t i = 0; i < spec->envc; i++)
			if (!strncmp(spec->env[i], "PATH=", 5))
				path = spec->env[i] + 5;
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
		fail(EXIT_NOT_FOUND, "%s: no such program, or its interpreter is missing", name);
	if (error == EACCES)
		fail(EXIT_NOT_EXECUTABLE, "%s: not executable, or filesystem_policy does not let it run", name);
	fail(EXIT_NOT_EXECUTABLE, "%s: cannot be executed: %s", name, errno_name(error));
}

int exec_main(void)
{
	static struct spec spec;
	static struct filter filter;
	int fence = EXEC_FENCE_FD, listener = -1;

	if (fcntl(EXEC_CONTROL_FD, F_SETFD, FD_CLOEXEC)) {
		report("exec is for the supervisor: descriptor %d is not its control socket", EXEC_CONTROL_FD);
		return EXIT_USAGE_ERROR;
	}
	read_spec(&spec);
	if (fcntl(fence, F_SETFD, FD_CLOEXEC))
		fail(EXIT_INTERNAL, "descriptor %d is not the fence's socket", fence);
	/* Whatever else the supervisor had open stays with it. */
	if (syscall(SYS_close_range, EXEC_FENCE_FD + 1, ~0u, 0) && errno == ENOSYS)
		for (int fd = EXEC_FENCE_FD + 1; fd < 65536; fd++)
			close(fd);

	/* A session of its own: kill(0) and terminal signals stay inside, no controlling terminal leaks in. */
	if (setsid() < 0 && errno != EPERM)
		fail(EXIT_INTERNAL, "cannot start a session: %s", errno_name(errno));
	for (int number = 1; number < 65; number++)
		signal(number, SIG_DFL); /* the supervisor ignores SIGPIPE; execve(2) would pass that on */
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(022);

	set_limits(&spec);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail(EXIT_CONFINEMENT, "cannot set no_new_privs: %s", errno_name(errno));
	int ruleset = prepare_files(&spec);
	drop_privileges(&spec);
	if (spec.cwd && chdir(spec.cwd))
		fail(EXIT_CONFINEMENT, "cannot enter the working directory %s: %s", spec.cwd, errno_name(errno));
	if (ruleset >= 0) {
		int error = landlock_enforce(ruleset);
		if (error)
			fail(EXIT_CONFINEMENT, "Landlock cannot be enforced: %s", errno_name(error));
		close(ruleset);
	}
	if (!filter_build(&filter, spec.fence == FENCE_SOCKET, spec.protected_pids, spec.protected_count))
		fail(EXIT_INTERNAL, "the seccomp filter is too long");
	int error = filter_install(&filter, &listener);
	if (error)
		fail(EXIT_CONFINEMENT, "the socket fence cannot be installed: seccomp %s", errno_name(error));
	error = fence_register(fence, listener);
	if (error)
		fail(EXIT_CONFINEMENT, "the socket broker did not take this session: %s", errno_name(error));
	close(listener);
	close(fence);
	execute(&spec);
	return EXIT_INTERNAL;
}
