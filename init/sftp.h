/*
 * The file server of a sandbox, SFTP version 3 on standard input and output. It is no program of the image, and
 * needs none: the shim confines itself as for any other session, and serves instead of executing. So it can
 * reach what the workload can reach, whatever paths, links or races a client or the workload thinks of.
 */
#ifndef OPENSHELL_SFTP_H
#define OPENSHELL_SFTP_H

/* Serves until the client has gone; returns the exit code. `home` is what "~" stands for, or NULL. */
int sftp_serve(const char *home);

#endif
