/* Reading and writing what the policy does not name. */
#include "attempt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum which { TOKEN, CANARY, POLICY, TLS_KEY, RUN_OPENSHELL };

static const char *path_of(int which)
{
	static const char *const fixed[] = { NULL, NULL, "/run/policy.yaml", "/etc/openshell-tls/client/tls.key", "/run/openshell/canary" };

	return which == TOKEN ? target("token") : which == CANARY ? target("canary") : fixed[which];
}

/* Opening is not enough: an empty cover can be opened. Bytes are. */
static enum outcome read_path(const char *path)
{
	char text[64];
	int file = open(path, O_RDONLY);

	if (file < 0)
		return judge(-1);
	ssize_t size = read(file, text, sizeof text);
	if (size <= 0) {
		detail("nothing in it");
		return REFUSED;
	}
	detail("%.20s", text);
	return ESCAPED;
}

static enum outcome read_it(int which) { return read_path(path_of(which)); }

static enum outcome write_canary(int how)
{
	const char *path = target("canary");
	char other[300];

	switch (how) {
	case 0: return judge(open(path, O_WRONLY));
	case 1: return judge(truncate(path, 0));
	case 2: return judge(unlink(path));
	case 3:
		snprintf(other, sizeof other, "%s.stolen", path);
		return judge(rename(path, other)) == ESCAPED ? ESCAPED : judge(rename(path, "/tmp/stolen"));
	case 4:
		snprintf(other, sizeof other, "%s.linked", path);
		return judge(link(path, other)) == ESCAPED ? ESCAPED : judge(link(path, "/tmp/linked"));
	case 5:
		snprintf(other, sizeof other, "%s.new", path);
		return judge(open(other, O_CREAT | O_WRONLY, 0600));
	case 6:
		close(open("/tmp/mine", O_CREAT | O_WRONLY, 0600));
		return judge(rename("/tmp/mine", path));
	case 7: {
		/* By a handle that needs no permission on the file, and the way back through /proc. */
		int handle = open(path, O_PATH);
		if (handle < 0)
			return judge(-1);
		snprintf(other, sizeof other, "/proc/self/fd/%d", handle);
		return read_path(other);
	}
	case 8: {
		int handle = open(path, O_PATH);
		snprintf(other, sizeof other, "/proc/self/fd/%d", handle);
		return judge(linkat(AT_FDCWD, other, AT_FDCWD, "/tmp/through-proc", AT_SYMLINK_FOLLOW));
	}
	default: return judge(symlink(path, "/tmp/way")) == ESCAPED ? read_path("/tmp/way") : REFUSED;
	}
}

static enum outcome write_file(const char *path)
{
	int file = open(path, O_WRONLY);

	if (file < 0)
		return judge(-1);
	return judge(write(file, "1", 1));
}

static enum outcome kernel_file(int which)
{
	static const char *const paths[] = {
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger",
		"/proc/sys/net/ipv4/ip_forward", "/sys/kernel/uevent_helper", "/proc/sys/kernel/modprobe", "/proc/sys/fs/binfmt_misc/register",
	};

	return write_file(paths[which]);
}

static enum outcome device(int which)
{
	static const char *const paths[] = { "/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/fuse", "/dev/net/tun", "/dev/kvm" };

	return judge(open(paths[which], O_RDWR));
}

static enum outcome make_node(int kind)
{
	return judge(mknod("/tmp/node", kind ? S_IFCHR | 0600 : S_IFBLK | 0600, makedev(kind ? 1 : 254, kind ? 1 : 0)));
}

static enum outcome outside_write(int which)
{
	static const char *const paths[] = { "/usr/escape", "/etc/escape", "/escape", "/opt/escape", "/dev/escape", "/var/log/escape", "/run/escape" };

	return judge(open(paths[which], O_CREAT | O_WRONLY, 0600));
}

static enum outcome temporary(int which)
{
	static const char *const paths[] = { "/", "/usr", "/etc", "/run" };

	return judge(open(paths[which], O_TMPFILE | O_WRONLY, 0600));
}

/* Through another process's view of the file system. */
static enum outcome others_root(int how)
{
	static const char *const names[] = { "root/etc/hostname", "cwd", "root", "exe", "maps", "mem", "environ", "fd", "fdinfo", "auxv", "stack", "ns/net" };
	pid_t pid = how >= 100 ? supervisor_pid() : 1;
	char path[300];

	if (!pid)
		return IMPOSSIBLE;
	snprintf(path, sizeof path, "/proc/%d/%s", pid, names[how % 100]);
	if (how % 100 == 7 || how % 100 == 8) {
		DIR *directory = opendir(path);
		return judge(directory ? 0 : -1);
	}
	int file = open(path, O_RDONLY);
	if (file < 0)
		return judge(-1);
	char byte;
	ssize_t got = pread(file, &byte, 1, how % 100 == 5 ? 0x400000 : 0);
	if (got <= 0) {
		detail("opened, nothing read");
		return how % 100 <= 2 || how % 100 == 3 || how % 100 == 11 ? ESCAPED : REFUSED;
	}
	return ESCAPED;
}

static enum outcome memory_file(int secret)
{
	return judge(secret ? syscall(447, 0) : syscall(SYS_memfd_create, "x", 0));
}

static enum outcome mounting(int how)
{
	switch (how) {
	case 0: return judge(mount("tmpfs", "/tmp", "tmpfs", 0, NULL));
	case 1: return judge(mount("/etc", "/tmp", NULL, MS_BIND, NULL));
	case 2: return judge(umount2("/run/openshell", MNT_DETACH));
	case 3: return judge(syscall(SYS_pivot_root, "/tmp", "/tmp"));
	case 4: return judge(chroot("/tmp"));
	case 5: return judge(syscall(428, AT_FDCWD, "/", 1)); /* open_tree */
	case 6: return judge(syscall(429, -1, "", AT_FDCWD, "/tmp", 0)); /* move_mount */
	case 7: return judge(syscall(430, "tmpfs", 0)); /* fsopen */
	case 8: return judge(syscall(442, AT_FDCWD, "/", 0, NULL, 0)); /* mount_setattr */
	default: return judge(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
	}
}

/* A handle by number needs no path (open_by_handle_at(2)). */
static enum outcome by_handle(int unused)
{
	(void)unused;
	struct { unsigned bytes; int type; unsigned char handle[128]; } handle = { .bytes = 8, .type = 1 };

	return judge(syscall(SYS_open_by_handle_at, AT_FDCWD, &handle, O_RDONLY));
}

#define EACH(name, run, n) { name "-" #n, run, n }
const struct attempt file_attempts[] = {
	{ "read-token", read_it, TOKEN }, { "read-canary", read_it, CANARY }, { "read-policy-file", read_it, POLICY },
	{ "read-tls-key", read_it, TLS_KEY }, { "read-run-openshell", read_it, RUN_OPENSHELL },
	{ "write-canary", write_canary, 0 }, { "truncate-canary", write_canary, 1 },
	{ "hard-link-canary", write_canary, 4 }, { "create-beside-canary", write_canary, 5 },
	{ "rename-over-canary", write_canary, 6 }, { "reopen-canary-through-proc", write_canary, 7 },
	{ "link-canary-through-proc", write_canary, 8 }, { "symlink-to-canary", write_canary, 9 },
	{ "rename-canary-away", write_canary, 3 }, { "unlink-canary", write_canary, 2 },
	EACH("kernel-file", kernel_file, 0), EACH("kernel-file", kernel_file, 1), EACH("kernel-file", kernel_file, 2),
	EACH("kernel-file", kernel_file, 3), EACH("kernel-file", kernel_file, 4), EACH("kernel-file", kernel_file, 5),
	EACH("kernel-file", kernel_file, 6), EACH("kernel-file", kernel_file, 7),
	EACH("device", device, 0), EACH("device", device, 1), EACH("device", device, 2), EACH("device", device, 3),
	EACH("device", device, 4), EACH("device", device, 5), EACH("device", device, 6),
	{ "mknod-block", make_node, 0 }, { "mknod-character", make_node, 1 },
	EACH("write-outside", outside_write, 0), EACH("write-outside", outside_write, 1), EACH("write-outside", outside_write, 2),
	EACH("write-outside", outside_write, 3), EACH("write-outside", outside_write, 4), EACH("write-outside", outside_write, 5),
	EACH("write-outside", outside_write, 6),
	EACH("o-tmpfile", temporary, 0), EACH("o-tmpfile", temporary, 1), EACH("o-tmpfile", temporary, 2), EACH("o-tmpfile", temporary, 3),
	{ "init-root", others_root, 0 }, { "init-cwd", others_root, 1 }, { "init-exe", others_root, 3 }, { "init-maps", others_root, 4 },
	{ "init-memory", others_root, 5 }, { "init-environ", others_root, 6 }, { "init-descriptors", others_root, 7 },
	{ "init-fdinfo", others_root, 8 }, { "init-auxv", others_root, 9 }, { "init-namespace", others_root, 11 },
	{ "supervisor-root", others_root, 100 }, { "supervisor-cwd", others_root, 101 }, { "supervisor-exe", others_root, 103 },
	{ "supervisor-maps", others_root, 104 }, { "supervisor-memory", others_root, 105 }, { "supervisor-environ", others_root, 106 },
	{ "supervisor-descriptors", others_root, 107 }, { "supervisor-fdinfo", others_root, 108 }, { "supervisor-auxv", others_root, 109 },
	{ "supervisor-stack", others_root, 110 }, { "supervisor-namespace", others_root, 111 },
	{ "memfd", memory_file, 0 }, { "memfd-secret", memory_file, 1 },
	EACH("mount", mounting, 0), EACH("mount", mounting, 1), EACH("mount", mounting, 2), EACH("mount", mounting, 3),
	EACH("mount", mounting, 4), EACH("mount", mounting, 5), EACH("mount", mounting, 6), EACH("mount", mounting, 7),
	EACH("mount", mounting, 8), EACH("mount", mounting, 9),
	{ "open-by-handle", by_handle, 0 },
	{ NULL, NULL, 0 },
};
