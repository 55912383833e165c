/* openshell-sandbox: the entrypoint of a sandbox, and the tools that only C can be. */
#include "anchor.h"
#include "copy_self.h"
#include "diag.h"
#include "exec.h"
#include "probe.h"
#include "pty.h"
#include "report.h"
#include "run.h"
#include "sftp.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char *argv[])
{
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
