/*
 * Kernel interfaces newer than the headers we build with (Debian 12: Linux 6.1), and the few that
 * musl leaves out. Values are kernel ABI and never change; each names the header it stands in.
 */
#ifndef OPENSHELL_KERNEL_H
#define OPENSHELL_KERNEL_H

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/syscall.h>

/* include/uapi/linux/landlock.h: ABI 3 (6.2), ABI 5 (6.10), ABI 6 (6.12) */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15)
#endif
#define SCOPE_ABSTRACT_UNIX_SOCKET (1ULL << 0)
#define SCOPE_SIGNAL (1ULL << 1)

/* ABI 9 (7.1): connecting to a unix socket by its path. */
#define ACCESS_FS_RESOLVE_UNIX (1ULL << 16)
/* ABI 4 (6.7): TCP ports. */
#define ACCESS_NET_CONNECT_TCP (1ULL << 1)
#define RULE_NET_PORT 2
struct net_port_attr {
	uint64_t allowed_access;
	uint64_t port;
};

/* struct landlock_ruleset_attr as of ABI 6. An older kernel accepts the longer struct as long as
   the fields that it does not know are zero. */
struct ruleset_attr {
	uint64_t handled_access_fs;
	uint64_t handled_access_net;
	uint64_t scoped;
};

/* include/uapi/linux/seccomp.h: 5.19 and 5.14 */
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif

/* include/uapi/linux/seccomp.h, 6.6: SECCOMP_IOW(4, __u64) */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS_ SECCOMP_IOW(4, uint64_t)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP_ (1UL << 0)

/* Numbers from 424 up are the same on every architecture (Documentation/process/adding-syscalls.rst). */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#define SYS_io_uring_enter 426
#define SYS_io_uring_register 427
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#define SYS_fspick 433
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif
#define SYS_set_mempolicy_home_node_ 450 /* 5.17 */
#define SYS_lsm_get_self_attr_ 459 /* 6.8, as the next two */
#define SYS_lsm_set_self_attr_ 460
#define SYS_lsm_list_modules_ 461
#define SYS_open_tree_attr_ 467 /* 6.15 */
#define PR_SCHED_CORE_ 62 /* include/uapi/linux/prctl.h, 5.14 */

#if defined(__x86_64__)
#define NATIVE_AUDIT_ARCH AUDIT_ARCH_X86_64
#define X32_SYSCALL_BIT 0x40000000u
#elif defined(__aarch64__)
#define NATIVE_AUDIT_ARCH AUDIT_ARCH_AARCH64
#else
#error "no seccomp policy for this architecture"
#endif

#endif
