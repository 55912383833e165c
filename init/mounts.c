#include "mounts.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

/* include/uapi/linux/mount.h: struct mount_attr, as of its first version. */
struct attributes {
	uint64_t set, clear, propagation, userns;
};
#define ATTRIBUTE_READ_ONLY 1u
#define RECURSIVE 0x8000 /* AT_RECURSIVE */

/* The flags that a remount must repeat, or it would clear them, which is refused where they are locked. */
static unsigned long flags_of(const char *options)
{
	static const struct { const char *name; unsigned long flag; } known[] = {
		{ "nosuid", MS_NOSUID },   { "nodev", MS_NODEV },	{ "noexec", MS_NOEXEC },
		{ "noatime", MS_NOATIME }, { "nodiratime", MS_NODIRATIME }, { "relatime", MS_RELATIME },
	};
	unsigned long flags = 0;

	for (const char *at = options; *at;) {
		size_t size = strcspn(at, ",");
		for (size_t i = 0; i < sizeof known / sizeof *known; i++)
			if (strlen(known[i].name) == size && !strncmp(at, known[i].name, size))
				flags |= known[i].flag;
		at += size + (at[size] == ',');
	}
	return flags;
}

/* proc_pid_mountinfo(5) writes space, tab, newline and backslash as three octal digits. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *at = text; *at;) {
		if (at[0] == '\\' && at[1] && at[2] && at[3]) {
			*to++ = (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0'));
			at += 4;
		} else {
			*to++ = *at++;
		}
	}
	*to = 0;
}

static int remount_each(const char *path)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	size_t length = strlen(path), room = 0;
	char *line = NULL;
	int failed = 0;

	if (!file)
		return -1;
	while (!failed && getline(&line, &room, file) > 0) {
		char *save, *field[6];
		int count = 0;
		for (char *at = strtok_r(line, " ", &save); at && count < 6; at = strtok_r(NULL, " ", &save))
			field[count++] = at;
		if (count < 6)
			continue;
		unescape(field[4]);
		if (strncmp(field[4], path, length) || (length > 1 && field[4][length] && field[4][length] != '/'))
			continue;
		failed = mount(NULL, field[4], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags_of(field[5]), NULL);
	}
	int error = errno;
	free(line);
	fclose(file);
	errno = error;
	return failed;
}

int mounts_read_only(const char *path)
{
	struct attributes attributes = { .set = ATTRIBUTE_READ_ONLY };

	if (!syscall(SYS_mount_setattr, AT_FDCWD, path, RECURSIVE, &attributes, sizeof attributes))
		return 0;
	return errno == ENOSYS ? remount_each(path) : -1;
}
