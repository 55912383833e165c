#ifndef OPENSHELL_PATH_H
#define OPENSHELL_PATH_H

#include <limits.h>
#include <stdbool.h>

/* Writes "directory/name" followed by `suffix`. False, with errno ENAMETOOLONG, when it does not fit. */
bool path_join(char path[PATH_MAX], const char *directory, const char *name, const char *suffix);

#endif
