/* reply_fuzz.c - the parser on arbitrary bytes: no crash, the same result in any cutting, and no
 * more work for a byte than a fixed amount. The first bytes choose the options. */
#include "config/clock.h"
#include "engine/text/reply_check.h"
#include "engine/text/reply_pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct reply_tools *some_tools(void)
{
    static struct reply_tools tools;
    static struct arena arena;
    if (tools.count) return &tools;

    char text[] = "[{\"name\":\"f\",\"parameters\":{\"properties\":{\"c\":{\"type\":\"string\"},"
                  "\"d\":{\"type\":\"integer\"}}}},{\"name\":\"n\"}]";
    struct json *root;
    must(js_parse(text, sizeof text - 1, &js_file_limits, &root, NULL) == OK);
    arena_init(&arena, 0);
    must(reply_tools_init(&tools, root, &arena) == OK);
    js_free(root);
    return &tools;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    static const struct slice stops[] = { { "STOP", 4 }, { "\n\n", 2 }, { "aba", 3 } };
    uint8_t flags = data[0];
    struct reply_options options = {
        .start = flags & 3,
        .continued = flags & 4,
        .json = flags & 8,
        .one_call = flags & 16,
        .stop = stops,
        .stop_count = flags & 32 ? 3 : 0,
        .tools = flags & 64 || (flags & 3) == REPLY_IN_BLOCK ? some_tools() : NULL,
        .prefill = SLICE("<｜DSML｜tool_calls>\n"),
        .value_limit = data[1] & 1 ? 16 : 0,
        .block_limit = data[1] & 2 ? 64 : 0,
    };
    struct buf text;
    buf_init(&text, 0);
    pieces_add(&text, data + 2, size - 2);

    struct reading whole, cut;
    uint64_t before = now_ns();
    reading_make(&whole, &options, buf_slice(&text), 0, flags & 128);
    must(now_ns() - before < NS_PER_S + text.size * 10000);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        reading_make(&cut, &options, buf_slice(&text), seed == 1 ? 1 : seed + data[1], flags & 128);
        must(reading_equal(&whole, &cut));
        reading_release(&cut);
    }
    reading_release(&whole);
    buf_release(&text);
    return 0;
}
