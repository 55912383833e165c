/*
 * Takes over processes of its own user id, as a workload would that wants what is not confined yet.
 *   hunter at PID [FILE]         tries every way to get at one process; of FILE, only while it executes that
 *   hunter hold PROGRAM WORD...  executes a program of ours, with nobody at the other end of its way to PID 1
 *   hunter spin FILE...          waits for processes that execute one of these, and takes them as soon as they are there
 * "METHOD taken|ERRNO" for each way of `at`; `spin` says "spinning", then "taken METHOD PID FILE" for each process,
 * and when it is told to end "tries N": how often it was refused a process that had just come.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIGNATURE = 32, MAX_TARGETS = 4 };
static struct { const char *file; unsigned long entry; char code[SIGNATURE]; } targets[MAX_TARGETS];
static int target_count;
static const char *recognized; /* the file of who was taken last */

/* The code at the entry point of a static binary that is not position-independent tells whose memory one holds. */
static void learn(const char *file)
{
	if (target_count == MAX_TARGETS)
		exit(2);
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	int fd = open(file, O_RDONLY);

	if (fd < 0 || pread(fd, &header, sizeof header, 0) != sizeof header)
		exit(2);
	for (int i = 0; i < header.e_phnum; i++) {
		off_t at = (off_t)(header.e_phoff + (unsigned)i * sizeof segment);
		if (pread(fd, &segment, sizeof segment, at) != sizeof segment)
			exit(2);
		if (segment.p_type == PT_LOAD && header.e_entry >= segment.p_vaddr &&
		    header.e_entry < segment.p_vaddr + segment.p_filesz &&
		    pread(fd, targets[target_count].code, SIGNATURE,
			  (off_t)(segment.p_offset + header.e_entry - segment.p_vaddr)) == SIGNATURE)
			targets[target_count].entry = header.e_entry;
	}
	close(fd);
	if (!targets[target_count].entry)
		exit(2);
	targets[target_count++].file = file;
}

/* Whether the memory that `read_code` reads is that of what is looked for; anything is, when nothing is. */
static int recognize(int (*read_code)(unsigned long at, char code[SIGNATURE], void *of), void *of)
{
	char code[SIGNATURE];

	recognized = "";
	for (int i = 0; i < target_count; i++)
		if (read_code(targets[i].entry, code, of) && !memcmp(code, targets[i].code, SIGNATURE)) {
			recognized = targets[i].file;
			return 1;
		}
	return !target_count;
}

static int read_memory(unsigned long at, char code[SIGNATURE], void *of)
{
	/* What it was opened for it stays good for: it writes even where nothing else may. */
	return pread(*(int *)of, code, SIGNATURE, (off_t)at) == SIGNATURE && pwrite(*(int *)of, code, SIGNATURE, (off_t)at) == SIGNATURE;
}

static int read_vector(unsigned long at, char code[SIGNATURE], void *of)
{
	struct iovec here = { code, SIGNATURE }, there = { (void *)at, SIGNATURE };

	if (process_vm_readv(*(pid_t *)of, &here, 1, &there, 1, 0) != SIGNATURE)
		return 0;
	/* The same check, whatever the page allows. */
	return process_vm_writev(*(pid_t *)of, &here, 1, &there, 1, 0) == SIGNATURE || errno == EFAULT;
}

static int read_traced(unsigned long at, char code[SIGNATURE], void *of)
{
	for (size_t i = 0; i < SIGNATURE; i += sizeof(long)) {
		long word = ptrace(PTRACE_PEEKTEXT, *(pid_t *)of, (void *)(at + i), NULL);
		memcpy(code + i, &word, sizeof word);
	}
	return 1;
}

/* Each returns 0 when it has got at the process, and the process executes what is looked for; else an errno. */
static int by_memory(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	int memory = open(path, O_RDWR);
	if (memory < 0)
		return errno;
	int found = recognize(read_memory, &memory);
	close(memory);
	return found ? 0 : ESRCH;
}

static int by_vector(pid_t pid)
{
	char byte;
	struct iovec here = { &byte, 1 }, there = { NULL, 1 };

	/* EFAULT: it was let in, and nothing lies at 0. */
	if (process_vm_readv(pid, &here, 1, &there, 1, 0) < 0 && errno != EFAULT)
		return errno;
	return recognize(read_vector, &pid) ? 0 : ESRCH;
}

static int by_tracing(pid_t pid)
{
	int status;

	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL))
		return errno;
	int found = !target_count;
	if (!ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) && waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
		found = recognize(read_traced, &pid);
		ptrace(PTRACE_DETACH, pid, NULL, NULL);
	}
	return found ? 0 : ESRCH;
}

static int by_descriptor(pid_t pid)
{
	int handle = (int)syscall(SYS_pidfd_open, pid, 0);
	if (handle < 0)
		return errno;
	int taken = (int)syscall(SYS_pidfd_getfd, handle, 0, 0);
	int error = taken < 0 ? errno : 0;
	close(handle);
	if (taken >= 0)
		close(taken);
	if (error)
		return error;
	return recognize(read_vector, &pid) ? 0 : ESRCH;
}

static const struct { const char *name; int (*try)(pid_t pid); } methods[] = {
	{ "memory", by_memory }, { "vector", by_vector }, { "tracing", by_tracing }, { "descriptor", by_descriptor },
};
enum { METHODS = sizeof methods / sizeof *methods };

static volatile sig_atomic_t stopped;
static void stop(int number)
{
	(void)number;
	stopped = 1;
}

static int spin(void)
{
	static char taken[1 << 22];
	char text[128];
	long tries = 0;
	int newest = open("/proc/loadavg", O_RDONLY); /* its last word: the newest pid (proc_loadavg(5)) */

	printf("spinning\n");
	while (!stopped) {
		ssize_t got = pread(newest, text, sizeof text - 1, 0);
		if (got <= 0)
			return 2;
		text[got] = 0;
		pid_t last = atoi(strrchr(text, ' '));
		for (pid_t pid = last > 3 ? last - 2 : 2; pid <= last + 1; pid++) {
			if (pid == getpid() || pid >= (pid_t)sizeof taken || taken[pid])
				continue;
			for (int i = 0; i < METHODS; i++) {
				int error = methods[i].try(pid);
				tries += error == EACCES;
				if (error)
					continue;
				taken[pid] = 1;
				printf("taken %s %d %s\n", methods[i].name, pid, recognized);
				break;
			}
		}
	}
	printf("tries %ld\n", tries);
	return 0;
}

/* Starts a program whose descriptor 4 leads to nobody who answers. */
static int hold(char *words[])
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
		return 2;
	pid_t holder = fork();
	if (holder < 0)
		return 2;
	if (!holder) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int fd = 0; fd < 64; fd++)
			if (fd != pair[0])
				close(fd);
		for (;;)
			pause();
	}
	if (dup2(pair[1], 4) < 0)
		return 2;
	execv(words[0], words);
	return 2;
}

int main(int count, char *words[])
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGTERM, stop);
	if (count >= 3 && !strcmp(words[1], "spin")) {
		for (int i = 2; i < count; i++)
			learn(words[i]);
		return spin();
	}
	if (count >= 3 && !strcmp(words[1], "hold"))
		return hold(words + 2);
	if (count < 3 || strcmp(words[1], "at"))
		return 64;
	if (count > 3)
		learn(words[3]);
	for (int i = 0; i < METHODS; i++) {
		int error = methods[i].try((pid_t)atoi(words[2]));
		printf("%s %s\n", methods[i].name, error ? strerrorname_np(error) : "taken");
	}
	return 0;
}
