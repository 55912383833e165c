/* Finds the socket of a TCP connection by netlink (sock_diag(7)): at once, where /proc/net/tcp walks the whole table. */
#ifndef OPENSHELL_DIAG_H
#define OPENSHELL_DIAG_H

/*
 * `openshell-sandbox diag [PID]`: reads lines "CLIENT CLIENT-PORT SERVER SERVER-PORT" from standard input and answers
 * each with the inode of the client's socket, or 0. With a PID it looks in the network of that process.
 * Ends with EXIT_CONFINEMENT where the kernel has no such thing, and when its input ends.
 */
int diag_main(const char *pid);

#endif
