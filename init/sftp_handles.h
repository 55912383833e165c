/* What a client of the file server has open: small numbers of its own, never descriptors, each used once. */
#ifndef OPENSHELL_SFTP_HANDLES_H
#define OPENSHELL_SFTP_HANDLES_H

#include <stdbool.h>
#include <stdint.h>

enum { SFTP_MAX_HANDLES = 128 };

enum sftp_handle_kind { SFTP_FILE = 1, SFTP_APPENDED_FILE, SFTP_DIRECTORY };

/* Whether another one can be added: to be asked before a file is made or emptied for it. */
bool sftp_handle_free(void);

/* Takes the descriptor over. Returns false at the limit, and leaves it to the caller. */
bool sftp_handle_add(int fd, enum sftp_handle_kind kind, uint32_t *handle);

/* The descriptor, or -1 with EBADF for what is not open. `kind` may be NULL. */
int sftp_handle_fd(uint32_t handle, enum sftp_handle_kind *kind);

/* Closes it. Returns 0 or an errno: file systems of a network report a lost write only here. */
int sftp_handle_close(uint32_t handle);

#endif
