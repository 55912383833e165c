#include "pty.h"
#include "control.h"
#include "hidden.h"
#include "pty_command.h"
#include "pty_modes.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DESERTED_MS = 200, LOCKED_MS = 5000 };

/* Bytes on their way: what stands between `from` and `to` has been read and not yet written. */
struct stream {
	size_t from, to;
	char bytes[64 * 1024];
};

static struct stream typed, printed;
static int master = -1;
static bool running, draining, typing = true;
static bool deserted; /* nobody holds the other end */
static int locked_for; /* milliseconds that the other end stays locked at most; 0: it is not */

static bool is_empty(const struct stream *stream)
{
	return stream->from == stream->to;
}

static bool would_wait(ssize_t result)
{
	return result < 0 && (errno == EAGAIN || errno == EINTR);
}

/* Reads into an empty stream. Returns false at the end, or when there is nothing to read from any more. */
static bool fill(struct stream *stream, int fd)
{
	ssize_t got = read(fd, stream->bytes, sizeof stream->bytes);

	if (would_wait(got))
		return true;
	stream->from = 0;
	stream->to = got > 0 ? (size_t)got : 0;
	return got > 0;
}

/* Writes what it can. Returns false when nobody will ever take it. */
static bool empty(struct stream *stream, int fd)
{
	ssize_t put = write(fd, stream->bytes + stream->from, stream->to - stream->from);

	if (would_wait(put))
		return true;
	if (put < 0)
		return false;
	stream->from += (size_t)put;
	return true;
}

static void set_mode(const struct pty_command *command)
{
	struct termios modes;

	/* A mode that cannot be set is one that the terminal goes without, as RFC 4254 has it. */
	if (!tcgetattr(master, &modes) && pty_mode_set(&modes, command->mode, command->mode_size, command->value))
		(void)tcsetattr(master, TCSANOW, &modes);
}

static void set_lock(int lock)
{
	if (ioctl(master, TIOCSPTLCK, &lock))
		control_fail(EXIT_INTERNAL, "the terminal cannot be %slocked: %s", lock ? "" : "un", errno_name(errno));
}

static void say_name(void)
{
	unsigned number;

	if (ioctl(master, TIOCGPTN, &number))
		control_fail(EXIT_INTERNAL, "the terminal has no name: %s", errno_name(errno));
	control_say("pts %u", number);
}

/*
 * A leader of a session without a terminal gets the one that it opens first (tty_ioctl(4), drivers/tty/tty_jobctrl.c),
 * and with our user id any process may open this one. So it stays locked until the session has it; the shim waits
 * for that before it begins (session.c). Where the kernel does not tell (gVisor) nothing is locked for long.
 */
static void unlock_when_taken(void)
{
	pid_t session;

	if (!ioctl(master, TIOCGSID, &session) || --locked_for == 0) {
		set_lock(0);
		locked_for = 0;
	}
}

static void obey(const char *line, size_t size)
{
	struct pty_command command;

	switch (pty_command_parse(line, size, &command)) {
	case PTY_WRONG:
		control_fail(EXIT_INTERNAL, "the supervisor sent a terminal a command that it does not know");
	case PTY_SIZE:
		if (master >= 0 && ioctl(master, TIOCSWINSZ, &command.size))
			control_say("warn the window size cannot be set: %s", errno_name(errno));
		break;
	case PTY_MODE:
		set_mode(&command);
		break;
	case PTY_NAME:
		say_name();
		break;
	case PTY_LOCK:
		set_lock(1);
		locked_for = LOCKED_MS;
		break;
	case PTY_RUN:
		running = true;
		break;
	case PTY_DRAIN:
		draining = true;
		break;
	}
}

/* Serves the commands that have arrived. Returns false when the supervisor has hung up. */
static bool serve_control(void)
{
	static char text[PTY_LINE_MAX];
	static size_t used;
	char *newline;

	ssize_t got = recv(CONTROL_FD, text + used, sizeof text - used, MSG_DONTWAIT);
	if (would_wait(got))
		return true;
	if (got <= 0)
		return false;
	used += (size_t)got;
	while ((newline = memchr(text, '\n', used))) {
		size_t size = (size_t)(newline - text);
		obey(text, size);
		used -= size + 1;
		memmove(text, newline + 1, used);
	}
	if (used == sizeof text)
		control_fail(EXIT_INTERNAL, "the supervisor sent a terminal a line that is too long");
	return true;
}

/* Closing the master is the hang-up: the kernel sends SIGHUP to the session (tty_ioctl(4)). */
static void hang_up(void)
{
	if (master >= 0)
		close(master);
	master = -1;
}

/*
 * Whether nobody holds the other end, and what was printed has been read. A program may close its terminal and open
 * it again later; the kernel takes the hang-up back then (drivers/tty/pty.c, pty_open), and wakes nobody for it.
 */
static bool is_deserted(void)
{
	struct pollfd polled = { master, POLLIN, 0 };

	return poll(&polled, 1, 0) > 0 && (polled.revents & (POLLIN | POLLHUP)) == POLLHUP;
}

/* How long there may be nothing to do, in milliseconds: what the kernel wakes nobody for is looked at again. */
static int patience(void)
{
	if (master < 0)
		return -1;
	return locked_for ? 1 : deserted && running ? DESERTED_MS : -1;
}

/*
 * Copies until the session and its output have ended. A descriptor that we want nothing of is left out of the
 * poll: what has hung up would otherwise wake us for ever.
 */
static int pump(void)
{
	enum { CONTROL, TERMINAL, INPUT, OUTPUT, COUNT };

	for (;;) {
		if (locked_for && master >= 0)
			unlock_when_taken();
		if (deserted && master >= 0 && !is_deserted()) {
			deserted = false;
			typing = true;
		}
		bool flows = running && master >= 0 && !deserted;
		bool reads = flows && is_empty(&printed), writes = flows && !is_empty(&typed);
		bool drained = draining && is_empty(&printed);
		struct pollfd polled[COUNT] = {
			[CONTROL] = { CONTROL_FD, POLLIN, 0 },
			[TERMINAL] = { reads || writes ? master : -1, (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)), 0 },
			[INPUT] = { flows && typing && is_empty(&typed) ? STDIN_FILENO : -1, POLLIN, 0 },
			[OUTPUT] = { STDOUT_FILENO, is_empty(&printed) ? 0 : POLLOUT, 0 },
		};

		if (master < 0 && is_empty(&printed))
			return 0;
		if (poll(polled, COUNT, drained ? 0 : patience()) < 0) {
			if (errno == EINTR)
				continue;
			return EXIT_INTERNAL;
		}
		if (polled[CONTROL].revents && !serve_control())
			return 0; /* and our end is the terminal's */
		/* The kernel hands over what was written before it answers a poll, so now there is no more. */
		if (drained && !(polled[TERMINAL].revents & POLLIN))
			hang_up();
		/* Programs close their descriptors before they exit: a hang-up now would kill them on their last step. */
		if (reads && master >= 0 && polled[TERMINAL].revents & (POLLIN | POLLHUP | POLLERR) && !fill(&printed, master))
			deserted = true;
		if (writes && master >= 0 && polled[TERMINAL].revents & (POLLOUT | POLLHUP | POLLERR) && !empty(&typed, master)) {
			typed.from = typed.to; /* nobody is there to read it; what was printed may still lie there */
			typing = false;
		}
		if (polled[INPUT].revents)
			typing = fill(&typed, STDIN_FILENO); /* its end is no hang-up: a program may go on */
		if (polled[OUTPUT].revents & (POLLHUP | POLLERR))
			return 0;
		if (polled[OUTPUT].revents & POLLOUT && !empty(&printed, STDOUT_FILENO))
			return 0;
	}
}

static unsigned long identity(const char *text)
{
	char *end;

	errno = 0;
	unsigned long id = strtoul(text, &end, 10);
	if (errno || *end || *text < '1' || *text > '9' || id > 4294967294UL)
		control_fail(EXIT_INTERNAL, "an id of the terminal is not between 1 and 4294967294");
	return id;
}

/* The terminal belongs to who opens it, and nothing here needs more than the workload's own rights. */
static void become(uid_t uid, gid_t gid)
{
	if (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
		control_fail(EXIT_INTERNAL, "the holder of a terminal cannot become user %u: %s", uid, errno_name(errno));
	if (setuid(0) == 0 || geteuid() != uid)
		control_fail(EXIT_INTERNAL, "the user id of a terminal's holder could be changed back");
}

static void open_terminal(void)
{
	static const char *const places[] = { "/dev/ptmx", "/dev/pts/ptmx" };

	for (size_t i = 0; i < 2 && master < 0; i++)
		master = open(places[i], O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (master < 0)
		control_fail(EXIT_INTERNAL, "this container has no terminals: /dev/ptmx cannot be opened (%s); mount a devpts at /dev/pts",
			     errno_name(errno));
	set_lock(0);
	say_name();
}

int pty_main(int argc, char *argv[])
{
	if (fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC) || (argc != 0 && argc != 2)) {
		report("pty is for the supervisor: descriptor %d is not its control socket", CONTROL_FD);
		return EXIT_USAGE_ERROR;
	}
	signal(SIGPIPE, SIG_IGN);
	setsid(); /* the signals of a person's terminal are not for us */
	if (argc == 2)
		become((uid_t)identity(argv[0]), (gid_t)identity(argv[1]));
	/* After the ids: changing them makes us dumpable or not as the system is set up. */
	hide();
	for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++)
		if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK))
			control_fail(EXIT_INTERNAL, "cannot prepare the pipes of a terminal: %s", errno_name(errno));
	open_terminal();
	return pump();
}
