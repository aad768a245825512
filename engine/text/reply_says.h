/* reply_says.h - for the parser's tests: a text, and what it says in every cutting. Include after
 * cmocka.h. */
#ifndef ENGINE_TEXT_REPLY_SAYS_H
#define ENGINE_TEXT_REPLY_SAYS_H

#include "engine/text/reply_check.h"

#define EOS "<｜end▁of▁sentence｜>"
#define OPEN "<｜DSML｜tool_calls>"
#define CLOSE "</｜DSML｜tool_calls>"
#define INVOKE(name) "<｜DSML｜invoke name=\"" name "\">"
#define CALL_CLOSE "</｜DSML｜invoke>"
#define PARAM(name, string) "<｜DSML｜parameter name=\"" name "\" string=\"" string "\">"
#define PARAM_CLOSE "</｜DSML｜parameter>"
#define STRING(name, value) PARAM(name, "true") value PARAM_CLOSE
#define JSON(name, value) PARAM(name, "false") value PARAM_CLOSE

struct saying {
    const char *text;
    enum reply_start start;  // 0 stands for content, unless reasoning is expected (see says)
    bool no_tools, by_length, continued, json, one_call;
    const struct slice *stop;
    uint32_t stop_count;
    const char *prefill;

    const char *reasoning, *content;  // NULL = empty
    const char *calls;                // "name arguments; name arguments"
    const char *block;                // NULL = not looked at
    enum reply_finish finish;         // calls that nothing cut finish as TOOL_CALLS by themselves
    bool ends_early;                  // the caller need not sample on; looked at when set
};

/* get_weather(city: string, days: integer, zip: string, opts: object), now(), bash(command) */
static inline const struct reply_tools *some_tools(void)
{
    static struct reply_tools tools;
    static struct arena arena;  // one for the whole test program
    if (tools.count) return &tools;

    char text[] = "[{\"name\": \"get_weather\", \"parameters\": {\"properties\": {"
                  "\"city\": {\"type\": \"string\"}, \"days\": {\"type\": \"integer\"},"
                  "\"zip\": {\"type\": \"string\"}, \"opts\": {\"type\": \"object\"}}}},"
                  "{\"type\": \"function\", \"function\": {\"name\": \"now\", \"parameters\": {}}},"
                  "{\"name\": \"bash\", \"parameters\": {\"properties\": {"
                  "\"command\": {\"type\": \"string\"}}}}]";
    struct json *root;
    must(js_parse(text, sizeof text - 1, &js_file_limits, &root, NULL) == OK);
    arena_init(&arena, 0);
    must(reply_tools_init(&tools, root, &arena) == OK);
    js_free(root);
    return &tools;
}

static void same(const struct buf *got, const char *want, const char *what, const char *text)
{
    struct slice wanted = slice_of(want ? want : "");
    if (slice_equal(buf_slice(got), wanted)) return;
    print_error("%s of: %s\n  found:  %.*s\n  wanted: %s\n", what, text, (int)got->size,
                got->size ? got->data : "", want ? want : "");
    assert_string_equal("found", "wanted");
}

/* Cut at `first`, then whole. */
static void same_when_cut_once(const struct reply_options *options, const struct reading *whole,
                               struct slice text, size_t first, bool by_length)
{
    struct reading r = { .last = REPLY_REASONING };
    struct reply_options own = *options;
    struct reply *reply;

    own.sink = (struct reply_sink){ reading_take, &r };
    assert_int_equal(reply_open(&own, &reply), OK);
    assert_int_equal(reply_feed(reply, (struct slice){ text.data, first }), OK);
    assert_int_equal(reply_feed(reply, slice_from(text, first)), OK);
    assert_int_equal(reply_finish(reply, by_length, &r.finish), OK);
    assert_true(slice_equal(buf_slice(&r.reasoning), buf_slice(&whole->reasoning)));
    assert_true(slice_equal(buf_slice(&r.content), buf_slice(&whole->content)));
    assert_true(slice_equal(buf_slice(&r.calls), buf_slice(&whole->calls)));
    assert_int_equal(r.finish, whole->finish);
    reply_close(reply);
    reading_release(&r);
}

static void says(const struct saying *s)
{
    enum reply_finish finish =
        s->finish == REPLY_FINISH_STOP && s->calls ? REPLY_FINISH_TOOL_CALLS : s->finish;
    struct reply_options options = {
        .start = s->start == 0 && !s->reasoning ? REPLY_IN_CONTENT : s->start,
        .continued = s->continued,
        .json = s->json,
        .one_call = s->one_call,
        .tools = s->no_tools ? NULL : some_tools(),
        .stop = s->stop,
        .stop_count = s->stop_count,
        .prefill = slice_of(s->prefill),
    };
    struct slice text = slice_of(s->text);
    struct reading whole, cut;

    reading_make(&whole, &options, text, 0, s->by_length);
    same(&whole.reasoning, s->reasoning, "reasoning", s->text);
    same(&whole.content, s->content, "content", s->text);
    same(&whole.calls, s->calls, "calls", s->text);
    if (s->block) same(&whole.block, s->block, "block", s->text);
    assert_int_equal(whole.finish, finish);
    if (s->ends_early) assert_true(whole.ended_early);

    for (uint64_t cutting = 1; cutting <= 21; cutting++) {
        reading_make(&cut, &options, text, cutting, s->by_length);
        assert_true(reading_equal(&whole, &cut));
        reading_release(&cut);
    }
    for (size_t first = 1; first < text.size; first++)
        same_when_cut_once(&options, &whole, text, first, s->by_length);
    reading_release(&whole);
}

#endif
