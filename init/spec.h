/*
 * The specification that the supervisor hands to `openshell-sandbox exec`: a sequence of
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
	SPEC_MAX_PROTECTED = 64,
	SPEC_MAX_GROUPS = 64,
};

enum landlock_mode { LANDLOCK_OFF, LANDLOCK_BEST_EFFORT, LANDLOCK_HARD_REQUIREMENT };
enum fence_mode { FENCE_UNSET, FENCE_SOCKET };

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
};

/*
 * Parses `size` bytes at `text` in place: the spec points into it. Returns NULL when the whole is a
 * valid spec, else a sentence that says what is wrong. `*complete` is false when nothing is wrong but
 * the "end" record has not come yet.
 */
const char *spec_parse(char *text, size_t size, struct spec *spec, bool *complete);

#endif
