#include "payload.h"
#include "path.h"
#include "report.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static bool parse_octal(const unsigned char *field, size_t size, size_t *value)
{
	size_t i = 0;

	*value = 0;
	while (i < size && field[i] == ' ')
		i++;
	for (; i < size && field[i] >= '0' && field[i] <= '7'; i++) {
		if (*value >> 40)
			return false; /* more than a terabyte is damage */
		*value = *value << 3 | (size_t)(field[i] - '0');
	}
	return i == size || field[i] == 0 || field[i] == ' ';
}

static bool safe_name(const char *name)
{
	if (!*name || *name == '/')
		return false;
	for (const char *part = name; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
		if (!strncmp(part, "..", 2) && (part[2] == '/' || !part[2]))
			return false;
	return true;
}

int payload_header(const unsigned char block[512], struct payload_entry *entry)
{
	size_t expected, mode, sum = 0;
	bool empty = true;

	for (int i = 0; i < 512; i++) {
		sum += i >= 148 && i < 156 ? ' ' : block[i];
		empty &= block[i] == 0;
	}
	if (empty)
		return 0;
	if (memcmp(block + 257, "ustar", 5) || !parse_octal(block + 148, 8, &expected) || expected != sum)
		return -1;
	if (!parse_octal(block + 124, 12, &entry->size) || !parse_octal(block + 100, 8, &mode))
		return -1;
	size_t prefix = strnlen((const char *)block + 345, 155);
	size_t name = strnlen((const char *)block, 100);
	memcpy(entry->name, block + 345, prefix);
	if (prefix)
		entry->name[prefix++] = '/';
	memcpy(entry->name + prefix, block, name);
	entry->name[prefix + name] = 0;
	if (!safe_name(entry->name))
		return -1;
	entry->mode = (unsigned)mode & 0777;
	entry->directory = block[156] == '5';
	if (block[156] != '0' && block[156] != 0 && !entry->directory)
		return -1;
	return 1;
}

/* A private directory on a file system that we may write to and execute from. */
static bool make_directory(char *directory, size_t size)
{
	static const char *const places[] = { "/run/openshell", "/run", "/tmp", "/var/tmp", "/dev/shm", "/sandbox" };

	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		struct statvfs status;
		if (statvfs(places[i], &status) || (status.f_flag & (ST_RDONLY | ST_NOEXEC)))
			continue;
		snprintf(directory, size, "%s/.openshell-XXXXXX", places[i]);
		if (mkdtemp(directory))
			return true;
	}
	report("no writable place that allows execution among /run/openshell, /run, /tmp, /var/tmp, /dev/shm and "
	       "/sandbox: mount a tmpfs there, or mount the supervisor image as a volume instead of this single file");
	return false;
}

static bool copy_out(int archive, off_t offset, size_t size, const char *path, unsigned mode)
{
	int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (file < 0)
		return false;
	while (size) {
		ssize_t copied = sendfile(file, archive, &offset, size > 1 << 24 ? 1 << 24 : size);
		if (copied < 0 && errno == EINTR)
			continue;
		if (copied <= 0) {
			int error = copied ? errno : EIO;
			close(file);
			errno = error;
			return false;
		}
		size -= (size_t)copied;
	}
	bool done = !fchmod(file, mode);
	return !close(file) && done;
}

static bool unpack(int archive, off_t offset, off_t end, const char *directory)
{
	unsigned char block[512];
	struct payload_entry entry;
	char path[PATH_MAX];

	while (offset + 512 <= end && pread(archive, block, sizeof block, offset) == sizeof block) {
		int kind = payload_header(block, &entry);
		if (kind == 0)
			return true;
		offset += 512;
		if (kind < 0 || (off_t)entry.size > end - offset) {
			errno = EIO;
			return false;
		}
		if (!path_join(path, directory, entry.name, ""))
			return false;
		if (entry.directory) {
			if (mkdir(path, 0700) && errno != EEXIST)
				return false;
			continue;
		}
		if (!copy_out(archive, offset, entry.size, path, entry.mode))
			return false;
		offset += (off_t)((entry.size + 511) / 512 * 512);
	}
	errno = EIO;
	return false;
}

bool payload_unpack(const char *self, char *directory, size_t size)
{
	unsigned char trailer[16];
	int archive = open(self, O_RDONLY | O_CLOEXEC);
	off_t length = archive < 0 ? -1 : lseek(archive, 0, SEEK_END);
	uint64_t offset = 0;

	if (length < (off_t)sizeof trailer || pread(archive, trailer, sizeof trailer, length - 16) != sizeof trailer ||
	    memcmp(trailer, "OSHPAY01", 8)) {
		report("supervisor and lib/ do not lie beside %s, and it carries no payload: mount the whole supervisor image, "
		       "or deliver the single-file build", self);
		if (archive >= 0)
			close(archive);
		return false;
	}
	for (int i = 7; i >= 0; i--)
		offset = offset << 8 | trailer[8 + i];
	bool done = false;
	if (offset < (uint64_t)length - 16 && make_directory(directory, size)) {
		done = unpack(archive, (off_t)offset, length - 16, directory);
		if (!done) {
			report("cannot unpack into %s: %s; the supervisor needs 170 MiB there", directory, errno_name(errno));
			payload_remove(directory);
		}
	} else if (offset >= (uint64_t)length - 16) {
		report("the payload of %s is damaged", self);
	}
	close(archive);
	return done;
}

static void remove_files(const char *directory)
{
	char path[PATH_MAX];
	DIR *listing = opendir(directory);

	if (!listing)
		return;
	for (struct dirent *entry; (entry = readdir(listing));) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (path_join(path, directory, entry->d_name, ""))
			unlink(path);
	}
	closedir(listing);
}

void payload_remove(const char *directory)
{
	char libraries[PATH_MAX];

	if (path_join(libraries, directory, "lib", "")) {
		remove_files(libraries);
		rmdir(libraries);
	}
	remove_files(directory);
	rmdir(directory);
}
