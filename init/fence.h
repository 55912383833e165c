/*
 * The socket fence: PID 1 makes every internet socket of the workload itself, bound to the loopback
 * device, and injects it. The kernel keeps such a socket on loopback from then on (SO_BINDTODEVICE
 * cannot be undone without CAP_NET_RAW), so no later check can be raced.
 */
#ifndef OPENSHELL_FENCE_H
#define OPENSHELL_FENCE_H

#include <poll.h>
#include <stdbool.h>

enum { FENCE_MAX_LISTENERS = 256 }; /* one a session; the next one is refused and its exec fails */

/*
 * Shim side: sends the notification's descriptor to PID 1 over `fence` and waits until it is being
 * served, at most 5 s. Returns 0 or an errno.
 */
int fence_register(int fence, int listener);

/* Broker side. The state is static: PID 1 has one broker. `fence` is the socket that shims write to. */
void fence_start(int fence);

/* Adds the broker's descriptors to `polled` (room for FENCE_MAX_LISTENERS + 1); returns how many. */
int fence_poll_set(struct pollfd *polled);

/* Serves what poll(2) found. Returns true when a workload was registered for the first time. */
bool fence_serve(const struct pollfd *polled, int count);

/* Serves one notification of `listener`. Returns false when nobody is left behind it. */
bool fence_answer(int listener);

#endif
