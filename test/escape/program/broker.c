/* Against whoever makes our sockets: races, floods, deaths in the middle. */
#include "attempt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_int loose, made_count;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* In the socket fence every internet socket is bound to lo, whichever descriptor it ends up on. */
static void check(int made)
{
	char device[IFNAMSIZ] = "";
	socklen_t size = sizeof device;

	if (!strcmp(target("fence"), "namespace"))
		return;
	if (!getsockopt(made, SOL_SOCKET, SO_BINDTODEVICE, device, &size) && strcmp(device, "lo"))
		atomic_fetch_add(&loose, 1);
}

static void *race(void *argument)
{
	double end = now() + 2;
	int slot = (int)(long)argument;

	while (now() < end) {
		int made = socket(slot & 1 ? AF_INET : AF_INET6, SOCK_STREAM | (slot & 2 ? SOCK_CLOEXEC : 0), 0);
		if (made < 0)
			continue;
		atomic_fetch_add(&made_count, 1);
		check(made);
		dup2(made, 100 + slot);
		dup2(100 + ((slot + 1) & 7), made);
		check(100 + slot);
		close(made);
	}
	return NULL;
}

static enum outcome dup_race(int unused)
{
	(void)unused;
	pthread_t threads[8];
	int started = 0;

	for (long i = 0; i < 8; i++)
		started += !pthread_create(&threads[i], NULL, race, (void *)i);
	for (int i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	detail("%d sockets, %d not bound to lo", made_count, loose);
	return loose ? ESCAPED : made_count ? REFUSED : IMPOSSIBLE;
}

static int works(void)
{
	int made = socket(AF_INET, SOCK_STREAM, 0);

	if (made < 0)
		return 0;
	check(made);
	close(made);
	return !loose;
}

/* Fifty processes that ask as fast as they can; afterwards the next one is served as ever. */
static enum outcome flood(int unused)
{
	(void)unused;
	pid_t children[50];

	for (int i = 0; i < 50; i++) {
		children[i] = fork();
		if (!children[i]) {
			for (double end = now() + 3; now() < end;) {
				int made = socket(AF_INET, SOCK_STREAM, 0);
				if (made >= 0)
					close(made);
			}
			_exit(0);
		}
	}
	for (int i = 0; i < 50; i++)
		if (children[i] > 0)
			waitpid(children[i], NULL, 0);
	detail(works() ? "served afterwards" : "not served any more: %s", strerror(errno));
	return works() ? REFUSED : ESCAPED;
}

/* Dies between the notification and its answer, over and over. */
static enum outcome die_in_notification(int unused)
{
	(void)unused;
	for (int i = 0; i < 300; i++) {
		pid_t child = fork();
		if (!child)
			for (;;)
				close(socket(AF_INET, SOCK_STREAM, 0));
		struct timespec pause = { 0, (i * 7919) % 300000 };
		nanosleep(&pause, NULL);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	return works() ? REFUSED : ESCAPED;
}

/* No room for the descriptor that is to be injected. */
static enum outcome full_table(int unused)
{
	(void)unused;
	int made, last = -1;

	while ((made = dup(0)) >= 0)
		last = made;
	made = socket(AF_INET, SOCK_STREAM, 0);
	if (made >= 0)
		return ESCAPED;
	int error = errno;
	close(last);
	if (!works())
		return ESCAPED;
	errno = error;
	return judge(-1);
}

/* Signals that interrupt the wait for the answer restart it; none may lose or double a socket. */
static void nothing(int number) { (void)number; }
static enum outcome signal_storm(int unused)
{
	(void)unused;
	struct sigaction action = { .sa_handler = nothing, .sa_flags = SA_RESTART };
	sigaction(SIGUSR1, &action, NULL);
	pid_t self = getpid(), child = fork();
	if (!child)
		for (double end = now() + 2; now() < end;)
			kill(self, SIGUSR1);
	for (double end = now() + 1.5; now() < end;)
		if (!works() && errno != EINTR)
			return ESCAPED;
	waitpid(child, NULL, 0);
	return REFUSED;
}

const struct attempt broker_attempts[] = {
	{ "broker-dup-race", dup_race, 0 },
	{ "broker-flood", flood, 0 },
	{ "broker-die-in-notification", die_in_notification, 0 },
	{ "broker-full-descriptor-table", full_table, 0 },
	{ "broker-signal-storm", signal_storm, 0 },
	{ NULL, NULL, 0 },
};
