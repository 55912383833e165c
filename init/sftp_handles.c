#include "sftp_handles.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

struct handle {
	enum sftp_handle_kind kind; /* 0: free */
	int fd;
	uint32_t uses; /* so that a handle which was closed never names the next one */
};

static struct handle table[SFTP_MAX_HANDLES];

static struct handle *find(uint32_t handle)
{
	struct handle *entry = &table[handle % SFTP_MAX_HANDLES];

	return entry->kind && handle / SFTP_MAX_HANDLES == entry->uses % (1u << 24) ? entry : NULL;
}

bool sftp_handle_free(void)
{
	for (uint32_t i = 0; i < SFTP_MAX_HANDLES; i++)
		if (!table[i].kind)
			return true;
	return false;
}

bool sftp_handle_add(int fd, enum sftp_handle_kind kind, uint32_t *handle)
{
	for (uint32_t i = 0; i < SFTP_MAX_HANDLES; i++) {
		struct handle *entry = &table[i];
		if (entry->kind)
			continue;
		*entry = (struct handle){ kind, fd, entry->uses + 1 };
		*handle = entry->uses % (1u << 24) * SFTP_MAX_HANDLES + i;
		return true;
	}
	return false;
}

int sftp_handle_fd(uint32_t handle, enum sftp_handle_kind *kind)
{
	struct handle *entry = find(handle);

	if (!entry) {
		errno = EBADF;
		return -1;
	}
	if (kind)
		*kind = entry->kind;
	return entry->fd;
}

int sftp_handle_close(uint32_t handle)
{
	struct handle *entry = find(handle);

	if (!entry)
		return EBADF;
	entry->kind = 0;
	return close(entry->fd) ? errno : 0;
}
