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

/* Windows are all resumable here and a last id counts whole, as the traces' answers have it. */
enum { PLAIN = REPLAY_NO_WINDOWS | REPLAY_WHOLE_IDS };
enum { FULL = REPLAY_PROMPT_END | REPLAY_OUTPUT_END | REPLAY_BRANCH | REPLAY_OUTPUT_KNOWN };

/* Every file of a pattern below the shared traces, as one sum. Skips the test where there is
 * none. */
static struct replay_result replay(const char *pattern, const struct replay_options *options)
{
    const char *shared = getenv("FATHOM_SHARED");
    char full[512];
    glob_t files;
    struct replay_result result = { 0 };
    snprintf(full, sizeof full, "%s/fixtures/traces/%s", shared ? shared : "../shared", pattern);
    if (glob(full, 0, NULL, &files) != 0) {
        print_message("skipped: no %s\n", full);
        skip();
    }
    for (size_t i = 0; i < files.gl_pathc; i++) {
        struct trace trace;
        struct err err;
        if (trace_read(&trace, files.gl_pathv[i], &err) != OK) assert_string_equal(err.text, "");
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

/* Room in gigabytes of Flash's blocks of 512 tokens; wanted: a list in exact order of use, whose
 * oldest entries outside the request at hand make room. */
static void limited_cache_hits_what_least_recently_used_does(void **unused)
{
    static const struct {
        const char *file;
        double gigabytes, hit;
    } row[] = {
        { "conversation_first6000", 5, 0.0604 },   { "conversation_first6000", 20, 0.2138 },
        { "conversation_first6000", 50, 0.3087 },  { "conversation_first6000", 100, 0.3492 },
        { "conversation_first6000", 200, 0.3527 }, { "synthetic_first2000", 5, 0.0467 },
        { "synthetic_first2000", 20, 0.1805 },     { "synthetic_first2000", 50, 0.3179 },
        { "synthetic_first2000", 100, 0.3363 },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char file[128];
        struct replay_options options = {
            .kinds = PLAIN,
            .blocks = (uint32_t)(row[i].gigabytes * 1e9 / (4 * 492832)),
        };
        snprintf(file, sizeof file, "mooncake/%s.jsonl", row[i].file);
        struct replay_result result = replay(file, &options);
        assert_near(result.hit_tokens, result.input_tokens, row[i].hit, 0.5);
    }
}

/* Wanted: a plain dictionary of prefixes that keeps windows by the same rules. */
static void windows_at_few_places_hit_what_a_plain_model_hits(void **unused)
{
    static const struct {
        struct replay_options options;
        double hit, windows_a_request;
    } row[] = {
        { { REPLAY_OUTPUT_KNOWN, .interval_tokens = 8192 }, 0.8753, 0.82 },
        { { REPLAY_OUTPUT_KNOWN, .interval_tokens = 2048 }, 0.9086, 3.40 },
        { { .kinds = REPLAY_OUTPUT_KNOWN | REPLAY_PROMPT_END }, 0.9071, 0.99 },
        { { .kinds = REPLAY_OUTPUT_KNOWN | REPLAY_PROMPT_END | REPLAY_OUTPUT_END }, 0.9112, 1.61 },
        { { .kinds = FULL }, 0.9112, 1.64 },
        { { FULL, .interval_tokens = 32768 }, 0.9199, 1.79 },
        { { FULL, .ends_kept = 1 }, 0.9036, 1.64 },
        { { FULL, .ends_kept = 2 }, 0.9112, 1.64 },
        { { FULL, .ends_kept = 4 }, 0.9112, 1.64 },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct replay_result result = replay("weka-agentic/*.json", &row[i].options);
        assert_near(result.known_tokens, result.input_tokens, 0.9226, 0.05);
        assert_near(result.hit_tokens, result.input_tokens, row[i].hit, 0.5);
        assert_near(result.windows, result.requests, row[i].windows_a_request, 5);
    }
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
        cmocka_unit_test(limited_cache_hits_what_least_recently_used_does),
        cmocka_unit_test(trace_that_is_none_is_refused_with_its_place),
        cmocka_unit_test(unlimited_cache_hits_the_published_tokens),
        cmocka_unit_test(windows_at_few_places_hit_what_a_plain_model_hits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
