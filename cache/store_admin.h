/* store_admin.h - what an operator does to a store's directory that no process uses.
 *
 * Both wait for the device, and are not over before the bytes are overwritten and flushed. What they
 * need to know is in the directory itself.
 */
#ifndef CACHE_STORE_ADMIN_H
#define CACHE_STORE_ADMIN_H

#include "cache/record.h"

/* store_purge of a directory. BUSY: a process uses it; BAD_INPUT: there is no store; IO_FAILED: not
 * all could be overwritten, and the next opening goes on with it. */
CHECKED enum status store_admin_purge(const char *dir, const uint8_t *scope, uint32_t bytes,
                                      struct err *err);

/* Overwrites every segment and removes the store; what else lies in the directory stays. The same
 * outcomes; cut short, it leaves a store with less in it. */
CHECKED enum status store_admin_wipe(const char *dir, struct err *err);

#endif
