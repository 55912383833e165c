#include "home.h"
#include "path.h"
#include "payload.h"
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#if defined(__x86_64__)
#define LOADER "ld-linux-x86-64.so.2"
#elif defined(__aarch64__)
#define LOADER "ld-linux-aarch64.so.1"
#endif

bool home_find_self(struct home *home)
{
	ssize_t size = readlink("/proc/self/exe", home->self, sizeof home->self - 1);

	if (size > 0) {
		home->self[size] = 0;
		return true;
	}
	/* Without /proc the kernel still tells what it executed (getauxval(3), AT_EXECFN). */
	const char *name = (const char *)getauxval(AT_EXECFN);
	if (!name || !realpath(name, home->self)) {
		report("cannot find my own file: /proc is not mounted and %s cannot be resolved", name ? name : "the name");
		return false;
	}
	return true;
}

static bool set_paths(struct home *home)
{
	return path_join(home->libraries, home->directory, "lib", "") &&
	       path_join(home->loader, home->libraries, LOADER, "") &&
	       path_join(home->supervisor, home->directory, "supervisor", "");
}

bool home_find(struct home *home)
{
	if (!home_find_self(home))
		return false;
	memcpy(home->directory, home->self, sizeof home->directory);
	char *slash = strrchr(home->directory, '/');
	slash[slash == home->directory] = 0;
	if (!set_paths(home)) {
		report("the path of %s is too long", home->self);
		return false;
	}
	home->unpacked = false;
	if (access(home->supervisor, F_OK)) {
		if (!payload_unpack(home->self, home->directory, sizeof home->directory))
			return false;
		home->unpacked = true;
		if (!set_paths(home))
			return false;
	}
	/*
	 * The loader is execute-only, so the kernel marks what it starts as non-dumpable (fs/exec.c,
	 * would_dump): the workload's user id can then neither trace the supervisor nor read its memory.
	 */
	return true;
}

void home_forget(struct home *home)
{
	if (home->unpacked)
		payload_remove(home->directory);
	home->unpacked = false;
}
