#include "sftp_files.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PERMISSIONS = 07777 };

int sftp_open(const struct sftp_request *request, int *fd)
{
	static const struct { uint32_t asked; int flag; } known[] = {
		{ SFTP_FLAG_APPEND, O_APPEND }, { SFTP_FLAG_CREATE, O_CREAT }, { SFTP_FLAG_TRUNCATE, O_TRUNC },
		{ SFTP_FLAG_EXCLUSIVE, O_EXCL },
	};
	/* A pipe without its other end, or a terminal, must not hold up or become ours. */
	int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	mode_t mode = request->attributes.has & SFTP_HAS_PERMISSIONS ? request->attributes.permissions & PERMISSIONS : 0666;

	if (request->flags & SFTP_FLAG_WRITE)
		flags |= request->flags & SFTP_FLAG_READ ? O_RDWR : O_WRONLY;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (request->flags & known[i].asked)
			flags |= known[i].flag;
	*fd = open(request->path, flags, mode);
	return *fd < 0 ? errno : 0;
}

int sftp_read(int fd, uint64_t offset, uint8_t *bytes, size_t size, size_t *got)
{
	ssize_t result = offset > INT64_MAX ? (errno = EINVAL, -1) : pread(fd, bytes, size, (off_t)offset);

	if (result < 0 && errno == ESPIPE)
		result = read(fd, bytes, size);
	*got = result < 0 ? 0 : (size_t)result;
	return result < 0 ? errno : 0;
}

int sftp_write(int fd, bool appends, uint64_t offset, const uint8_t *bytes, size_t size)
{
	while (size) {
		if (offset > INT64_MAX)
			return EINVAL;
		ssize_t put = appends ? write(fd, bytes, size) : pwrite(fd, bytes, size, (off_t)offset);
		if (put < 0 && errno == ESPIPE)
			put = write(fd, bytes, size);
		if (put < 0)
			return errno;
		if (!put)
			return EIO;
		bytes += put;
		size -= (size_t)put;
		offset += (uint64_t)put;
	}
	return 0;
}

static void times_of(const struct sftp_attributes *attributes, struct timespec times[2])
{
	times[0] = (struct timespec){ .tv_sec = attributes->accessed };
	times[1] = (struct timespec){ .tv_sec = attributes->modified };
}

int sftp_set_by_path(const char *path, bool follow, const struct sftp_attributes *attributes)
{
	int flags = follow ? 0 : AT_SYMLINK_NOFOLLOW, error = 0;
	struct timespec times[2];

	/* All that can be set is set; the first error is what the client hears. The size goes first, because it changes the times. */
	if (attributes->has & SFTP_HAS_SIZE && (!follow || truncate(path, (off_t)attributes->size)))
		error = follow ? errno : EINVAL;
	if (attributes->has & SFTP_HAS_OWNER && fchownat(AT_FDCWD, path, attributes->uid, attributes->gid, flags) && !error)
		error = errno;
	if (attributes->has & SFTP_HAS_PERMISSIONS && fchmodat(AT_FDCWD, path, attributes->permissions & PERMISSIONS, flags) && !error)
		error = errno;
	times_of(attributes, times);
	if (attributes->has & SFTP_HAS_TIMES && utimensat(AT_FDCWD, path, times, flags) && !error)
		error = errno;
	return error;
}

int sftp_set_by_fd(int fd, const struct sftp_attributes *attributes)
{
	struct timespec times[2];
	int error = 0;

	if (attributes->has & SFTP_HAS_SIZE && ftruncate(fd, (off_t)attributes->size))
		error = errno;
	if (attributes->has & SFTP_HAS_OWNER && fchown(fd, attributes->uid, attributes->gid) && !error)
		error = errno;
	if (attributes->has & SFTP_HAS_PERMISSIONS && fchmod(fd, attributes->permissions & PERMISSIONS) && !error)
		error = errno;
	times_of(attributes, times);
	if (attributes->has & SFTP_HAS_TIMES && futimens(fd, times) && !error)
		error = errno;
	return error;
}

int sftp_rename(const char *from, const char *to)
{
	enum { NO_REPLACE = 1 }; /* RENAME_NOREPLACE of linux/fs.h */
	struct stat there;

	if (!syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, NO_REPLACE))
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return errno;
	/* A file system without it, some of a network: what appears between the two calls is replaced. */
	if (!lstat(to, &there))
		return EEXIST;
	return rename(from, to) ? errno : 0;
}

int sftp_real_path(const char *path, char resolved[PATH_MAX])
{
	static char parent[PATH_MAX], whole[PATH_MAX];
	size_t size = strlen(path);

	if (realpath(path, resolved))
		return 0;
	if (errno != ENOENT || size >= sizeof parent)
		return errno;
	memcpy(parent, path, size + 1);
	while (size > 1 && parent[size - 1] == '/')
		parent[--size] = 0;
	char *slash = strrchr(parent, '/');
	const char *name = slash ? slash + 1 : parent;
	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return ENOENT;
	const char *before = !slash ? "." : slash == parent ? "/" : parent;
	if (slash && slash != parent)
		*slash = 0;
	if (!realpath(before, whole))
		return errno;
	return path_join(resolved, !strcmp(whole, "/") ? "" : whole, name, "") ? 0 : ENAMETOOLONG;
}

int sftp_expand_path(const char *path, const char *home, char resolved[PATH_MAX])
{
	static char expanded[PATH_MAX];

	if (path[0] != '~')
		return sftp_real_path(path, resolved);
	if (path[1] && path[1] != '/')
		return ENOENT; /* the homes of others are not looked up: users are numbers here */
	if (!path_join(expanded, home, path[1] ? path + 2 : ".", ""))
		return ENAMETOOLONG;
	return sftp_real_path(expanded, resolved);
}

int sftp_copy(int from, uint64_t from_offset, uint64_t size, int to, uint64_t to_offset)
{
	static uint8_t bytes[64 * 1024];
	bool all = !size;
	struct stat one, other;
	size_t got;
	int error;

	if (fstat(from, &one) || fstat(to, &other))
		return errno;
	/* A file that is copied into itself could grow for ever. */
	if (one.st_dev == other.st_dev && one.st_ino == other.st_ino)
		return EINVAL;
	while (all || size) {
		size_t wanted = all || size > sizeof bytes ? sizeof bytes : (size_t)size;
		if ((error = sftp_read(from, from_offset, bytes, wanted, &got)) || !got)
			return error;
		if ((error = sftp_write(to, false, to_offset, bytes, got)))
			return error;
		from_offset += got;
		to_offset += got;
		size -= all ? 0 : got;
	}
	return 0;
}
