/* Reaching another host. Each success would show as a packet outside. */
#include "attempt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/in6.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPV6_PKTINFO
#define IPV6_PKTINFO 50
#endif
enum { PORT = 80, UDP_PORT = 9999 };
enum how { PLAIN, REBIND, UNBIND, BY_INDEX, FREEBIND, TRANSPARENT, MARK, OPTIONS, DONTROUTE };

static struct sockaddr_in address_of(const char *text, int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };

	inet_pton(AF_INET, text, &address.sin_addr);
	return address;
}

/* Connects within 0.8 s. */
static int reach(int made, const struct sockaddr_in *address)
{
	int error = 0;
	socklen_t size = sizeof error;

	fcntl(made, F_SETFL, O_NONBLOCK);
	if (!connect(made, (const struct sockaddr *)address, sizeof *address))
		return 0;
	if (errno != EINPROGRESS)
		return -1;
	struct pollfd wait = { made, POLLOUT, 0 };
	if (poll(&wait, 1, 800) != 1) {
		errno = ETIMEDOUT;
		return -1;
	}
	getsockopt(made, SOL_SOCKET, SO_ERROR, &error, &size);
	errno = error;
	return error ? -1 : 0;
}

static enum outcome tcp(const char *name, enum how how)
{
	const char *text = target(name);
	struct sockaddr_in address = address_of(text, how == PLAIN && !strcmp(name, "gateway") ? 8080 : PORT);
	struct sockaddr_in foreign = address_of("198.51.100.77", 0);
	int one = 1, index = 2;
	static const unsigned char route[] = { 131, 7, 4, 198, 51, 100, 20, 0 }; /* loose source route, RFC 791 */

	if (!*text)
		return IMPOSSIBLE;
	int made = socket(AF_INET, SOCK_STREAM, 0);
	if (made < 0)
		return judge(-1);
	switch (how) {
	case PLAIN: break;
	case REBIND: setsockopt(made, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5); break;
	case UNBIND: setsockopt(made, SOL_SOCKET, SO_BINDTODEVICE, "", 0); break;
	case BY_INDEX:
		for (index = 0; index < 12; index++)
			setsockopt(made, SOL_SOCKET, 62 /* SO_BINDTOIFINDEX */, &index, sizeof index);
		index = 0;
		setsockopt(made, SOL_SOCKET, 62, &index, sizeof index);
		break;
	case FREEBIND:
		setsockopt(made, IPPROTO_IP, IP_FREEBIND, &one, sizeof one);
		if (bind(made, (struct sockaddr *)&foreign, sizeof foreign))
			return judge(-1);
		break;
	case TRANSPARENT:
		if (setsockopt(made, IPPROTO_IP, IP_TRANSPARENT, &one, sizeof one))
			return judge(-1);
		break;
	case MARK:
		if (setsockopt(made, SOL_SOCKET, SO_MARK, &one, sizeof one))
			return judge(-1);
		break;
	case OPTIONS:
		if (setsockopt(made, IPPROTO_IP, IP_OPTIONS, route, sizeof route))
			return judge(-1);
		break;
	case DONTROUTE: setsockopt(made, SOL_SOCKET, SO_DONTROUTE, &one, sizeof one); break;
	}
	return judge(reach(made, &address));
}

static enum outcome to_other(int how) { return tcp("other", (enum how)how); }
static enum outcome to_metadata(int how) { return tcp("metadata", (enum how)how); }
static enum outcome to_gateway(int how) { return tcp("gateway", (enum how)how); }
static enum outcome to_internal(int how) { return tcp("internal", (enum how)how); }

static enum outcome fast_open(int by_option)
{
	struct sockaddr_in address = address_of(target("other"), PORT);
	int one = 1, made = socket(AF_INET, SOCK_STREAM, 0);

	if (by_option) {
		setsockopt(made, IPPROTO_TCP, 30 /* TCP_FASTOPEN_CONNECT */, &one, sizeof one);
		if (connect(made, (struct sockaddr *)&address, sizeof address))
			return judge(-1);
		return judge(send(made, "GET / HTTP/1.0\r\n\r\n", 18, MSG_DONTWAIT)) == REFUSED ? REFUSED : judge(reach(made, &address));
	}
	fcntl(made, F_SETFL, O_NONBLOCK);
	long sent = sendto(made, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&address, sizeof address);
	if (sent < 0 && errno == EINPROGRESS)
		return judge(reach(made, &address));
	return judge(sent);
}

/* In a network namespace of our own a datagram may be accepted and go nowhere: the capture outside decides. */
static enum outcome sent_somewhere(long sent)
{
	if (sent >= 0 && !strcmp(target("fence"), "namespace")) {
		detail("sent on a loopback of its own");
		return REFUSED;
	}
	return judge(sent);
}

enum udp { UDP_PLAIN, UDP_PKTINFO, UDP_MULTICAST, UDP_BROADCAST, UDP_DNS };

static enum outcome udp(int how)
{
	struct sockaddr_in address = address_of(how == UDP_MULTICAST ? "224.0.0.1" : how == UDP_BROADCAST ? "255.255.255.255" :
						how == UDP_DNS ? target("dns") : target("other"), how == UDP_DNS ? 53 : UDP_PORT);
	int one = 1, made = socket(AF_INET, SOCK_DGRAM, 0);
	long sent = -1;

	if (made < 0)
		return judge(-1);
	setsockopt(made, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
	if (how != UDP_PKTINFO)
		return sent_somewhere(sendto(made, "udp", 3, MSG_DONTWAIT, (struct sockaddr *)&address, sizeof address));
	for (int index = 1; index < 12 && sent < 0; index++) {
		union {
			char room[CMSG_SPACE(sizeof(struct in_pktinfo))];
			struct cmsghdr align;
		} control = { { 0 } };
		struct iovec part = { "pktinfo", 7 };
		struct msghdr message = { .msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &part, .msg_iovlen = 1,
					  .msg_control = control.room, .msg_controllen = sizeof control.room };
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		struct in_pktinfo info = { .ipi_ifindex = index };
		header->cmsg_level = IPPROTO_IP;
		header->cmsg_type = IP_PKTINFO;
		header->cmsg_len = CMSG_LEN(sizeof info);
		memcpy(CMSG_DATA(header), &info, sizeof info);
		sent = sendmsg(made, &message, MSG_DONTWAIT);
	}
	return sent_somewhere(sent);
}

static enum outcome udp6_scope(int multicast)
{
	long sent = -1;
	int made = socket(AF_INET6, SOCK_DGRAM, 0);

	if (made < 0)
		return judge(-1);
	for (unsigned index = 1; index < 12; index++) {
		struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(UDP_PORT), .sin6_scope_id = index };
		inet_pton(AF_INET6, multicast ? "ff02::1" : "fe80::1", &address.sin6_addr);
		long one = sendto(made, "scope", 5, MSG_DONTWAIT, (struct sockaddr *)&address, sizeof address);
		sent = one > sent ? one : sent;
	}
	return sent_somewhere(sent);
}

static enum outcome tcp6_scope(int unused)
{
	(void)unused;
	int made = socket(AF_INET6, SOCK_STREAM, 0);
	long result = -1;

	for (unsigned index = 2; index < 12; index++) {
		struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(PORT), .sin6_scope_id = index };
		inet_pton(AF_INET6, "fe80::1", &address.sin6_addr);
		fcntl(made, F_SETFL, O_NONBLOCK);
		if (!connect(made, (struct sockaddr *)&address, sizeof address))
			result = 0;
	}
	return judge(result);
}

static enum outcome route_header(int option)
{
	unsigned char header[24] = { 0, 2, 0, 1 };
	int made = socket(AF_INET6, SOCK_STREAM, 0);

	return judge(setsockopt(made, IPPROTO_IPV6, option, header, sizeof header));
}

const struct attempt network_attempts[] = {
	{ "tcp-other-host", to_other, PLAIN },
	{ "tcp-metadata-address", to_metadata, PLAIN },
	{ "tcp-gateway", to_gateway, PLAIN },
	{ "tcp-internal-host", to_internal, PLAIN },
	{ "tcp-rebind-device", to_other, REBIND },
	{ "tcp-unbind-device", to_other, UNBIND },
	{ "tcp-bind-interface-index", to_other, BY_INDEX },
	{ "tcp-freebind", to_other, FREEBIND },
	{ "tcp-transparent", to_other, TRANSPARENT },
	{ "tcp-mark", to_other, MARK },
	{ "tcp-source-route", to_other, OPTIONS },
	{ "tcp-dont-route", to_other, DONTROUTE },
	{ "tcp-fast-open", fast_open, 0 },
	{ "tcp-fast-open-connect", fast_open, 1 },
	{ "tcp6-link-local-scope", tcp6_scope, 0 },
	{ "udp-other-host", udp, UDP_PLAIN },
	{ "udp-pktinfo", udp, UDP_PKTINFO },
	{ "udp-multicast", udp, UDP_MULTICAST },
	{ "udp-broadcast", udp, UDP_BROADCAST },
	{ "udp-dns-server", udp, UDP_DNS },
	{ "udp6-link-local-scope", udp6_scope, 0 },
	{ "udp6-multicast-scope", udp6_scope, 1 },
	{ "ipv6-routing-header", route_header, 57 },
	{ "ipv6-hop-by-hop", route_header, 54 },
	{ "ipv6-destination-options", route_header, 59 },
	{ NULL, NULL, 0 },
};
