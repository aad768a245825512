/* fixed_schema.h - parameters of tools that come without a schema of their own, parsed once for the life
 * of the process. Thread: any. */
#ifndef SERVER_FIXED_SCHEMA_H
#define SERVER_FIXED_SCHEMA_H

#include "config/json.h"

/* The one parameter of a function that stands for a custom tool. */
#define CUSTOM_INPUT "input"

enum fixed_schema {
    FIXED_NO_PARAMETERS,
    FIXED_CUSTOM_INPUT,  // one string
    FIXED_SCHEMAS,
};

struct slice fixed_schema_text(enum fixed_schema which);

/* NULL: no memory, and then anything may be a parameter. */
const struct json *fixed_schema(enum fixed_schema which);

#endif
