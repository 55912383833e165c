/* What the supervisor itself offers. */
#include "attempt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

extern char **environ;

static int dial(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
	int made = socket(AF_INET, SOCK_STREAM, 0);

	inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
	return made < 0 || connect(made, (struct sockaddr *)&address, sizeof address) ? -1 : made;
}

/* Sends bytes to the proxy and reads what it says within 3 s. */
static ssize_t converse(const char *request, size_t size, char *answer, size_t room)
{
	int made = dial(3128);
	ssize_t used = 0;

	if (made < 0 || send(made, request, size, MSG_NOSIGNAL) < 0)
		return -1;
	struct pollfd wait = { made, POLLIN, 0 };
	while (used < (ssize_t)room - 1 && poll(&wait, 1, 3000) == 1) {
		ssize_t got = read(made, answer + used, room - 1 - (size_t)used);
		if (got <= 0)
			break;
		used += got;
	}
	answer[used] = 0;
	close(made);
	return used;
}

/* A request that must not be granted: no answer may be a 2xx. */
static enum outcome refused_request(const char *request)
{
	char answer[2048];

	if (converse(request, strlen(request), answer, sizeof answer) < 0) {
		detail("the proxy does not answer");
		return IMPOSSIBLE;
	}
	detail("%.12s", answer);
	return strstr(answer, "HTTP/1.1 2") || strstr(answer, "HTTP/1.0 2") ? ESCAPED : REFUSED;
}

static enum outcome proxy(int which)
{
	static char request[512];
	static const char *const targets[] = {
		"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT 127.0.0.1:8080 HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT 127.0.0.1:3128 HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT [::1]:8080 HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT [::ffff:169.254.169.254]:80 HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT 0.0.0.0:8080 HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT 2852039166:80 HTTP/1.1\r\nHost: x\r\n\r\n", /* the metadata address as one number */
		"CONNECT 0x7f.1:8080 HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT gateway.test:8080 HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT other.test:80 HTTP/1.1\r\nHost: api.allowed.test:80\r\n\r\n",
		"CONNECT api.allowed.test:22 HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT api.allowed.test.:80 HTTP/1.1\r\nHost: x\r\n\r\n\r\nCONNECT other.test:80 HTTP/1.1\r\n\r\n",
		"CONNECT api.allowed.test@other.test:80 HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT api.allowed.test:80\thttp/1.1\r\n\r\n",
		"GET http://other.test/door HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n",
		"GET http://api.allowed.test@other.test/door HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
		"GET http://127.0.0.1:8080/metrics HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n",
		"GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST http://other.test/door HTTP/1.1\r\nHost: other.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET http://other.test/smuggled HTTP/1.1\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"\x05\x01\x00",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	};

	snprintf(request, sizeof request, "%s", targets[which]);
	return refused_request(request);
}

/* A head without an end, and ten thousand bytes of it. */
static enum outcome endless_head(int unused)
{
	(void)unused;
	static char request[20000];
	char answer[1024];

	memset(request, 'A', sizeof request);
	memcpy(request, "GET http://api.allowed.test/", 28);
	ssize_t size = converse(request, sizeof request, answer, sizeof answer);
	detail("%.12s", size > 0 ? answer : "closed");
	return size > 0 && strstr(answer, " 200") ? ESCAPED : REFUSED;
}

/* More connections than it takes: the next one is refused, and when they are gone it serves again. */
static enum outcome many_connections(int unused)
{
	(void)unused;
	static int open[1500];
	int count = 0;

	while (count < 1500 && (open[count] = dial(3128)) >= 0)
		count++;
	for (int i = 0; i < count; i++)
		close(open[i]);
	for (int tries = 0; tries < 50; tries++) {
		char answer[512] = "";
		if (converse("CONNECT other.test:80 HTTP/1.1\r\n\r\n", 34, answer, sizeof answer) > 0 && strstr(answer, " 403")) {
			detail("%d open, then 403 as before", count);
			return REFUSED;
		}
		usleep(50000);
	}
	detail("%d open; it does not come back", count);
	return ESCAPED;
}

/* The health port is on the pod's loopback in the socket fence: it may be read, and must know no secret. */
static enum outcome health_secrets(int port)
{
	static char answer[65536];
	int made = dial(port);
	size_t used = 0;
	const char *secret = target("secret");

	if (made < 0)
		return judge(-1);
	if (send(made, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 53, MSG_NOSIGNAL) < 0)
		return judge(-1);
	for (ssize_t got; used < sizeof answer - 1 && (got = read(made, answer + used, sizeof answer - 1 - used)) > 0;)
		used += (size_t)got;
	answer[used] = 0;
	detail("%zu bytes", used);
	return *secret && strstr(answer, secret) ? ESCAPED : REFUSED;
}

static enum outcome environment(int unused)
{
	(void)unused;
	const char *secret = target("secret");

	for (char **variable = environ; *variable; variable++) {
		int ours = (!strncmp(*variable, "OPENSHELL_", 10) && strcmp(*variable, "OPENSHELL_SANDBOX=1")) ||
			   !strncmp(*variable, "NODE_CHANNEL", 12);
		if (ours || (*secret && strstr(*variable, secret))) {
			detail("%.60s", *variable);
			return ESCAPED;
		}
	}
	return REFUSED;
}

#define DOOR(name, n) { "proxy-" name, proxy, n }
const struct attempt door_attempts[] = {
	DOOR("connect-metadata", 0), DOOR("connect-health", 1), DOOR("connect-itself", 2), DOOR("connect-ipv6-loopback", 3),
	DOOR("connect-mapped-metadata", 4), DOOR("connect-any-address", 5), DOOR("connect-decimal-address", 6),
	DOOR("connect-hexadecimal-address", 7), DOOR("connect-gateway", 8), DOOR("connect-host-header", 9), DOOR("connect-other-port", 10),
	DOOR("connect-pipelined", 11), DOOR("connect-user-info", 12), DOOR("connect-tab", 13), DOOR("forward-other-host", 14),
	DOOR("forward-user-info", 15), DOOR("forward-metadata", 16), DOOR("forward-health", 17), DOOR("forward-origin-form", 18),
	DOOR("forward-file", 19), DOOR("forward-smuggled", 20), DOOR("http2-preface", 21), DOOR("socks", 22), DOOR("tls", 23),
	{ "proxy-endless-head", endless_head, 0 }, { "proxy-many-connections", many_connections, 0 },
	{ "health-secrets", health_secrets, 8080 }, { "environment", environment, 0 },
	{ NULL, NULL, 0 },
};
