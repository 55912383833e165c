#include "view.h"
#include "mounts.h"
#include "path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * A tmpfs of our own holds what we mount from, on a directory that every container has. It lies there only
 * while the view is built. Paths of the policy below it are opened before, so that it hides none of them.
 */
static const char *const scratch_places[] = { "/tmp", "/run", "/var/tmp", "/dev/shm", "/dev", NULL };
static const char *scratch;

/* One path of the policy, with its symlinks resolved. */
struct entry {
	int fd;
	bool writable, directory;
	char path[PATH_MAX];
};
static struct entry *entries; /* of 2 * SPEC_MAX_PATHS + 1 */
static size_t entry_count;

static int fail(struct view_outcome *outcome, const char *step, const char *path)
{
	outcome->error = errno;
	outcome->step = step;
	outcome->path = path;
	return -1;
}

/* Whether `path` is `above` or lies below it. */
static bool is_within(const char *path, const char *above)
{
	size_t size = strlen(above);

	return size == 1 || (!strncmp(path, above, size) && (path[size] == 0 || path[size] == '/'));
}

/* A hidden path below the scratch could not be seen while it is to be covered. */
static bool holds_hidden(const struct spec *spec, const char *place)
{
	for (size_t i = 0; i < spec->hidden_count; i++)
		if (is_within(spec->hidden[i], place))
			return true;
	return false;
}

static int make_scratch(const struct spec *spec, struct view_outcome *outcome)
{
	char path[PATH_MAX];

	for (size_t i = 0; scratch_places[i]; i++) {
		if (holds_hidden(spec, scratch_places[i]) ||
		    mount("tmpfs", scratch_places[i], "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=1m,mode=0755"))
			continue;
		scratch = scratch_places[i];
		/* What covers a hidden file, and what covers a hidden directory: empty, and never writable. */
		if (!path_join(path, scratch, "file", "") || mknod(path, S_IFREG | 0444, 0))
			return fail(outcome, "make", "an empty file");
		if (!path_join(path, scratch, "directory", "") || mkdir(path, 0555))
			return fail(outcome, "make", "an empty directory");
		return path_join(path, scratch, "root", "") && !mkdir(path, 0755) ? 0 : fail(outcome, "make", "a new root");
	}
	return fail(outcome, "mount a tmpfs on /tmp, /run, /var/tmp, /dev/shm or /dev", NULL);
}

static int add_entries(const char *const paths[], size_t count, bool writable, bool must_exist, struct view_outcome *outcome)
{
	char link[64];
	struct stat status;

	for (size_t i = 0; i < count; i++) {
		struct entry *entry = &entries[entry_count];
		entry->fd = open(paths[i], O_PATH | O_CLOEXEC);
		if (entry->fd < 0) {
			if (must_exist)
				return fail(outcome, "open", paths[i]);
			outcome->missing++;
			continue;
		}
		snprintf(link, sizeof link, "/proc/self/fd/%d", entry->fd);
		ssize_t size = readlink(link, entry->path, sizeof entry->path - 1);
		if (size < 0 || fstat(entry->fd, &status))
			return fail(outcome, "look at", paths[i]);
		entry->path[size] = 0;
		entry->directory = S_ISDIR(status.st_mode);
		entry->writable = writable;
		entry_count++;
	}
	return 0;
}

/* Parents first; of equal paths the writable one first. */
static int by_path(const void *left, const void *right)
{
	const struct entry *first = left, *second = right;
	int order = strcmp(first->path, second->path);

	return order ? order : (int)second->writable - (int)first->writable;
}

/* Landlock adds up the rights of all rules above a file: a writable directory makes what is below it writable. */
static bool is_covered(size_t index)
{
	for (size_t i = 0; i < index; i++)
		if ((entries[i].writable || !entries[index].writable) && is_within(entries[index].path, entries[i].path))
			return true;
	return false;
}

static int make_mount_point(const char *root, const struct entry *entry)
{
	char path[PATH_MAX];
	size_t from = strlen(root) + 1;

	if (!path_join(path, root, entry->path + 1, ""))
		return -1;
	/* Below what is bound already these exist; on the tmpfs they are made. */
	for (char *slash = strchr(path + from, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(path, 0755) && errno != EEXIST && errno != EROFS)
			return -1;
		*slash = '/';
	}
	if (entry->directory)
		return mkdir(path, 0755) && errno != EEXIST && errno != EROFS ? -1 : 0;
	int file = open(path, O_CREAT | O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0444);
	if (file < 0 && access(path, F_OK))
		return -1;
	if (file >= 0)
		close(file);
	return 0;
}

static int bind_entry(const char *root, const struct entry *entry)
{
	char source[64], target[PATH_MAX], copied[PATH_MAX];
	bool is_root = entry->path[1] == 0; /* then it takes the new root's place */

	snprintf(source, sizeof source, "/proc/self/fd/%d", entry->fd);
	if (!path_join(target, root, is_root ? "" : entry->path + 1, "") || (!is_root && make_mount_point(root, entry)))
		return -1;
	if (is_root)
		target[strlen(root)] = 0;
	/* Recursive, because what is mounted below it is locked to it (mount_namespaces(7)) and belongs to it. */
	if (mount(source, target, NULL, MS_BIND | MS_REC, NULL))
		return -1;
	/* The scratch is among what was copied, with half a root in it: nobody may see that. */
	if (is_within(scratch, entry->path) &&
	    (!path_join(copied, root, scratch + 1, "") || umount2(copied, MNT_DETACH)))
		return -1;
	return entry->writable ? 0 : mounts_read_only(target);
}

/* The links of the root directory (/bin, /lib and their like): Landlock does not restrict following them. */
static int copy_root_links(const char *root, struct view_outcome *outcome)
{
	DIR *directory = opendir("/");
	char target[PATH_MAX], path[PATH_MAX];

	if (!directory)
		return fail(outcome, "read", "/");
	for (struct dirent *entry; (entry = readdir(directory));) {
		ssize_t size = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
		if (size < 0)
			continue; /* not a link */
		target[size] = 0;
		if (!path_join(path, root, entry->d_name, "") || (symlink(target, path) && errno != EEXIST && errno != EROFS)) {
			closedir(directory);
			return fail(outcome, "make the links of", "/");
		}
	}
	closedir(directory);
	return 0;
}

/* A path of the policy that runs through a link below the root directory: the link is made as well. */
static void copy_link(const char *root, const char *path)
{
	char prefix[PATH_MAX], target[PATH_MAX], made[PATH_MAX];

	for (const char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
		size_t size = slash ? (size_t)(slash - path) : strlen(path);
		if (size >= sizeof prefix)
			return;
		memcpy(prefix, path, size);
		prefix[size] = 0;
		ssize_t length = readlink(prefix, target, sizeof target - 1);
		if (length > 0) {
			target[length] = 0;
			if (path_join(made, root, prefix + 1, ""))
				(void)!symlink(target, made); /* where it cannot be made its directory is bound, and has it */
			return;
		}
		if (!slash)
			return;
		if (path_join(made, root, prefix + 1, ""))
			(void)!mkdir(made, 0755);
	}
}

static int build_root(const struct spec *spec, const char *root, struct view_outcome *outcome)
{
	if (mount(root, root, NULL, MS_BIND, NULL)) /* pivot_root(2) wants a mount point */
		return fail(outcome, "bind", root);
	qsort(entries, entry_count, sizeof *entries, by_path);
	if (copy_root_links(root, outcome))
		return -1;
	for (size_t i = 0; i < entry_count; i++)
		if (!is_covered(i) && bind_entry(root, &entries[i]))
			return fail(outcome, "bind", entries[i].path);
	for (size_t i = 0; i < spec->read_only_count; i++)
		copy_link(root, spec->read_only[i]);
	for (size_t i = 0; i < spec->read_write_count; i++)
		copy_link(root, spec->read_write[i]);
	return 0;
}

/* Mounts `source` of the scratch over `path` below `root`. A path that is not there needs no cover. */
static int cover(const char *root, const char *path, const char *source)
{
	char from[PATH_MAX], target[PATH_MAX];

	if (!path_join(from, scratch, source, "") || !path_join(target, root, path + 1, ""))
		return -1;
	/* Not through a link: its target's own name is what would have to be hidden, and a link in an image could
	   lead the mount astray. */
	int place = open(target, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (place < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
	char link[64];
	snprintf(link, sizeof link, "/proc/self/fd/%d", place);
	int failed = mount(from, link, NULL, MS_BIND, NULL) || mounts_read_only(target);
	close(place);
	return failed ? -1 : 0;
}

static int hide(const struct spec *spec, const char *root, struct view_outcome *outcome)
{
	struct stat status;
	char real[PATH_MAX], target[PATH_MAX];

	for (size_t i = 0; i < spec->hidden_count; i++) {
		/* /var/run is a link to /run in most images. */
		const char *path = realpath(spec->hidden[i], real) ? real : spec->hidden[i];
		if (!path_join(target, root, path + 1, ""))
			return fail(outcome, "hide", spec->hidden[i]);
		if (lstat(target, &status))
			continue;
		if (cover(root, path, S_ISDIR(status.st_mode) ? "directory" : "file"))
			return fail(outcome, "hide", spec->hidden[i]);
	}
	return 0;
}

static int set_resolv_conf(const struct spec *spec, const char *root, struct view_outcome *outcome)
{
	char path[PATH_MAX], text[80], target[PATH_MAX];
	struct stat status;

	if (!spec->nameserver)
		return 0;
	/* Only over a regular file: a link could lead anywhere, and a read-only image without one cannot get one. */
	if (!path_join(target, root, "etc/resolv.conf", "") || lstat(target, &status) || !S_ISREG(status.st_mode))
		return 0;
	int size = snprintf(text, sizeof text, "nameserver %s\n", spec->nameserver);
	if (!path_join(path, scratch, "resolv.conf", ""))
		return fail(outcome, "write", "resolv.conf");
	int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0444);
	if (file < 0 || write(file, text, (size_t)size) != size || close(file) || cover(root, "/etc/resolv.conf", "resolv.conf"))
		return fail(outcome, "mount", "/etc/resolv.conf");
	outcome->resolv_conf = true;
	return 0;
}

static bool wants_proc(const struct spec *spec)
{
	if (!spec->private_view)
		return true;
	for (size_t i = 0; i < entry_count; i++)
		if (is_within("/proc", entries[i].path))
			return true;
	return false;
}

static int mount_proc(const struct spec *spec, const char *root, struct view_outcome *outcome)
{
	char target[PATH_MAX];

	if (!(spec->namespaces & CLONE_NEWPID) || !wants_proc(spec))
		return 0;
	if (!path_join(target, root, "proc", "") || mount("proc", target, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		return fail(outcome, "mount", "/proc");
	outcome->fresh_proc = true;
	return 0;
}

static int enter_root(const char *root, struct view_outcome *outcome)
{
	/* pivot_root(2), notes: the old root is stacked on the new one and unmounted from there. */
	if (chdir(root) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		return fail(outcome, "enter", "the new root");
	/* Its own tmpfs, with the mount points and nothing else, is nobody's to write to. */
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL))
		return fail(outcome, "make read-only", "the new root");
	return 0;
}

int view_build(const struct spec *spec, struct view_outcome *outcome)
{
	bool must_exist = spec->landlock == LANDLOCK_HARD_REQUIREMENT;
	char root[PATH_MAX] = "";

	*outcome = (struct view_outcome){ 0 };
	/* Nothing that we mount may show outside, nor the reverse. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return fail(outcome, "make private", "/");
	if (spec->private_view) {
		entries = calloc(2 * SPEC_MAX_PATHS + 1, sizeof *entries);
		if (!entries)
			return fail(outcome, "remember the paths", NULL);
		if (add_entries(spec->read_write, spec->read_write_count, true, must_exist, outcome) ||
		    add_entries(spec->read_only, spec->read_only_count, false, must_exist, outcome))
			return -1;
		/* Where there are terminals at all; it is nobody's but the caller's (landlock.c, add_terminal). */
		if (!access("/dev/tty", F_OK) && add_entries((const char *const[]){ "/dev/tty" }, 1, true, false, outcome))
			return -1;
	}
	if (make_scratch(spec, outcome))
		return -1;
	if (spec->private_view) {
		if (!path_join(root, scratch, "root", "") || build_root(spec, root, outcome))
			return -1;
	}
	if (mount_proc(spec, root, outcome) || set_resolv_conf(spec, root, outcome) || hide(spec, root, outcome))
		return -1;
	for (size_t i = 0; i < entry_count; i++)
		close(entries[i].fd);
	free(entries);
	if (spec->private_view)
		return enter_root(root, outcome);
	/* What is mounted from the scratch keeps it alive, out of everybody's reach. */
	if (umount2(scratch, MNT_DETACH))
		return fail(outcome, "remove", scratch);
	return 0;
}
