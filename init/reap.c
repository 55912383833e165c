#include "reap.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The parent of a process, from /proc/<pid>/stat; the name before it may hold anything but ends with ")". */
static pid_t parent_of(const char *pid)
{
	char path[64], text[512];

	snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t size = file < 0 ? -1 : read(file, text, sizeof text - 1);
	if (file >= 0)
		close(file);
	if (size <= 0)
		return -1;
	text[size] = 0;
	char *after = strrchr(text, ')');
	return after && strlen(after) > 4 ? (pid_t)strtol(after + 4, NULL, 10) : -1;
}

static void kill_children(void)
{
	DIR *processes = opendir("/proc");

	if (!processes)
		return;
	for (struct dirent *entry; (entry = readdir(processes));)
		if (isdigit((unsigned char)entry->d_name[0]) && parent_of(entry->d_name) == getpid())
			kill((pid_t)strtol(entry->d_name, NULL, 10), SIGKILL);
	closedir(processes);
}

void reap_everything(void)
{
	const struct timespec pause = { 0, 2000000 };

	/* A killed child's own children become ours only then, so look again until there are none. At
	   most ten seconds: a process stuck in the kernel must not hold the container's end. */
	for (int round = 0; round < 5000; round++) {
		if (getpid() == 1)
			kill(-1, SIGKILL);
		else
			kill_children();
		pid_t reaped;
		do
			reaped = waitpid(-1, NULL, WNOHANG);
		while (reaped > 0);
		if (reaped < 0 && errno == ECHILD)
			return;
		nanosleep(&pause, NULL);
	}
}
