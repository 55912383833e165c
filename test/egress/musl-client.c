/* Looks names up as musl does, and asks those that it finds for / over HTTP. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **names)
{
	for (int i = 1; i < count; i++) {
		struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
		int error = getaddrinfo(names[i], "80", &hints, &found);
		char answer[16] = "";
		const char *request = "GET /musl HTTP/1.0\r\n\r\n";

		if (!error) {
			int made = socket(found->ai_family, SOCK_STREAM, 0);
			if (connect(made, found->ai_addr, found->ai_addrlen) ||
			    write(made, request, strlen(request)) < 0 || read(made, answer, 15) < 0)
				perror(names[i]);
			close(made);
			freeaddrinfo(found);
		}
		printf("musl %s: %s\n", names[i], error ? gai_strerror(error) : answer);
	}
	return 0;
}
