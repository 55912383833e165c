#ifndef OPENSHELL_COPY_SELF_H
#define OPENSHELL_COPY_SELF_H

/*
 * `openshell-sandbox copy-self DEST`: copies this binary, with its siblings when it has them, so that
 * an init container can deliver them. DEST is a directory (made with its parents when missing), or,
 * for the single-file form, also a file name. Returns the exit code.
 */
int copy_self_main(const char *destination);

#endif
