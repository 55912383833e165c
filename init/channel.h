/*
 * Node's child-process IPC, as far as an anchor speaks it: one JSON value a line. The supervisor's commands
 * are JSON strings of plain words, so nothing here parses JSON; a line that is no such string is skipped
 * (Node acknowledges descriptors with objects).
 */
#ifndef OPENSHELL_CHANNEL_H
#define OPENSHELL_CHANNEL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

enum {
	CHANNEL_LINE_MAX = 512,	  /* a longer line ends the channel */
	CHANNEL_CONNECT_MS = 250, /* how long a connection may take */
};

/*
 * "listen ADDRESS PORT": a TCP listener, "bind ADDRESS PORT": a UDP socket, "connect ADDRESS PORT": a TCP connection
 * to who listens there; all on a loopback address of the namespace.
 */
enum channel_op { CHANNEL_OP_LISTEN, CHANNEL_OP_BIND, CHANNEL_OP_CONNECT };

struct channel_request {
	enum channel_op op;
	char address[INET6_ADDRSTRLEN];
	unsigned short port; /* 0: any */
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} place;
	socklen_t place_size;
};

enum channel_line { CHANNEL_SKIP, CHANNEL_REQUEST, CHANNEL_WRONG };

/* Parses one line without its newline. */
enum channel_line channel_parse(const char *line, size_t size, struct channel_request *request);

/* Makes the socket that `request` asks for and sends it, or the errno that refused it. False when the channel is broken. */
bool channel_answer(int channel, const struct channel_request *request);

#endif
