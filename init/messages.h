/* Passing descriptors over unix sockets (unix(7), SCM_RIGHTS). */
#ifndef OPENSHELL_MESSAGES_H
#define OPENSHELL_MESSAGES_H

#include <stddef.h>
#include <sys/types.h>

enum { MAX_DESCRIPTORS = 8 };

/* Sends one message with `count` descriptors. Returns 0 or an errno. */
int send_descriptors(int socket, const char *text, size_t size, const int *descriptors, size_t count);

/*
 * Receives one message; the descriptors come close-on-exec, and `*count` says how many there are.
 * Returns the number of bytes, 0 at the end, or -errno.
 */
ssize_t receive_descriptors(int socket, char *text, size_t size, int *descriptors, size_t *count);

#endif
