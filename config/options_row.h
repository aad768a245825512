/* options_row.h - one row of options.def as data, and one value read by it. Private to config/. */
#ifndef CONFIG_OPTIONS_ROW_H
#define CONFIG_OPTIONS_ROW_H

#include "config/options.h"

enum option_kind { KIND_TEXT, KIND_INT, KIND_REAL, KIND_FLAG, KIND_SIZE, KIND_TIME, KIND_ENUM };

struct option_row {
    enum option_kind kind;
    const char *field;  // the name with underscores
    const char *default_text, *range, *unit, *help;
    size_t offset;  // bytes; the field in struct options
};

extern const struct option_row option_rows[OPTION_COUNT];

#define OPTION_NAME_ROOM 48  // bytes; every name with its NUL

/* The name for people, with dashes, written into `name`, which is returned. */
const char *option_name(const struct option_row *row, char name[OPTION_NAME_ROOM]);

/* The row of that name, or NULL. `_` and `-` are the same. */
const struct option_row *option_find(struct slice name);

/* The row whose name is nearest to a wrong one, or NULL when none is near. */
const struct option_row *option_nearest(struct slice name);

/* Reads `text` into the row's field of `options`; a TEXT field keeps the pointer. BAD_INPUT: err
 * says "found ..., wanted ..." and the field is unchanged. */
CHECKED enum status option_read(const struct option_row *row, const char *text,
                                struct options *options, struct err *err);

/* What a value must look like: "10 to 20 tokens", "one of a, b, c", "a size from 1K to 4G". */
void option_add_wanted(const struct option_row *row, struct buf *out);

#endif
