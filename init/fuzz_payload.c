/* Fuzzes the reader of archive headers: no name may climb out of the directory that it is unpacked into. */
#include "payload.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char block[512] = { 0 };
	struct payload_entry entry;
	unsigned sum = 0;

	memcpy(block, data, size < sizeof block ? size : sizeof block);
	/* Mend what a fuzzer would hardly find: the magic and the checksum. */
	memcpy(block + 257, "ustar", 5);
	memset(block + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += block[i];
	snprintf((char *)block + 148, 8, "%06o", sum);
	block[155] = ' ';
	if (payload_header(block, &entry) != 1)
		return 0;
	if (entry.name[0] == '/' || !strcmp(entry.name, "..") || !strncmp(entry.name, "../", 3) ||
	    strstr(entry.name, "/../") || (strlen(entry.name) > 2 && !strcmp(entry.name + strlen(entry.name) - 3, "/..")))
		abort();
	return 0;
}
