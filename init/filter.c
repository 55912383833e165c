#include "filter.h"
#include "bpf.h"
#include "denied.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Calls whose first argument is a process, by which one process can harm another of its user id. */
static const int first_is_pid[] = {
	SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo,
	SYS_sched_setaffinity, SYS_sched_setscheduler, SYS_sched_setparam, SYS_sched_setattr,
};

#define FORBIDDEN_CLONE                                                                                       \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80 /* shares its bit with clone(2)'s exit signal: only unshare(2) can ask for it */
#endif

/* Offsets of the low half of an argument. Arguments that the kernel takes as int or unsigned int are
   cut to 32 bits by it as well, so the high half can say nothing that the kernel would heed. */
#define ARGUMENT(n) (offsetof(struct seccomp_data, args) + (n) * sizeof(uint64_t))
#define REFUSE(number) (SECCOMP_RET_ERRNO | ((number) & SECCOMP_RET_DATA))

static int by_number(const void *left, const void *right)
{
	unsigned first = *(const unsigned *)left, second = *(const unsigned *)right;

	return (first > second) - (first < second);
}

static void denied_rules(struct filter *filter)
{
	enum { COUNT = sizeof denied_calls / sizeof *denied_calls };
	unsigned sorted[COUNT], jumps[COUNT];
	size_t used = 0;

	for (size_t i = 0; i < COUNT; i++)
		sorted[i] = (unsigned)denied_calls[i];
	qsort(sorted, COUNT, sizeof *sorted, by_number);
	bpf_search(filter, sorted, COUNT, REFUSE(EPERM), jumps, &used);
	for (size_t i = 0; i < used; i++)
		bpf_end(filter, jumps[i]);
}

static void socket_rules(struct filter *filter, bool fence)
{
	unsigned block = bpf_begin(filter, SYS_socket);

	bpf_load(filter, ARGUMENT(0));
	bpf_ret_if(filter, AF_UNIX, SECCOMP_RET_ALLOW);
	/* NETLINK_ROUTE is what getifaddrs(3) needs; changes through it take CAP_NET_ADMIN. */
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 4));
	bpf_load(filter, ARGUMENT(2));
	bpf_ret_if(filter, 0, SECCOMP_RET_ALLOW);
	bpf_ret(filter, REFUSE(EPERM)); /* a netlink family other than route; only reached for AF_NETLINK */
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 2, 0));
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 1, 0));
	bpf_ret(filter, REFUSE(EAFNOSUPPORT));
	if (!fence) {
		/* In a network namespace of its own TCP and UDP harm nobody; the rest is only attack surface. */
		bpf_load(filter, ARGUMENT(1));
		bpf_emit(filter, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf)); /* net.h: SOCK_TYPE_MASK */
		bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_STREAM, 2, 0));
		bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_DGRAM, 1, 0));
		bpf_ret(filter, REFUSE(EPERM));
		bpf_load(filter, ARGUMENT(2));
		bpf_ret_if(filter, 0, SECCOMP_RET_ALLOW);
		bpf_ret_if(filter, IPPROTO_TCP, SECCOMP_RET_ALLOW);
		bpf_ret_if(filter, IPPROTO_UDP, SECCOMP_RET_ALLOW);
		bpf_ret(filter, REFUSE(EPROTONOSUPPORT));
	} else {
		/* Only plain TCP: a UDP socket that is bound to lo still leaves it with IP_PKTINFO (measured). */
		bpf_load(filter, ARGUMENT(1));
		bpf_emit(filter, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf)); /* net.h: SOCK_TYPE_MASK */
		bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_STREAM, 1, 0));
		bpf_ret(filter, REFUSE(EPERM));
		bpf_load(filter, ARGUMENT(2));
		bpf_ret_if(filter, 0, SECCOMP_RET_USER_NOTIF);
		bpf_ret_if(filter, IPPROTO_TCP, SECCOMP_RET_USER_NOTIF);
		bpf_ret(filter, REFUSE(EPROTONOSUPPORT)); /* MPTCP, SCTP, SMC: callers fall back to TCP */
	}
	bpf_end(filter, block);

	block = bpf_begin(filter, SYS_socketpair);
	bpf_load(filter, ARGUMENT(0));
	bpf_ret_if(filter, AF_UNIX, SECCOMP_RET_ALLOW);
	bpf_ret(filter, REFUSE(EAFNOSUPPORT));
	bpf_end(filter, block);

	block = bpf_begin(filter, SYS_setsockopt);
	bpf_load(filter, ARGUMENT(1));
	/* Source routes and extension headers ask other hosts to carry a packet on. */
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_IP, 0, 4));
	bpf_load(filter, ARGUMENT(2));
	bpf_ret_if(filter, IP_OPTIONS, REFUSE(EPERM));
	bpf_ret(filter, SECCOMP_RET_ALLOW);
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_IPV6, 1, 0));
	bpf_ret(filter, SECCOMP_RET_ALLOW);
	bpf_load(filter, ARGUMENT(2));
	bpf_ret_if(filter, IPV6_HOPOPTS, REFUSE(EPERM));
	bpf_ret_if(filter, IPV6_RTHDRDSTOPTS, REFUSE(EPERM));
	bpf_ret_if(filter, IPV6_RTHDR, REFUSE(EPERM));
	bpf_ret_if(filter, IPV6_DSTOPTS, REFUSE(EPERM));
	bpf_ret(filter, SECCOMP_RET_ALLOW);
	bpf_end(filter, block);
}

/*
 * A send with MSG_FASTOPEN connects as well, and Landlock's port rules did not see that before Linux 7.2 and
 * 6.18.54 (measured on 6.18.44: the data arrived). EOPNOTSUPP is what a kernel without fast open answers.
 */
static void send_rules(struct filter *filter)
{
	static const struct { int call; unsigned flags; } sends[] = {
		{ SYS_sendto, 3 }, { SYS_sendmsg, 2 }, { SYS_sendmmsg, 3 },
	};

	for (size_t i = 0; i < sizeof sends / sizeof *sends; i++) {
		unsigned block = bpf_begin(filter, sends[i].call);
		bpf_load(filter, ARGUMENT(sends[i].flags));
		bpf_ret_if_any_bit(filter, MSG_FASTOPEN, REFUSE(EOPNOTSUPP));
		bpf_ret(filter, SECCOMP_RET_ALLOW);
		bpf_end(filter, block);
	}
}

static void ioctl_rules(struct filter *filter)
{
	/* Typing into a terminal that somebody else reads. */
	unsigned block = bpf_begin(filter, SYS_ioctl);
	bpf_load(filter, ARGUMENT(1));
	bpf_ret_if(filter, TIOCSTI, REFUSE(EPERM));
	bpf_ret_if(filter, TIOCLINUX, REFUSE(EPERM));
	bpf_ret_if(filter, FIOSETOWN, REFUSE(EPERM)); /* SIGIO to a pid that lies in memory */
	bpf_ret_if(filter, SIOCSPGRP, REFUSE(EPERM));
	bpf_ret(filter, SECCOMP_RET_ALLOW);
	bpf_end(filter, block);
}

static void namespace_rules(struct filter *filter, bool fence)
{
	/* Its flags lie in memory, out of a filter's sight; ENOSYS sends libc back to clone(2). */
	bpf_ret_if(filter, SYS_clone3, REFUSE(ENOSYS));

	unsigned block = bpf_begin(filter, SYS_clone);
	bpf_load(filter, ARGUMENT(0));
	bpf_ret_if_any_bit(filter, FORBIDDEN_CLONE, REFUSE(EPERM));
	bpf_ret(filter, SECCOMP_RET_ALLOW);
	bpf_end(filter, block);

	block = bpf_begin(filter, SYS_unshare);
	bpf_load(filter, ARGUMENT(0));
	bpf_ret_if_any_bit(filter, FORBIDDEN_CLONE | CLONE_NEWTIME, REFUSE(EPERM));
	bpf_ret(filter, SECCOMP_RET_ALLOW);
	bpf_end(filter, block);

	/* A second filter could take a user notification of its own and lie to its children. */
	block = bpf_begin(filter, SYS_seccomp);
	bpf_load(filter, ARGUMENT(0));
	bpf_ret_if(filter, SECCOMP_SET_MODE_FILTER, REFUSE(EPERM));
	bpf_ret(filter, SECCOMP_RET_ALLOW);
	bpf_end(filter, block);
	block = bpf_begin(filter, SYS_prctl);
	bpf_load(filter, ARGUMENT(0));
	bpf_ret_if(filter, PR_SET_SECCOMP, REFUSE(EPERM));
	bpf_ret_if(filter, PR_SCHED_CORE_, REFUSE(EPERM)); /* shares its cookie with a process that it names */
	if (fence) {
		/*
		 * A process that hides its descriptors could share a socket unseen, so callers could not be identified
		 * while it runs. What asks for it (ssh-agent, sftp-server) fears other processes of its user, and some
		 * give up without it: so the answer is "done", and nothing is. In a user namespace of ours hiding
		 * does not work against its owner, the supervisor.
		 */
		bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_DUMPABLE, 1, 0));
		bpf_ret(filter, SECCOMP_RET_ALLOW);
		bpf_load(filter, ARGUMENT(1));
		bpf_ret_if(filter, 0, REFUSE(0));
	}
	bpf_ret(filter, SECCOMP_RET_ALLOW);
	bpf_end(filter, block);

	/* An executable that no path names has no identity. */
	block = bpf_begin(filter, SYS_execveat);
	bpf_load(filter, ARGUMENT(4));
	bpf_ret_if_any_bit(filter, 0x1000 /* AT_EMPTY_PATH */, REFUSE(EPERM));
	bpf_ret(filter, SECCOMP_RET_ALLOW);
	bpf_end(filter, block);

#if defined(__x86_64__)
	block = bpf_begin(filter, SYS_personality);
	bpf_load(filter, ARGUMENT(0));
	bpf_ret_if(filter, 0, SECCOMP_RET_ALLOW);
	bpf_ret_if(filter, 0xffffffff, SECCOMP_RET_ALLOW); /* asks, changes nothing */
	bpf_ret_if(filter, 0x8, SECCOMP_RET_ALLOW);	       /* PER_LINUX32: uname only */
	bpf_ret_if(filter, 0x20000, SECCOMP_RET_ALLOW);    /* UNAME26 */
	bpf_ret_if(filter, 0x20008, SECCOMP_RET_ALLOW);
	bpf_ret(filter, REFUSE(EPERM));
	bpf_end(filter, block);
#endif
}

/* `jump` is where the check of a pid is to be jumped to from. */
static void fcntl_rules(struct filter *filter, unsigned *jump)
{
	/* fcntl(fd, F_SETOWN, pid) makes the kernel signal that pid; F_SETOWN_EX hides it in memory. */
	unsigned block = bpf_begin(filter, SYS_fcntl);
	bpf_load(filter, ARGUMENT(1));
	bpf_ret_if(filter, 15 /* F_SETOWN_EX */, REFUSE(EPERM));
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 8 /* F_SETOWN */, 1, 0));
	bpf_ret(filter, SECCOMP_RET_ALLOW);
	bpf_load(filter, ARGUMENT(2));
	bpf_emit(filter, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
	*jump = filter->length - 1u;
	bpf_end(filter, block);
}

/*
 * Limits of others can be read and not set: every process of the sandbox has one user id, by which alone the kernel
 * goes (kernel/sys.c, check_prlimit_permission), and Landlock does not see the call. setrlimit(3) names no process.
 */
static void limit_rules(struct filter *filter, unsigned *jump)
{
	unsigned block = bpf_begin(filter, SYS_prlimit64);

	bpf_load(filter, ARGUMENT(0));
	bpf_ret_if(filter, 0, SECCOMP_RET_ALLOW);
	/* The new limit, a pointer: both of its halves count. */
	bpf_load(filter, ARGUMENT(2));
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2));
	bpf_load(filter, ARGUMENT(2) + sizeof(uint32_t));
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0));
	bpf_ret(filter, REFUSE(EPERM));
	bpf_load(filter, ARGUMENT(0));
	bpf_emit(filter, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
	*jump = filter->length - 1u;
	bpf_end(filter, block);
}

/* Ends the program: calls that name a process load the pid and jump to one shared check. */
static void process_rules(struct filter *filter, unsigned fcntl_jump, unsigned limit_jump, const pid_t *pids, size_t count)
{
	unsigned jumps[32], used = 0;

	jumps[used++] = fcntl_jump;
	jumps[used++] = limit_jump;
	for (size_t i = 0; i < sizeof first_is_pid / sizeof *first_is_pid; i++) {
		unsigned block = bpf_begin(filter, first_is_pid[i]);
		bpf_load(filter, ARGUMENT(0));
		if (first_is_pid[i] == SYS_kill)
			bpf_ret_if(filter, (unsigned)-1, REFUSE(EPERM)); /* everybody, the supervisor among them */
		bpf_emit(filter, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
		jumps[used++] = filter->length - 1u;
		bpf_end(filter, block);
	}

	/* By user (PRIO_USER, IOPRIO_WHO_USER) both calls reach the supervisor whatever the id says. */
	static const struct { int call; unsigned by_user; } ranked[] = { { SYS_setpriority, PRIO_USER }, { SYS_ioprio_set, 3 } };
	for (size_t i = 0; i < 2; i++) {
		unsigned block = bpf_begin(filter, ranked[i].call);
		bpf_load(filter, ARGUMENT(0));
		bpf_ret_if(filter, ranked[i].by_user, REFUSE(EPERM));
		bpf_load(filter, ARGUMENT(1));
		bpf_emit(filter, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
		jumps[used++] = filter->length - 1u;
		bpf_end(filter, block);
	}
	bpf_ret(filter, SECCOMP_RET_ALLOW);

	for (unsigned i = 0; i < used; i++)
		if (!filter->overflow)
			filter->code[jumps[i]].k = filter->length - jumps[i] - 1u;
	for (size_t i = 0; i < count; i++) {
		bpf_ret_if(filter, (unsigned)pids[i], REFUSE(EPERM));
		bpf_ret_if(filter, (unsigned)-pids[i], REFUSE(EPERM)); /* the process group it leads */
	}
	bpf_ret(filter, SECCOMP_RET_ALLOW);
}

bool filter_build(struct filter *filter, enum fence_mode fence, const pid_t *protected_pids, size_t protected_count)
{
	unsigned fcntl_jump, limit_jump;

	filter->length = 0;
	filter->overflow = false;

	/* Foreign ABIs number their calls differently: i386 through int 0x80, x32 by a bit. */
	bpf_load(filter, offsetof(struct seccomp_data, arch));
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_AUDIT_ARCH, 1, 0));
	bpf_ret(filter, REFUSE(ENOSYS));
	bpf_load(filter, offsetof(struct seccomp_data, nr));
#ifdef X32_SYSCALL_BIT
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_SYSCALL_BIT, 0, 1));
	bpf_ret(filter, REFUSE(ENOSYS));
#endif
	/* First what programs do all the time and what depends on arguments, so that no cache can spare it. */
	send_rules(filter);
	ioctl_rules(filter);
	fcntl_rules(filter, &fcntl_jump);
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, NEWEST_KNOWN_CALL, 0, 1));
	bpf_ret(filter, REFUSE(ENOSYS));
	denied_rules(filter);
	socket_rules(filter, fence == FENCE_SOCKET);
	namespace_rules(filter, fence == FENCE_SOCKET);
	limit_rules(filter, &limit_jump);
	process_rules(filter, fcntl_jump, limit_jump, protected_pids, protected_count);
	return !filter->overflow;
}

int filter_install(const struct filter *filter, int *listener)
{
	struct sock_fprog program = { filter->length, (struct sock_filter *)filter->code };
	unsigned flags = listener ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0;

	if (listener) {
		/* Without it every signal (Go preempts with them) restarts the notification. Linux 5.19. */
		long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
		if (fd < 0 && errno == EINVAL)
			fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
		if (fd < 0)
			return errno;
		*listener = (int)fd;
		return 0;
	}
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? errno : 0;
}
