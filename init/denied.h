#ifndef OPENSHELL_DENIED_H
#define OPENSHELL_DENIED_H

#include "kernel.h"

/*
 * Calls that a workload without capabilities has no honest need of; refused with EPERM. The list covers what
 * Docker's default profile withholds from a container without capabilities and what upstream's supervisor
 * refuses (test/init/filter.test.ts holds it against both), and goes further where a comment says so.
 */
static const int denied_calls[] = {
	/* Execution from memory that no policy or identity could name (further than Docker), and memory traps. */
	SYS_memfd_create, SYS_memfd_secret, SYS_userfaultfd,
	/* Other processes: memory, descriptors, handles (further than Docker: ptrace, process_vm_*, pidfds). */
	SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_process_madvise, SYS_process_mrelease,
	SYS_pidfd_open, SYS_pidfd_getfd, SYS_pidfd_send_signal, SYS_kcmp, SYS_move_pages, SYS_migrate_pages,
	SYS_mbind, SYS_set_mempolicy, SYS_get_mempolicy, SYS_set_mempolicy_home_node_,
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
	SYS_lsm_get_self_attr_, SYS_lsm_set_self_attr_, SYS_lsm_list_modules_,
#if defined(__x86_64__)
	SYS_iopl, SYS_ioperm, SYS_uselib, SYS_ustat, SYS_sysfs, SYS__sysctl, SYS_create_module, SYS_get_kernel_syms,
	SYS_query_module,
#endif
};

/*
 * The newest call that this list was written with (Linux 6.17: removexattrat 466 is the newest that Docker
 * allows). A kernel may have newer ones: they answer ENOSYS, as they do on a kernel without them.
 */
enum { NEWEST_KNOWN_CALL = 466 };

#endif
