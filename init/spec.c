#include "spec.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
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

static const char *add_namespace(const char *value, struct spec *spec)
{
	static const struct { const char *name; unsigned flag; } known[] = {
		{ "user", CLONE_NEWUSER }, { "network", CLONE_NEWNET }, { "mount", CLONE_NEWNS },
		{ "ipc", CLONE_NEWIPC },   { "pid", CLONE_NEWPID },
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(value, known[i].name)) {
			spec->namespaces |= known[i].flag;
			return NULL;
		}
	return "a namespace is not user, network, mount, ipc or pid";
}

/* What only an anchor's spec has. Returns false when the word is none of these. */
static bool add_anchor_record(const char *word, const char *value, struct spec *spec, const char **wrong)
{
	*wrong = NULL;
	if (!strcmp(word, "namespace")) {
		*wrong = add_namespace(value, spec);
	} else if (!strcmp(word, "view")) {
		spec->private_view = true;
		if (strcmp(value, "private"))
			*wrong = "view is not private";
	} else if (!strcmp(word, "nameserver")) {
		spec->nameserver = value;
		/* It is written into a file of lines. */
		if (!*value || strspn(value, "0123456789abcdefABCDEF.:") != strlen(value) || strlen(value) > 45)
			*wrong = "the nameserver is no address";
	} else if (!strcmp(word, "hide")) {
		if (*value != '/')
			*wrong = "a path is not absolute";
		else if (spec->hidden_count == SPEC_MAX_HIDDEN)
			*wrong = "too many hidden paths";
		else
			spec->hidden[spec->hidden_count++] = value;
	} else {
		return false;
	}
	return true;
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
	if (!strcmp(word, "connect-port")) {
		if (!parse_long(value, 1, 65535, &number))
			return "connect-port is not between 1 and 65535";
		if (spec->connect_port_count == SPEC_MAX_PORTS)
			return "too many ports";
		spec->connect_ports[spec->connect_port_count++] = (unsigned short)number;
		return NULL;
	}
	return "a record has an unknown word";
}

static const char *add_record(const char *word, char *value, struct spec *spec)
{
	const char *wrong;

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
	if (!strcmp(word, "secret")) {
		if (*value != '/')
			return "a path is not absolute";
		if (spec->secret_count == SPEC_MAX_SECRETS)
			return "too many secrets";
		spec->secrets[spec->secret_count++] = value;
		return NULL;
	}
	if (!strcmp(word, "cwd")) {
		spec->cwd = value;
		return *value == '/' ? NULL : "the working directory is not absolute";
	}
	if (!strcmp(word, "terminal")) {
		spec->terminal = true;
		return !strcmp(value, "controlling") ? NULL : "terminal is not controlling";
	}
	if (!strcmp(word, "builtin")) {
		spec->sftp = true;
		return !strcmp(value, "sftp") ? NULL : "builtin is not sftp";
	}
	if (!strcmp(word, "signals")) {
		spec->signals_unscoped = true;
		return !strcmp(value, "unscoped") ? NULL : "signals is not unscoped";
	}
	if (!strcmp(word, "changes")) {
		spec->changes_tolerated = true;
		return !strcmp(value, "tolerated") ? NULL : "changes is not tolerated";
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
		if (!strcmp(value, "socket"))
			spec->fence = FENCE_SOCKET;
		else if (!strcmp(value, "namespace"))
			spec->fence = FENCE_NAMESPACE;
		else
			return "fence is not socket or namespace";
		return NULL;
	}
	if (add_anchor_record(word, value, spec, &wrong))
		return wrong;
	return add_number(word, value, spec);
}

/* Fail closed: what a spec forgets is an error, never a default that leaves something open. */
static const char *check_whole(const struct spec *spec, enum spec_purpose purpose)
{
	if (purpose == SPEC_ANCHOR) {
		if (!(spec->namespaces & CLONE_NEWNET))
			return "the spec names no network namespace";
		if (!(spec->namespaces & CLONE_NEWNS) &&
		    (spec->private_view || spec->hidden_count || spec->nameserver || (spec->namespaces & CLONE_NEWPID)))
			return "the spec wants mounts without a mount namespace";
		return NULL;
	}
	if (spec->fence == FENCE_UNSET)
		return "the spec names no fence";
	if (spec->sftp)
		return spec->argc || spec->terminal ? "the file server takes neither arguments nor a terminal" : NULL;
	if (!spec->argc || !*spec->argv[0])
		return "the spec names no program";
	return NULL;
}

const char *spec_parse(char *text, size_t size, enum spec_purpose purpose, struct spec *spec, bool *complete)
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
			const char *missing = check_whole(spec, purpose);
			*complete = !missing;
			return missing;
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
