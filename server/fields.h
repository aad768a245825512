/* fields.h - a client's JSON object, field by field: right kind, right range, or a refusal that names
 * the field, what was found and what was wanted.
 *
 * A null counts as absence. The name in a refusal is the whole path, as in messages[3].content.
 * Thread: a prep worker.
 */
#ifndef SERVER_FIELDS_H
#define SERVER_FIELDS_H

#include "config/json.h"
#include "server/errors.h"

/* Why a request is not served, as request_refuse wants it. */
struct refused {
    enum refusal refusal;
    char param[128];  // the field; "" = none
    struct err err;   // the sentence
};

/* An object being read, and where it stands. */
struct fields {
    const struct json *object;
    const char *path;  // "" at the top, else with its dot: "messages[3]."
    struct refused *refused;
};

#define FIELDS_PATH_MOST 96

/* Fills refused and returns BAD_INPUT; `key` may be NULL: the object itself. The sentence gets the
 * field's path in front: "PATH: found ..., wanted ...". */
__attribute__((format(printf, 3, 4))) CHECKED enum status
refuse_field(const struct fields *fields, const char *key, const char *format, ...);

/* The same with another refusal, such as REFUSE_UNSUPPORTED. */
__attribute__((format(printf, 4, 5))) CHECKED enum status
refuse_field_as(const struct fields *fields, enum refusal refusal, const char *key,
                const char *format, ...);

/* "an integer", or for short text its first characters in quotes. */
const char *found_text(const struct json *node, char text[64]);

/* The field if it is there and of its kind, else NULL; BAD_INPUT if it is of another kind. */
CHECKED enum status field_get(const struct fields *fields, const char *key, enum js_kind kind,
                              const struct json **node);

/* Each leaves *value as it is when the field is absent. */
CHECKED enum status field_bool(const struct fields *fields, const char *key, bool *value);
CHECKED enum status field_text(const struct fields *fields, const char *key, size_t most_bytes,
                               struct slice *value);

/* A JSON number in a range. A real with no fraction is an integer (5.0 is 5). */
struct int_range {
    int64_t least, most;
};
CHECKED enum status field_int(const struct fields *fields, const char *key, struct int_range range,
                              int64_t *value);

struct real_range {
    double least, most;
    bool above_least;  // least itself is outside
};
CHECKED enum status field_real(const struct fields *fields, const char *key,
                               struct real_range range, double *value);

/* One of a list of words that ends with NULL: *index receives its place. */
CHECKED enum status field_word(const struct fields *fields, const char *key,
                               const char *const *words, int *index);

/* The same checks on a value without a key of its own; `key` is its name in refusals. */
CHECKED enum status value_int(const struct fields *fields, const char *key, const struct json *node,
                              struct int_range range, int64_t *value);

#endif
