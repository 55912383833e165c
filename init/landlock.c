#include "landlock.h"
#include "control.h"
#include "kernel.h"
#include "report.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_RIGHTS                                                                                           \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |           \
	 LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_IOCTL_DEV | ACCESS_FS_RESOLVE_UNIX)
/* RESOLVE_UNIX too: a socket under a path that the policy names answers as it does on an older kernel. */
#define READ_RIGHTS                                                                                           \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |             \
	 ACCESS_FS_RESOLVE_UNIX)

/* A ruleset in the making. */
struct making {
	int ruleset;
	uint64_t rights; /* what the list at hand grants */
	bool writable, hard, tolerant;
	unsigned rules, missing;
	char secrets[SPEC_MAX_SECRETS][PATH_MAX]; /* where they lie once links are followed */
	size_t secret_count;
};

/* Every file right that an ABI knows: bits 0..12 came with ABI 1, then one bit each. */
static uint64_t known_rights(int abi)
{
	uint64_t rights = (1ULL << 13) - 1;

	if (abi >= 2)
		rights |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		rights |= LANDLOCK_ACCESS_FS_TRUNCATE;
	if (abi >= 5)
		rights |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
	if (abi >= 9)
		rights |= ACCESS_FS_RESOLVE_UNIX;
	return rights;
}

int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	return abi < 0 ? -errno : (int)abi;
}

/* Where an open path really lies in this mount namespace. */
static bool resolve(int fd, char real[PATH_MAX])
{
	char link[32];

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t size = readlink(link, real, PATH_MAX - 1);
	if (size < 0)
		return false;
	real[size] = 0;
	return true;
}

/* Whether `path` is `root` or lies below it. */
static bool within(const char *path, const char *root)
{
	size_t size = strlen(root);

	return !strcmp(root, "/") || (!strncmp(path, root, size) && (!path[size] || path[size] == '/'));
}

static const char *secret_around(const struct making *making, const char *real)
{
	for (size_t i = 0; i < making->secret_count; i++)
		if (within(real, making->secrets[i]))
			return making->secrets[i];
	return NULL;
}

static const char *secret_below(const struct making *making, const char *real)
{
	for (size_t i = 0; i < making->secret_count; i++)
		if (within(making->secrets[i], real))
			return making->secrets[i];
	return NULL;
}

/* A path without a rule stays out of reach, so skipping one never opens anything. */
static void skip(struct making *making, const char *path, const char *why)
{
	if (making->hard && making->tolerant)
		control_say("warn %s stays out of reach of this session, for since the start it %s", path, why);
	else if (making->hard)
		control_fail(EXIT_CONFINEMENT,
			     "filesystem_policy names %s, which %s; mend that, or set landlock.compatibility to best_effort to go on without it",
			     path, why);
	making->missing++;
}

/* Returns 0 or an errno. */
static int add_rule(struct making *making, int fd, uint64_t rights)
{
	struct stat status;

	if (fstat(fd, &status))
		return errno;
	struct landlock_path_beneath_attr rule = {
		/* The kernel refuses directory rights on a file (EINVAL). */
		.allowed_access = S_ISDIR(status.st_mode) ? rights : rights & FILE_RIGHTS,
		.parent_fd = fd,
	};
	if (syscall(SYS_landlock_add_rule, making->ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
		return errno;
	making->rules++;
	return 0;
}

/*
 * Rules for a directory that has a secret of the supervisor somewhere below. Landlock adds rights up on the
 * way from the root and takes none away, so the directory itself is given only its listing, and each entry
 * that is not on the way to a secret a rule of its own. What appears there later has none. A link needs
 * none: following one is free, and its end is judged where it lies.
 */
static void add_around_secrets(struct making *making, int fd, const char *real)
{
	char path[PATH_MAX];
	int listing = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = listing < 0 ? NULL : fdopendir(listing);

	if (!directory) {
		control_say("warn %s stays out of reach, for it holds a secret of the supervisor and cannot be listed: %s", real, errno_name(errno));
		if (listing >= 0)
			close(listing);
		making->missing++;
		return;
	}
	add_rule(making, fd, making->rights & LANDLOCK_ACCESS_FS_READ_DIR);
	for (struct dirent *entry; (entry = readdir(directory));) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || entry->d_type == DT_LNK)
			continue;
		int wanted = snprintf(path, sizeof path, "%s/%s", strcmp(real, "/") ? real : "", entry->d_name);
		if (wanted < 0 || (size_t)wanted >= sizeof path || secret_around(making, path))
			continue;
		int child = openat(listing, entry->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (child < 0)
			continue; /* it has gone, or is not ours to open */
		if (secret_below(making, path))
			add_around_secrets(making, child, path);
		else
			add_rule(making, child, making->rights);
		close(child);
	}
	closedir(directory);
}

/*
 * The supervisor followed the image's links before anything untrusted ran, so a link that turns up now was made
 * by the workload, to be given more in its next session than the policy says. What the kernel itself
 * links in /proc and /dev differs from process to process and cannot be made by a workload.
 */
static bool moved(const char *path, const char *real)
{
	return strcmp(real, path) && !within(path, "/proc") && !within(path, "/dev");
}

static void add_opened(struct making *making, int fd, const char *path)
{
	char real[PATH_MAX];
	const char *secret;

	if (!resolve(fd, real))
		control_fail(EXIT_CONFINEMENT, "cannot tell where %s leads: /proc/self/fd: %s", path, errno_name(errno));
	if ((secret = secret_around(making, real))) {
		skip(making, path, "leads to a secret of the supervisor");
		control_say("warn %s stays out of reach, for it leads to a secret of the supervisor in %s", path, secret);
		return;
	}
	if (moved(path, real)) {
		skip(making, path, "leads elsewhere through a link");
		control_say("warn %s stays out of reach, for a link leads from it to %s; name that in the policy", path, real);
		return;
	}
	if ((secret = secret_below(making, real))) {
		if (!making->writable) {
			add_around_secrets(making, fd, real);
			return;
		}
		/* What is made in it later must be usable, so it is granted whole. */
		control_say("warn the policy makes %s writable, and %s below it is in reach of the workload", path, secret);
	}
	int error = add_rule(making, fd, making->rights);
	if (error) { /* EBADFD: a pipe or a socket behind /dev/stdout, which Landlock does not govern */
		skip(making, path, errno_name(error));
		control_say("warn %s has no rule: %s", path, errno_name(error));
	}
}

static void add_paths(struct making *making, const char *const paths[], size_t count, uint64_t rights, bool writable)
{
	making->rights = rights;
	making->writable = writable;
	for (size_t i = 0; i < count; i++) {
		int fd = open(paths[i], O_PATH | O_CLOEXEC);
		if (fd >= 0) {
			add_opened(making, fd, paths[i]);
			close(fd);
			continue;
		}
		int error = errno;
		char why[64];
		snprintf(why, sizeof why, error == ENOENT ? "does not exist" : "cannot be opened (%s)", errno_name(error));
		skip(making, paths[i], why);
		if (error != ENOENT) /* policies name paths that only some images have; that is no news */
			control_say("warn %s stays out of reach: %s", paths[i], errno_name(error));
	}
}

/*
 * Programs ask for passwords on /dev/tty, which always is the caller's own terminal (tty(4)), whatever goes through their
 * standard streams; and by the name of descriptor 0, which is one inode. Neither opens the terminal of another.
 */
static void add_terminal(struct making *making, uint64_t known)
{
	uint64_t rights = (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_IOCTL_DEV) & known;
	unsigned rules = making->rules;
	int fd, error;

	if (!isatty(STDIN_FILENO))
		return;
	if ((fd = open("/dev/tty", O_PATH | O_CLOEXEC)) >= 0) {
		if ((error = add_rule(making, fd, rights)))
			control_say("warn /dev/tty has no rule: %s", errno_name(error));
		close(fd);
	}
	if ((error = add_rule(making, STDIN_FILENO, rights)))
		control_say("warn the terminal has no rule: %s", errno_name(error));
	making->rules = rules; /* of the policy, which is what is told and asked for */
}

/* TCP connections to these ports and to no other. */
static void add_ports(int ruleset, const struct spec *spec)
{
	for (size_t i = 0; i < spec->connect_port_count; i++) {
		struct net_port_attr rule = {
			.allowed_access = ACCESS_NET_CONNECT_TCP,
			.port = spec->connect_ports[i], /* host byte order */
		};
		if (syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &rule, 0))
			control_fail(EXIT_CONFINEMENT, "--strict-loopback cannot be kept: Landlock: %s", errno_name(errno));
	}
}

/* The plan asked for Landlock after the probe found it, and the statement says that it holds: never go without. */
static void unavailable(const struct spec *spec, int error) __attribute__((noreturn));
static void unavailable(const struct spec *spec, int error)
{
	control_fail(EXIT_CONFINEMENT, "%s Landlock, which fails here: %s",
		     spec->connect_port_count ? "--strict-loopback needs" : "files are confined by", errno_name(error));
}

/*
 * Signals and abstract unix sockets of the world outside: the same user id is no excuse. A session that is to end what
 * others in the sandbox have left has no signal scope, because every session is a domain of its own; what it must
 * not signal the filter names, as it does on kernels that have no scopes.
 */
static uint64_t scopes(const struct spec *spec)
{
	return SCOPE_ABSTRACT_UNIX_SOCKET | (spec->signals_unscoped ? 0 : SCOPE_SIGNAL);
}

int landlock_prepare(const struct spec *spec)
{
	static struct making making;
	int abi = spec->landlock == LANDLOCK_OFF ? -EOPNOTSUPP : landlock_abi();

	if (spec->landlock == LANDLOCK_OFF && !spec->connect_port_count)
		return -1;
	if (abi < 0)
		unavailable(spec, -abi);
	if (spec->landlock_abi_max && abi > spec->landlock_abi_max)
		abi = spec->landlock_abi_max;
	if (spec->connect_port_count && abi < 4)
		control_fail(EXIT_CONFINEMENT, "--strict-loopback needs Landlock ABI 4 (Linux 6.7), and ABI %d is in force", abi);

	uint64_t known = known_rights(abi);
	struct ruleset_attr attributes = {
		.handled_access_fs = known,
		/* Only connecting: what the workload listens on is its own, and nothing can come in from outside. */
		.handled_access_net = spec->connect_port_count ? ACCESS_NET_CONNECT_TCP : 0,
		.scoped = abi >= 6 ? scopes(spec) : 0,
	};
	/* The struct's size tells the kernel which fields exist: one at ABI 1, two from 4, three from 6. */
	size_t size = abi >= 6 ? sizeof attributes : abi >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
	long ruleset = syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
	if (ruleset < 0)
		unavailable(spec, errno);

	making.ruleset = (int)ruleset;
	making.hard = spec->landlock == LANDLOCK_HARD_REQUIREMENT;
	making.tolerant = spec->changes_tolerated;
	for (size_t i = 0; i < spec->secret_count; i++) {
		int fd = open(spec->secrets[i], O_PATH | O_CLOEXEC);
		if (fd < 0)
			continue; /* what is not there cannot be read; it may belong to another kind of driver */
		if (!resolve(fd, making.secrets[making.secret_count++]))
			control_fail(EXIT_CONFINEMENT, "cannot tell where %s lies: /proc/self/fd: %s", spec->secrets[i], errno_name(errno));
		close(fd);
	}
	add_paths(&making, spec->read_only, spec->read_only_count, READ_RIGHTS & known, false);
	add_paths(&making, spec->read_write, spec->read_write_count, known, true);
	add_terminal(&making, known);
	add_ports((int)ruleset, spec);
	/* The image decides which paths exist, so their absence must not be what sets a workload free. */
	if (!making.rules)
		control_fail(EXIT_CONFINEMENT, "no path of filesystem_policy exists here, so nothing could run; name at least the program's own directory in read_only");
	control_say("landlock %d %u %u", abi, making.rules, making.missing);
	return (int)ruleset;
}

int landlock_enforce(int ruleset)
{
	return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? errno : 0;
}
