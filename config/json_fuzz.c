/* json_fuzz.c - the scan never lets through what is deeper or more than it says, and whatever the
 * parser accepts can be written and read again. */
#include "config/json.h"
#include "config/json_check.h"
#include "config/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DEPTH = 20, VALUES = 200 };

/* Counts the values of a tree and checks its depth. */
static uint64_t count_values(const struct json *node, uint32_t depth)
{
    uint64_t values = 1;
    must(depth <= DEPTH + 1);
    switch (js_kind(node)) {
    case JS_STRING:
        must(utf8_valid(js_string(node)));
        break;
    case JS_ARRAY:
        for (size_t i = 0; i < js_count(node); i++)
            values += count_values(js_at(node, i), depth + 1);
        break;
    case JS_OBJECT: {
        struct js_member member = { 0 };
        while (js_next(node, &member)) values += count_values(member.value, depth + 1);
        break;
    }
    default:
        break;
    }
    return values;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct js_limits limits = { .depth = DEPTH, .values = VALUES, .number_length = 30 };
    struct json *root;
    struct err err;
    char *text = malloc(size + 1);
    must(text);
    if (size) memcpy(text, data, size);
    size_t wrong;
    bool good = json_check((struct slice){ text, size }, &limits, &wrong) == JSON_GOOD;
    must(wrong <= size);
    if (js_parse(text, size, &limits, &root, &err) == OK) {
        must(good);
        must(count_values(root, 1) <= VALUES);
        js_free(root);
    }
    free(text);

    struct buf out;
    buf_init(&out, 0);
    js_add_string(&out, (struct slice){ (const char *)data, size });
    if (utf8_valid((struct slice){ (const char *)data, size })) {
        must(js_parse(out.data, out.size, &js_file_limits, &root, &err) == OK);
        must(slice_equal(js_string(root), (struct slice){ (const char *)data, size }));
        js_free(root);
    }
    buf_release(&out);
    return 0;
}
