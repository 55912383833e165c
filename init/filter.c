#include "filter.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Calls that a workload without capabilities has no honest need of. Refused with EPERM. */
static const int denied[] = {
	/* execution and memory without a file that a policy or an identity could name */
	SYS_memfd_create, SYS_memfd_secret, SYS_userfaultfd,
	/* other processes: memory, descriptors, handles */
	SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_process_madvise, SYS_process_mrelease,
	SYS_pidfd_open, SYS_pidfd_getfd, SYS_pidfd_send_signal, SYS_kcmp, SYS_move_pages, SYS_migrate_pages,
	SYS_mbind, SYS_set_mempolicy, SYS_get_mempolicy,
	/* io_uring makes sockets and opens files behind seccomp's back */
	SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
	/* mounts, roots and namespaces */
	SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_setns, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick,
	SYS_move_mount, SYS_open_tree, SYS_open_tree_attr_, SYS_mount_setattr, SYS_open_by_handle_at,
	/* the kernel itself */
	SYS_bpf, SYS_perf_event_open, SYS_add_key, SYS_keyctl, SYS_request_key, SYS_kexec_load, SYS_kexec_file_load,
	SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_acct, SYS_quotactl, SYS_quotactl_fd, SYS_swapon,
	SYS_swapoff, SYS_reboot, SYS_settimeofday, SYS_clock_settime, SYS_sethostname, SYS_setdomainname, SYS_vhangup,
	SYS_syslog, SYS_lookup_dcookie, SYS_nfsservctl, SYS_fanotify_init,
#if defined(__x86_64__)
	SYS_iopl, SYS_ioperm, SYS_uselib, SYS_ustat, SYS_sysfs, SYS__sysctl, SYS_create_module, SYS_get_kernel_syms,
	SYS_query_module,
#endif
};

/* Calls whose first argument is a process, by which one process can harm another of its user id. */
static const int first_is_pid[] = {
	SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_prlimit64,
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

static void emit(struct filter *filter, struct sock_filter instruction)
{
	if (filter->length == FILTER_MAX)
		filter->overflow = true;
	else
		filter->code[filter->length++] = instruction;
}

static void load(struct filter *filter, unsigned offset)
{
	emit(filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}

static void ret(struct filter *filter, unsigned action)
{
	emit(filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* If the accumulator equals `value`, return `action`; else go on. */
static void ret_if(struct filter *filter, unsigned value, unsigned action)
{
	emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
	ret(filter, action);
}

static void ret_if_any_bit(struct filter *filter, unsigned bits, unsigned action)
{
	emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1));
	ret(filter, action);
}

/* Opens a block that is run only for one system call; the jump over it is filled in by `end`. The
   accumulator holds the call's number here, and still does behind the block, because every block returns. BPF_JA has 32 bits, conditional jumps have 8, hence the pair. */
static unsigned begin(struct filter *filter, int number)
{
	emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 1, 0));
	emit(filter, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
	return filter->length - 1u;
}

static void end(struct filter *filter, unsigned block)
{
	if (!filter->overflow)
		filter->code[block].k = filter->length - block - 1u;
}

static void socket_rules(struct filter *filter, bool fence)
{
	unsigned block = begin(filter, SYS_socket);

	load(filter, ARGUMENT(0));
	ret_if(filter, AF_UNIX, SECCOMP_RET_ALLOW);
	/* NETLINK_ROUTE is what getifaddrs(3) needs; changes through it take CAP_NET_ADMIN. */
	emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 4));
	load(filter, ARGUMENT(2));
	ret_if(filter, 0, SECCOMP_RET_ALLOW);
	ret(filter, REFUSE(EPERM)); /* a netlink family other than route; only reached for AF_NETLINK */
	if (!fence) {
		ret_if(filter, AF_INET, SECCOMP_RET_ALLOW);
		ret_if(filter, AF_INET6, SECCOMP_RET_ALLOW);
		ret(filter, REFUSE(EAFNOSUPPORT));
	} else {
		emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 2, 0));
		emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 1, 0));
		ret(filter, REFUSE(EAFNOSUPPORT));
		/* Only plain TCP: a UDP socket that is bound to lo still leaves it with IP_PKTINFO (measured). */
		load(filter, ARGUMENT(1));
		emit(filter, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf)); /* net.h: SOCK_TYPE_MASK */
		emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_STREAM, 1, 0));
		ret(filter, REFUSE(EPERM));
		load(filter, ARGUMENT(2));
		ret_if(filter, 0, SECCOMP_RET_USER_NOTIF);
		ret_if(filter, IPPROTO_TCP, SECCOMP_RET_USER_NOTIF);
		ret(filter, REFUSE(EPROTONOSUPPORT)); /* MPTCP, SCTP, SMC: callers fall back to TCP */
	}
	end(filter, block);

	block = begin(filter, SYS_socketpair);
	load(filter, ARGUMENT(0));
	ret_if(filter, AF_UNIX, SECCOMP_RET_ALLOW);
	ret(filter, REFUSE(EAFNOSUPPORT));
	end(filter, block);

	block = begin(filter, SYS_setsockopt);
	load(filter, ARGUMENT(1));
	/* Source routes and extension headers ask other hosts to carry a packet on. */
	emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_IP, 0, 4));
	load(filter, ARGUMENT(2));
	ret_if(filter, IP_OPTIONS, REFUSE(EPERM));
	ret(filter, SECCOMP_RET_ALLOW);
	emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_IPV6, 1, 0));
	ret(filter, SECCOMP_RET_ALLOW);
	load(filter, ARGUMENT(2));
	ret_if(filter, IPV6_HOPOPTS, REFUSE(EPERM));
	ret_if(filter, IPV6_RTHDRDSTOPTS, REFUSE(EPERM));
	ret_if(filter, IPV6_RTHDR, REFUSE(EPERM));
	ret_if(filter, IPV6_DSTOPTS, REFUSE(EPERM));
	ret(filter, SECCOMP_RET_ALLOW);
	end(filter, block);
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
		unsigned block = begin(filter, sends[i].call);
		load(filter, ARGUMENT(sends[i].flags));
		ret_if_any_bit(filter, MSG_FASTOPEN, REFUSE(EOPNOTSUPP));
		ret(filter, SECCOMP_RET_ALLOW);
		end(filter, block);
	}
}

static void namespace_rules(struct filter *filter)
{
	/* Its flags lie in memory, out of a filter's sight; ENOSYS sends libc back to clone(2). */
	ret_if(filter, SYS_clone3, REFUSE(ENOSYS));

	unsigned block = begin(filter, SYS_clone);
	load(filter, ARGUMENT(0));
	ret_if_any_bit(filter, FORBIDDEN_CLONE, REFUSE(EPERM));
	ret(filter, SECCOMP_RET_ALLOW);
	end(filter, block);

	block = begin(filter, SYS_unshare);
	load(filter, ARGUMENT(0));
	ret_if_any_bit(filter, FORBIDDEN_CLONE | CLONE_NEWTIME, REFUSE(EPERM));
	ret(filter, SECCOMP_RET_ALLOW);
	end(filter, block);

	/* A second filter could take a user notification of its own and lie to its children. */
	block = begin(filter, SYS_seccomp);
	load(filter, ARGUMENT(0));
	ret_if(filter, SECCOMP_SET_MODE_FILTER, REFUSE(EPERM));
	ret(filter, SECCOMP_RET_ALLOW);
	end(filter, block);
	block = begin(filter, SYS_prctl);
	load(filter, ARGUMENT(0));
	ret_if(filter, PR_SET_SECCOMP, REFUSE(EPERM));
	ret(filter, SECCOMP_RET_ALLOW);
	end(filter, block);

	/* An executable that no path names has no identity. */
	block = begin(filter, SYS_execveat);
	load(filter, ARGUMENT(4));
	ret_if_any_bit(filter, 0x1000 /* AT_EMPTY_PATH */, REFUSE(EPERM));
	ret(filter, SECCOMP_RET_ALLOW);
	end(filter, block);

	/* Typing into a terminal that somebody else reads. */
	block = begin(filter, SYS_ioctl);
	load(filter, ARGUMENT(1));
	ret_if(filter, TIOCSTI, REFUSE(EPERM));
	ret_if(filter, TIOCLINUX, REFUSE(EPERM));
	ret_if(filter, FIOSETOWN, REFUSE(EPERM)); /* SIGIO to a pid that lies in memory */
	ret_if(filter, SIOCSPGRP, REFUSE(EPERM));
	ret(filter, SECCOMP_RET_ALLOW);
	end(filter, block);

#if defined(__x86_64__)
	block = begin(filter, SYS_personality);
	load(filter, ARGUMENT(0));
	ret_if(filter, 0, SECCOMP_RET_ALLOW);
	ret_if(filter, 0xffffffff, SECCOMP_RET_ALLOW); /* asks, changes nothing */
	ret_if(filter, 0x8, SECCOMP_RET_ALLOW);	       /* PER_LINUX32: uname only */
	ret_if(filter, 0x20000, SECCOMP_RET_ALLOW);    /* UNAME26 */
	ret_if(filter, 0x20008, SECCOMP_RET_ALLOW);
	ret(filter, REFUSE(EPERM));
	end(filter, block);
#endif
}

/* Ends the program: calls that name a process load the pid and jump to one shared check. */
static void process_rules(struct filter *filter, const pid_t *pids, size_t count)
{
	unsigned jumps[32], used = 0;

	for (size_t i = 0; i < sizeof first_is_pid / sizeof *first_is_pid; i++) {
		unsigned block = begin(filter, first_is_pid[i]);
		load(filter, ARGUMENT(0));
		if (first_is_pid[i] == SYS_kill)
			ret_if(filter, (unsigned)-1, REFUSE(EPERM)); /* everybody, the supervisor among them */
		emit(filter, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
		jumps[used++] = filter->length - 1u;
		end(filter, block);
	}

	/* fcntl(fd, F_SETOWN, pid) makes the kernel signal that pid; F_SETOWN_EX hides it in memory. */
	unsigned block = begin(filter, SYS_fcntl);
	load(filter, ARGUMENT(1));
	ret_if(filter, 15 /* F_SETOWN_EX */, REFUSE(EPERM));
	emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 8 /* F_SETOWN */, 1, 0));
	ret(filter, SECCOMP_RET_ALLOW);
	load(filter, ARGUMENT(2));
	emit(filter, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
	jumps[used++] = filter->length - 1u;
	end(filter, block);

	/* By user (PRIO_USER, IOPRIO_WHO_USER) both calls reach the supervisor whatever the id says. */
	static const struct { int call; unsigned by_user; } ranked[] = { { SYS_setpriority, PRIO_USER }, { SYS_ioprio_set, 3 } };
	for (size_t i = 0; i < 2; i++) {
		block = begin(filter, ranked[i].call);
		load(filter, ARGUMENT(0));
		ret_if(filter, ranked[i].by_user, REFUSE(EPERM));
		load(filter, ARGUMENT(1));
		emit(filter, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
		jumps[used++] = filter->length - 1u;
		end(filter, block);
	}
	ret(filter, SECCOMP_RET_ALLOW);

	for (unsigned i = 0; i < used; i++)
		if (!filter->overflow)
			filter->code[jumps[i]].k = filter->length - jumps[i] - 1u;
	for (size_t i = 0; i < count; i++) {
		ret_if(filter, (unsigned)pids[i], REFUSE(EPERM));
		ret_if(filter, (unsigned)-pids[i], REFUSE(EPERM)); /* the process group it leads */
	}
	ret(filter, SECCOMP_RET_ALLOW);
}

bool filter_build(struct filter *filter, enum fence_mode fence, const pid_t *protected_pids, size_t protected_count)
{
	filter->length = 0;
	filter->overflow = false;

	/* Foreign ABIs number their calls differently: i386 through int 0x80, x32 by a bit. */
	load(filter, offsetof(struct seccomp_data, arch));
	emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_AUDIT_ARCH, 1, 0));
	ret(filter, REFUSE(ENOSYS));
	load(filter, offsetof(struct seccomp_data, nr));
#ifdef X32_SYSCALL_BIT
	emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_SYSCALL_BIT, 0, 1));
	ret(filter, REFUSE(ENOSYS));
#endif
	for (size_t i = 0; i < sizeof denied / sizeof *denied; i++)
		ret_if(filter, (unsigned)denied[i], REFUSE(EPERM));
	socket_rules(filter, fence == FENCE_SOCKET);
	send_rules(filter);
	namespace_rules(filter);
	process_rules(filter, protected_pids, protected_count);
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
