#include "attempt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char remark[256];
static char **options;

const char *target(const char *name)
{
	size_t size = strlen(name);

	for (char **option = options; *option; option++)
		if (!strncmp(*option, name, size) && (*option)[size] == '=')
			return *option + size + 1;
	return "";
}

void detail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(remark, sizeof remark, format, arguments);
	va_end(arguments);
}

enum outcome judge(long result)
{
	if (result >= 0)
		return ESCAPED;
	detail("%s", strerror(errno));
	return REFUSED;
}

pid_t supervisor_pid(void)
{
	DIR *proc = opendir("/proc");
	pid_t found = 0;

	for (struct dirent *entry; proc && (entry = readdir(proc));) {
		char path[300], text[64] = "";
		snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
		int file = open(path, O_RDONLY);
		if (file < 0)
			continue;
		ssize_t size = read(file, text, sizeof text - 1);
		close(file);
		/* Its name is that of the file that the loader was started as. */
		if (size > 0 && (strstr(text, "(ld-linux") || strstr(text, "(supervisor") || strstr(text, "(node")))
			found = (pid_t)strtol(entry->d_name, NULL, 10);
	}
	if (proc)
		closedir(proc);
	return found;
}

static void print(const char *name, const char *outcome, const char *text)
{
	printf("%s\t%s\t%s\n", name, outcome, text);
	fflush(stdout);
}

static void try_one(const struct attempt *attempt)
{
	static const char *const words[] = { "refused", "escaped", "impossible" };
	int ends[2], status;

	if (pipe(ends))
		exit(1);
	pid_t child = fork();
	if (!child) {
		setpgid(0, 0);
		alarm(10);
		remark[0] = 0;
		enum outcome outcome = attempt->run(attempt->argument);
		ssize_t told = write(ends[1], remark, strlen(remark));
		(void)told;
		_exit((int)outcome);
	}
	close(ends[1]);
	waitpid(child, &status, 0);
	kill(-child, SIGKILL); /* what it left running */
	ssize_t size = read(ends[0], remark, sizeof remark - 1);
	remark[size > 0 ? size : 0] = 0;
	close(ends[0]);
	for (char *at = remark; *at; at++)
		if (*at == '\t' || *at == '\n')
			*at = ' ';
	if (WIFEXITED(status) && WEXITSTATUS(status) <= IMPOSSIBLE)
		print(attempt->name, words[WEXITSTATUS(status)], remark);
	else if (WIFSIGNALED(status))
		print(attempt->name, "refused", strsignal(WTERMSIG(status)));
	else
		print(attempt->name, "broken", "the attempt itself failed");
}

/* Whatever is open beside 0, 1 and 2 came from whoever started us. */
static void report_inherited(void)
{
	char text[128] = "";

	for (int fd = 3; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			snprintf(text + strlen(text), sizeof text - strlen(text), "%d ", fd);
	print("inherited-descriptors", *text ? "escaped" : "refused", text);
}

int main(int argc, char *argv[])
{
	const struct attempt *const groups[] = { network_attempts, socket_attempts, broker_attempts, file_attempts,
						 process_attempts, kernel_attempts, door_attempts };

	options = argv + 1;
	if (argc == 2 && !strcmp(argv[1], "list")) {
		puts("inherited-descriptors");
		for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
			for (const struct attempt *attempt = groups[i]; attempt->name; attempt++)
				puts(attempt->name);
		return 0;
	}
	report_inherited();
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
		for (const struct attempt *attempt = groups[i]; attempt->name; attempt++)
			try_one(attempt);
	return 0;
}
