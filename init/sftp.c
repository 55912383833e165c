#include "sftp.h"
#include "report.h"
#include "sftp_files.h"
#include "sftp_handles.h"
#include "sftp_listing.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Two packets wide each, so that a large one can stand behind a small one that waits to be served. */
static uint8_t in_bytes[2 * SFTP_MAX_PACKET], out_bytes[2 * SFTP_MAX_PACKET];
static size_t in_from, in_to;
static struct sftp_out out = { out_bytes, 0, sizeof out_bytes, false };
static const char *home_directory;
static char resolved[PATH_MAX];

/* Waits where a descriptor that we were given does not. Returns false when nothing can be waited for. */
static bool wait_for(int fd, short events)
{
	struct pollfd polled = { fd, events, 0 };

	return errno == EINTR || (errno == EAGAIN && (poll(&polled, 1, -1) >= 0 || errno == EINTR));
}

/* Sends all answers that have been written. Returns false when the client has gone. */
static bool flush(void)
{
	for (size_t sent = 0; sent < out.used;) {
		ssize_t put = write(STDOUT_FILENO, out_bytes + sent, out.used - sent);
		if (put > 0)
			sent += (size_t)put;
		else if (!wait_for(STDOUT_FILENO, POLLOUT))
			return false;
	}
	out.used = 0;
	return true;
}

/* Begins an answer; its length is written by `end_answer`. */
static size_t begin_answer(enum sftp_type type, uint32_t id)
{
	size_t at = out.used;

	sftp_put_number(&out, 0);
	sftp_put_byte(&out, (uint8_t)type);
	sftp_put_number(&out, id);
	return at;
}

static void end_answer(size_t at)
{
	sftp_patch_number(&out, at, (uint32_t)(out.used - at - 4));
}

static void answer_status(uint32_t id, enum sftp_status status, const char *message)
{
	size_t at = begin_answer(SFTP_STATUS, id);

	sftp_put_number(&out, status);
	sftp_put_text(&out, message);
	sftp_put_text(&out, "en");
	end_answer(at);
}

static enum sftp_status status_of(int error)
{
	switch (error) {
	case 0: return SFTP_OK;
	case ENOENT: case ENOTDIR: case EBADF: case ELOOP: return SFTP_NO_SUCH_FILE;
	case EPERM: case EACCES: case EFAULT: return SFTP_PERMISSION_DENIED;
	case ENAMETOOLONG: return SFTP_BAD_MESSAGE;
	case ENOSYS: case EOPNOTSUPP: return SFTP_OP_UNSUPPORTED;
	}
	return SFTP_FAILURE;
}

static void answer_error(uint32_t id, int error)
{
	answer_status(id, status_of(error), error ? strerror(error) : "Success");
}

/* Of a call that returns -1 with errno. */
static void answer_call(uint32_t id, int result)
{
	answer_error(id, result ? errno : 0);
}

static void answer_handle(uint32_t id, int fd, enum sftp_handle_kind kind)
{
	uint32_t handle;

	if (!sftp_handle_add(fd, kind, &handle)) {
		close(fd);
		return answer_error(id, EMFILE);
	}
	size_t at = begin_answer(SFTP_HANDLE, id);
	sftp_put_number(&out, 4);
	sftp_put_number(&out, handle);
	end_answer(at);
}

static void answer_attributes(uint32_t id, int result, const struct stat *stat)
{
	if (result)
		return answer_error(id, errno);
	struct sftp_attributes attributes = sftp_attributes_of(stat);
	size_t at = begin_answer(SFTP_ATTRS, id);
	sftp_put_attributes(&out, &attributes);
	end_answer(at);
}

static void answer_path(uint32_t id, int error, const char *path)
{
	if (error)
		return answer_error(id, error);
	size_t at = begin_answer(SFTP_NAME, id);
	sftp_put_number(&out, 1);
	sftp_put_name(&out, path, NULL);
	end_answer(at);
}

static void answer_file_system(uint32_t id, int result, const struct statvfs *found)
{
	if (result)
		return answer_error(id, errno);
	const uint64_t values[] = { found->f_bsize, found->f_frsize, found->f_blocks, found->f_bfree, found->f_bavail,
				    found->f_files, found->f_ffree,  found->f_favail, found->f_fsid,
				    /* Only these two bits mean the same everywhere. */
				    found->f_flag & (ST_RDONLY | ST_NOSUID), found->f_namemax };
	size_t at = begin_answer(SFTP_EXTENDED_REPLY, id);
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		sftp_put_long(&out, values[i]);
	end_answer(at);
}

static void answer_limits(uint32_t id)
{
	const uint64_t limits[] = { SFTP_MAX_PACKET, SFTP_MAX_DATA, SFTP_MAX_DATA, SFTP_MAX_HANDLES };
	size_t at = begin_answer(SFTP_EXTENDED_REPLY, id);

	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
		sftp_put_long(&out, limits[i]);
	end_answer(at);
}

static void open_file(const struct sftp_request *request)
{
	int fd, error = sftp_handle_free() ? sftp_open(request, &fd) : EMFILE;

	if (error)
		return answer_error(request->id, error);
	answer_handle(request->id, fd, request->flags & SFTP_FLAG_APPEND ? SFTP_APPENDED_FILE : SFTP_FILE);
}

static void open_directory(const struct sftp_request *request)
{
	int fd = sftp_handle_free() ? open(request->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd < 0)
		return answer_error(request->id, sftp_handle_free() ? errno : EMFILE);
	answer_handle(request->id, fd, SFTP_DIRECTORY);
}

static void read_file(const struct sftp_request *request)
{
	int fd = sftp_handle_fd(request->handle, NULL);
	size_t wanted = request->length < SFTP_MAX_DATA ? request->length : SFTP_MAX_DATA, got = 0;

	if (fd < 0)
		return answer_error(request->id, errno);
	/* Straight to where it is sent from. */
	size_t at = begin_answer(SFTP_DATA, request->id), length_at = out.used;
	sftp_put_number(&out, 0);
	int error = sftp_read(fd, request->offset, out_bytes + out.used, wanted, &got);
	if (error || (!got && wanted)) {
		out.used = at;
		return error ? answer_error(request->id, error) : answer_status(request->id, SFTP_EOF, "End of file");
	}
	out.used += got;
	sftp_patch_number(&out, length_at, (uint32_t)got);
	end_answer(at);
}

static void write_file(const struct sftp_request *request)
{
	enum sftp_handle_kind kind;
	int fd = sftp_handle_fd(request->handle, &kind);

	if (fd < 0)
		return answer_error(request->id, errno);
	answer_error(request->id, sftp_write(fd, kind == SFTP_APPENDED_FILE, request->offset, request->data, request->length));
}

static void read_directory(const struct sftp_request *request)
{
	enum sftp_handle_kind kind;
	int fd = sftp_handle_fd(request->handle, &kind);

	if (fd < 0 || kind != SFTP_DIRECTORY)
		return answer_error(request->id, EBADF);
	size_t at = begin_answer(SFTP_NAME, request->id), count_at = out.used;
	sftp_put_number(&out, 0);
	int count = sftp_put_entries(&out, fd);
	if (count <= 0) {
		int error = errno;
		out.used = at;
		return count ? answer_error(request->id, error) : answer_status(request->id, SFTP_EOF, "End of directory");
	}
	sftp_patch_number(&out, count_at, (uint32_t)count);
	end_answer(at);
}

static void copy_data(const struct sftp_request *request)
{
	int from = sftp_handle_fd(request->handle, NULL), to = sftp_handle_fd(request->other_handle, NULL);

	if (from < 0 || to < 0)
		return answer_error(request->id, EBADF);
	answer_error(request->id, sftp_copy(from, request->offset, request->size, to, request->other_offset));
}

static void serve_extension(const struct sftp_request *request)
{
	struct statvfs file_system;
	uint32_t id = request->id;
	int fd, result;

	switch (request->extension) {
	case SFTP_NO_EXTENSION:
		return answer_status(id, SFTP_OP_UNSUPPORTED, "There is no such extension here");
	case SFTP_POSIX_RENAME:
		return answer_call(id, rename(request->path, request->other));
	case SFTP_HARDLINK:
		return answer_call(id, link(request->path, request->other));
	case SFTP_FSYNC:
		fd = sftp_handle_fd(request->handle, NULL);
		return answer_call(id, fd < 0 ? -1 : fsync(fd));
	case SFTP_STATVFS:
		result = statvfs(request->path, &file_system);
		return answer_file_system(id, result, &file_system);
	case SFTP_FSTATVFS:
		fd = sftp_handle_fd(request->handle, NULL);
		result = fd < 0 ? -1 : fstatvfs(fd, &file_system);
		return answer_file_system(id, result, &file_system);
	case SFTP_LSETSTAT:
		return answer_error(id, sftp_set_by_path(request->path, false, &request->attributes));
	case SFTP_LIMITS:
		return answer_limits(id);
	case SFTP_EXPAND_PATH:
		return answer_path(id, sftp_expand_path(request->path, home_directory, resolved), resolved);
	case SFTP_COPY_DATA:
		return copy_data(request);
	case SFTP_HOME_DIRECTORY:
		return answer_path(id, sftp_expand_path("~", home_directory, resolved), resolved);
	}
}

static void serve_request(const struct sftp_request *request)
{
	struct stat stat_buffer;
	ssize_t size;
	int fd, result;

	switch (request->type) {
	case SFTP_OPEN: return open_file(request);
	case SFTP_CLOSE: return answer_error(request->id, sftp_handle_close(request->handle));
	case SFTP_READ: return read_file(request);
	case SFTP_WRITE: return write_file(request);
	case SFTP_LSTAT:
		result = lstat(request->path, &stat_buffer);
		return answer_attributes(request->id, result, &stat_buffer);
	case SFTP_STAT:
		result = stat(request->path, &stat_buffer);
		return answer_attributes(request->id, result, &stat_buffer);
	case SFTP_FSTAT:
		fd = sftp_handle_fd(request->handle, NULL);
		result = fd < 0 ? -1 : fstat(fd, &stat_buffer);
		return answer_attributes(request->id, result, &stat_buffer);
	case SFTP_SETSTAT: return answer_error(request->id, sftp_set_by_path(request->path, true, &request->attributes));
	case SFTP_FSETSTAT:
		fd = sftp_handle_fd(request->handle, NULL);
		return answer_error(request->id, fd < 0 ? EBADF : sftp_set_by_fd(fd, &request->attributes));
	case SFTP_OPENDIR: return open_directory(request);
	case SFTP_READDIR: return read_directory(request);
	case SFTP_REMOVE: return answer_call(request->id, unlink(request->path));
	case SFTP_MKDIR:
		return answer_call(request->id, mkdir(request->path, request->attributes.has & SFTP_HAS_PERMISSIONS
									     ? request->attributes.permissions & 07777 : 0777));
	case SFTP_RMDIR: return answer_call(request->id, rmdir(request->path));
	case SFTP_REALPATH: return answer_path(request->id, sftp_real_path(request->path, resolved), resolved);
	case SFTP_RENAME: return answer_error(request->id, sftp_rename(request->path, request->other));
	case SFTP_READLINK:
		size = readlink(request->path, resolved, sizeof resolved - 1);
		resolved[size < 0 ? 0 : size] = 0;
		return answer_path(request->id, size < 0 ? errno : 0, resolved);
	/* The target comes first, against the draft: OpenSSH's clients and servers have it so, and with them all others. */
	case SFTP_SYMLINK: return answer_call(request->id, symlink(request->path, request->other));
	case SFTP_EXTENDED: return serve_extension(request);
	}
	answer_status(request->id, SFTP_OP_UNSUPPORTED, "There is no such request");
}

static void answer_version(void)
{
	const char *name, *version;
	size_t at = out.used;

	sftp_put_number(&out, 0);
	sftp_put_byte(&out, SFTP_VERSION);
	sftp_put_number(&out, 3);
	for (unsigned i = 1; (name = sftp_extension_name(i, &version)); i++) {
		sftp_put_text(&out, name);
		sftp_put_text(&out, version);
	}
	end_answer(at);
}

/* Serves one packet. Returns false when the client does not speak the protocol. */
static bool serve_packet(uint8_t *packet, size_t size)
{
	static bool begun;
	struct sftp_request request;
	bool right = sftp_parse(packet, size, &request);

	if ((request.type == SFTP_INIT) == begun || size < 5 || (!begun && (!right || request.id < 3))) {
		report("sftp: the client does not speak version 3 of the protocol");
		return false;
	}
	if (!begun) {
		begun = true;
		answer_version();
	} else if (right) {
		serve_request(&request);
	} else {
		answer_status(request.id, SFTP_BAD_MESSAGE, "The request is malformed");
	}
	return true;
}

/* The size of the packet that stands in the input whole, 0 while it does not, or -1 when it never could. */
static ssize_t whole_packet(void)
{
	const uint8_t *at = in_bytes + in_from;

	if (in_to - in_from < 4)
		return 0;
	uint32_t size = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
	if (!size || size > SFTP_MAX_PACKET - 4)
		return -1;
	return in_to - in_from - 4 >= size ? (ssize_t)size : 0;
}

/* Reads more input. Returns false at its end. */
static bool fill(void)
{
	if (in_from > SFTP_MAX_PACKET || in_from == in_to) {
		memmove(in_bytes, in_bytes + in_from, in_to - in_from);
		in_to -= in_from;
		in_from = 0;
	}
	for (;;) {
		ssize_t got = read(STDIN_FILENO, in_bytes + in_to, sizeof in_bytes - in_to);
		if (got > 0)
			in_to += (size_t)got;
		if (got > 0 || !got || !wait_for(STDIN_FILENO, POLLIN))
			return got > 0;
	}
}

int sftp_serve(const char *home)
{
	prctl(PR_SET_NAME, "sftp-server");
	signal(SIGPIPE, SIG_IGN); /* a client that has gone is an end like any other */
	home_directory = home ? home : ".";
	for (;;) {
		ssize_t size = whole_packet();
		if (size < 0) {
			report("sftp: a packet of the client is empty or larger than %d bytes", SFTP_MAX_PACKET - 4);
			flush();
			return 1;
		}
		/* Answers go together as long as requests are there, and as the largest answer has room. */
		if ((!size || out.room - out.used < SFTP_MAX_PACKET) && !flush())
			return 0;
		if (!size) {
			if (!fill())
				return 0;
			continue;
		}
		in_from += 4 + (size_t)size;
		if (!serve_packet(in_bytes + in_from - size, (size_t)size)) {
			flush();
			return 1;
		}
	}
}
