/* Kinds of sockets that could reach further than TCP on loopback, and other ways to make one. */
#include "attempt.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* Every type of a family; only unix, TCP, route netlink and, in a namespace of its own, UDP may be had. */
static enum outcome family(int family)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, 10 /* SOCK_PACKET */ };
	int own_namespace = !strcmp(target("fence"), "namespace");

	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		for (int protocol = 0; protocol < 300; protocol += protocol < 24 ? 1 : 17) {
			int made = socket(family, types[i], protocol);
			if (made < 0)
				continue;
			close(made);
			int internet = family == AF_INET || family == AF_INET6;
			if (internet && types[i] == SOCK_STREAM && (protocol == 0 || protocol == 6))
				continue;
			if (internet && own_namespace && types[i] == SOCK_DGRAM && (protocol == 0 || protocol == 17))
				continue;
			detail("type %d protocol %d", types[i], protocol);
			return ESCAPED;
		}
	return REFUSED;
}

static enum outcome protocol(int number)
{
	return judge(socket(AF_INET, number == 1 ? SOCK_DGRAM : SOCK_STREAM, number));
}

static enum outcome netlink(int number)
{
	return judge(socket(AF_NETLINK, SOCK_RAW, number));
}

/* Changes through route netlink take CAP_NET_ADMIN: deletes every link by index. */
static enum outcome route_netlink(int unused)
{
	(void)unused;
	struct { struct nlmsghdr header; struct { unsigned char family, pad; unsigned short type; int index; unsigned flags, change; } link; } message;
	struct { struct nlmsghdr header; struct nlmsgerr error; char rest[512]; } answer;
	int made = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

	if (made < 0)
		return judge(-1);
	memset(&message, 0, sizeof message);
	message.header.nlmsg_len = sizeof message;
	message.header.nlmsg_type = 17; /* RTM_DELLINK */
	message.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	message.link.index = 2;
	if (send(made, &message, sizeof message, 0) < 0 || recv(made, &answer, sizeof answer, 0) < 0)
		return judge(-1);
	errno = -answer.error.error;
	return judge(answer.error.error ? -1 : 0);
}

static enum outcome pair(int number)
{
	int ends[2];

	return judge(socketpair(number, SOCK_STREAM, 0, ends));
}

static enum outcome io_uring(int unused)
{
	(void)unused;
	char parameters[128] = { 0 };

	return judge(syscall(425, 4, parameters));
}

#if defined(__x86_64__)
static enum outcome x32(int unused)
{
	(void)unused;
	return judge(syscall(0x40000000 | SYS_socket, AF_INET, SOCK_DGRAM, 0));
}

/* socket(2) is 359 in the i386 table, socketcall(2) 102. */
static enum outcome i386(int number)
{
	long result;
	static unsigned arguments[3] = { AF_INET, SOCK_DGRAM, 0 };

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(number == 359 ? AF_INET : 1),
			 "c"(number == 359 ? SOCK_DGRAM : (long)(unsigned long)arguments), "d"(0) : "memory");
	/* gVisor takes the number for one of x86-64, where 102 is getuid: only a socket is a socket. */
	if (result >= 0 && fcntl((int)result, F_GETFD) < 0) {
		detail("taken for another call");
		return REFUSED;
	}
	errno = result < 0 ? (int)-result : 0;
	return judge(result < 0 ? -1 : result);
}
#endif

/* A listener of somebody else in the same network namespace, without a file that could protect it. */
static enum outcome abstract_socket(int unused)
{
	(void)unused;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *name = target("abstract");
	size_t size = strlen(name);
	int made = socket(AF_UNIX, SOCK_STREAM, 0);

	if (!size)
		return IMPOSSIBLE;
	memcpy(address.sun_path + 1, name, size);
	return judge(connect(made, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + size)));
}

#define FAMILY(n) { "socket-family-" #n, family, n }
const struct attempt socket_attempts[] = {
	FAMILY(0), FAMILY(2), FAMILY(3), FAMILY(4), FAMILY(5), FAMILY(6), FAMILY(7), FAMILY(8), FAMILY(9), FAMILY(10), FAMILY(11),
	FAMILY(12), FAMILY(13), FAMILY(14), FAMILY(15), FAMILY(17), FAMILY(18), FAMILY(19), FAMILY(20), FAMILY(21), FAMILY(22),
	FAMILY(23), FAMILY(24), FAMILY(25), FAMILY(26), FAMILY(27), FAMILY(28), FAMILY(29), FAMILY(30), FAMILY(31), FAMILY(32),
	FAMILY(33), FAMILY(34), FAMILY(35), FAMILY(36), FAMILY(37), FAMILY(38), FAMILY(39), FAMILY(40), FAMILY(41), FAMILY(42),
	FAMILY(43), FAMILY(44), FAMILY(45),
	{ "socket-mptcp", protocol, 262 },
	{ "socket-sctp", protocol, 132 },
	{ "socket-smc", protocol, 256 },
	{ "socket-ping", protocol, 1 },
	{ "netlink-generic", netlink, 16 },
	{ "netlink-netfilter", netlink, 12 },
	{ "netlink-sock-diag", netlink, 4 },
	{ "netlink-xfrm", netlink, 6 },
	{ "netlink-audit", netlink, 9 },
	{ "netlink-uevent", netlink, 15 },
	{ "netlink-route-change", route_netlink, 0 },
	{ "socketpair-inet", pair, AF_INET },
	{ "socketpair-inet6", pair, AF_INET6 },
	{ "io-uring", io_uring, 0 },
#if defined(__x86_64__)
	{ "x32-socket", x32, 0 },
	{ "i386-socket", i386, 359 },
	{ "i386-socketcall", i386, 102 },
#endif
	{ "abstract-unix-socket", abstract_socket, 0 },
	{ NULL, NULL, 0 },
};
