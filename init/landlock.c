#include "landlock.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_RIGHTS                                                                                           \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |           \
	 LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_IOCTL_DEV)
#define READ_RIGHTS                                                                                           \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

/* Every file right that an ABI knows: bits 0..12 came with ABI 1, then one bit each with 2, 3 and 5. */
static uint64_t known_rights(int abi)
{
	uint64_t rights = (1ULL << 13) - 1;

	if (abi >= 2)
		rights |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		rights |= LANDLOCK_ACCESS_FS_TRUNCATE;
	if (abi >= 5)
		rights |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
	return rights;
}

int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	return abi < 0 ? -errno : (int)abi;
}

static int fail(struct landlock_outcome *outcome, int error, const char *step, const char *path)
{
	outcome->error = error;
	outcome->step = step;
	outcome->path = path;
	return -1;
}

static int add_rules(int ruleset, const char *const paths[], size_t count, uint64_t rights, bool must_exist,
		     struct landlock_outcome *outcome)
{
	for (size_t i = 0; i < count; i++) {
		struct stat status;
		/* Follows symlinks on purpose: the rule is for what the path names now, not for the link. */
		int fd = open(paths[i], O_PATH | O_CLOEXEC);
		if (fd < 0) {
			if (must_exist)
				return fail(outcome, errno, "open", paths[i]);
			outcome->missing++;
			continue;
		}
		if (fstat(fd, &status)) {
			int error = errno;
			close(fd);
			return fail(outcome, error, "stat", paths[i]);
		}
		struct landlock_path_beneath_attr rule = {
			/* The kernel refuses directory rights on a file (EINVAL). */
			.allowed_access = S_ISDIR(status.st_mode) ? rights : rights & FILE_RIGHTS,
			.parent_fd = fd,
		};
		long added = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
		int error = errno;
		close(fd);
		if (added < 0)
			return fail(outcome, error, "add a rule for", paths[i]);
		outcome->rules++;
	}
	return 0;
}

int landlock_prepare(const struct spec *spec, struct landlock_outcome *outcome)
{
	int abi = landlock_abi();
	bool hard = spec->landlock == LANDLOCK_HARD_REQUIREMENT;

	*outcome = (struct landlock_outcome){ 0 };
	if (abi < 0)
		return fail(outcome, -abi, "ask the kernel for its version", NULL);
	if (spec->landlock_abi_max && abi > spec->landlock_abi_max)
		abi = spec->landlock_abi_max;

	uint64_t known = known_rights(abi);
	struct ruleset_attr attributes = {
		.handled_access_fs = known,
		/* Signals and abstract unix sockets of the world outside: the same user id is no excuse. */
		.scoped = abi >= 6 ? SCOPE_SIGNAL | SCOPE_ABSTRACT_UNIX_SOCKET : 0,
	};
	/* The struct's size tells the kernel which fields exist: one at ABI 1, two from 4, three from 6. */
	size_t size = abi >= 6 ? sizeof attributes : abi >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
	long ruleset = syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
	if (ruleset < 0)
		return fail(outcome, errno, "create a ruleset", NULL);

	if (add_rules((int)ruleset, spec->read_only, spec->read_only_count, READ_RIGHTS & known, hard, outcome) ||
	    add_rules((int)ruleset, spec->read_write, spec->read_write_count, known, hard, outcome)) {
		close((int)ruleset);
		return -1;
	}
	outcome->abi = abi;
	return (int)ruleset;
}

int landlock_enforce(int ruleset)
{
	return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? errno : 0;
}
