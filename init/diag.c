#include "diag.h"
#include "hidden.h"
#include "report.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

/* States of net/tcp_states.h in which a client still owns its end: established, and half-closed by itself. */
enum { OWNED = 1 << 1 | 1 << 4 | 1 << 5 };

static bool same_namespace(const char *path, int fd)
{
	struct stat ours, theirs;

	return !stat(path, &ours) && !fstat(fd, &theirs) && ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

/* Enters the user namespace first: it is what gives the right to enter the other (user_namespaces(7)). */
static int enter(const char *pid, const char *name, int type)
{
	char path[64], own[64];

	if (snprintf(path, sizeof path, "/proc/%s/ns/%s", pid, name) >= (int)sizeof path)
		return ENAMETOOLONG;
	snprintf(own, sizeof own, "/proc/self/ns/%s", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	int error = same_namespace(own, fd) || !setns(fd, type) ? 0 : errno;
	close(fd);
	return error;
}

static bool read_address(const char *text, int family, __be32 out[4])
{
	memset(out, 0, 16);
	return inet_pton(family, text, out) == 1;
}

/* Asks for one socket, without NLM_F_DUMP: the kernel looks it up in its hash. Returns its inode, or 0. */
static unsigned find(int netlink, unsigned lo, const char *client, unsigned short client_port, const char *server,
                     unsigned short server_port)
{
	int family = strchr(client, ':') ? AF_INET6 : AF_INET;
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 query;
	} request = {
		.header = { .nlmsg_len = sizeof request, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST },
		.query = {
			.sdiag_family = (unsigned char)family,
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = ~0u,
			.id = {
				.idiag_sport = htons(client_port),
				.idiag_dport = htons(server_port),
				/* A socket that is bound to lo is found only from there; any other one from everywhere. */
				.idiag_if = lo,
				.idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE },
			},
		},
	};
	union {
		struct nlmsghdr header;
		char room[4096];
	} answer;

	if (!read_address(client, family, request.query.id.idiag_src) ||
	    !read_address(server, family, request.query.id.idiag_dst))
		return 0;
	if (send(netlink, &request, sizeof request, 0) != sizeof request)
		return 0;
	ssize_t size = recv(netlink, &answer, sizeof answer, 0);
	if (size < (ssize_t)NLMSG_LENGTH(sizeof(struct inet_diag_msg)) || !NLMSG_OK(&answer.header, (size_t)size) ||
	    answer.header.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return 0;
	const struct inet_diag_msg *found = NLMSG_DATA(&answer.header);
	/* The kernel falls back to a listener on that port: that is not the client's end. */
	bool is_client = found->id.idiag_sport == htons(client_port) && found->id.idiag_dport == htons(server_port) &&
	                 found->idiag_state < 32 && (1u << found->idiag_state & OWNED);
	return is_client ? found->idiag_inode : 0;
}

int diag_main(const char *pid)
{
	char line[160], client[46], server[46];
	unsigned short client_port, server_port;

	/* Nobody of our user id may look into it, and it does not outlive the supervisor. */
	hide();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL)) {
		report("cannot protect itself: %s", errno_name(errno));
		return EXIT_INTERNAL;
	}
	if (pid) {
		int error = enter(pid, "user", CLONE_NEWUSER);
		if (!error)
			error = enter(pid, "net", CLONE_NEWNET);
		if (error) {
			report("cannot enter the network of process %s: %s", pid, errno_name(error));
			return EXIT_CONFINEMENT;
		}
	}
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	unsigned lo = if_nametoindex("lo");
	if (netlink < 0 || !lo) {
		report("there is no sock_diag here: %s", errno_name(errno));
		return EXIT_CONFINEMENT;
	}
	/* A kernel that answers nothing must not hold the supervisor up: it looks into /proc then. */
	struct timeval patience = { .tv_usec = 200000 };
	if (setsockopt(netlink, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience)) {
		report("cannot bound the wait for an answer: %s", errno_name(errno));
		return EXIT_CONFINEMENT;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof line, stdin)) {
		bool read = sscanf(line, "%45s %hu %45s %hu", client, &client_port, server, &server_port) == 4;
		printf("%u\n", read ? find(netlink, lo, client, client_port, server, server_port) : 0);
	}
	return 0;
}
