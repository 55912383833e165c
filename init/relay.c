#include "relay.h"
#include "messages.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int anchor = -1;

int relay_anchor(void)
{
	return anchor;
}

bool relay_take(const char *text, size_t size, const int *descriptors, size_t count)
{
	bool is_anchor = size == 6 && !memcmp(text, "anchor", 6) && count == 1;
	bool is_session = size > 8 && !memcmp(text, "session ", 8) && count == 5;

	if (!is_anchor && !is_session)
		return false;
	if (is_anchor && anchor < 0) {
		anchor = descriptors[0];
		fcntl(anchor, F_SETFL, O_NONBLOCK); /* PID 1 waits for nobody */
		return true;
	}
	/* When the anchor's queue is full the session fails, as it does without an anchor: its sockets close. */
	if (is_session && anchor >= 0)
		(void)send_descriptors(anchor, text, size, descriptors, count);
	for (size_t i = 0; i < count; i++)
		close(descriptors[i]);
	return true;
}
