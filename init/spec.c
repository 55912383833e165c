#include "spec.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static bool parse_long(const char *text, long low, long high, long *value)
{
	char *end;

	if (*text != '-' && (*text < '0' || *text > '9'))
		return false;
	errno = 0;
	long parsed = strtol(text, &end, 10);
	if (errno || *end || parsed < low || parsed > high)
		return false;
	*value = parsed;
	return true;
}

static const char *add_path(const char *paths[], size_t *count, const char *value)
{
	if (*value != '/')
		return "a path is not absolute";
	if (*count == SPEC_MAX_PATHS)
		return "too many paths";
	paths[(*count)++] = value;
	return NULL;
}

static const char *add_number(const char *word, const char *value, struct spec *spec)
{
	long number;

	if (!strcmp(word, "uid") || !strcmp(word, "gid") || !strcmp(word, "group")) {
		/* 2^32-1 is "leave unchanged" to setresuid(2), so it is never an identity. */
		if (!parse_long(value, 1, (long)UINT_MAX - 1, &number))
			return "an id is not between 1 and 4294967294";
		if (word[0] == 'u') {
			spec->has_uid = true;
			spec->uid = (uid_t)number;
		} else if (!strcmp(word, "gid")) {
			spec->has_gid = true;
			spec->gid = (gid_t)number;
		} else {
			if (spec->group_count == SPEC_MAX_GROUPS)
				return "too many groups";
			spec->groups[spec->group_count++] = (gid_t)number;
		}
		return NULL;
	}
	if (!strcmp(word, "protect")) {
		if (!parse_long(value, 1, INT_MAX, &number))
			return "a protected pid is not a positive number";
		if (spec->protected_count == SPEC_MAX_PROTECTED)
			return "too many protected pids";
		spec->protected_pids[spec->protected_count++] = (pid_t)number;
		return NULL;
	}
	if (!strcmp(word, "nofile") || !strcmp(word, "nproc")) {
		if (!parse_long(value, 1, 1 << 30, &number))
			return "a limit is not between 1 and 2^30";
		*(word[1] == 'o' ? &spec->nofile : &spec->nproc) = number;
		return NULL;
	}
	if (!strcmp(word, "oom-score-adj")) {
		if (!parse_long(value, 0, 1000, &spec->oom_score_adj))
			return "oom-score-adj is not between 0 and 1000";
		return NULL;
	}
	if (!strcmp(word, "landlock-abi-max")) {
		if (!parse_long(value, 1, 1000, &number))
			return "landlock-abi-max is not between 1 and 1000";
		spec->landlock_abi_max = (int)number;
		return NULL;
	}
	return "a record has an unknown word";
}

static const char *add_record(const char *word, char *value, struct spec *spec)
{
	if (!strcmp(word, "arg")) {
		if (spec->argc == SPEC_MAX_ARGS)
			return "too many arguments";
		spec->argv[spec->argc++] = value;
		return NULL;
	}
	if (!strcmp(word, "env")) {
		if (spec->envc == SPEC_MAX_ENV)
			return "too many variables";
		if (*value == '=' || !strchr(value, '='))
			return "a variable has no name or no value";
		spec->env[spec->envc++] = value;
		return NULL;
	}
	if (!strcmp(word, "read-only"))
		return add_path(spec->read_only, &spec->read_only_count, value);
	if (!strcmp(word, "read-write"))
		return add_path(spec->read_write, &spec->read_write_count, value);
	if (!strcmp(word, "cwd")) {
		spec->cwd = value;
		return *value == '/' ? NULL : "the working directory is not absolute";
	}
	if (!strcmp(word, "landlock")) {
		if (!strcmp(value, "off"))
			spec->landlock = LANDLOCK_OFF;
		else if (!strcmp(value, "best_effort"))
			spec->landlock = LANDLOCK_BEST_EFFORT;
		else if (!strcmp(value, "hard_requirement"))
			spec->landlock = LANDLOCK_HARD_REQUIREMENT;
		else
			return "landlock is not off, best_effort or hard_requirement";
		return NULL;
	}
	if (!strcmp(word, "fence")) {
		if (strcmp(value, "socket"))
			return "fence is not socket";
		spec->fence = FENCE_SOCKET;
		return NULL;
	}
	return add_number(word, value, spec);
}

const char *spec_parse(char *text, size_t size, struct spec *spec, bool *complete)
{
	*complete = false;
	*spec = (struct spec){ .landlock = LANDLOCK_HARD_REQUIREMENT, .nofile = -1, .nproc = -1, .oom_score_adj = -1 };

	for (char *record = text, *stop = text + size; record < stop;) {
		char *end = memchr(record, 0, (size_t)(stop - record));
		if (!end)
			return NULL; /* the rest of this record has not arrived */
		if (!strcmp(record, "end")) {
			if (end + 1 != stop)
				return "something follows the end of the spec";
			/* Fail closed: a spec that forgets the fence is an error, not a workload without one. */
			if (spec->fence == FENCE_UNSET)
				return "the spec names no fence";
			if (!spec->argc || !*spec->argv[0])
				return "the spec names no program";
			*complete = true;
			return NULL;
		}
		char *space = strchr(record, ' ');
		if (!space)
			return "a record has no value";
		*space = 0;
		const char *wrong = add_record(record, space + 1, spec);
		*space = ' '; /* the text may be parsed again when more of it has arrived */
		if (wrong)
			return wrong;
		record = end + 1;
	}
	return NULL;
}
