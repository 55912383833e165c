/* Files as the file server shows them: attributes, and the lines of `ls -l`. */
#ifndef OPENSHELL_SFTP_LISTING_H
#define OPENSHELL_SFTP_LISTING_H

#include "sftp_packet.h"

#include <sys/stat.h>

struct sftp_attributes sftp_attributes_of(const struct stat *stat);

/* One entry of a NAME answer. Without `stat` nothing but the name is known. */
void sftp_put_name(struct sftp_out *out, const char *name, const struct stat *stat);

/* The next entries of a directory. Returns how many there are, 0 at its end, or -1 with errno. */
int sftp_put_entries(struct sftp_out *out, int directory);

#endif
