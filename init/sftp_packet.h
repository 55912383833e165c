/*
 * Packets of the SSH file transfer protocol, version 3 (draft-ietf-secsh-filexfer-02), and the extensions
 * of OpenSSH (its PROTOCOL file, section 4). Parsing and writing only: nothing here touches a file.
 */
#ifndef OPENSHELL_SFTP_PACKET_H
#define OPENSHELL_SFTP_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SFTP_MAX_PACKET = 256 * 1024, /* as OpenSSH; its clients ask for it ("limits@openssh.com") */
	SFTP_MAX_DATA = SFTP_MAX_PACKET - 1024,
};

enum sftp_type {
	SFTP_INIT = 1, SFTP_VERSION, SFTP_OPEN, SFTP_CLOSE, SFTP_READ, SFTP_WRITE, SFTP_LSTAT, SFTP_FSTAT, SFTP_SETSTAT,
	SFTP_FSETSTAT, SFTP_OPENDIR, SFTP_READDIR, SFTP_REMOVE, SFTP_MKDIR, SFTP_RMDIR, SFTP_REALPATH, SFTP_STAT,
	SFTP_RENAME, SFTP_READLINK, SFTP_SYMLINK,
	SFTP_STATUS = 101, SFTP_HANDLE, SFTP_DATA, SFTP_NAME, SFTP_ATTRS,
	SFTP_EXTENDED = 200, SFTP_EXTENDED_REPLY,
};

enum sftp_extension {
	SFTP_NO_EXTENSION, SFTP_POSIX_RENAME, SFTP_HARDLINK, SFTP_FSYNC, SFTP_STATVFS, SFTP_FSTATVFS, SFTP_LSETSTAT,
	SFTP_LIMITS, SFTP_EXPAND_PATH, SFTP_COPY_DATA, SFTP_HOME_DIRECTORY,
};

enum sftp_status { SFTP_OK, SFTP_EOF, SFTP_NO_SUCH_FILE, SFTP_PERMISSION_DENIED, SFTP_FAILURE, SFTP_BAD_MESSAGE,
		   SFTP_OP_UNSUPPORTED = 8 };

enum { SFTP_FLAG_READ = 1, SFTP_FLAG_WRITE = 2, SFTP_FLAG_APPEND = 4, SFTP_FLAG_CREATE = 8, SFTP_FLAG_TRUNCATE = 16,
       SFTP_FLAG_EXCLUSIVE = 32 };

enum { SFTP_HAS_SIZE = 1, SFTP_HAS_OWNER = 2, SFTP_HAS_PERMISSIONS = 4, SFTP_HAS_TIMES = 8 };

struct sftp_attributes {
	uint32_t has, uid, gid, permissions, accessed, modified;
	uint64_t size;
};

struct sftp_request {
	uint8_t type;
	enum sftp_extension extension; /* of SFTP_EXTENDED; SFTP_NO_EXTENSION for one that we do not have */
	uint32_t id;		       /* the version, in SFTP_INIT */
	const char *path, *other;      /* terminated; "." where the client named none */
	struct sftp_attributes attributes;
	uint32_t handle, other_handle;
	uint32_t flags, length;
	uint64_t offset, other_offset, size;
	const uint8_t *data; /* `length` of them */
};

/*
 * Parses one packet without its length, in place: paths point into it, terminated there. Returns false when it is not
 * what its type asks for; type and id are right even then if the packet has five bytes. What follows the last field
 * is left alone, as OpenSSH leaves it.
 */
bool sftp_parse(uint8_t *packet, size_t size, struct sftp_request *request);

/* Whether `type` is a request that this server knows. */
bool sftp_is_request(uint8_t type);

/* Name and version of an extension, from 1 on; NULL after the last. */
const char *sftp_extension_name(unsigned number, const char **version);

/* A packet on its way out. What does not fit is left away and remembered in `full`. */
struct sftp_out {
	uint8_t *bytes;
	size_t used, room;
	bool full;
};

void sftp_put_byte(struct sftp_out *out, uint8_t value);
void sftp_put_number(struct sftp_out *out, uint32_t value);
void sftp_put_long(struct sftp_out *out, uint64_t value);
void sftp_put_bytes(struct sftp_out *out, const void *bytes, size_t size); /* with their length before them */
void sftp_put_text(struct sftp_out *out, const char *text);
void sftp_put_attributes(struct sftp_out *out, const struct sftp_attributes *attributes);
/* Writes `value` over what stands at `at`. */
void sftp_patch_number(struct sftp_out *out, size_t at, uint32_t value);

#endif
