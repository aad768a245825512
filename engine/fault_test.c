/* fault_test.c - a GPU that is full or lost ends in a sentence, and every job in an END: never in a
 * hang. Needs a GPU.
 */
#include "kernels/cuda/testing.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "config/clock.h"
#include "engine/collecting.h"
#include "engine/engine.h"

enum { JOBS = 20 };

static enum status open_on(struct dev *dev, struct engine **engine, struct err *err)
{
    struct engine_options options = {
        .model = "engine/testdata/small",
        .random_weights = true,
        .random_seed = 3,
        .backend = "cuda",
        .opened = dev,
        .context = 4096,
        .step_tokens = 512,
        .most_seqs = 16,
        .queue = 100,
    };
    return engine_open(&options, engine, err);
}

static void submit(struct engine *engine, uint32_t i)
{
    struct err err = { "" };
    struct job *job = calloc(1, sizeof *job);
    assert_non_null(job);
    *job = (struct job){ .id = i,
                         .prompt_tokens = 10 + i,
                         .max_tokens = 4000,
                         .sampling = { .temperature = 1, .top_p = 1, .repetition = 1 } };
    job->prompt = calloc(job->prompt_tokens, sizeof *job->prompt);
    assert_non_null(job->prompt);
    assert_int_equal(engine_submit(engine, job, &err), OK);
}

static void file(void *failed, const struct event *event)
{
    if (event->kind == EVENT_END && event->finish == FINISH_FAILED) ++*(uint32_t *)failed;
}

/* Waits for news; returns how many jobs ended, and adds those that failed. */
static uint32_t collect(struct engine *engine, uint32_t *failed)
{
    return engine_collect(engine, file, failed);
}

static void a_full_card_is_told_in_a_sentence(void **unused)
{
    (void)unused;
    struct dev *full = test_gpu(), *dev = test_gpu();
    struct engine *engine = NULL;
    struct dev_memory memory;
    struct err err = { "" };
    size_t taken[64] = { 0 };
    void *data[64] = { NULL };
    uint32_t count = 0;
    full->ops->memory(full, &memory);
    size_t bytes = memory.free;
    while (count < 64 && bytes >= 1 << 20) {  // what is left, in ever smaller pieces
        data[count] = full->ops->alloc(full, bytes);
        if (data[count]) taken[count++] = bytes;
        else bytes /= 2;
    }
    enum status status = open_on(dev, &engine, &err);
    print_message("%s\n", err.text);
    assert_int_equal(status, NO_MEMORY);
    assert_true(strlen(err.text) > 10);
    for (uint32_t i = 0; i < count; i++) full->ops->free(full, data[i], taken[i]);
    (void)!full->ops->finish(full, &err);  // takes the failure that the other device met with it
    full->ops->close(full);
}

/* The last test of a process: the context is of no use afterwards. */
static void a_lost_card_ends_every_job(void **unused)
{
    (void)unused;
    struct dev *dev = test_gpu();
    struct engine *engine = NULL;
    struct engine_stats stats;
    struct err err = { "" };
    enum status status = open_on(dev, &engine, &err);
    if (status != OK) print_error("%s\n", err.text);
    assert_int_equal(status, OK);
    for (uint32_t i = 0; i < JOBS; i++) submit(engine, i);
    uint32_t failed = 0, ended = 0;
    while (ended == 0) {  // until some tokens are out
        ended += collect(engine, &failed);
        engine_stats(engine, &stats);
        if (stats.output_tokens > 50) break;
    }
    uint32_t *nowhere = (uint32_t *)(uintptr_t)0x1000;
    dev->ops->feed(dev, &(struct feed_args){ nowhere, nowhere, 1, (void *)nowhere });
    while (ended < JOBS) ended += collect(engine, &failed);
    assert_true(failed > 0);
    uint64_t limit = now_ns() + 60 * NS_PER_S;  // told after the step's events
    do engine_stats(engine, &stats);
    while (!stats.failed && now_ns() < limit);
    assert_true(stats.failed);
    engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_card_is_told_in_a_sentence),
        cmocka_unit_test(a_lost_card_ends_every_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
