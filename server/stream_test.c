/* stream_test.c - what a client joins from a stream is the answer in one piece, however the engine's
 * events were cut; and every field says what api.md 3.2 and 3.3 promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "server/stream_check.h"

enum { MOST_TOKENS = 4096 };

static uint32_t dice(uint32_t sides)
{
    static uint64_t random = 88172645463325252ull;
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    return (uint32_t)(random % sides);
}

static const struct reply_tools *tools(void)
{
    static const struct reply_property city[] = { { SLICE("city"), true } };
    static const struct reply_tool tool[] = { { SLICE("get_weather"), city, 1 },
                                              { SLICE("now"), NULL, 0 } };
    static const struct reply_tools both = { tool, 2 };
    return &both;
}

#define OPEN "<｜DSML｜tool_calls>\n"
#define CLOSE "</｜DSML｜tool_calls>"
#define CALL(city)                                                                                 \
    "<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" "                 \
    "string=\"true\">" city "</｜DSML｜parameter>\n</｜DSML｜invoke>\n"

/* What one job will say: its tokens and how it ends. */
struct script {
    uint32_t token[MOST_TOKENS];
    struct sample_out logprob[MOST_TOKENS];
    uint32_t count, cached;
    enum finish finish;
};

static void script_fill(struct script *script, struct slice text, bool pieces, enum finish finish)
{
    script->count = check_tokens(text, pieces, script->token);
    script->finish = finish;
    for (uint32_t i = 0; i < script->count; i++) {
        struct sample_out *p = &script->logprob[i];
        p->id = script->token[i];
        p->logprob = -(float)i / 8;
        for (uint32_t t = 0; t < TOP_LOGPROBS; t++) {
            p->top_id[t] = 32 + (p->id + t) % 90;  // the JSON reader takes no NUL in keys
            p->top_logprob[t] = t == 3 ? -INFINITY : -(float)t;
        }
    }
}

static void say(struct check_request *r, const struct stream_setup *setup, uint32_t job,
                const struct script *script, uint32_t from, uint32_t count)
{
    struct event event = { .kind = EVENT_TOKENS, .count = count };
    memcpy(event.token, script->token + from, count * sizeof *event.token);
    if (setup->logprobs) event.logprob = (struct sample_out *)(uintptr_t)&script->logprob[from];
    if (!r->request.stop_job[job]) stream_event(&r->request, job, &event);
}

/* Plays all scripts to their ends, interleaved, in events of up to `most` tokens. */
static void play(struct check_request *r, const struct stream_setup *setup,
                 const struct script *script, uint32_t most)
{
    uint32_t at[CHECK_CHOICES] = { 0 }, jobs = setup->prompts * setup->choices, live = jobs;

    stream_start(&r->request);
    for (uint32_t j = 0; j < jobs; j++)
        stream_event(
            &r->request, j,
            &(struct event){ .kind = EVENT_STARTED, .cache.hit_tokens = script[j].cached });
    while (live) {
        uint32_t j = dice(jobs);
        if (at[j] > script[j].count) continue;
        uint32_t left = script[j].count - at[j], now = 1 + dice(most);
        if (now > left) now = left;
        if (left) {
            say(r, setup, j, &script[j], at[j], now);
            at[j] += now;
            continue;
        }
        struct event end = { .kind = EVENT_END, .finish = script[j].finish };
        if (!r->request.stop_job[j]) stream_event(&r->request, j, &end);
        at[j]++;
        live--;
    }
    assert_true(r->request.done);
    assert_int_equal(buf_status(&r->request.out), OK);
}

static void play_stream(struct joined *joined, const struct stream_setup *setup,
                        const struct script *script, uint32_t most)
{
    struct check_request r;
    check_open(&r, setup, true);
    play(&r, setup, script, most);
    join_stream(joined, buf_slice(&r.request.out), setup);
    check_close(&r);
}

static void play_answer(struct joined *joined, const struct stream_setup *setup,
                        const struct script *script)
{
    struct check_request r;
    check_open(&r, setup, false);
    play(&r, setup, script, EVENT_TOKENS_MOST);
    join_answer(joined, buf_slice(&r.request.out), setup);
    check_close(&r);
}

static const struct stream_prompt one_prompt = { .tokens = 10, .first_id = 'P' };

static struct stream_setup chat_setup(void)
{
    return (struct stream_setup){ .kind = STREAM_CHAT,
                                  .choices = 1,
                                  .prompts = 1,
                                  .prompt = &one_prompt,
                                  .model = SLICE("pilot \"1\""),
                                  .reply = { .start = REPLY_IN_CONTENT, .tools = tools() } };
}

static void expect(const struct buf *got, const char *want)
{
    struct buf wanted = { .data = (char *)(uintptr_t)want, .size = strlen(want) };
    assert_same_text(got, &wanted);
}

/* ---- any cutting ---- */

static void random_text(struct buf *out, bool thinking)
{
    static const char *const piece[] = {
        "Hello",
        " world",
        "\n",
        "\n\n",
        "日本",
        "🧪",
        "STO",
        "STOP",
        "\"",
        "\\",
        "\x01",
        "<",
        "</",
        "a",
        "</think>",
        "<｜DSML｜",
        "</｜DSML｜parameter>",
        "\xe6\x97",
        "\xff",
        "{\"a\": [1]}",
    };
    if (thinking) {
        for (uint32_t i = dice(6); i; i--) buf_add_string(out, piece[dice(11)]);
        if (dice(8)) buf_add_string(out, "</think>\n\n");
    }
    for (uint32_t i = dice(10); i; i--) buf_add_string(out, piece[dice(20)]);
    if (dice(2)) return;
    buf_add_string(out, "\n\n" OPEN);
    for (uint32_t i = dice(4); i; i--) buf_add_string(out, CALL("Ös\"lo"));
    if (dice(2)) buf_add_string(out, CALL("Rome"));
    if (dice(4)) buf_add_string(out, CLOSE);
    if (out->size && !dice(3)) out->size = dice((uint32_t)out->size);
}

static void stream_joins_to_the_answer(void **unused)
{
    static struct script script[CHECK_CHOICES];
    static const struct slice stop[] = { { "STOP", 4 } };
    uint32_t calls = 0, stops = 0, lengths = 0;
    (void)unused;

    for (int round = 0; round < 1500; round++) {
        struct stream_prompt prompt[2] = { { .tokens = 10 + dice(10), .first_id = 'P' },
                                           { .tokens = 10, .first_id = 'Q' } };
        struct stream_setup setup = chat_setup();
        setup.kind = dice(4) ? STREAM_CHAT : STREAM_COMPLETION;
        setup.choices = 1 + dice(2);
        setup.prompts = setup.kind == STREAM_CHAT ? 1 : 1 + dice(2);
        setup.prompt = prompt;
        setup.include_usage = dice(2);
        setup.deepseek_usage = !setup.include_usage || dice(2);
        setup.logprobs = dice(2);
        setup.top_logprobs = dice(4);
        setup.thinking = setup.kind == STREAM_CHAT && dice(2);
        setup.reply.start = setup.thinking ? REPLY_IN_REASONING : REPLY_IN_CONTENT;
        if (setup.kind == STREAM_COMPLETION) setup.reply.start = REPLY_IN_RAW;
        setup.reply.stop = stop;
        setup.reply.stop_count = dice(2);
        setup.reply.one_call = !dice(5);
        for (uint32_t i = 0; i < setup.choices * setup.prompts; i++) {
            struct buf text;
            buf_init(&text, 0);
            random_text(&text, setup.thinking);
            script_fill(&script[i], buf_slice(&text), dice(2),
                        dice(5) ? FINISH_STOP : FINISH_LENGTH);
            script[i].cached = dice(10);
            buf_release(&text);
        }

        struct joined whole, cut;
        play_answer(&whole, &setup, script);
        for (uint32_t most = 1; most <= EVENT_TOKENS_MOST; most += 7) {
            play_stream(&cut, &setup, script, most);
            assert_joined_equal(&whole, &cut);
            assert_true(cut.done);
            assert_int_equal(cut.usages, setup.include_usage + setup.deepseek_usage);
            joined_release(&cut);
        }
        for (uint32_t i = 0; i < whole.choices; i++) {
            calls += strcmp(whole.choice[i].finish, "tool_calls") == 0;
            stops += strcmp(whole.choice[i].finish, "stop") == 0;
            lengths += strcmp(whole.choice[i].finish, "length") == 0;
        }
        joined_release(&whole);
    }
    assert_true(calls > 100 && stops > 100 && lengths > 100);
}

/* ---- single fields ---- */

/* One choice, streamed token by token; the caller releases. */
static void chat(struct joined *joined, const struct stream_setup *setup, const char *text,
                 enum finish finish)
{
    static struct script script;
    script_fill(&script, slice_of(text), true, finish);
    script.cached = 4;
    play_stream(joined, setup, &script, 1);
}

static void first_chunk_says_who_speaks_and_what_comes(void **unused)
{
    struct stream_setup setup = chat_setup();
    struct check_request r;
    (void)unused;

    check_open(&r, &setup, true);
    stream_start(&r.request);
    static const char plain[] = "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}";
    assert_non_null(memmem(r.request.out.data, r.request.out.size, plain, sizeof plain - 1));
    check_close(&r);
    setup.thinking = true;
    check_open(&r, &setup, true);
    stream_start(&r.request);
    static const char want[] =
        "\"delta\":{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"\"}";
    assert_non_null(memmem(r.request.out.data, r.request.out.size, want, sizeof want - 1));
    check_close(&r);
}

static void finish_reason_follows_the_end(void **unused)
{
    static const struct {
        const char *text;
        enum finish finish;
        const char *want;
    } row[] = {
        { "Hello", FINISH_STOP, "stop" },
        { "Hello", FINISH_LENGTH, "length" },
        { "Hello", FINISH_CANCELLED, "insufficient_system_resource" },
        { "Hello", FINISH_DEADLINE, "insufficient_system_resource" },
        { OPEN CALL("Oslo") CLOSE, FINISH_STOP, "tool_calls" },
        { OPEN CALL("Oslo") CLOSE, FINISH_LENGTH, "tool_calls" },  // the closer came first
        { OPEN CALL("Oslo"), FINISH_STOP, "tool_calls" },
        { OPEN CALL("Oslo"), FINISH_LENGTH, "length" },
        { OPEN CALL("Oslo"), FINISH_CANCELLED, "insufficient_system_resource" },
    };
    struct stream_setup setup = chat_setup();
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct joined joined;
        chat(&joined, &setup, row[i].text, row[i].finish);
        assert_string_equal(joined.choice[0].finish, row[i].want);
        joined_release(&joined);
    }
}

static void length_inside_a_call_leaves_its_arguments_cut(void **unused)
{
    static struct script script;
    struct stream_setup setup = chat_setup();
    struct joined joined;
    (void)unused;

    script_fill(&script,
                SLICE(OPEN "<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter "
                           "name=\"city\" string=\"true\">Os</｜DS"),
                false, FINISH_LENGTH);
    play_answer(&joined, &setup, &script);
    expect(&joined.choice[0].calls, "get_weather {\"city\": \"Os");
    assert_string_equal(joined.choice[0].finish, "length");
    joined_release(&joined);
}

static void usage_counts_what_was_sampled(void **unused)
{
    struct stream_setup setup = chat_setup();
    struct joined joined;
    (void)unused;

    setup.thinking = true;
    setup.include_usage = true;
    setup.reply.start = REPLY_IN_REASONING;
    chat(&joined, &setup, "Hello world</think>\n\nHello", FINISH_STOP);
    expect(&joined.usage, "10 5 15 4 6 4 3");  // "Hello", " world" and the tag are reasoning
    joined_release(&joined);

    /* What the engine samples after the reply has ended is dropped and not counted. */
    static const struct slice stop[] = { { "STOP", 4 } };
    static struct script script;
    setup = chat_setup();
    setup.reply.stop = stop;
    setup.reply.stop_count = 1;
    script_fill(&script, SLICE("HelloSTOPHelloHello"), true, FINISH_LENGTH);
    play_answer(&joined, &setup, &script);
    expect(&joined.usage, "10 2 12 0 10 0 0");
    expect(&joined.choice[0].content, "Hello");
    assert_string_equal(joined.choice[0].finish, "stop");
    joined_release(&joined);
}

static void a_finished_reply_stops_its_job(void **unused)
{
    static struct script script;
    struct stream_setup setup = chat_setup();
    struct check_request r;
    (void)unused;

    check_open(&r, &setup, true);
    script_fill(&script, SLICE("x" OPEN CALL("Oslo") CLOSE), true, FINISH_LENGTH);
    stream_start(&r.request);
    for (uint32_t i = 0; i + 1 < script.count; i++) say(&r, &setup, 0, &script, i, 1);
    assert_false(r.request.stop_job[0]);
    say(&r, &setup, 0, &script, script.count - 1, 1);
    assert_true(r.request.stop_job[0] && r.request.done);
    assert_int_equal(r.request.outcome, OUTCOME_TOOL_CALLS);
    size_t size = r.request.out.size;
    say(&r, &setup, 0, &script, 0, 1);
    assert_int_equal(r.request.out.size, size);
    check_close(&r);
}

static void one_call_ends_after_the_first(void **unused)
{
    struct stream_setup setup = chat_setup();
    struct joined joined;
    (void)unused;
    setup.reply.one_call = true;
    chat(&joined, &setup, OPEN CALL("Oslo") CALL("Rome") CLOSE, FINISH_STOP);
    expect(&joined.choice[0].calls, "get_weather {\"city\": \"Oslo\"}");
    assert_string_equal(joined.choice[0].finish, "tool_calls");
    joined_release(&joined);
}

static void logprobs_are_those_of_content_tokens(void **unused)
{
    struct stream_setup setup = chat_setup();
    struct joined joined;
    (void)unused;

    setup.thinking = true;
    setup.logprobs = true;
    setup.top_logprobs = 2;
    setup.reply.start = REPLY_IN_REASONING;
    chat(&joined, &setup, "Hello</think>\n\nHello world\n\n" OPEN CALL("Oslo") CLOSE, FINISH_STOP);
    expect(&joined.choice[0].content, "Hello world");
    expect(&joined.choice[0].logprobs, "Hello|-0.375|5|2; world|-0.5|6|2;");
    joined_release(&joined);
}

static void legacy_logprobs_count_characters(void **unused)
{
    static struct script script;
    struct stream_prompt prompt = { .tokens = 2, .first_id = 'P', .echo = SLICE("P日本") };
    struct stream_setup setup = chat_setup();
    (void)unused;

    setup.kind = STREAM_COMPLETION;
    setup.prompt = &prompt;
    setup.logprobs = true;
    setup.reply = (struct reply_options){ .start = REPLY_IN_RAW };
    script_fill(&script, SLICE("Hello world"), true, FINISH_STOP);
    struct sample_out second = { .id = script.token[0], .logprob = -7 };
    check_tokens(SLICE("日本"), true, &second.id);

    for (int stream = 0; stream < 2; stream++) {
        struct check_request r;
        struct joined joined;
        check_open(&r, &setup, stream);
        stream_start(&r.request);
        stream_event(&r.request, 0,
                     &(struct event){ .kind = EVENT_PROMPT, .count = 1, .logprob = &second });
        say(&r, &setup, 0, &script, 0, script.count);
        stream_event(&r.request, 0, &(struct event){ .kind = EVENT_END, .finish = FINISH_STOP });
        if (stream) join_stream(&joined, buf_slice(&r.request.out), &setup);
        else join_answer(&joined, buf_slice(&r.request.out), &setup);
        expect(&joined.choice[0].content, "P日本Hello world");
        expect(&joined.choice[0].logprobs, "P|0|0;日本|-7|1;Hello|0|3; world|-0.125|8;");
        joined_release(&joined);
        check_close(&r);
    }
}

static void sampled_block_is_remembered_under_its_ids(void **unused)
{
    static struct script script;
    struct stream_setup setup = chat_setup();
    struct check_request r;
    struct joined joined;
    struct buf block;
    (void)unused;

    setup.tenant = 7;
    check_open(&r, &setup, true);
    assert_int_equal(tool_memory_open(1 << 20, &r.service.tool_memory), OK);
    script_fill(&script, SLICE("x\n\n" OPEN CALL("Oslo") CALL("Rome") CLOSE), true, FINISH_STOP);
    play(&r, &setup, &script, 3);
    join_stream(&joined, buf_slice(&r.request.out), &setup);

    size_t size = strlen("call_") + 32;
    struct slice id[] = { { joined.ids.data, size }, { joined.ids.data + size + 1, size } };
    assert_false(slice_equal(id[0], id[1]));
    buf_init(&block, 0);
    assert_false(tool_memory_find(r.service.tool_memory, 8, id, 2, &block));
    assert_false(tool_memory_find(r.service.tool_memory, 7, id, 1, &block));
    assert_true(tool_memory_find(r.service.tool_memory, 7, id, 2, &block));
    expect(&block, OPEN CALL("Oslo") CALL("Rome") CLOSE);
    buf_release(&block);
    joined_release(&joined);
    tool_memory_close(r.service.tool_memory);
    check_close(&r);
}

static void engine_failure_ends_a_stream_with_an_error(void **unused)
{
    static struct script script;
    struct stream_setup setup = chat_setup();
    struct joined joined;
    (void)unused;
    script_fill(&script, SLICE("Hello"), true, FINISH_FAILED);
    play_stream(&joined, &setup, &script, 1);
    assert_true(joined.error);
    assert_false(joined.done);
    joined_release(&joined);
}

static void hidden_reasoning_is_nowhere(void **unused)
{
    struct stream_setup setup = chat_setup();
    struct joined joined;
    (void)unused;
    setup.thinking = true;
    setup.hide_reasoning = true;
    setup.reply.start = REPLY_IN_REASONING;
    chat(&joined, &setup, "Hello</think>Hello", FINISH_STOP);
    expect(&joined.choice[0].reasoning, "");
    expect(&joined.choice[0].content, "Hello");
    joined_release(&joined);
}

static void joined_reasoning_begins_the_content(void **unused)
{
    struct stream_setup setup = chat_setup();
    struct joined joined;
    (void)unused;
    setup.thinking = true;
    setup.join_reasoning = true;
    setup.reply.start = REPLY_IN_REASONING;
    chat(&joined, &setup, "Well</think>Hello", FINISH_STOP);
    expect(&joined.choice[0].reasoning, "");
    expect(&joined.choice[0].content, "<think>Well</think>Hello");
    joined_release(&joined);
    chat(&joined, &setup, "Well", FINISH_LENGTH);
    expect(&joined.choice[0].content, "<think>Well");
    joined_release(&joined);
}

static void unclosed_reasoning_may_be_the_content_of_a_whole_answer(void **unused)
{
    static struct script script;
    struct stream_setup setup = chat_setup();
    struct joined joined;
    (void)unused;
    setup.thinking = true;
    setup.unclosed_is_content = true;
    setup.reply.start = REPLY_IN_REASONING;
    script_fill(&script, SLICE("Hello"), true, FINISH_LENGTH);
    play_answer(&joined, &setup, &script);
    expect(&joined.choice[0].reasoning, "");
    expect(&joined.choice[0].content, "Hello");
    joined_release(&joined);
    script_fill(&script, SLICE("Well</think>"), true, FINISH_LENGTH);
    play_answer(&joined, &setup, &script);
    expect(&joined.choice[0].reasoning, "Well");
    expect(&joined.choice[0].content, "");
    joined_release(&joined);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_joins_to_the_answer),
        cmocka_unit_test(first_chunk_says_who_speaks_and_what_comes),
        cmocka_unit_test(finish_reason_follows_the_end),
        cmocka_unit_test(length_inside_a_call_leaves_its_arguments_cut),
        cmocka_unit_test(usage_counts_what_was_sampled),
        cmocka_unit_test(a_finished_reply_stops_its_job),
        cmocka_unit_test(one_call_ends_after_the_first),
        cmocka_unit_test(logprobs_are_those_of_content_tokens),
        cmocka_unit_test(legacy_logprobs_count_characters),
        cmocka_unit_test(sampled_block_is_remembered_under_its_ids),
        cmocka_unit_test(engine_failure_ends_a_stream_with_an_error),
        cmocka_unit_test(hidden_reasoning_is_nowhere),
        cmocka_unit_test(joined_reasoning_begins_the_content),
        cmocka_unit_test(unclosed_reasoning_may_be_the_content_of_a_whole_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
