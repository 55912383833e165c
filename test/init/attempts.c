/*
 * Tries what its arguments say, one after the other, and prints a line for each: the words, and "ok" or the
 * errno that refused it. Confined or not, so that a test can see that it is the confinement that refuses.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FASTOPEN 0x20000000
#define RNDGETENTCNT 0x80045200

static int opened(const char *path, int flags)
{
	int fd = open(path, flags, 0666);

	if (fd >= 0)
		close(fd);
	return fd;
}

static int executed(const char *path)
{
	int status;
	pid_t child = fork();

	if (!child) {
		char *const argv[] = { (char *)path, NULL };
		execve(path, argv, NULL);
		_exit(errno);
	}
	waitpid(child, &status, 0);
	errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
	return errno ? -1 : 0;
}

static int listed(const char *path)
{
	DIR *directory = opendir(path);

	return directory ? closedir(directory) : -1;
}

static int unix_connected(const char *name, int abstract)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int made = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(address.sun_path + abstract, name, sizeof address.sun_path - 2);
	return made < 0 ? -1 : connect(made, (struct sockaddr *)&address,
				       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)abstract + strlen(name)));
}

static struct sockaddr_in local(const char *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port)) };

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}

static int tcp(const char *port, int how)
{
	struct sockaddr_in address = local(port);
	struct timeval limit = { 3, 0 };
	int made = socket(AF_INET, SOCK_STREAM, 0);

	if (made < 0)
		return -1;
	setsockopt(made, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	if (how == 'c')
		return connect(made, (struct sockaddr *)&address, sizeof address);
	struct iovec part = { "hello", 5 };
	struct mmsghdr message = { .msg_hdr = { .msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &part, .msg_iovlen = 1 } };
	if (how == 't')
		return (int)sendto(made, "hello", 5, FASTOPEN, (struct sockaddr *)&address, sizeof address);
	if (how == 'm')
		return (int)sendmsg(made, &message.msg_hdr, FASTOPEN);
	return sendmmsg(made, &message, 1, FASTOPEN);
}

/* The deferred kind of fast open: connect(2) first, and the data carries the SYN. */
static int deferred(const char *port)
{
	struct sockaddr_in address = local(port);
	int made = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	if (made < 0 || setsockopt(made, IPPROTO_TCP, 30 /* TCP_FASTOPEN_CONNECT */, &on, sizeof on))
		return -1;
	if (connect(made, (struct sockaddr *)&address, sizeof address))
		return -1;
	return (int)send(made, "hello", 5, MSG_NOSIGNAL);
}

static int serve_abstract(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int made = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(address.sun_path + 1, name, sizeof address.sun_path - 2);
	if (bind(made, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))) ||
	    listen(made, 64))
		return -1;
	printf("serving\n");
	fflush(stdout);
	alarm(120);
	return poll(NULL, 0, -1);
}

/* Says what arrives, so that a test can look from outside. */
static int serve_tcp(const char *port)
{
	struct sockaddr_in address = local(port);
	int made = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(made, (struct sockaddr *)&address, sizeof address) || listen(made, 64))
		return -1;
	printf("serving\n");
	fflush(stdout);
	alarm(120);
	for (;;) {
		char text[64];
		int taken = accept(made, NULL, NULL);
		ssize_t got = recv(taken, text, sizeof text - 1, 0);
		printf("arrived: %.*s\n", got > 0 ? (int)got : 0, text);
		fflush(stdout);
		close(taken);
	}
}

static int try(const char *what, const char *one, const char *two)
{
	static const struct { const char *name; int flags; } opens[] = {
		{ "read", O_RDONLY }, { "write", O_WRONLY }, { "readwrite", O_RDWR },
		{ "create", O_WRONLY | O_CREAT | O_EXCL }, { "open-truncate", O_RDONLY | O_TRUNC },
		{ "tmpfile", O_RDWR | O_TMPFILE },
	};

	for (size_t i = 0; i < sizeof opens / sizeof *opens; i++)
		if (!strcmp(what, opens[i].name))
			return opened(one, opens[i].flags);
	if (!strcmp(what, "list"))
		return listed(one);
	if (!strcmp(what, "execute"))
		return executed(one);
	if (!strcmp(what, "truncate"))
		return truncate(one, 0);
	if (!strcmp(what, "mkdir"))
		return mkdir(one, 0777);
	if (!strcmp(what, "mkfifo"))
		return mkfifo(one, 0666);
	if (!strcmp(what, "unlink"))
		return unlink(one);
	if (!strcmp(what, "rmdir"))
		return rmdir(one);
	if (!strcmp(what, "chmod"))
		return chmod(one, 0600);
	if (!strcmp(what, "chown"))
		return chown(one, getuid(), getgid());
	if (!strcmp(what, "utime"))
		return utimensat(AT_FDCWD, one, NULL, 0);
	if (!strcmp(what, "chdir"))
		return chdir(one);
	if (!strcmp(what, "stat")) {
		struct stat status;
		return stat(one, &status);
	}
	if (!strcmp(what, "await")) { /* looking at attributes is free */
		struct stat status;
		for (int i = 0; i < 3000 && stat(one, &status); i++)
			poll(NULL, 0, 10);
		return stat(one, &status);
	}
	if (!strcmp(what, "rename"))
		return rename(one, two);
	if (!strcmp(what, "link"))
		return link(one, two);
	if (!strcmp(what, "symlink"))
		return symlink(one, two);
	if (!strcmp(what, "ioctl")) {
		int count, fd = open(one, O_RDONLY);
		return fd < 0 ? -1 : ioctl(fd, RNDGETENTCNT, &count);
	}
	if (!strcmp(what, "abstract"))
		return unix_connected(one, 1);
	if (!strcmp(what, "socket-file"))
		return unix_connected(one, 0);
	if (!strcmp(what, "serve-abstract"))
		return serve_abstract(one);
	if (!strcmp(what, "serve-tcp"))
		return serve_tcp(one);
	if (!strcmp(what, "connect"))
		return tcp(one, 'c');
	if (!strcmp(what, "fastopen-sendto"))
		return tcp(one, 't');
	if (!strcmp(what, "fastopen-sendmsg"))
		return tcp(one, 'm');
	if (!strcmp(what, "fastopen-sendmmsg"))
		return tcp(one, 'M');
	if (!strcmp(what, "fastopen-deferred"))
		return deferred(one);
	if (!strcmp(what, "kill"))
		return kill(strcmp(one, "parent") ? atoi(one) : getppid(), strcmp(two, "0") ? SIGTERM : 0);
	fprintf(stderr, "unknown attempt %s\n", what);
	exit(64);
}

static const char *name_of(int error)
{
	static const struct { int error; const char *name; } names[] = {
		{ EACCES, "EACCES" }, { EPERM, "EPERM" }, { EXDEV, "EXDEV" }, { ENOENT, "ENOENT" }, { EROFS, "EROFS" },
		{ ENOTTY, "ENOTTY" }, { ECONNREFUSED, "ECONNREFUSED" }, { EOPNOTSUPP, "EOPNOTSUPP" },
		{ EINVAL, "EINVAL" }, { ESRCH, "ESRCH" }, { EEXIST, "EEXIST" }, { EAGAIN, "EAGAIN" },
	};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (names[i].error == error)
			return names[i].name;
	return strerror(error);
}

int main(int argc, char *argv[])
{
	signal(SIGPIPE, SIG_IGN);
	for (int i = 1; i + 1 < argc; i++) {
		const char *what = argv[i], *one = argv[++i], *two = "";
		if (!strcmp(what, "rename") || !strcmp(what, "link") || !strcmp(what, "symlink") || !strcmp(what, "kill"))
			two = argv[++i];
		int result = try(what, one, two ? two : "");
		printf("%s %s%s%s: %s\n", what, one, *two ? " " : "", two, result < 0 ? name_of(errno) : "ok");
		fflush(stdout);
	}
	return 0;
}
