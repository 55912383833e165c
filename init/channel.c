#include "channel.h"
#include "messages.h"
#include "report.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool parse_port(const char *text, size_t size, unsigned short *port)
{
	unsigned value = 0;

	if (!size || size > 5)
		return false;
	for (size_t i = 0; i < size; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (unsigned)(text[i] - '0');
	}
	*port = (unsigned short)value;
	return value <= 65535;
}

static bool parse_address(struct channel_request *request)
{
	memset(&request->place, 0, sizeof request->place);
	if (inet_pton(AF_INET, request->address, &request->place.v4.sin_addr) == 1) {
		request->place.v4.sin_family = AF_INET;
		request->place.v4.sin_port = htons(request->port);
		request->place_size = sizeof request->place.v4;
		return true;
	}
	if (inet_pton(AF_INET6, request->address, &request->place.v6.sin6_addr) != 1)
		return false;
	request->place.v6.sin6_family = AF_INET6;
	request->place.v6.sin6_port = htons(request->port);
	request->place_size = sizeof request->place.v6;
	return true;
}

static const char *const ops[] = { [CHANNEL_OP_LISTEN] = "listen", [CHANNEL_OP_BIND] = "bind", [CHANNEL_OP_CONNECT] = "connect" };

enum channel_line channel_parse(const char *line, size_t size, struct channel_request *request)
{
	size_t skip = 0;

	if (!size || line[0] != '"')
		return CHANNEL_SKIP;
	for (size_t i = 0; i < sizeof ops / sizeof *ops && !skip; i++) {
		const size_t length = strlen(ops[i]);
		if (size > length + 3 && !memcmp(line + 1, ops[i], length) && line[length + 1] == ' ') {
			request->op = (enum channel_op)i;
			skip = length + 2;
		}
	}
	if (!skip || line[size - 1] != '"')
		return CHANNEL_WRONG;
	const char *address = line + skip, *stop = line + size - 1;
	const char *space = memchr(address, ' ', (size_t)(stop - address));
	if (!space || (size_t)(space - address) >= sizeof request->address)
		return CHANNEL_WRONG;
	memcpy(request->address, address, (size_t)(space - address));
	request->address[space - address] = 0;
	if (strlen(request->address) != (size_t)(space - address)) /* a NUL inside */
		return CHANNEL_WRONG;
	if (!parse_port(space + 1, (size_t)(stop - space - 1), &request->port) || !parse_address(request))
		return CHANNEL_WRONG;
	return CHANNEL_REQUEST;
}

/*
 * The loopback answers at once, unless whoever listens there accepts nothing more: then we wait a moment, and no
 * longer, because meanwhile nobody else is served.
 */
static bool connect_now(int made, const struct channel_request *request)
{
	struct pollfd polled = { made, POLLOUT, 0 };
	int error = 0;
	socklen_t size = sizeof error;

	if (!connect(made, &request->place.any, request->place_size))
		return true;
	if (errno != EINPROGRESS)
		return false;
	int ready = poll(&polled, 1, CHANNEL_CONNECT_MS);
	if (ready < 0 || getsockopt(made, SOL_SOCKET, SO_ERROR, &error, &size))
		return false;
	errno = ready ? error : ETIMEDOUT;
	return !errno;
}

static bool prepare(int made, const struct channel_request *request)
{
	int one = 1;

	switch (request->op) {
	case CHANNEL_OP_CONNECT:
		return connect_now(made, request);
	case CHANNEL_OP_BIND:
		/* With SO_REUSEADDR a process of the same user could bind the address a second time and take the datagrams. */
		return !bind(made, &request->place.any, request->place_size);
	case CHANNEL_OP_LISTEN:
		return !setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) &&
		       !bind(made, &request->place.any, request->place_size) && !listen(made, 511);
	}
	errno = EINVAL;
	return false;
}

static int make_socket(const struct channel_request *request, int *error)
{
	int kind = request->op == CHANNEL_OP_BIND ? SOCK_DGRAM : SOCK_STREAM;
	int made = socket(request->place.any.sa_family, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (made >= 0 && prepare(made, request))
		return made;
	*error = errno;
	if (made >= 0)
		close(made);
	return -1;
}

/* What makes Node give the descriptor that comes along to the listener of "message" as an object of its own. */
static const char *handle_type(const struct channel_request *request)
{
	if (request->op == CHANNEL_OP_LISTEN)
		return "\"net.Server\"";
	if (request->op == CHANNEL_OP_CONNECT)
		return "\"net.Socket\"";
	return request->place.any.sa_family == AF_INET ? "\"dgram.Socket\",\"dgramType\":\"udp4\""
						       : "\"dgram.Socket\",\"dgramType\":\"udp6\"";
}

bool channel_answer(int channel, const struct channel_request *request)
{
	char line[320];
	const char *op = ops[request->op];
	int error = 0, made = make_socket(request, &error);

	/* The address holds only what inet_pton(3) accepts, so nothing in it needs escaping. */
	int size = made >= 0 ? snprintf(line, sizeof line,
					"{\"cmd\":\"NODE_HANDLE\",\"type\":%s,\"msg\":{\"op\":\"%s\",\"ok\":true,"
					"\"address\":\"%s\",\"port\":%u}}\n", handle_type(request), op, request->address, request->port)
			     : snprintf(line, sizeof line,
					"{\"op\":\"%s\",\"ok\":false,\"address\":\"%s\",\"port\":%u,\"errno\":\"%s\"}\n",
					op, request->address, request->port, errno_name(error));
	error = send_descriptors(channel, line, (size_t)size, &made, made >= 0 ? 1 : 0);
	if (made >= 0)
		close(made);
	return !error;
}
