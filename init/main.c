/* openshell-sandbox: the entrypoint of a sandbox, and the tools that only C can be. */
#include "anchor.h"
#include "copy_self.h"
#include "diag.h"
#include "exec.h"
#include "hidden.h"
#include "probe.h"
#include "pty.h"
#include "report.h"
#include "run.h"
#include "sftp.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

/* What is started while a workload runs. The anchor is not: the maps of its user namespace must be its own to write. */
static bool starts_beside_workload(const char *word)
{
	return !strcmp(word, "exec") || !strcmp(word, "join") || !strcmp(word, "pty") || !strcmp(word, "diag");
}

int main(int argc, char *argv[])
{
	if (argc == 2 && !strcmp(argv[1], "hidden"))
		return hidden() ? 0 : 1;
	/* The kernel has done that already where it could (shim.h); elsewhere this is as early as we can. */
	if (argc >= 2 && starts_beside_workload(argv[1]))
		hide();
	if (argc >= 2 && !strcmp(argv[1], "exec"))
		return exec_main(argc - 2, argv + 2);
	if (argc >= 2 && !strcmp(argv[1], "join"))
		return join_main(argc - 2, argv + 2);
	if (argc >= 2 && !strcmp(argv[1], "anchor"))
		return anchor_main();
	if ((argc == 2 || argc == 3) && !strcmp(argv[1], "diag"))
		return diag_main(argv[2]);
	if (argc >= 2 && !strcmp(argv[1], "pty"))
		return pty_main(argc - 2, argv + 2);
	if (argc == 2 && !strcmp(argv[1], "sftp"))
		return sftp_serve(getenv("HOME"));
	if (argc >= 2 && !strcmp(argv[1], "probe"))
		return probe_main();
	if (argc >= 2 && !strcmp(argv[1], "copy-self")) {
		if (argc != 3) {
			report("usage: openshell-sandbox copy-self DEST");
			return EXIT_USAGE_ERROR;
		}
		return copy_self_main(argv[2]);
	}
	return run_main(argv + 1, environ);
}
