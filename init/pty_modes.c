#include "pty_modes.h"

#include <string.h>
#include <unistd.h>

enum kind { CHARACTER, INPUT, OUTPUT, CONTROL, LOCAL, BYTE_SIZE, SPEED_IN, SPEED_OUT };

static const struct { const char *name; enum kind kind; unsigned value; } known[] = {
	{ "VINTR", CHARACTER, VINTR },	   { "VQUIT", CHARACTER, VQUIT },     { "VERASE", CHARACTER, VERASE },
	{ "VKILL", CHARACTER, VKILL },	   { "VEOF", CHARACTER, VEOF },	      { "VEOL", CHARACTER, VEOL },
	{ "VEOL2", CHARACTER, VEOL2 },	   { "VSTART", CHARACTER, VSTART },   { "VSTOP", CHARACTER, VSTOP },
	{ "VSUSP", CHARACTER, VSUSP },	   { "VREPRINT", CHARACTER, VREPRINT }, { "VWERASE", CHARACTER, VWERASE },
	{ "VLNEXT", CHARACTER, VLNEXT },   { "VDISCARD", CHARACTER, VDISCARD },
	{ "IGNPAR", INPUT, IGNPAR },	   { "PARMRK", INPUT, PARMRK },	      { "INPCK", INPUT, INPCK },
	{ "ISTRIP", INPUT, ISTRIP },	   { "INLCR", INPUT, INLCR },	      { "IGNCR", INPUT, IGNCR },
	{ "ICRNL", INPUT, ICRNL },	   { "IUCLC", INPUT, IUCLC },	      { "IXON", INPUT, IXON },
	{ "IXANY", INPUT, IXANY },	   { "IXOFF", INPUT, IXOFF },	      { "IMAXBEL", INPUT, IMAXBEL },
	{ "IUTF8", INPUT, IUTF8 },
	{ "ISIG", LOCAL, ISIG },	   { "ICANON", LOCAL, ICANON },	      { "XCASE", LOCAL, XCASE },
	{ "ECHO", LOCAL, ECHO },	   { "ECHOE", LOCAL, ECHOE },	      { "ECHOK", LOCAL, ECHOK },
	{ "ECHONL", LOCAL, ECHONL },	   { "NOFLSH", LOCAL, NOFLSH },	      { "TOSTOP", LOCAL, TOSTOP },
	{ "IEXTEN", LOCAL, IEXTEN },	   { "ECHOCTL", LOCAL, ECHOCTL },     { "ECHOKE", LOCAL, ECHOKE },
	{ "PENDIN", LOCAL, PENDIN },
	{ "OPOST", OUTPUT, OPOST },	   { "OLCUC", OUTPUT, OLCUC },	      { "ONLCR", OUTPUT, ONLCR },
	{ "OCRNL", OUTPUT, OCRNL },	   { "ONOCR", OUTPUT, ONOCR },	      { "ONLRET", OUTPUT, ONLRET },
	{ "CS7", BYTE_SIZE, CS7 },	   { "CS8", BYTE_SIZE, CS8 },	      { "PARENB", CONTROL, PARENB },
	{ "PARODD", CONTROL, PARODD },	   { "TTY_OP_ISPEED", SPEED_IN, 0 },  { "TTY_OP_OSPEED", SPEED_OUT, 0 },
};

static void set_flag(tcflag_t *flags, unsigned bits, unsigned value)
{
	*flags = value ? *flags | bits : *flags & ~bits;
}

/* A speed means nothing to a pseudo terminal, but programs ask for it to choose how much they draw. */
static speed_t speed_of(unsigned bits_a_second)
{
	static const struct { unsigned number; speed_t speed; } speeds[] = {
		{ 9600, B9600 }, { 19200, B19200 }, { 38400, B38400 }, { 57600, B57600 }, { 115200, B115200 }, { 230400, B230400 },
	};

	for (size_t i = 0; i < sizeof speeds / sizeof *speeds; i++)
		if (speeds[i].number == bits_a_second)
			return speeds[i].speed;
	return B38400;
}

bool pty_mode_set(struct termios *modes, const char *name, size_t size, unsigned value)
{
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (strlen(known[i].name) != size || memcmp(known[i].name, name, size))
			continue;
		switch (known[i].kind) {
		case CHARACTER: /* 255 is "none" in the protocol, and 0 in the kernel */
			modes->c_cc[known[i].value] = value >= 255 ? _POSIX_VDISABLE : (cc_t)value;
			break;
		case INPUT:
			set_flag(&modes->c_iflag, known[i].value, value);
			break;
		case OUTPUT:
			set_flag(&modes->c_oflag, known[i].value, value);
			break;
		case CONTROL:
			set_flag(&modes->c_cflag, known[i].value, value);
			break;
		case LOCAL:
			set_flag(&modes->c_lflag, known[i].value, value);
			break;
		case BYTE_SIZE:
			if (value)
				modes->c_cflag = (modes->c_cflag & ~(tcflag_t)CSIZE) | known[i].value;
			break;
		case SPEED_IN:
			cfsetispeed(modes, speed_of(value));
			break;
		case SPEED_OUT:
			cfsetospeed(modes, speed_of(value));
			break;
		}
		return true;
	}
	return false;
}
