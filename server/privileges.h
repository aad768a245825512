/* privileges.h - what the process gives up of its own rights.
 *
 * Thread: the main one makes every call, before it starts another, since each thread has
 * capabilities of its own.
 */
#ifndef SERVER_PRIVILEGES_H
#define SERVER_PRIVILEGES_H

#include "config/options.h"

/* BAD_INPUT with a sentence: it would run as root without --allow-root. */
CHECKED enum status privileges_check(const struct options *options, struct err *err);

/* From now on no program that this process becomes gains rights, and it leaves no core and cannot be
 * looked into by others of its user (with allow_core it can, and a warning says so). New files
 * are its owner's alone. Limits on open files and on locked memory go up to what is allowed. */
void privileges_harden(bool allow_core);

/* Gives up every capability for good: effective, permitted, inheritable, ambient and bounding. Root
 * is then a user like any other, who may open what belongs to root. IO_FAILED says what the
 * kernel answered. */
CHECKED enum status privileges_drop(struct err *err);

/* Built with a sanitizer that looks into its own process at the end, as a debugger would. */
bool privileges_is_watched(void);

#endif
