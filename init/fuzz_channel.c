/* Fuzzes the parser of the supervisor's commands to an anchor: whatever the bytes, no memory error. */
#include "channel.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct channel_request request;
	char *copy = malloc(size ? size : 1); /* exactly so large, so that the sanitizer sees one byte too far */

	memcpy(copy, data, size);
	if (channel_parse(copy, size, &request) == CHANNEL_REQUEST) {
		if (request.place.any.sa_family != AF_INET && request.place.any.sa_family != AF_INET6)
			abort();
		if (strcspn(request.address, "\"\\\n") != strlen(request.address))
			abort(); /* it is printed into JSON as it is */
	}
	free(copy);
	return 0;
}
