#include "fence.h"
#include "kernel.h"
#include "messages.h"
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int registrations = -1;
static int listeners[FENCE_MAX_LISTENERS];
static int listener_count;
static bool registered_before;

int fence_register(int fence, int listener)
{
	int pair[2];
	char answer = 0;

	/* The fence socket is shared by all shims, so the answer comes on a pair of this one's own. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return errno;
	int sent[2] = { listener, pair[1] };
	int error = send_descriptors(fence, "fence", 5, sent, 2);
	close(pair[1]);
	if (!error) {
		struct pollfd wait = { pair[0], POLLIN, 0 };
		if (poll(&wait, 1, 5000) != 1)
			error = ETIMEDOUT;
		else if (read(pair[0], &answer, 1) != 1 || answer != 'y')
			error = EUSERS;
	}
	close(pair[0]);
	return error;
}

void fence_start(int fence)
{
	registrations = fence;
}

int fence_poll_set(struct pollfd *polled)
{
	polled[0] = (struct pollfd){ registrations, POLLIN, 0 };
	for (int i = 0; i < listener_count; i++)
		polled[i + 1] = (struct pollfd){ listeners[i], POLLIN, 0 };
	return listener_count + 1;
}

/* One socket for the workload. Never returns a socket that is not bound to lo. */
static int make_socket(int domain, int type, int protocol)
{
	/* Checked again although the filter let nothing else through: the filter is the workload's own. */
	if ((domain != AF_INET && domain != AF_INET6) || (type & 0xf) != SOCK_STREAM ||
	    (protocol != 0 && protocol != IPPROTO_TCP))
		return -EPERM;
	int made = socket(domain, SOCK_STREAM | SOCK_CLOEXEC | (type & SOCK_NONBLOCK), IPPROTO_TCP);
	if (made < 0)
		return -errno;
	if (setsockopt(made, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3)) {
		int error = errno;
		close(made);
		return -error;
	}
	return made;
}

/*
 * Gives the caller the socket `made` and lets its socket(2) return. Returns 0, or the errno to answer with.
 * Linux 5.14 does both at once (SECCOMP_ADDFD_FLAG_SEND). Before, 5.9 on, it takes two steps, and the caller may
 * use the descriptor, or die, in between: harmless, for the socket is bound to lo already.
 */
static int inject(int listener, uint64_t id, int made, bool close_on_exec)
{
	static bool in_two_steps;
	struct seccomp_notif_addfd injected = {
		.id = id,
		.flags = in_two_steps ? 0 : SECCOMP_ADDFD_FLAG_SEND,
		.srcfd = (unsigned)made,
		.newfd_flags = close_on_exec ? O_CLOEXEC : 0,
	};

	int remote = ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &injected);
	if (remote < 0 && errno == EINVAL && !in_two_steps) {
		in_two_steps = true; /* the kernel does not know the flag, and never will */
		injected.flags = 0;
		remote = ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &injected);
	}
	if (remote < 0)
		return errno;
	if (!in_two_steps)
		return 0;
	struct seccomp_notif_resp response = { .id = id, .val = remote };
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) ? errno : 0;
}

bool fence_answer(int listener)
{
	struct seccomp_notif request;

	memset(&request, 0, sizeof request); /* the kernel insists on zeroes */
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request))
		return errno == ENOENT || errno == EINTR || errno == EAGAIN; /* ENOENT: the caller died meanwhile */

	struct seccomp_notif_resp response = { .id = request.id, .error = -EPERM };
	if (request.data.nr == SYS_socket && request.data.arch == NATIVE_AUDIT_ARCH) {
		int type = (int)request.data.args[1];
		int made = make_socket((int)request.data.args[0], type, (int)request.data.args[2]);
		if (made >= 0) {
			int error = inject(listener, request.id, made, type & SOCK_CLOEXEC);
			close(made);
			if (!error || error == ENOENT)
				return true;
			response.error = -error; /* EMFILE of the workload, mostly */
		} else {
			response.error = made;
		}
	}
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response); /* ENOENT: the caller died; nobody to tell */
	return true;
}

static bool accept_registration(void)
{
	char text[32];
	int received[MAX_DESCRIPTORS];
	size_t count;
	ssize_t size = receive_descriptors(registrations, text, sizeof text, received, &count);

	if (size < 0)
		return false;
	if (size == 0) {
		registrations = -1; /* poll(2) skips it from now on */
		return false;
	}
	if (relay_take(text, (size_t)size, received, count)) {
		bool anchored = !registered_before && relay_anchor() >= 0;
		registered_before |= anchored;
		return anchored;
	}
	bool valid = size == 5 && !memcmp(text, "fence", 5) && count == 2;
	bool taken = valid && listener_count < FENCE_MAX_LISTENERS;
	if (taken) {
		listeners[listener_count++] = received[0];
		/* Linux 6.6: the caller and we take turns on one CPU instead of waking each other across two. */
		(void)ioctl(received[0], SECCOMP_IOCTL_NOTIF_SET_FLAGS_, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP_);
	}
	if (count >= 2) {
		ssize_t told = send(received[1], taken ? "y" : "n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)told; /* a shim that has gone fails by itself */
	}
	for (size_t i = taken ? 1 : 0; i < count; i++)
		close(received[i]);
	bool first = taken && !registered_before;
	registered_before |= taken;
	return first;
}

bool fence_serve(const struct pollfd *polled, int count)
{
	bool first = false;

	/* Backwards, so that removing one does not move those that are still to be served. */
	for (int i = count - 1; i >= 1; i--) {
		bool alive = true;
		if (polled[i].revents & POLLIN)
			alive = fence_answer(polled[i].fd);
		else if (polled[i].revents & (POLLHUP | POLLERR | POLLNVAL))
			alive = false;
		if (!alive) {
			close(listeners[i - 1]);
			listeners[i - 1] = listeners[--listener_count];
		}
	}
	if (polled[0].revents)
		first = accept_registration();
	return first;
}
