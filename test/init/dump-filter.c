/* Prints the filter of a workload, one instruction a line, for test/init/filter.test.ts. */
#include "../../init/filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char *argv[])
{
	static struct filter filter;
	pid_t pids[SPEC_MAX_PROTECTED];
	size_t count = 0;

	for (int i = 2; i < argc; i++)
		pids[count++] = (pid_t)strtol(argv[i], NULL, 10);
	if (argc < 2 || !filter_build(&filter, !strcmp(argv[1], "socket") ? FENCE_SOCKET : FENCE_NAMESPACE, pids, count))
		return 1;
	for (unsigned i = 0; i < filter.length; i++)
		printf("%u %u %u %u\n", filter.code[i].code, filter.code[i].jt, filter.code[i].jf, filter.code[i].k);
	return 0;
}
