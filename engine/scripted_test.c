/* scripted_test.c - the scripted engine keeps the promises of engine.h: one END for each job, in the
 * order STARTED, TOKENS, END, whatever is cancelled when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "config/waiting.h"
#include "engine/scripted.h"
#include <cmocka.h>  // last: it defines a macro named fail

#define JOBS 200

static char path[] = "/tmp/fathom-script-XXXXXX";

static struct engine *open_with(const char *script, uint32_t most_seqs)
{
    struct scripted_options options = { .context = 4096, .most_seqs = most_seqs, .queue = 1000 };
    struct engine *engine;
    struct err err = { "" };

    if (script) {
        strcpy(path, "/tmp/fathom-script-XXXXXX");
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, script, strlen(script)), strlen(script));
        close(fd);
        options.script = path;
    }
    enum status status = scripted_open(&options, &engine, &err);
    if (script) unlink(path);
    if (status != OK) print_message("%s\n", err.text);
    assert_int_equal(status, OK);
    return engine;
}

static struct job *job_of(uint64_t id, uint32_t first, uint32_t max_tokens)
{
    struct job *job = calloc(1, sizeof *job);

    job->id = id;
    job->prompt = calloc(3, sizeof *job->prompt);
    job->prompt_tokens = 3;
    for (uint32_t i = 0; i < 3; i++) job->prompt[i] = first + i;
    job->max_tokens = max_tokens;
    job->stop_token[0] = 1;
    job->stop_tokens = 1;
    return job;
}

static uint32_t wait_for_events(struct engine *engine, struct event *event, uint32_t room)
{
    struct pollfd readable = { .fd = engine_event_fd(engine), .events = POLLIN };
    uint64_t rings;

    assert_int_equal(poll(&readable, 1, PATIENCE_MS), 1);
    assert_int_equal(read(readable.fd, &rings, sizeof rings), sizeof rings);
    return engine_take_events(engine, event, room);
}

/* Plays one job to its end; returns how it ended. */
static enum finish play(struct engine *engine, struct job *job, uint32_t *token, uint32_t *count)
{
    struct event event[64];
    bool started = false;

    *count = 0;
    assert_int_equal(engine_submit(engine, job, NULL), OK);
    for (;;) {
        uint32_t events = wait_for_events(engine, event, 64);
        for (uint32_t i = 0; i < events; i++) {
            assert_int_equal(started, event[i].kind != EVENT_STARTED);
            started = true;
            if (event[i].kind == EVENT_END) return event[i].finish;
            for (uint32_t t = 0; t < event[i].count; t++) token[(*count)++] = event[i].token[t];
        }
    }
}

static void the_first_answer_whose_ids_stand_in_the_prompt_is_played(void **unused)
{
    struct engine *engine = open_with("{\"step_us\":100,\"tokens_per_step\":2}\n"
                                      "{\"prompt_has\":[11,12],\"tokens\":[7,8,9]}\n"
                                      "\n"
                                      "{\"tokens\":[5],\"finish\":\"failed\"}\n",
                                      4);
    uint32_t token[64], count;
    (void)unused;

    assert_int_equal(play(engine, job_of(1, 10, 50), token, &count), FINISH_STOP);
    assert_int_equal(count, 3);
    assert_int_equal(token[2], 9);
    assert_int_equal(play(engine, job_of(2, 10, 2), token, &count), FINISH_LENGTH);
    assert_int_equal(count, 2);
    assert_int_equal(play(engine, job_of(3, 20, 50), token, &count), FINISH_FAILED);
    assert_int_equal(count, 1);
    engine_close(engine);
}

static void the_same_request_gets_the_same_generated_answer(void **unused)
{
    struct engine *engine = open_with("{\"step_us\":100}\n", 4);
    uint32_t first[64], second[64], other[64], counts[3];
    (void)unused;

    assert_int_equal(play(engine, job_of(1, 10, 64), first, &counts[0]), FINISH_STOP);
    assert_int_equal(play(engine, job_of(2, 10, 64), second, &counts[1]), FINISH_STOP);
    assert_int_equal(play(engine, job_of(3, 11, 64), other, &counts[2]), FINISH_STOP);
    assert_int_equal(counts[0], counts[1]);
    assert_memory_equal(first, second, counts[0] * sizeof *first);
    assert_true(counts[0] != counts[2] || memcmp(first, other, counts[0] * sizeof *first) != 0);
    for (uint32_t i = 0; i < counts[0]; i++) assert_in_range(first[i], 35, 92);
    engine_close(engine);
}

static void every_job_ends_once_whatever_is_cancelled(void **unused)
{
    struct engine *engine = open_with("{\"step_us\":50,\"generate\":40}\n", 16);
    bool ended[JOBS + 1] = { false };
    struct event event[64];
    uint32_t ends = 0, seed = 3;
    (void)unused;

    for (uint32_t id = 1; id <= JOBS; id++)
        assert_int_equal(engine_submit(engine, job_of(id, id, 40), NULL), OK);
    while (ends < JOBS) {
        uint32_t count = wait_for_events(engine, event, 64);
        do {
            for (uint32_t i = 0; i < count; i++) {
                assert_false(ended[event[i].job]);
                if (event[i].kind != EVENT_END) continue;
                ended[event[i].job] = true;
                ends++;
            }
            seed = seed * 1664525 + 1013904223;
            engine_cancel(engine,
                          1 + (seed >> 8) % (2 * JOBS));  // running, waiting, ended, unknown
        } while ((count = engine_take_events(engine, event, 64)) > 0);
    }
    struct engine_stats stats;
    do engine_stats(engine, &stats);
    while (stats.running + stats.waiting > 0);
    assert_int_equal(stats.blocks_used, 0);
    engine_close(engine);
}

static void a_closed_engine_frees_what_it_holds(void **unused)
{
    struct engine *engine = open_with(NULL, 2);
    (void)unused;

    for (uint32_t id = 1; id <= 20; id++) {
        struct job *job = job_of(id, id, 4000);
        job->sampling.logprobs = 3;
        assert_int_equal(engine_submit(engine, job, NULL), OK);
    }
    usleep(3000);
    engine_close(engine);  // the leak checker judges
}

static void a_failed_engine_ends_all_jobs_and_takes_no_more(void **unused)
{
    struct engine *engine = open_with("{\"step_us\":100,\"fail_at_step\":3,\"generate\":50}\n", 4);
    uint32_t token[64], count;
    struct engine_stats stats;
    struct err err;
    (void)unused;

    assert_int_equal(play(engine, job_of(1, 10, 60), token, &count), FINISH_FAILED);
    do engine_stats(engine, &stats);
    while (!stats.failed);
    struct job *late = job_of(2, 10, 60);
    assert_int_equal(engine_submit(engine, late, &err), DEVICE_FAILED);
    job_free(late);
    engine_close(engine);
}

static void a_wrong_script_is_refused_with_its_line(void **unused)
{
    static const struct {
        const char *script, *sentence;
    } wrong[] = {
        { "{\"step_us\":1}\n{\"stepus\":1}\n", ":2: stepus: no such field" },
        { "{\"tokens\":7}\n", ":1: tokens: found an integer, wanted a list of ids" },
        { "{\"tokens\":[7,-1]}\n", ":1: tokens: entry 1 is no token id" },
        { "{\"tokens\":[7],\"finish\":\"maybe\"}\n", ":1: finish: wanted stop, length or failed" },
        { "[1]\n", ":1: wanted an object" },
    };
    (void)unused;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct scripted_options options = { .context = 10, .most_seqs = 1, .script = path };
        struct engine *engine;
        struct err err = { "" };

        strcpy(path, "/tmp/fathom-script-XXXXXX");
        int fd = mkstemp(path);
        assert_int_equal(write(fd, wrong[i].script, strlen(wrong[i].script)),
                         strlen(wrong[i].script));
        close(fd);
        assert_int_equal(scripted_open(&options, &engine, &err), BAD_INPUT);
        unlink(path);
        print_message("%s\n", err.text);
        assert_non_null(strstr(err.text, wrong[i].sentence));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_answer_whose_ids_stand_in_the_prompt_is_played),
        cmocka_unit_test(the_same_request_gets_the_same_generated_answer),
        cmocka_unit_test(every_job_ends_once_whatever_is_cancelled),
        cmocka_unit_test(a_closed_engine_frees_what_it_holds),
        cmocka_unit_test(a_failed_engine_ends_all_jobs_and_takes_no_more),
        cmocka_unit_test(a_wrong_script_is_refused_with_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
