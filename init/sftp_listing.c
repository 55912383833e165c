#include "sftp_listing.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* linux/dirent.h, which the libraries keep to themselves */
struct kernel_entry {
	uint64_t inode;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

struct sftp_attributes sftp_attributes_of(const struct stat *stat)
{
	return (struct sftp_attributes){
		.has = SFTP_HAS_SIZE | SFTP_HAS_OWNER | SFTP_HAS_PERMISSIONS | SFTP_HAS_TIMES,
		.size = (uint64_t)stat->st_size,
		.uid = stat->st_uid,
		.gid = stat->st_gid,
		.permissions = stat->st_mode,
		.accessed = (uint32_t)stat->st_atime, /* version 3 ends in 2106 */
		.modified = (uint32_t)stat->st_mtime,
	};
}

static char kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG: return '-';
	case S_IFDIR: return 'd';
	case S_IFLNK: return 'l';
	case S_IFCHR: return 'c';
	case S_IFBLK: return 'b';
	case S_IFIFO: return 'p';
	case S_IFSOCK: return 's';
	}
	return '?';
}

static void write_mode(mode_t mode, char text[11])
{
	text[0] = kind_of(mode);
	for (int i = 0; i < 9; i++)
		text[1 + i] = mode & (0400u >> i) ? "rwxrwxrwx"[i] : '-';
	if (mode & S_ISUID)
		text[3] = mode & S_IXUSR ? 's' : 'S';
	if (mode & S_ISGID)
		text[6] = mode & S_IXGRP ? 's' : 'S';
	if (mode & S_ISVTX)
		text[9] = mode & S_IXOTH ? 't' : 'T';
	text[10] = 0;
}

/* As `ls -l` has it, in UTC, owners as numbers: the image's own lists of names are files of the workload's. */
static void write_line(const char *name, const struct stat *stat, char *line, size_t size)
{
	char mode[11] = "??????????", when[16] = "?";
	struct tm parts;

	if (!stat) {
		snprintf(line, size, "%s    ? ?        ?               ? ? %s", mode, name);
		return;
	}
	write_mode(stat->st_mode, mode);
	if (gmtime_r(&stat->st_mtime, &parts)) {
		/* ls(1) names the year of what is older than half a year, or of the future. */
		time_t age = time(NULL) - stat->st_mtime;
		if (!strftime(when, sizeof when, age >= 0 && age < 182 * 86400 ? "%b %e %H:%M" : "%b %e  %Y", &parts))
			strcpy(when, "?");
	}
	snprintf(line, size, "%s %4lu %-8u %-8u %8lld %s %s", mode, (unsigned long)stat->st_nlink, stat->st_uid, stat->st_gid,
		 (long long)stat->st_size, when, name);
}

void sftp_put_name(struct sftp_out *out, const char *name, const struct stat *stat)
{
	static char line[4096 + 128];
	struct sftp_attributes attributes = { .has = 0 };

	if (stat)
		attributes = sftp_attributes_of(stat);
	write_line(name, stat, line, sizeof line);
	sftp_put_text(out, name);
	sftp_put_text(out, line);
	sftp_put_attributes(out, &attributes);
}

int sftp_put_entries(struct sftp_out *out, int directory)
{
	/* Of an entry of 24 bytes a NAME makes fewer than 200: what one call yields always fits into one answer. */
	static _Alignas(struct kernel_entry) char buffer[8 * 1024];
	_Static_assert(sizeof buffer / 24 * 200 < SFTP_MAX_DATA, "a directory's entries must fit");
	int count = 0;

	long got = syscall(SYS_getdents64, directory, buffer, sizeof buffer);
	if (got < 0)
		return -1;
	for (long at = 0; at < got; count++) {
		const struct kernel_entry *entry = (const struct kernel_entry *)(buffer + at);
		struct stat stat;
		bool known = !fstatat(directory, entry->name, &stat, AT_SYMLINK_NOFOLLOW);
		sftp_put_name(out, entry->name, known ? &stat : NULL);
		at += entry->size;
	}
	return count;
}
