#include "path.h"

#include <errno.h>
#include <string.h>

bool path_join(char path[PATH_MAX], const char *directory, const char *name, const char *suffix)
{
	size_t first = strlen(directory), second = strlen(name), third = strlen(suffix);

	if (first + second + third + 2 > PATH_MAX) {
		errno = ENAMETOOLONG;
		return false;
	}
	memcpy(path, directory, first);
	path[first] = '/';
	memcpy(path + first + 1, name, second);
	memcpy(path + first + 1 + second, suffix, third + 1);
	return true;
}
