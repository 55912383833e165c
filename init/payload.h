/*
 * The single-file form: the launcher with a ustar archive (POSIX.1-1988) of lib/ and supervisor
 * appended, and at the very end the magic "OSHPAY01" and the archive's offset, 8 bytes little-endian.
 */
#ifndef OPENSHELL_PAYLOAD_H
#define OPENSHELL_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Unpacks the payload of `self` into a new private directory (mode 0700) on a writable file system
 * that allows execution, and stores its path. Returns false, having reported why.
 */
bool payload_unpack(const char *self, char *directory, size_t size);

/* Removes an unpacked directory: its lib/ and the files that payload_unpack writes. */
void payload_remove(const char *directory);

struct payload_entry {
	char name[257];
	size_t size;
	unsigned mode;
	bool directory;
};

/*
 * Reads one 512-byte ustar header. Returns 1 for an entry, 0 for the end of the archive, -1 when the
 * header is damaged or names a path that is absolute or climbs out.
 */
int payload_header(const unsigned char block[512], struct payload_entry *entry);

#endif
