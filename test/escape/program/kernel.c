/* The kernel's own doors. */
#include "attempt.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum call {
	BPF, USERFAULTFD, PERF, KEXEC, KEXEC_FILE, INIT_MODULE, FINIT_MODULE, DELETE_MODULE, REBOOT, CLOCK_SET, TIME_SET, ADJTIME, SWAPON,
	HOSTNAME, DOMAINNAME, ACCT, QUOTA, SYSLOG, IOPL, IOPERM, MODIFY_LDT, ADD_KEY, KEYCTL, REQUEST_KEY, FANOTIFY, LOOKUP_COOKIE,
	VHANGUP, PERSONALITY, TERMINAL_INPUT, SECCOMP_LISTENER, SECCOMP_FILTER, PRCTL_SECCOMP, PRCTL_MM, NEW_CALL, LSM_SET, CHROOT_FD
};

static enum outcome call(int which)
{
	char buffer[256] = { 0 };
	struct timespec time = { 1, 0 };
	struct timeval coarse = { 1, 0 };
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { 1, &allow };
	unsigned long attributes[16] = { 0, 128 };

	switch (which) {
	case BPF: return judge(syscall(SYS_bpf, 0, attributes, 48));
	case USERFAULTFD: return judge(syscall(SYS_userfaultfd, 1));
	case PERF: return judge(syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0));
	case KEXEC: return judge(syscall(SYS_kexec_load, 0, 0, NULL, 0));
	case KEXEC_FILE: return judge(syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0)) == ESCAPED || errno == EBADF ? ESCAPED : REFUSED;
	case INIT_MODULE: return judge(syscall(SYS_init_module, buffer, 1, "")) == ESCAPED || errno == ENOEXEC ? ESCAPED : REFUSED;
	case FINIT_MODULE: return judge(syscall(SYS_finit_module, 0, "", 0)) == ESCAPED || errno == ENOEXEC ? ESCAPED : REFUSED;
	case DELETE_MODULE: return judge(syscall(SYS_delete_module, "none", 0)) == ESCAPED || errno == ENOENT ? ESCAPED : REFUSED;
	case REBOOT: return judge(reboot(0x89ABCDEF)); /* only allows Ctrl-Alt-Del */
	case CLOCK_SET: return judge(clock_settime(CLOCK_REALTIME, &time));
	case TIME_SET: return judge(settimeofday(&coarse, NULL));
	case ADJTIME: return judge(syscall(SYS_adjtimex, (memcpy(buffer, "\2", 1), buffer)));
	case SWAPON: return judge(swapon("/tmp/none", 0)) == ESCAPED || errno == ENOENT ? ESCAPED : REFUSED;
	case HOSTNAME: return judge(sethostname("mine", 4));
	case DOMAINNAME: return judge(setdomainname("mine", 4));
	case ACCT: return judge(syscall(SYS_acct, NULL));
	case QUOTA: return judge(syscall(SYS_quotactl, 0x800001 << 8, "/", 0, buffer)) == ESCAPED ? ESCAPED : REFUSED;
	case SYSLOG: return judge(syscall(SYS_syslog, 3, buffer, sizeof buffer));
#if defined(__x86_64__)
	case IOPL: return judge(syscall(SYS_iopl, 3));
	case IOPERM: return judge(syscall(SYS_ioperm, 0x80, 1, 1));
#endif
	case ADD_KEY: return judge(syscall(SYS_add_key, "user", "x", "y", 1, -2));
	case KEYCTL: return judge(syscall(SYS_keyctl, 0, -3, 1));
	case REQUEST_KEY: return judge(syscall(SYS_request_key, "user", "x", NULL, -2)) == ESCAPED || errno == ENOKEY ? ESCAPED : REFUSED;
	case FANOTIFY: return judge(syscall(SYS_fanotify_init, 0x200, 0));
	case LOOKUP_COOKIE: return judge(syscall(SYS_lookup_dcookie, 0, buffer, sizeof buffer));
	case VHANGUP: return judge(vhangup());
	case PERSONALITY: return judge(personality(0x0040000)); /* ADDR_NO_RANDOMIZE */
	case TERMINAL_INPUT: return judge(ioctl(0, TIOCSTI, "x"));
	case SECCOMP_LISTENER: return judge(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 8, &program));
	case SECCOMP_FILTER: return judge(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
	case PRCTL_SECCOMP: return judge(prctl(PR_SET_SECCOMP, 2, &program));
	case PRCTL_MM: return judge(prctl(PR_SET_MM, PR_SET_MM_EXE_FILE, 0, 0, 0));
	case NEW_CALL: return judge(syscall(600));
	case LSM_SET: return judge(syscall(460, 1, buffer, 8, 0));
	default: return IMPOSSIBLE;
	}
}

const struct attempt kernel_attempts[] = {
	{ "bpf", call, BPF }, { "userfaultfd", call, USERFAULTFD }, { "perf", call, PERF }, { "kexec", call, KEXEC },
	{ "kexec-file", call, KEXEC_FILE }, { "init-module", call, INIT_MODULE }, { "finit-module", call, FINIT_MODULE },
	{ "delete-module", call, DELETE_MODULE }, { "reboot", call, REBOOT }, { "clock-settime", call, CLOCK_SET },
	{ "settimeofday", call, TIME_SET }, { "adjtimex", call, ADJTIME }, { "swapon", call, SWAPON }, { "sethostname", call, HOSTNAME },
	{ "setdomainname", call, DOMAINNAME }, { "acct", call, ACCT }, { "quotactl", call, QUOTA }, { "syslog", call, SYSLOG },
#if defined(__x86_64__)
	{ "iopl", call, IOPL }, { "ioperm", call, IOPERM },
#endif
	{ "add-key", call, ADD_KEY }, { "keyctl", call, KEYCTL }, { "request-key", call, REQUEST_KEY }, { "fanotify", call, FANOTIFY },
	{ "lookup-dcookie", call, LOOKUP_COOKIE }, { "vhangup", call, VHANGUP }, { "personality", call, PERSONALITY },
	{ "terminal-input", call, TERMINAL_INPUT }, { "seccomp-listener", call, SECCOMP_LISTENER },
	{ "seccomp-filter", call, SECCOMP_FILTER }, { "prctl-seccomp", call, PRCTL_SECCOMP }, { "prctl-mm", call, PRCTL_MM },
	{ "unknown-call", call, NEW_CALL }, { "lsm-set", call, LSM_SET },
	{ NULL, NULL, 0 },
};
