#include "copy_self.h"
#include "home.h"
#include "path.h"
#include "report.h"
#include "shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

static bool make_directories(const char *path)
{
	char part[PATH_MAX];

	if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part) {
		errno = ENAMETOOLONG;
		return false;
	}
	for (char *slash = part + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = 0;
		if (mkdir(part, 0755) && errno != EEXIST)
			return false;
	}
	return !mkdir(part, 0755) || errno == EEXIST;
}

/* Copies to a temporary name and renames: a reader never sees half a file. */
static bool copy_file(const char *from, const char *to, mode_t mode)
{
	char temporary[PATH_MAX];
	int source = open(from, O_RDONLY | O_CLOEXEC);
	struct stat status;

	if (source < 0 || fstat(source, &status))
		goto broken;
	if (snprintf(temporary, sizeof temporary, "%s.new", to) >= (int)sizeof temporary) {
		errno = ENAMETOOLONG;
		goto broken;
	}
	unlink(temporary);
	int target = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (target < 0)
		goto broken;
	for (off_t offset = 0; offset < status.st_size;) {
		ssize_t copied = sendfile(target, source, &offset, (size_t)(status.st_size - offset));
		if (copied <= 0 && !(copied < 0 && errno == EINTR)) {
			int error = copied ? errno : EIO;
			close(target);
			unlink(temporary);
			errno = error;
			goto broken;
		}
	}
	bool done = !fchmod(target, mode);
	done = !close(target) && done && !rename(temporary, to);
	close(source);
	return done;
broken:
	report("cannot copy %s to %s: %s", from, to, errno_name(errno));
	if (source >= 0)
		close(source);
	return false;
}

static bool copy_libraries(const struct home *home, const char *destination)
{
	char target[PATH_MAX], from[PATH_MAX], to[PATH_MAX];

	if (!path_join(target, destination, "lib", "") || !make_directories(target))
		return false;
	DIR *listing = opendir(home->libraries);
	if (!listing)
		return false;
	bool done = true;
	for (struct dirent *entry; done && (entry = readdir(listing));) {
		if (entry->d_name[0] == '.')
			continue;
		const char *name = entry->d_name;
		if (!path_join(from, home->libraries, name, "") || !path_join(to, target, name, "")) {
			done = false;
			break;
		}
		size_t length = strlen(name);
		bool readable = length > 9 && !strcmp(name + length - 9, ".readable");
		bool shim = !strcmp(name, SHIM_NAME);
		bool loader = !strncmp(name, "ld-linux", 8) && !readable;
		/* What is execute-only cannot be read by anyone but root; its readable twin is the same file. */
		if (shim)
			memcpy(from, home->self, sizeof from);
		else if (loader && access(from, R_OK) && !path_join(from, home->libraries, name, ".readable"))
			done = false;
		done = done && copy_file(from, to, loader || shim ? 0111 : 0555);
	}
	closedir(listing);
	return done;
}

int copy_self_main(const char *destination)
{
	struct home home;
	struct stat status;
	char target[PATH_MAX], supervisor[PATH_MAX];

	if (!home_find_self(&home))
		return EXIT_INTERNAL;
	snprintf(home.directory, sizeof home.directory, "%s", home.self);
	*strrchr(home.directory, '/') = 0;
	if (!path_join(home.supervisor, home.directory, "supervisor", "") ||
	    !path_join(home.libraries, home.directory, "lib", "")) {
		report("the path of %s is too long", home.self);
		return EXIT_INTERNAL;
	}
	bool siblings = !access(home.supervisor, F_OK);

	/* Upstream's rule (contract.md, 4.2): a directory keeps our own name, another path is the file's. */
	size_t length = strlen(destination);
	bool directory = siblings || (length && destination[length - 1] == '/') ||
			 (!stat(destination, &status) && S_ISDIR(status.st_mode));
	if (directory && !make_directories(destination)) {
		report("cannot make the directory %s: %s", destination, errno_name(errno));
		return EXIT_INTERNAL;
	}
	if (!directory) {
		char parent[PATH_MAX];
		snprintf(parent, sizeof parent, "%s", destination);
		char *slash = strrchr(parent, '/');
		if (slash && slash != parent) {
			*slash = 0;
			if (!make_directories(parent)) {
				report("cannot make the directory %s: %s", parent, errno_name(errno));
				return EXIT_INTERNAL;
			}
		}
	}
	if (strlen(destination) >= sizeof target ||
	    (directory && !path_join(target, destination, "openshell-sandbox", ""))) {
		report("the path %s is too long", destination);
		return EXIT_USAGE_ERROR;
	}
	if (!directory)
		strcpy(target, destination);
	if (siblings) {
		if (!path_join(supervisor, destination, "supervisor", "") ||
		    !copy_file(home.supervisor, supervisor, 0555) || !copy_libraries(&home, destination))
			return EXIT_INTERNAL;
	}
	/* The entrypoint last: where it is, the rest is complete. */
	return copy_file(home.self, target, 0755) ? 0 : EXIT_INTERNAL;
}
