/* The file operations of the file server that are more than one system call. All return 0 or an errno. */
#ifndef OPENSHELL_SFTP_FILES_H
#define OPENSHELL_SFTP_FILES_H

#include "sftp_packet.h"

#include <limits.h>

/* Opens for the flags of a client; `*fd` is the file. Never waits for the other end of a pipe. */
int sftp_open(const struct sftp_request *request, int *fd);

/* Reads or writes at an offset; files that have none are read and written where they stand. */
int sftp_read(int fd, uint64_t offset, uint8_t *bytes, size_t size, size_t *got);
int sftp_write(int fd, bool appends, uint64_t offset, const uint8_t *bytes, size_t size);

/* Sets what `attributes` has. By path, `follow` says whether of a link's target. */
int sftp_set_by_path(const char *path, bool follow, const struct sftp_attributes *attributes);
int sftp_set_by_fd(int fd, const struct sftp_attributes *attributes);

/* Renames, and never over something that exists (section 6.5). */
int sftp_rename(const char *from, const char *to);

/* The absolute path without links; its last name need not exist. */
int sftp_real_path(const char *path, char resolved[PATH_MAX]);

/* The same of a path that may begin with "~/". */
int sftp_expand_path(const char *path, const char *home, char resolved[PATH_MAX]);

/* Copies `size` bytes, or all there are for 0, from one file to another. */
int sftp_copy(int from, uint64_t from_offset, uint64_t size, int to, uint64_t to_offset);

#endif
