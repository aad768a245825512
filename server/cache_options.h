/* cache_options.h - what the options of the prefix cache come to, and which do not go together.
 * Pure functions; any thread. */
#ifndef SERVER_CACHE_OPTIONS_H
#define SERVER_CACHE_OPTIONS_H

#include "config/options.h"

/* BAD_INPUT: err names the two options. */
CHECKED enum status cache_options_check(const struct options *options, struct err *err);

/* Host memory of the cache; 0: none. ram_bytes is what the process may use. */
uint64_t cache_options_host_bytes(const struct options *options, bool gpu, uint64_t ram_bytes);

#endif
