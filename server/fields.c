/* fields.c - every sentence about a wrong field is made here. */
#include "server/fields.h"
#include <math.h>

static void fill(const struct fields *fields, enum refusal refusal, const char *key,
                 const char *format, va_list args)
{
    struct refused *r = fields->refused;
    size_t path = strlen(fields->path);
    char sentence[sizeof r->err.text - sizeof r->param - 2];

    /* The object itself is named without its dot. */
    snprintf(r->param, sizeof r->param, "%.*s%s", (int)(key || !path ? path : path - 1),
             fields->path, key ? key : "");
    vsnprintf(sentence, sizeof sentence, format, args);
    snprintf(r->err.text, sizeof r->err.text, "%s%s%s", r->param, *r->param ? ": " : "", sentence);
    r->refusal = refusal;
}

enum status refuse_field(const struct fields *fields, const char *key, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(fields, REFUSE_BAD_REQUEST, key, format, args);
    va_end(args);
    return BAD_INPUT;
}

enum status refuse_field_as(const struct fields *fields, enum refusal refusal, const char *key,
                            const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(fields, refusal, key, format, args);
    va_end(args);
    return BAD_INPUT;
}

const char *found_text(const struct json *node, char text[64])
{
    enum js_kind kind = node ? js_kind(node) : JS_NULL;

    switch (kind) {
    case JS_INT:
        snprintf(text, 64, "%lld", (long long)js_int(node));
        break;
    case JS_REAL:
        snprintf(text, 64, "%g", js_real(node));
        break;
    default:
        snprintf(text, 64, "%s", js_kind_name(kind));
    }
    return text;
}

enum status field_get(const struct fields *fields, const char *key, enum js_kind kind,
                      const struct json **node)
{
    *node = js_get(fields->object, key);
    if (*node && js_kind(*node) == JS_NULL) *node = NULL;
    if (!*node || js_kind(*node) == kind) return OK;
    enum js_kind found = js_kind(*node);
    *node = NULL;
    return refuse_field(fields, key, "found %s, wanted %s", js_kind_name(found),
                        js_kind_name(kind));
}

enum status field_bool(const struct fields *fields, const char *key, bool *value)
{
    const struct json *node;
    enum status status = field_get(fields, key, JS_BOOL, &node);
    if (node) *value = js_bool(node);
    return status;
}

enum status field_text(const struct fields *fields, const char *key, size_t most_bytes,
                       struct slice *value)
{
    const struct json *node;
    enum status status = field_get(fields, key, JS_STRING, &node);
    if (!node) return status;
    struct slice text = js_string(node);
    if (most_bytes && text.size > most_bytes)
        return refuse_field(fields, key, "found a string of %zu bytes, wanted at most %zu",
                            text.size, most_bytes);
    *value = text;
    return OK;
}

enum status value_int(const struct fields *fields, const char *key, const struct json *node,
                      struct int_range range, int64_t *value)
{
    char found[64];
    enum js_kind kind = js_kind(node);
    int64_t number = 0;

    if (kind == JS_REAL) {
        double real = js_real(node);
        /* 2^63 itself is no int64_t. */
        if (real != trunc(real) || real < -0x1p63 || real >= 0x1p63)
            return refuse_field(fields, key, "found %s, wanted an integer from %lld to %lld",
                                found_text(node, found), (long long)range.least,
                                (long long)range.most);
        number = (int64_t)real;
    } else if (kind == JS_INT) {
        number = js_int(node);
    } else {
        return refuse_field(fields, key, "found %s, wanted an integer", js_kind_name(kind));
    }
    if (number < range.least || number > range.most)
        return refuse_field(fields, key, "found %lld, wanted %lld to %lld", (long long)number,
                            (long long)range.least, (long long)range.most);
    *value = number;
    return OK;
}

enum status field_int(const struct fields *fields, const char *key, struct int_range range,
                      int64_t *value)
{
    const struct json *node = js_get(fields->object, key);
    if (!node || js_kind(node) == JS_NULL) return OK;
    return value_int(fields, key, node, range, value);
}

enum status field_real(const struct fields *fields, const char *key, struct real_range range,
                       double *value)
{
    const struct json *node = js_get(fields->object, key);
    char found[64];

    if (!node || js_kind(node) == JS_NULL) return OK;
    if (js_kind(node) != JS_INT && js_kind(node) != JS_REAL)
        return refuse_field(fields, key, "found %s, wanted a number", js_kind_name(js_kind(node)));
    double number = js_real(node);
    if (!(number >= range.least && number <= range.most) ||
        (range.above_least && number == range.least))
        return refuse_field(fields, key, "found %s, wanted %s%g to %g", found_text(node, found),
                            range.above_least ? "above " : "", range.least, range.most);
    *value = number;
    return OK;
}

enum status field_word(const struct fields *fields, const char *key, const char *const *words,
                       int *index)
{
    struct slice text = { 0 };
    char list[256];
    size_t used = 0;

    enum status status = field_text(fields, key, 0, &text);
    if (status != OK || !text.data) return status;
    for (int i = 0; words[i]; i++)
        if (slice_equal(text, slice_of(words[i]))) return *index = i, OK;
    for (int i = 0; words[i] && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", words[i]);
    return refuse_field(fields, key, "found another word, wanted one of: %s", list);
}
