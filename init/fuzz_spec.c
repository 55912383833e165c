/* Fuzzes the parser of the shim's specification: whatever the bytes, no memory error and no endless loop. */
#include "spec.h"

#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct spec spec;
	bool complete;
	char *copy;

	if (!size)
		return 0;
	enum spec_purpose purpose = data[0] & 1 ? SPEC_ANCHOR : SPEC_SESSION;
	copy = malloc(size);
	memcpy(copy, data, size);
	const char *wrong = spec_parse(copy + 1, size - 1, purpose, &spec, &complete);
	if (wrong && complete)
		abort(); /* a spec cannot be both wrong and complete */
	/* Fail closed: never complete without a program and a fence, or without a network namespace. */
	if (complete && purpose == SPEC_SESSION && ((!spec.argc && !spec.sftp) || spec.fence == FENCE_UNSET))
		abort();
	if (complete && purpose == SPEC_ANCHOR && !(spec.namespaces & CLONE_NEWNET))
		abort();
	if (memcmp(copy, data, size))
		abort(); /* parsing again must see the same text */
	free(copy);
	return 0;
}
