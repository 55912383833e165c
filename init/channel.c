#include "channel.h"
#include "messages.h"
#include "report.h"

#include <arpa/inet.h>
#include <errno.h>
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

enum channel_line channel_parse(const char *line, size_t size, struct channel_request *request)
{
	static const char listen_command[] = "\"listen ", bind_command[] = "\"bind ";

	if (!size || line[0] != '"')
		return CHANNEL_SKIP;
	request->datagrams = size >= sizeof bind_command && !memcmp(line, bind_command, sizeof bind_command - 1);
	const char *command = request->datagrams ? bind_command : listen_command;
	const size_t skip = strlen(command);
	if (size <= skip + 1 || memcmp(line, command, skip) || line[size - 1] != '"')
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
	return CHANNEL_LISTEN;
}

static int make_socket(const struct channel_request *request, int *error)
{
	int one = 1, kind = request->datagrams ? SOCK_DGRAM : SOCK_STREAM;
	int made = socket(request->place.any.sa_family, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	/* On UDP the option would let a process of the same user bind the address a second time and take the datagrams. */
	if (made >= 0 && (request->datagrams || !setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one)) &&
	    !bind(made, &request->place.any, request->place_size) && (request->datagrams || !listen(made, 511)))
		return made;
	*error = errno;
	if (made >= 0)
		close(made);
	return -1;
}

/* What makes Node give the descriptor that comes along to the listener of "message" as an object of its own. */
static const char *handle_type(const struct channel_request *request)
{
	if (!request->datagrams)
		return "\"net.Server\"";
	return request->place.any.sa_family == AF_INET ? "\"dgram.Socket\",\"dgramType\":\"udp4\""
						       : "\"dgram.Socket\",\"dgramType\":\"udp6\"";
}

bool channel_answer(int channel, const struct channel_request *request)
{
	char line[320];
	const char *op = request->datagrams ? "bind" : "listen";
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
