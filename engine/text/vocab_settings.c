/* vocab_settings.c - the fields of tokenizer.json that would change a token, and the values that
 * they must have. Other fields (offsets, versions) change nothing and are not looked at. */
#include "engine/text/vocab_settings.h"
#include "engine/text/split.h"

#define SPLITS "pre_tokenizer.pretokenizers."

static const struct setting {
    const char *path;
    const char *wanted;  // a string; NULL: absent, null, false, zero or empty
} settings[] = {
    { "truncation", NULL },
    { "padding", NULL },
    { "normalizer.normalizers", NULL },
    { "model.type", "BPE" },
    { "model.dropout", NULL },
    { "model.unk_token", NULL },
    { "model.continuing_subword_prefix", NULL },
    { "model.end_of_word_suffix", NULL },
    { "model.byte_fallback", NULL },
    { "model.ignore_merges", NULL },
    { "decoder.type", "ByteLevel" },
    { "pre_tokenizer.type", "Sequence" },
    { SPLITS "0.type", "Split" },
    { SPLITS "0.behavior", "Isolated" },
    { SPLITS "0.invert", NULL },
    { SPLITS "1.type", "Split" },
    { SPLITS "1.behavior", "Isolated" },
    { SPLITS "1.invert", NULL },
    { SPLITS "2.type", "Split" },
    { SPLITS "2.behavior", "Isolated" },
    { SPLITS "2.invert", NULL },
    { SPLITS "3.type", "ByteLevel" },
    { SPLITS "3.add_prefix_space", NULL },
    { SPLITS "3.use_regex", NULL },
    { SPLITS "4", NULL },
};

/* The node at "a.0.b", or NULL. */
static const struct json *at_path(const struct json *node, const char *path)
{
    while (node && *path) {
        const char *dot = strchrnul(path, '.');
        char key[64];
        snprintf(key, sizeof key, "%.*s", (int)(dot - path), path);
        if (js_kind(node) == JS_OBJECT) {
            node = js_get(node, key);
        } else if (js_kind(node) == JS_ARRAY) {
            size_t index = (size_t)atoi(key);
            node = index < js_count(node) ? js_at(node, index) : NULL;
        } else {
            node = NULL;
        }
        path = *dot ? dot + 1 : dot;
    }
    return node;
}

static bool is_nothing(const struct json *node)
{
    if (!node) return true;
    switch (js_kind(node)) {
    case JS_NULL:
        return true;
    case JS_BOOL:
        return !js_bool(node);
    case JS_INT:
        return js_int(node) == 0;
    case JS_REAL:
        return !(js_real(node) < 0 || js_real(node) > 0);
    case JS_STRING:
        return js_string(node).size == 0;
    case JS_ARRAY:
    case JS_OBJECT:
        return js_count(node) == 0;
    }
    return false;
}

static enum status want_string(const struct json *root, const char *path, struct slice wanted,
                               struct err *err)
{
    const struct json *node = at_path(root, path);
    if (!node) return fail(err, BAD_INPUT, "%s: missing, wanted \"%s\"", path, wanted.data);
    if (js_kind(node) != JS_STRING)
        return fail(err, BAD_INPUT, "%s: found %s, wanted \"%s\"", path,
                    js_kind_name(js_kind(node)), wanted.data);
    struct slice found = js_string(node);
    if (slice_equal(found, wanted)) return OK;
    return fail(err, BAD_INPUT, "%s: found \"%.*s\", wanted \"%s\"", path,
                found.size < 100 ? (int)found.size : 100, found.data, wanted.data);
}

static enum status want_nothing(const struct json *root, const char *path, struct err *err)
{
    const struct json *node = at_path(root, path);
    if (is_nothing(node)) return OK;
    if (js_kind(node) != JS_STRING)
        return fail(err, BAD_INPUT, "%s: found %s, wanted none", path,
                    js_kind(node) == JS_BOOL ? "true" : js_kind_name(js_kind(node)));
    return fail(err, BAD_INPUT, "%s: found \"%.100s\", wanted none", path, js_string(node).data);
}

/* A member that is null, or an object of one type among others that the table checks. */
static enum status want_null_or(const struct json *root, const char *name, const char *type,
                                struct err *err)
{
    const struct json *node = js_get(root, name);
    if (!node || js_kind(node) == JS_NULL) return OK;
    char path[64];
    snprintf(path, sizeof path, "%s.type", name);
    return want_string(root, path, slice_of(type), err);
}

enum status vocab_check_settings(const struct json *root, struct err *err)
{
    enum status status = want_null_or(root, "normalizer", "Sequence", err);
    if (status == OK) status = want_null_or(root, "post_processor", "ByteLevel", err);
    for (size_t i = 0; i < sizeof settings / sizeof *settings && status == OK; i++) {
        const struct setting *row = &settings[i];
        status = row->wanted ? want_string(root, row->path, slice_of(row->wanted), err)
                             : want_nothing(root, row->path, err);
    }
    for (size_t i = 0; i < SPLIT_PATTERNS && status == OK; i++) {
        char path[64];
        snprintf(path, sizeof path, SPLITS "%zu.pattern.Regex", i);
        status = want_string(root, path, split_pattern[i], err);
    }
    return status;
}
