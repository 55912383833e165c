/*
 * PID 1 between shims and the anchor of the namespace fence: it alone has a socket to both, so it passes
 * on what a shim sends.
 */
#ifndef OPENSHELL_RELAY_H
#define OPENSHELL_RELAY_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Takes a message that came over the fence's socket. Returns false when it is not one of ours, else it has
 * dealt with the descriptors:
 *   "anchor" + [socket]        the anchor stands; there can be only one, and the first one counts
 *   "session PID" + [five]     a shim wants a session; without an anchor its descriptors are closed
 */
bool relay_take(const char *text, size_t size, const int *descriptors, size_t count);

/* The socket whose end is the anchor's end, -1 while there is none. */
int relay_anchor(void);

#endif
