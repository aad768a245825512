/* step_test.c - a captured run repeats what was queued with what its matrices hold then; marks are
 * waited for one by one; a capture that fails leaves the device as usable as before. */
#include "kernels/cuda/testing.h"

enum { COUNT = 1000 };

struct lab {
    struct dev *dev;
    uint32_t *from, *id;          // device
    struct sample_out *out;       // device
    uint32_t *host;               // pinned; where each id comes from
    struct sample_out *host_out;  // pinned
    uint32_t *back;               // pinned
};

static void open_lab(struct lab *lab)
{
    struct dev *dev = lab->dev = test_gpu();
    lab->from = dev->ops->alloc(dev, COUNT * sizeof(uint32_t));
    lab->id = dev->ops->alloc(dev, COUNT * sizeof(uint32_t));
    lab->out = dev->ops->alloc(dev, COUNT * sizeof(struct sample_out));
    lab->host = dev->ops->host_alloc(dev, COUNT * sizeof(uint32_t));
    lab->back = dev->ops->host_alloc(dev, COUNT * sizeof(uint32_t));
    lab->host_out = dev->ops->host_alloc(dev, COUNT * sizeof(struct sample_out));
    assert_true(lab->from && lab->id && lab->out && lab->host && lab->back && lab->host_out);
}

static void close_lab(struct lab *lab)
{
    struct dev *dev = lab->dev;
    dev->ops->free(dev, lab->from, COUNT * sizeof(uint32_t));
    dev->ops->free(dev, lab->id, COUNT * sizeof(uint32_t));
    dev->ops->free(dev, lab->out, COUNT * sizeof(struct sample_out));
    dev->ops->host_free(dev, lab->host, COUNT * sizeof(uint32_t));
    dev->ops->host_free(dev, lab->back, COUNT * sizeof(uint32_t));
    dev->ops->host_free(dev, lab->host_out, COUNT * sizeof(struct sample_out));
    test_finish(dev);
    dev->ops->close(dev);
}

/* Every other id comes from a draw of this round; the others stay 7. */
static void send(struct lab *lab, uint32_t round)
{
    for (uint32_t i = 0; i < COUNT; i++) lab->back[i] = 7;
    lab->dev->ops->copy_in(lab->dev, lab->id, lab->back, COUNT * sizeof(uint32_t));
    for (uint32_t i = 0; i < COUNT; i++) {
        lab->host[i] = i % 2 ? NO_ROW : (i * 7 + round) % COUNT;
        lab->host_out[i].id = 1000 * round + i;
    }
    lab->dev->ops->copy_in(lab->dev, lab->from, lab->host, COUNT * sizeof(uint32_t));
    lab->dev->ops->copy_in(lab->dev, lab->out, lab->host_out, COUNT * sizeof *lab->host_out);
}

static void feed(struct lab *lab)
{
    lab->dev->ops->feed(lab->dev, &(struct feed_args){ lab->id, lab->from, COUNT, lab->out });
}

static void expect(struct lab *lab, uint32_t round)
{
    lab->dev->ops->copy_out(lab->dev, lab->back, lab->id, COUNT * sizeof(uint32_t));
    test_finish(lab->dev);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(lab->back[i], i % 2 ? 7 : 1000 * round + (i * 7 + round) % COUNT);
}

static void a_graph_repeats_what_was_queued(void **unused)
{
    struct lab lab;
    (void)unused;
    open_lab(&lab);
    send(&lab, 1);
    feed(&lab);
    expect(&lab, 1);

    lab.dev->ops->capture_begin(lab.dev);
    feed(&lab);
    struct graph *graph = lab.dev->ops->capture_end(lab.dev);
    test_finish(lab.dev);
    assert_non_null(graph);
    for (uint32_t round = 2; round < 6; round++) {
        send(&lab, round);
        lab.dev->ops->graph_run(lab.dev, graph);
        expect(&lab, round);
    }
    lab.dev->ops->graph_free(lab.dev, graph);
    close_lab(&lab);
}

static void marks_are_waited_for_one_by_one(void **unused)
{
    struct lab lab;
    struct err err;
    (void)unused;
    open_lab(&lab);
    for (uint32_t round = 0; round < 40; round++) {
        test_finish(lab.dev);
        send(&lab, round);
        feed(&lab);
        lab.dev->ops->mark(lab.dev, round % 2);
        if (round) assert_int_equal(lab.dev->ops->wait(lab.dev, (round + 1) % 2, &err), OK);
        assert_int_equal(lab.dev->ops->wait(lab.dev, round % 2, &err), OK);
    }
    expect(&lab, 39);
    close_lab(&lab);
}

static void a_failed_capture_is_told_and_survived(void **unused)
{
    struct lab lab;
    struct err err = { "" };
    (void)unused;
    open_lab(&lab);
    lab.dev->ops->capture_begin(lab.dev);
    assert_int_equal(lab.dev->ops->wait(lab.dev, 3, &err), OK);  // never set: nothing to wait for
    assert_int_not_equal(lab.dev->ops->finish(lab.dev, &err), OK);  // no waiting in a capture
    assert_true(strlen(err.text) > 0);
    assert_null(lab.dev->ops->capture_end(lab.dev));
    (void)!lab.dev->ops->finish(lab.dev, &err);
    send(&lab, 3);
    feed(&lab);
    expect(&lab, 3);
    close_lab(&lab);
}

static void memory_that_is_taken_is_gone(void **unused)
{
    struct dev *dev = test_gpu();
    struct dev_memory before, after;
    size_t bytes = (size_t)1 << 30;
    (void)unused;
    dev->ops->memory(dev, &before);
    void *data = dev->ops->alloc(dev, bytes);
    assert_non_null(data);
    dev->ops->memory(dev, &after);
    assert_true(before.total == after.total && before.free - after.free >= bytes);
    assert_true(before.free - after.free < bytes + bytes / 100);
    assert_null(dev->ops->alloc(dev, before.total));  // more than there is: no harm done
    test_finish(dev);
    dev->ops->free(dev, data, bytes);
    test_finish(dev);
    dev->ops->close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_graph_repeats_what_was_queued),
        cmocka_unit_test(marks_are_waited_for_one_by_one),
        cmocka_unit_test(a_failed_capture_is_told_and_survived),
        cmocka_unit_test(memory_that_is_taken_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
