/* replay_test.c - the index hits on public traces what plain models of its rules hit on them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <glob.h>
#include <math.h>
#include <string.h>
#include <unistd.h>
#include "cache/replay.h"
#include "cache/replay_plain.h"

/* Windows are all resumable here and a last id counts whole, as the traces' answers have it. */
enum { PLAIN = REPLAY_NO_WINDOWS | REPLAY_WHOLE_IDS };
enum { FULL = REPLAY_PROMPT_END | REPLAY_OUTPUT_END | REPLAY_BRANCH | REPLAY_OUTPUT_KNOWN };

/* A pattern's files below the shared traces. Skips the test where there is none. */
static glob_t files_of(const char *pattern)
{
    const char *shared = getenv("FATHOM_SHARED");
    char full[512];
    glob_t files;
    snprintf(full, sizeof full, "%s/fixtures/traces/%s", shared ? shared : "../shared", pattern);
    if (glob(full, 0, NULL, &files) != 0) {
        print_message("skipped: no %s\n", full);
        skip();
    }
    return files;
}

static struct trace read_trace(const char *path)
{
    struct trace trace;
    struct err err;
    if (trace_read(&trace, path, &err) != OK) assert_string_equal(err.text, "");
    return trace;
}

/* All of them as one sum. */
static struct replay_result replay(const char *pattern, const struct replay_options *options)
{
    struct replay_result result = { 0 };
    glob_t files = files_of(pattern);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        struct trace trace = read_trace(files.gl_pathv[i]);
        assert_int_equal(replay_trace(&trace, i, options, &result), OK);
        trace_release(&trace);
    }
    globfree(&files);
    return result;
}

static void assert_near(uint64_t part, uint64_t whole, double wanted, double points)
{
    double found = (double)part / (double)whole;
    if (fabs(found - wanted) > points / 100) print_error("%.4f, wanted %.4f\n", found, wanted);
    assert_true(fabs(found - wanted) <= points / 100);
}

/* The answers that the traces' own page gives. */
static void unlimited_cache_hits_the_published_tokens(void **unused)
{
    static const struct {
        const char *files;
        uint32_t kinds;
        uint64_t requests, input, hit;
    } row[] = {
        { "mooncake/conversation_first6000.jsonl", PLAIN, 6000, 76643649, 27034698 },
        { "mooncake/synthetic_first2000.jsonl", PLAIN, 2000, 24732716, 8317058 },
        { "weka-agentic/*.json", REPLAY_NO_WINDOWS, 173, 15002978, 13779968 },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct replay_options options = { .kinds = row[i].kinds };
        struct replay_result result = replay(row[i].files, &options);
        assert_int_equal(result.requests, row[i].requests);
        assert_int_equal(result.input_tokens, row[i].input);
        assert_int_equal(result.hit_tokens, row[i].hit);
    }
}

/* ---- room ----------------------------------------------------------------------------------- */

static const char *const mooncake[] = { "mooncake/conversation_first6000.jsonl",
                                        "mooncake/synthetic_first2000.jsonl" };
static const double gigabytes[] = { 5, 20, 50, 100 };

/* Flash's blocks of 512 tokens, and those of a segment of 128 MiB. */
static uint32_t blocks_of(double size)
{
    return (uint32_t)(size * 1e9 / (4 * 492832));
}
enum { SEGMENT_BLOCKS = 67 };

static struct trace read_mooncake(size_t which)
{
    glob_t files = files_of(mooncake[which]);
    struct trace trace = read_trace(files.gl_pathv[0]);
    globfree(&files);
    return trace;
}

static struct replay_result replay_one(const struct trace *trace,
                                       const struct replay_options *options)
{
    struct replay_result result = { 0 };
    assert_int_equal(replay_trace(trace, 0, options, &result), OK);
    return result;
}

static void limited_memory_hits_what_least_recently_used_does(void **unused)
{
    (void)unused;
    for (size_t which = 0; which < 2; which++) {
        struct trace trace = read_mooncake(which);
        for (size_t i = 0; i < sizeof gigabytes / sizeof *gigabytes; i++) {
            struct replay_options options = { .kinds = PLAIN, .blocks = blocks_of(gigabytes[i]) };
            struct replay_result found = replay_one(&trace, &options);
            struct plain_result plain = plain_run(&trace, PLAIN_LRU, options.blocks, 0);
            /* Ties within 10 s go by worth; where the room is a few requests' that is 0.7 points. */
            double points = gigabytes[i] < 20 ? 1 : 0.5;
            assert_int_equal(found.input_tokens, plain.input);
            assert_near(found.hit_tokens, found.input_tokens,
                        (double)plain.hit / (double)plain.input, points);
        }
        trace_release(&trace);
    }
}

static void limited_disk_hits_what_segments_in_turn_do(void **unused)
{
    (void)unused;
    for (size_t which = 0; which < 2; which++) {
        struct trace trace = read_mooncake(which);
        for (size_t i = 0; i < sizeof gigabytes / sizeof *gigabytes; i++) {
            struct replay_options options = { .kinds = PLAIN | REPLAY_NO_HOST,
                                              .disk_blocks = blocks_of(gigabytes[i]),
                                              .segment_blocks = SEGMENT_BLOCKS,
                                              .forward_percent = 75 };
            struct replay_result found = replay_one(&trace, &options);
            struct plain_result plain =
                plain_run(&trace, PLAIN_SEGMENTS, options.disk_blocks, SEGMENT_BLOCKS);
            assert_near(found.hit_tokens, found.input_tokens,
                        (double)plain.hit / (double)plain.input, 0.1);
            assert_near(found.disk_forwards, found.disk_writes,
                        (double)plain.forwarded / (double)plain.written, 0.5);
        }
        trace_release(&trace);
    }
}

/* What the design chose by: on disk, whole segments lose next to nothing against exact order, for less
 * than 1.25 times the writes; how often a block was hit is the worse guide where room is short. */
static void policies_keep_the_order_that_chose_them(void **unused)
{
    struct trace trace = read_mooncake(0);
    (void)unused;
    for (size_t i = 1; i < sizeof gigabytes / sizeof *gigabytes; i++) {
        uint32_t room = blocks_of(gigabytes[i]);
        struct plain_result often = plain_run(&trace, PLAIN_LFU, room, 0);
        struct replay_options host = { .kinds = PLAIN, .blocks = room };
        struct replay_options disk = { .kinds = PLAIN | REPLAY_NO_HOST,
                                       .disk_blocks = room,
                                       .segment_blocks = SEGMENT_BLOCKS,
                                       .forward_percent = 75 };
        struct replay_result in_order = replay_one(&trace, &host);
        struct replay_result in_turn = replay_one(&trace, &disk);
        double points = 100 / (double)in_order.input_tokens;
        assert_true((double)in_turn.hit_tokens * points >=
                    (double)in_order.hit_tokens * points - 0.1);
        assert_true((double)in_turn.disk_forwards < 0.25 * (double)in_turn.disk_writes);
        assert_true(often.hit <= in_order.hit_tokens);
        if (gigabytes[i] <= 20)
            assert_true((double)often.hit * points < (double)in_order.hit_tokens * points - 3);
    }
    trace_release(&trace);
}

static void disk_below_memory_hits_at_least_what_either_does(void **unused)
{
    struct trace trace = read_mooncake(0);
    struct replay_options host = { .kinds = PLAIN, .blocks = blocks_of(20) };
    struct replay_options both = { .kinds = PLAIN,
                                   .one_shot_s = UINT32_MAX,
                                   .blocks = host.blocks,
                                   .disk_blocks = blocks_of(50),
                                   .segment_blocks = SEGMENT_BLOCKS,
                                   .forward_percent = 75 };
    struct replay_options disk = both;
    (void)unused;
    disk.kinds |= REPLAY_NO_HOST;
    disk.blocks = 0;
    struct replay_result on_host = replay_one(&trace, &host), on_disk = replay_one(&trace, &disk);
    struct replay_result found = replay_one(&trace, &both);
    assert_true(found.hit_tokens >= on_host.hit_tokens);
    assert_true((double)found.hit_tokens >= 0.99 * (double)on_disk.hit_tokens);
    assert_true(found.disk_hit_tokens > 0 && found.disk_hit_tokens < found.hit_tokens);

    both.one_shot_s = 60;  // what nobody came back for in a minute is not written
    struct replay_result spared = replay_one(&trace, &both);
    assert_true(spared.disk_writes < found.disk_writes);
    trace_release(&trace);
}

/* ---- windows -------------------------------------------------------------------------------- */

static struct plain_windows plain_of(const struct replay_options *options)
{
    struct plain_windows windows = { .prompt_end = options->kinds & REPLAY_PROMPT_END,
                                     .output_end = options->kinds & REPLAY_OUTPUT_END,
                                     .branch = options->kinds & REPLAY_BRANCH,
                                     .ends_kept = options->ends_kept,
                                     .interval_blocks = options->interval_tokens / 128 };
    glob_t files = files_of("weka-agentic/*.json");
    for (size_t i = 0; i < files.gl_pathc; i++) {
        struct trace trace = read_trace(files.gl_pathv[i]);
        plain_windows_run(&trace, &windows);
        trace_release(&trace);
    }
    globfree(&files);
    return windows;
}

static void windows_at_few_places_hit_what_a_plain_model_hits(void **unused)
{
    static const struct replay_options row[] = {
        { REPLAY_OUTPUT_KNOWN, .interval_tokens = 8192 },
        { REPLAY_OUTPUT_KNOWN, .interval_tokens = 2048 },
        { .kinds = REPLAY_OUTPUT_KNOWN | REPLAY_PROMPT_END },
        { .kinds = REPLAY_OUTPUT_KNOWN | REPLAY_PROMPT_END | REPLAY_OUTPUT_END },
        { .kinds = FULL },
        { FULL, .interval_tokens = 32768 },
        { FULL, .ends_kept = 1 },
        { FULL, .ends_kept = 2 },
        { FULL, .ends_kept = 4 },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct replay_result result = replay("weka-agentic/*.json", &row[i]);
        struct plain_windows plain = plain_of(&row[i]);
        assert_int_equal(result.requests, plain.requests);
        assert_int_equal(result.input_tokens, plain.input);
        assert_near(result.hit_tokens, result.input_tokens, (double)plain.hit / (double)plain.input,
                    0.1);
        assert_near(result.windows, result.requests, (double)plain.kept / (double)plain.requests,
                    2);
    }
}

/* Two windows a path, at ends and branches, lose next to nothing against all of them; one does. */
static void two_windows_a_path_are_enough(void **unused)
{
    struct replay_options options = { .kinds = FULL };
    struct replay_result all = replay("weka-agentic/*.json", &options);
    options.ends_kept = 2;
    struct replay_result two = replay("weka-agentic/*.json", &options);
    options.ends_kept = 1;
    struct replay_result one = replay("weka-agentic/*.json", &options);
    (void)unused;
    assert_near(two.hit_tokens, two.input_tokens, (double)all.hit_tokens / (double)all.input_tokens,
                0.1);
    assert_true((double)one.hit_tokens + 0.005 * (double)one.input_tokens < (double)two.hit_tokens);
    assert_true(two.windows_last * 5 < all.windows_last);
}

static void trace_that_is_none_is_refused_with_its_place(void **unused)
{
    static const char *const text[] = {
        "{\"timestamp\": 1, \"input_length\": 5, \"hash_ids\": [1]}\n",
        "{\"timestamp\": 1, \"input_length\": -5, \"output_length\": 1, \"hash_ids\": [1]}\n",
        "{\"timestamp\": 1, \"input_length\": 5, \"output_length\": 1, \"hash_ids\": [\"a\"]}\n",
        "[1, 2\n",
        "7\n",
    };
    char path[] = "/tmp/fathom-trace-XXXXXX.jsonl";
    int fd = mkstemps(path, 6);
    (void)unused;
    assert_true(fd >= 0);
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        struct trace trace;
        struct err err = { 0 };
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, text[i], strlen(text[i]), 0), strlen(text[i]));
        assert_int_equal(trace_read(&trace, path, &err), BAD_INPUT);
        assert_true(err.text[0]);
    }
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disk_below_memory_hits_at_least_what_either_does),
        cmocka_unit_test(limited_disk_hits_what_segments_in_turn_do),
        cmocka_unit_test(limited_memory_hits_what_least_recently_used_does),
        cmocka_unit_test(policies_keep_the_order_that_chose_them),
        cmocka_unit_test(trace_that_is_none_is_refused_with_its_place),
        cmocka_unit_test(two_windows_a_path_are_enough),
        cmocka_unit_test(unlimited_cache_hits_the_published_tokens),
        cmocka_unit_test(windows_at_few_places_hit_what_a_plain_model_hits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
