#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void report(const char *format, ...)
{
	static const char prefix[] = "openshell-sandbox: ";
	char line[1024];
	va_list arguments;
	size_t used = sizeof prefix - 1;

	memcpy(line, prefix, used);
	va_start(arguments, format);
	int wanted = vsnprintf(line + used, sizeof line - used - 1, format, arguments);
	va_end(arguments);
	if (wanted > 0) {
		size_t room = sizeof line - used - 2;
		used += (size_t)wanted < room ? (size_t)wanted : room;
	}
	line[used++] = '\n';
	ssize_t written = write(STDERR_FILENO, line, used);
	(void)written; /* with stderr gone there is nobody left to tell */
}

const char *errno_name(int number)
{
	switch (number) {
	case 0: return "0";
	case EPERM: return "EPERM";
	case ENOENT: return "ENOENT";
	case EINTR: return "EINTR";
	case EIO: return "EIO";
	case E2BIG: return "E2BIG";
	case EBADF: return "EBADF";
	case EAGAIN: return "EAGAIN";
	case ENOMEM: return "ENOMEM";
	case EACCES: return "EACCES";
	case EFAULT: return "EFAULT";
	case EBUSY: return "EBUSY";
	case EEXIST: return "EEXIST";
	case ENODEV: return "ENODEV";
	case ENOTDIR: return "ENOTDIR";
	case EINVAL: return "EINVAL";
	case ENFILE: return "ENFILE";
	case EMFILE: return "EMFILE";
	case ENOSPC: return "ENOSPC";
	case EROFS: return "EROFS";
	case ENOSYS: return "ENOSYS";
	case ELOOP: return "ELOOP";
	case EUSERS: return "EUSERS";
	case EOPNOTSUPP: return "EOPNOTSUPP";
	case EPROTONOSUPPORT: return "EPROTONOSUPPORT";
	case EAFNOSUPPORT: return "EAFNOSUPPORT";
	case ETIMEDOUT: return "ETIMEDOUT";
	case ENETUNREACH: return "ENETUNREACH";
	case ENOEXEC: return "ENOEXEC";
	case ENAMETOOLONG: return "ENAMETOOLONG";
	case ETXTBSY: return "ETXTBSY";
	case ESRCH: return "ESRCH";
	case ENOTTY: return "ENOTTY";
	case ENXIO: return "ENXIO";
	case EXDEV: return "EXDEV";
	case EPIPE: return "EPIPE";
	case EDQUOT: return "EDQUOT";
	case EFBIG: return "EFBIG";
	case ECONNREFUSED: return "ECONNREFUSED";
	case ECONNRESET: return "ECONNRESET";
	case EADDRINUSE: return "EADDRINUSE";
	case EADDRNOTAVAIL: return "EADDRNOTAVAIL";
	case EHOSTUNREACH: return "EHOSTUNREACH";
	default: return "E?";
	}
}
