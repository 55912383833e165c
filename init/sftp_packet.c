#include "sftp_packet.h"

#include <string.h>

struct cursor {
	uint8_t *at, *end;
	bool wrong;
};

/*
 * What follows the id of each request, a letter a field: p and q paths, h and g handles, a attributes,
 * f flags, n a length, o and w offsets, s a size of 64 bits, d data.
 */
static const char *const shapes[SFTP_SYMLINK + 1] = {
	[SFTP_INIT] = "",    [SFTP_OPEN] = "pfa",   [SFTP_CLOSE] = "h",	   [SFTP_READ] = "hon",	  [SFTP_WRITE] = "hod",
	[SFTP_LSTAT] = "p",  [SFTP_FSTAT] = "h",    [SFTP_SETSTAT] = "pa", [SFTP_FSETSTAT] = "ha", [SFTP_OPENDIR] = "p",
	[SFTP_READDIR] = "h", [SFTP_REMOVE] = "p",  [SFTP_MKDIR] = "pa",   [SFTP_RMDIR] = "p",	  [SFTP_REALPATH] = "p",
	[SFTP_STAT] = "p",   [SFTP_RENAME] = "pq",  [SFTP_READLINK] = "p", [SFTP_SYMLINK] = "pq",
};

static const struct { const char *name, *version, *shape; } extensions[] = {
	[SFTP_POSIX_RENAME] = { "posix-rename@openssh.com", "1", "pq" },
	[SFTP_HARDLINK] = { "hardlink@openssh.com", "1", "pq" },
	[SFTP_FSYNC] = { "fsync@openssh.com", "1", "h" },
	[SFTP_STATVFS] = { "statvfs@openssh.com", "2", "p" },
	[SFTP_FSTATVFS] = { "fstatvfs@openssh.com", "2", "h" },
	[SFTP_LSETSTAT] = { "lsetstat@openssh.com", "1", "pa" },
	[SFTP_LIMITS] = { "limits@openssh.com", "1", "" },
	[SFTP_EXPAND_PATH] = { "expand-path@openssh.com", "1", "p" },
	[SFTP_COPY_DATA] = { "copy-data", "1", "hosgw" },
	[SFTP_HOME_DIRECTORY] = { "home-directory", "1", "p" },
};
enum { EXTENSIONS = sizeof extensions / sizeof *extensions };

static uint32_t take_number(struct cursor *cursor)
{
	if (cursor->end - cursor->at < 4) {
		cursor->wrong = true;
		return 0;
	}
	const uint8_t *at = cursor->at;
	cursor->at += 4;
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint64_t take_long(struct cursor *cursor)
{
	uint64_t high = take_number(cursor);

	return high << 32 | take_number(cursor);
}

static uint8_t *take_bytes(struct cursor *cursor, uint32_t *size)
{
	uint32_t wanted = take_number(cursor);

	*size = 0;
	if (cursor->wrong || (size_t)(cursor->end - cursor->at) < wanted) {
		cursor->wrong = true;
		return cursor->at;
	}
	uint8_t *bytes = cursor->at;
	cursor->at += wanted;
	*size = wanted;
	return bytes;
}

/* The four bytes of the length before it are read by now: the path moves over the last of them and so gets room for its end. */
static const char *take_path(struct cursor *cursor)
{
	uint32_t size;
	uint8_t *bytes = take_bytes(cursor, &size);

	if (cursor->wrong || !size)
		return "."; /* an empty path is the directory that the client starts in (section 6.2) */
	if (memchr(bytes, 0, size)) {
		cursor->wrong = true; /* what stands behind the zero would be judged by nobody */
		return ".";
	}
	memmove(bytes - 1, bytes, size);
	bytes[size - 1] = 0;
	return (const char *)bytes - 1;
}

/* Handles are strings to the protocol, and numbers of ours in them. */
static uint32_t take_handle(struct cursor *cursor)
{
	uint32_t size;
	uint8_t *bytes = take_bytes(cursor, &size);
	struct cursor inside = { bytes, bytes + size, cursor->wrong };

	return size == 4 ? take_number(&inside) : UINT32_MAX; /* which is never one */
}

static void take_attributes(struct cursor *cursor, struct sftp_attributes *attributes)
{
	enum { EXTENDED_ATTRIBUTES = 1u << 31 };

	attributes->has = take_number(cursor);
	if (attributes->has & SFTP_HAS_SIZE)
		attributes->size = take_long(cursor);
	if (attributes->has & SFTP_HAS_OWNER) {
		attributes->uid = take_number(cursor);
		attributes->gid = take_number(cursor);
	}
	if (attributes->has & SFTP_HAS_PERMISSIONS)
		attributes->permissions = take_number(cursor);
	if (attributes->has & SFTP_HAS_TIMES) {
		attributes->accessed = take_number(cursor);
		attributes->modified = take_number(cursor);
	}
	if (!(attributes->has & EXTENDED_ATTRIBUTES))
		return;
	for (uint32_t pairs = take_number(cursor); pairs && !cursor->wrong; pairs--) {
		uint32_t size;
		take_bytes(cursor, &size);
		take_bytes(cursor, &size);
	}
}

static void take_field(struct cursor *cursor, char letter, struct sftp_request *request)
{
	switch (letter) {
	case 'p': request->path = take_path(cursor); break;
	case 'q': request->other = take_path(cursor); break;
	case 'h': request->handle = take_handle(cursor); break;
	case 'g': request->other_handle = take_handle(cursor); break;
	case 'a': take_attributes(cursor, &request->attributes); break;
	case 'f': request->flags = take_number(cursor); break;
	case 'n': request->length = take_number(cursor); break;
	case 'o': request->offset = take_long(cursor); break;
	case 'w': request->other_offset = take_long(cursor); break;
	case 's': request->size = take_long(cursor); break;
	case 'd': request->data = take_bytes(cursor, &request->length); break;
	}
}

static const char *take_extension(struct cursor *cursor, struct sftp_request *request)
{
	uint32_t size;
	const uint8_t *name = take_bytes(cursor, &size);

	for (unsigned i = 1; i < EXTENSIONS && !cursor->wrong; i++)
		if (strlen(extensions[i].name) == size && !memcmp(extensions[i].name, name, size)) {
			request->extension = (enum sftp_extension)i;
			return extensions[i].shape;
		}
	return "";
}

bool sftp_is_request(uint8_t type)
{
	return type == SFTP_EXTENDED || (type <= SFTP_SYMLINK && shapes[type]);
}

bool sftp_parse(uint8_t *packet, size_t size, struct sftp_request *request)
{
	struct cursor cursor = { packet + 1, packet + size, false };

	*request = (struct sftp_request){ .path = ".", .other = ".", .handle = UINT32_MAX, .other_handle = UINT32_MAX };
	if (!size)
		return false;
	request->type = packet[0];
	request->id = take_number(&cursor);
	if (!sftp_is_request(request->type))
		return !cursor.wrong;
	const char *shape = request->type == SFTP_EXTENDED ? take_extension(&cursor, request) : shapes[request->type];
	for (; *shape && !cursor.wrong; shape++)
		take_field(&cursor, *shape, request);
	return !cursor.wrong;
}

const char *sftp_extension_name(unsigned number, const char **version)
{
	if (!number || number >= EXTENSIONS)
		return NULL;
	*version = extensions[number].version;
	return extensions[number].name;
}

/* Returns where `size` bytes go, or NULL when there is no room for them. */
static uint8_t *take_room(struct sftp_out *out, size_t size)
{
	if (out->full || out->room - out->used < size) {
		out->full = true;
		return NULL;
	}
	uint8_t *at = out->bytes + out->used;
	out->used += size;
	return at;
}

void sftp_put_byte(struct sftp_out *out, uint8_t value)
{
	uint8_t *at = take_room(out, 1);

	if (at)
		*at = value;
}

void sftp_patch_number(struct sftp_out *out, size_t at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		out->bytes[at + (size_t)i] = (uint8_t)(value >> (24 - 8 * i));
}

void sftp_put_number(struct sftp_out *out, uint32_t value)
{
	if (take_room(out, 4))
		sftp_patch_number(out, out->used - 4, value);
}

void sftp_put_long(struct sftp_out *out, uint64_t value)
{
	sftp_put_number(out, (uint32_t)(value >> 32));
	sftp_put_number(out, (uint32_t)value);
}

void sftp_put_bytes(struct sftp_out *out, const void *bytes, size_t size)
{
	sftp_put_number(out, (uint32_t)size);
	uint8_t *at = take_room(out, size);
	if (at && size)
		memcpy(at, bytes, size);
}

void sftp_put_text(struct sftp_out *out, const char *text)
{
	sftp_put_bytes(out, text, strlen(text));
}

void sftp_put_attributes(struct sftp_out *out, const struct sftp_attributes *attributes)
{
	sftp_put_number(out, attributes->has);
	if (attributes->has & SFTP_HAS_SIZE)
		sftp_put_long(out, attributes->size);
	if (attributes->has & SFTP_HAS_OWNER) {
		sftp_put_number(out, attributes->uid);
		sftp_put_number(out, attributes->gid);
	}
	if (attributes->has & SFTP_HAS_PERMISSIONS)
		sftp_put_number(out, attributes->permissions);
	if (attributes->has & SFTP_HAS_TIMES) {
		sftp_put_number(out, attributes->accessed);
		sftp_put_number(out, attributes->modified);
	}
}
