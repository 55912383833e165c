/* Fuzzes the parser of the shim's specification: whatever the bytes, no memory error and no endless loop. */
#include "spec.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct spec spec;
	bool complete;
	char *copy = malloc(size ? size : 1);

	memcpy(copy, data, size);
	const char *wrong = spec_parse(copy, size, &spec, &complete);
	if (wrong && complete)
		abort(); /* a spec cannot be both wrong and complete */
	if (complete && (!spec.argc || spec.fence == FENCE_UNSET))
		abort(); /* fail closed: never complete without a program and a fence */
	if (memcmp(copy, data, size))
		abort(); /* parsing again must see the same text */
	free(copy);
	return 0;
}
