/*
 * The specification that the supervisor hands to `exec`, `join` and `anchor`: a sequence of
 * NUL-terminated records, each "word value", that ends with the record "end". Values are taken as
 * they are, so a newline or a quote in an argument or a variable needs no escaping.
 */
#ifndef OPENSHELL_SPEC_H
#define OPENSHELL_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum {
	SPEC_MAX_BYTES = 4 << 20,
	SPEC_MAX_ARGS = 4096,
	SPEC_MAX_ENV = 8192,
	SPEC_MAX_PATHS = 512, /* 256 of the policy (contract.md, 7.2) and the baseline */
	SPEC_MAX_PROTECTED = 128,
	SPEC_MAX_GROUPS = 64,
	SPEC_MAX_PORTS = 64,
	SPEC_MAX_SECRETS = 64,
	SPEC_MAX_HIDDEN = 64,
};

enum landlock_mode { LANDLOCK_OFF, LANDLOCK_BEST_EFFORT, LANDLOCK_HARD_REQUIREMENT };
enum fence_mode { FENCE_UNSET, FENCE_SOCKET, FENCE_NAMESPACE };
enum spec_purpose {
	SPEC_SESSION, /* a process to confine: needs a fence and a program */
	SPEC_ANCHOR,  /* the namespaces that sessions share: needs a network namespace */
};

struct spec {
	char *cwd;
	char *argv[SPEC_MAX_ARGS + 1];
	size_t argc;
	char *env[SPEC_MAX_ENV + 1];
	size_t envc;
	const char *read_only[SPEC_MAX_PATHS];
	size_t read_only_count;
	const char *read_write[SPEC_MAX_PATHS];
	size_t read_write_count;
	enum landlock_mode landlock;
	int landlock_abi_max; /* 0: whatever the kernel has */
	unsigned short connect_ports[SPEC_MAX_PORTS]; /* none: TCP connections are not narrowed */
	size_t connect_port_count;
	const char *secrets[SPEC_MAX_SECRETS]; /* of the supervisor: no rule may reach them */
	size_t secret_count;
	enum fence_mode fence;
	pid_t protected_pids[SPEC_MAX_PROTECTED];
	size_t protected_count;
	long nofile, nproc; /* -1: leave as inherited */
	long oom_score_adj; /* -1: leave as inherited */
	bool has_uid, has_gid;
	uid_t uid;
	gid_t gid;
	gid_t groups[SPEC_MAX_GROUPS];
	size_t group_count;
	bool terminal; /* its stdin is a terminal, to be its controlling one */
	bool sftp;     /* serve files (sftp.h) instead of executing a program */
	bool changes_tolerated; /* warn, and do not fail, where the workload has changed the policy's paths or the cwd since its start */
	bool signals_unscoped; /* no signal scope of Landlock: the filter's protected pids alone */
	/* Of an anchor: */
	unsigned namespaces;	  /* CLONE_NEW* */
	bool private_view;	  /* a root of its own that holds only read_only and read_write */
	const char *nameserver;	  /* what its own resolv.conf names; NULL leaves the image's */
	const char *hidden[SPEC_MAX_HIDDEN];
	size_t hidden_count;
};

/*
 * Parses `size` bytes at `text` in place: the spec points into it. Returns NULL when the whole is a
 * valid spec, else a sentence that says what is wrong. `*complete` is false when nothing is wrong but
 * the "end" record has not come yet.
 */
const char *spec_parse(char *text, size_t size, enum spec_purpose purpose, struct spec *spec, bool *complete);

#endif
