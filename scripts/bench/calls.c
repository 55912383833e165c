/* What single system calls cost: prints "name nanoseconds" for each of those named in its arguments. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BUDGET_NS = 60 * 1000 * 1000, BATCH = 32 };

static uint64_t now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void must(long result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "calls: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int zero, listener;
static struct sockaddr_in place = { .sin_family = AF_INET };

static void call_getppid(void)
{
	must(syscall(SYS_getppid), "getppid");
}

static void call_read(void)
{
	char byte;

	must(read(zero, &byte, 1), "read");
}

static void call_socket(void)
{
	int made = socket(AF_INET, SOCK_STREAM, 0);

	must(made, "socket");
	close(made);
}

/* socket, connect, accept, and both closed; by a reset, so that no port waits. */
static void call_connect(void)
{
	const struct linger reset = { 1, 0 };
	int made = socket(AF_INET, SOCK_STREAM, 0);

	must(made, "socket");
	must(connect(made, (struct sockaddr *)&place, sizeof place), "connect");
	int taken = accept(listener, NULL, NULL);
	must(taken, "accept");
	must(setsockopt(made, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), "SO_LINGER");
	close(made);
	close(taken);
}

static void prepare_read(void)
{
	zero = open("/dev/zero", O_RDONLY);
	must(zero, "open /dev/zero");
}

static void prepare_connect(void)
{
	socklen_t size = sizeof place;

	place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	must(listener, "socket");
	must(bind(listener, (struct sockaddr *)&place, size), "bind");
	must(listen(listener, 16), "listen");
	must(getsockname(listener, (struct sockaddr *)&place, &size), "getsockname");
}

static const struct {
	const char *name;
	void (*prepare)(void);
	void (*call)(void);
} CALLS[] = {
	{ "getppid", NULL, call_getppid },
	{ "read", prepare_read, call_read },
	{ "socket", NULL, call_socket },
	{ "connect", prepare_connect, call_connect },
};

int main(int argc, char *argv[])
{
	for (int i = 1; i < argc; i++)
		for (size_t at = 0; at < sizeof CALLS / sizeof *CALLS; at++) {
			if (strcmp(argv[i], CALLS[at].name))
				continue;
			if (CALLS[at].prepare)
				CALLS[at].prepare();
			for (int warm = 0; warm < BATCH; warm++)
				CALLS[at].call();
			uint64_t begun = now(), spent = 0, count = 0;
			while (spent < BUDGET_NS) {
				for (int one = 0; one < BATCH; one++)
					CALLS[at].call();
				count += BATCH;
				spent = now() - begun;
			}
			printf("%s %.1f\n", argv[i], (double)spent / (double)count);
		}
	return 0;
}
