/* Touching the supervisor and init, and becoming more than we are. */
#include "attempt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum how {
	KILL, KILL_STOP, TKILL, TGKILL, QUEUE, TGQUEUE, PIDFD_SIGNAL, GROUP_KILL, SETOWN, SETOWN_EX, FIOSETOWN_, SIOCSPGRP_,
	PTRACE_ATTACH_, PTRACE_SEIZE_, VM_READ, VM_WRITE, PRLIMIT, AFFINITY, SCHEDULER, SCHED_PARAM, SCHED_ATTR, NICE, NICE_GROUP,
	IO_PRIORITY, OOM_SCORE, PIDFD_OPEN, MADVISE, MOVE_PAGES, MIGRATE_PAGES, KCMP, COMM, SCHED_CORE, HOWS
};
enum whom { INIT = 0, SUPERVISOR = 1000, THREAD = 2000 };

/* A thread of the supervisor that is not its first. */
static pid_t thread_of(pid_t pid)
{
	char path[64];
	pid_t found = 0;

	snprintf(path, sizeof path, "/proc/%d/task", pid);
	DIR *tasks = opendir(path);
	for (struct dirent *entry; tasks && (entry = readdir(tasks));)
		if (strtol(entry->d_name, NULL, 10) > 0 && strtol(entry->d_name, NULL, 10) != pid)
			found = (pid_t)strtol(entry->d_name, NULL, 10);
	if (tasks)
		closedir(tasks);
	return found;
}

/* Asks the kernel to signal `pid` when a socket of ours becomes readable. */
static enum outcome by_owner(pid_t pid, int how)
{
	int ends[2];
	struct { int type; pid_t pid; } owner = { 1 /* F_OWNER_PID */, pid };

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		return judge(-1);
	fcntl(ends[0], F_SETSIG, SIGKILL);
	fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK);
	switch (how) {
	case SETOWN: return judge(fcntl(ends[0], F_SETOWN, pid));
	case SETOWN_EX: return judge(fcntl(ends[0], 15, &owner));
	case FIOSETOWN_: return judge(ioctl(ends[0], 0x8901, &pid));
	default: return judge(ioctl(ends[0], 0x8902, &pid));
	}
}

static enum outcome write_to(const char *format, pid_t pid, const char *text)
{
	char path[64];

	snprintf(path, sizeof path, format, pid);
	int file = open(path, O_WRONLY);
	return file < 0 ? judge(-1) : judge(write(file, text, strlen(text)));
}

static enum outcome touch(int argument)
{
	int whom = argument - argument % 1000, how = argument % 1000;
	pid_t supervisor = supervisor_pid(), pid = whom == INIT ? 1 : whom == SUPERVISOR ? supervisor : 0;
	char byte = 0;
	struct iovec here = { &byte, 1 }, there = { (void *)0x400000, 1 };
	struct rlimit limit = { 64, 64 };
	struct sched_param parameter = { 0 };
	unsigned attributes[14] = { 48, 3 };
	unsigned long mask = 1;
	siginfo_t info = { .si_code = SI_QUEUE };

	if (whom == THREAD && supervisor)
		pid = thread_of(supervisor);
	if (!pid) {
		detail("it cannot be seen");
		return IMPOSSIBLE;
	}
	/* Signal 0 asks for permission alone. A hole shows here, and no attempt ends the sandbox for the others. */
	switch (how) {
	case KILL: return judge(kill(pid, 0));
	case KILL_STOP: return judge(kill(pid, SIGCONT));
	case TKILL: return judge(syscall(SYS_tkill, pid, 0));
	case TGKILL: return judge(syscall(SYS_tgkill, whom == THREAD ? supervisor : pid, pid, 0));
	case QUEUE: return judge(syscall(SYS_rt_sigqueueinfo, pid, SIGCONT, &info));
	case TGQUEUE: return judge(syscall(SYS_rt_tgsigqueueinfo, pid, pid, SIGCONT, &info));
	case PIDFD_SIGNAL: return judge(syscall(424, -1, 0, NULL, 0)) == ESCAPED || errno == EBADF ? ESCAPED : REFUSED;
	case GROUP_KILL: return judge(kill(-pid, 0));
	case SETOWN: case SETOWN_EX: case FIOSETOWN_: case SIOCSPGRP_: return by_owner(pid, how);
	case PTRACE_ATTACH_: return judge(ptrace(PTRACE_ATTACH, pid, NULL, NULL));
	case PTRACE_SEIZE_: return judge(ptrace(PTRACE_SEIZE, pid, NULL, NULL));
	case VM_READ: return judge(process_vm_readv(pid, &here, 1, &there, 1, 0));
	case VM_WRITE: return judge(process_vm_writev(pid, &here, 1, &there, 1, 0));
	case PRLIMIT: return judge(prlimit(pid, RLIMIT_NOFILE, &limit, NULL));
	case AFFINITY: return judge(syscall(SYS_sched_setaffinity, pid, sizeof mask, &mask));
	case SCHEDULER: return judge(syscall(SYS_sched_setscheduler, pid, 3, &parameter));
	case SCHED_PARAM: return judge(syscall(SYS_sched_setparam, pid, &parameter));
	case SCHED_ATTR: return judge(syscall(SYS_sched_setattr, pid, attributes, 0));
	case NICE: return judge(setpriority(PRIO_PROCESS, (id_t)pid, 19));
	case NICE_GROUP: return judge(setpriority(PRIO_PGRP, (id_t)pid, 19));
	case IO_PRIORITY: return judge(syscall(SYS_ioprio_set, 1, pid, 3 << 13));
	case OOM_SCORE: return write_to("/proc/%d/oom_score_adj", pid, "1000");
	case PIDFD_OPEN: return judge(syscall(434, pid, 0));
	case MADVISE: return judge(syscall(440, -1, &here, 1, 4, 0)) == ESCAPED || errno == EBADF ? ESCAPED : REFUSED;
	case MOVE_PAGES: return judge(syscall(SYS_move_pages, pid, 0, NULL, NULL, NULL, 0));
	case MIGRATE_PAGES: return judge(syscall(SYS_migrate_pages, pid, 64, &mask, &mask));
	case KCMP: return judge(syscall(SYS_kcmp, getpid(), pid, 0, 0, 0));
	case COMM: return write_to("/proc/%d/comm", pid, "mine");
	default: return judge(prctl(62, 1, pid, 0, 0));
	}
}

static enum outcome everybody(int how)
{
	switch (how) {
	case 0: return judge(kill(-1, 0));
	case 1: return judge(setpriority(PRIO_USER, 0, 19));
	case 2: return judge(syscall(SYS_ioprio_set, 3, getuid(), 3 << 13));
	default:
		/* Our own group may be signalled; nobody of the supervisor's may be in it. */
		signal(SIGUSR1, SIG_IGN);
		if (kill(0, SIGUSR1))
			return judge(-1);
		detail("own group only");
		return REFUSED;
	}
}

static enum outcome become(int how)
{
	static const char *const programs[] = { "/usr/bin/su", "/bin/mount", "/usr/bin/passwd", "/usr/bin/newgrp" };
	struct { unsigned version; int pid; } header = { 0x20080522, 0 };
	unsigned data[6] = { ~0u, ~0u, 0, ~0u, ~0u, 0 };
	gid_t none = 0;

	switch (how) {
	case 0: return judge(setuid(0));
	case 1: return judge(setgid(0));
	case 2: return judge(setgroups(1, &none));
	case 3: return judge(setresuid(0, 0, 0));
	case 4: return judge(syscall(SYS_capset, &header, data));
	case 5: return judge(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0));
	case 6: return judge(prctl(PR_SET_SECUREBITS, 0));
	case 7: return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? REFUSED : ESCAPED;
	default: {
		/* A setuid program runs, but as us: its effective user id stands in /proc while it waits for input. */
		const char *program = programs[how - 10];
		char path[64], line[128];
		unsigned real, effective = ~0u;
		int ends[2];
		if (access(program, X_OK))
			return IMPOSSIBLE;
		if (pipe(ends))
			return judge(-1);
		pid_t child = fork();
		if (!child) {
			dup2(ends[0], 0);
			close(ends[1]);
			fclose(stderr);
			execl(program, program, "root", NULL);
			_exit(1);
		}
		usleep(200000);
		snprintf(path, sizeof path, "/proc/%d/status", child);
		FILE *status = fopen(path, "r");
		while (status && fgets(line, sizeof line, status))
			if (sscanf(line, "Uid: %u %u", &real, &effective) == 2)
				break;
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		detail("effective user %u", effective);
		return effective == 0 ? ESCAPED : REFUSED;
	}
	}
}

static int nobody(void *unused) { (void)unused; return 0; }
static enum outcome namespaces(int flag)
{
	static char stack[65536];

	if (!unshare(flag))
		return ESCAPED;
	int error = errno;
	if (clone(nobody, stack + sizeof stack, flag | SIGCHLD, NULL) >= 0)
		return ESCAPED;
	errno = error;
	return judge(-1);
}

static enum outcome clone3_call(int unused)
{
	(void)unused;
	unsigned long long arguments[11] = { CLONE_NEWUSER, 0, 0, 0, SIGCHLD };
	long pid = syscall(435, arguments, sizeof arguments);

	if (!pid)
		_exit(0);
	return judge(pid);
}

static enum outcome join_namespace(int unused)
{
	(void)unused;
	int own = open("/proc/self/ns/net", O_RDONLY);

	return judge(own < 0 ? -1 : setns(own, 0));
}

#define THREE(name, how) { "init-" name, touch, INIT + how }, { "supervisor-" name, touch, SUPERVISOR + how }, { "thread-" name, touch, THREAD + how }
const struct attempt process_attempts[] = {
	THREE("kill", KILL), THREE("signal", KILL_STOP), THREE("tkill", TKILL), THREE("tgkill", TGKILL), THREE("sigqueue", QUEUE),
	THREE("tgsigqueue", TGQUEUE), THREE("pidfd-send-signal", PIDFD_SIGNAL), THREE("kill-group", GROUP_KILL),
	THREE("sigio-setown", SETOWN), THREE("sigio-setown-ex", SETOWN_EX), THREE("sigio-fiosetown", FIOSETOWN_),
	THREE("sigio-siocspgrp", SIOCSPGRP_), THREE("ptrace-attach", PTRACE_ATTACH_), THREE("ptrace-seize", PTRACE_SEIZE_),
	THREE("vm-read", VM_READ), THREE("vm-write", VM_WRITE), THREE("prlimit", PRLIMIT), THREE("affinity", AFFINITY),
	THREE("scheduler", SCHEDULER), THREE("sched-param", SCHED_PARAM), THREE("sched-attr", SCHED_ATTR), THREE("nice", NICE),
	THREE("nice-group", NICE_GROUP), THREE("io-priority", IO_PRIORITY), THREE("oom-score", OOM_SCORE),
	THREE("pidfd-open", PIDFD_OPEN), THREE("madvise", MADVISE), THREE("move-pages", MOVE_PAGES),
	THREE("migrate-pages", MIGRATE_PAGES), THREE("kcmp", KCMP), THREE("comm", COMM), THREE("sched-core", SCHED_CORE),
	{ "everybody-kill", everybody, 0 }, { "everybody-nice", everybody, 1 }, { "everybody-io-priority", everybody, 2 },
	{ "own-group-kill", everybody, 3 },
	{ "setuid", become, 0 }, { "setgid", become, 1 }, { "setgroups", become, 2 }, { "setresuid", become, 3 }, { "capset", become, 4 },
	{ "ambient-capability", become, 5 }, { "securebits", become, 6 }, { "no-new-privileges", become, 7 },
	{ "setuid-program-su", become, 10 }, { "setuid-program-mount", become, 11 }, { "setuid-program-passwd", become, 12 },
	{ "setuid-program-newgrp", become, 13 },
	{ "namespace-user", namespaces, CLONE_NEWUSER }, { "namespace-network", namespaces, CLONE_NEWNET },
	{ "namespace-mount", namespaces, CLONE_NEWNS }, { "namespace-pid", namespaces, CLONE_NEWPID },
	{ "namespace-ipc", namespaces, CLONE_NEWIPC }, { "namespace-uts", namespaces, CLONE_NEWUTS },
	{ "namespace-cgroup", namespaces, CLONE_NEWCGROUP }, { "namespace-clone3", clone3_call, 0 }, { "namespace-setns", join_namespace, 0 },
	{ NULL, NULL, 0 },
};
