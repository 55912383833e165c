/* Fuzzes the parser of file transfer requests: whatever the bytes, no memory error, and what comes out points inside. */
#include "sftp_packet.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, const uint8_t *packet, size_t size)
{
	const uint8_t *at = (const uint8_t *)text;

	if (!strcmp(text, "."))
		return;
	if (at < packet || at + strlen(text) >= packet + size)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sftp_request request;
	uint8_t *packet = malloc(size ? size : 1); /* exactly so large, so that the sanitizer sees one byte too far */

	memcpy(packet, data, size);
	if (sftp_parse(packet, size, &request)) {
		check_text(request.path, packet, size);
		check_text(request.other, packet, size);
		if (request.data && (request.data < packet || request.data + request.length > packet + size))
			abort();
		if (request.extension != SFTP_NO_EXTENSION && request.type != SFTP_EXTENDED)
			abort();
	}
	free(packet);
	return 0;
}
