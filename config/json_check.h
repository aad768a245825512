/* json_check.h - is it JSON, and not too much of it? Asked before the parser, which would build a tree of
 * gigabytes, or build for a second before it came to what is wrong at the end.
 *
 * Thread: any.
 */
#ifndef CONFIG_JSON_CHECK_H
#define CONFIG_JSON_CHECK_H

#include <stddef.h>
#include "config/json.h"

#define JSON_CHECK_DEPTH_MOST 1024  // of limits->depth

enum json_verdict { JSON_GOOD, JSON_WRONG, JSON_DEEP, JSON_MANY, JSON_LONG_NUMBER };

/* One pass without memory, some 1 ns a byte, up to the first byte that is one too many for a limit or
 * that no JSON text has there: *wrong is its place, or the size where more had to come. What the parser
 * accepts within the limits is GOOD; of what is GOOD the parser may still refuse a number out of
 * range or a key with a NUL. */
enum json_verdict json_check(struct slice text, const struct js_limits *limits, size_t *wrong);

#endif
