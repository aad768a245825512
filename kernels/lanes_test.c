/* lanes_test.c - copies beside the computing come after what was queued before them, in order, and say
 * when they are through; copies in the queue arrive whole. On the CPU and, where there is one, on the GPU.
 */
#include <string.h>
#include <sys/mman.h>
#include "kernels/testing.h"

enum { ROWS = 4096, COLS = 1024, ROUNDS = 64, PIECE = 460800, PIECES = 40 };

static struct dev *open_device(void **state)
{
    struct dev *dev = NULL;
    struct err err = { "" };
    struct dev_options options = { .numerics = NUMERICS_OFFICIAL };
    const char *name = *state;
    if (backend_open(name, &options, &dev, &err) != OK) {
        print_message("skipped, no GPU: %s\n", err.text);
        assert_string_equal(name, "cuda");
        skip();
    }
    return dev;
}

static void *host_take(struct dev *dev, size_t bytes)
{
    void *data = dev->ops->host_alloc(dev, bytes);
    assert_non_null(data);
    return data;
}

static void *device_take(struct dev *dev, size_t bytes)
{
    void *data = dev->ops->alloc(dev, bytes);
    assert_non_null(data);
    return data;
}

static void expect_finish(struct dev *dev)
{
    struct err err = { "" };
    enum status status = dev->ops->finish(dev, &err);
    if (status != OK) print_error("%s\n", err.text);
    assert_int_equal(status, OK);
}

static void await(struct dev *dev, enum dev_lane lane, uint64_t place)
{
    struct err err = { "" };
    while (!dev->ops->lane_done(dev, lane, place))
        if (dev->ops->wait(dev, 0, &err) != OK) test_fail("%s\n", err.text);
}

/* Rows change places again and again: work that takes a while, with a result that is known. */
struct shuffle {
    struct mat from, to;
    uint32_t *row;  // device
};

static void shuffle_open(struct dev *dev, struct shuffle *s)
{
    size_t bytes = (size_t)ROWS * COLS * dtype_size(dev->activation);
    uint32_t row[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) row[i] = (i + 1) % ROWS;
    s->from = mat_of(device_take(dev, bytes), dev->activation, ROWS, COLS);
    s->to = mat_of(device_take(dev, bytes), dev->activation, ROWS, COLS);
    s->row = device_take(dev, sizeof row);
    dev->ops->copy_in(dev, s->row, row, sizeof row);
    expect_finish(dev);
}

static size_t shuffle_bytes(const struct shuffle *s)
{
    return (size_t)ROWS * COLS * dtype_size(s->from.type);
}

static void shuffle_queue(struct dev *dev, struct shuffle *s)
{
    for (int i = 0; i < ROUNDS; i++) {
        bool odd = i % 2;
        dev->ops->gather_rows(dev, &(struct gather_rows_args){ .out = odd ? s->from : s->to,
                                                               .in = odd ? s->to : s->from,
                                                               .row = s->row });
    }
}

static void shuffle_close(struct dev *dev, struct shuffle *s)
{
    dev->ops->free(dev, s->from.data, shuffle_bytes(s));
    dev->ops->free(dev, s->to.data, shuffle_bytes(s));
    dev->ops->free(dev, s->row, ROWS * sizeof(uint32_t));
}

/* Row r holds numbers of its own. */
static void number_rows(uint8_t *data, size_t row_bytes, uint32_t turn)
{
    for (uint32_t r = 0; r < ROWS; r++)
        memset(data + r * row_bytes, (int)((r * 7 + turn) % 61 + 1), row_bytes);
}

static void expect_rows(const uint8_t *data, size_t row_bytes, uint32_t turn)
{
    for (uint32_t r = 0; r < ROWS; r++) {
        uint8_t wanted = (uint8_t)(((r + ROUNDS) % ROWS * 7 + turn) % 61 + 1);
        if (data[r * row_bytes] != wanted || data[(r + 1) * row_bytes - 1] != wanted)
            test_fail("row %u: found %u, wanted %u\n", r, data[r * row_bytes], wanted);
    }
}

static void a_copy_follows_what_was_queued_before_it(void **state)
{
    struct dev *dev = open_device(state);
    struct shuffle s;
    shuffle_open(dev, &s);
    size_t bytes = shuffle_bytes(&s);
    uint8_t *in = host_take(dev, bytes), *out = host_take(dev, bytes);
    for (uint32_t turn = 0; turn < 4; turn++) {
        number_rows(in, bytes / ROWS, turn);
        memset(out, 0xff, bytes);
        dev->ops->copy_in(dev, s.from.data, in, bytes);
        shuffle_queue(dev, &s);
        dev->ops->lane_out(dev, out, s.from.data, bytes);
        await(dev, LANE_OUT, dev->ops->lane_mark(dev, LANE_OUT));
        expect_rows(out, bytes / ROWS, turn);
    }
    dev->ops->host_free(dev, in, bytes);
    dev->ops->host_free(dev, out, bytes);
    shuffle_close(dev, &s);
    dev->ops->close(dev);
}

static void a_copy_follows_a_graph(void **state)
{
    struct dev *dev = open_device(state);
    struct shuffle s;
    shuffle_open(dev, &s);
    size_t bytes = shuffle_bytes(&s);
    uint8_t *in = host_take(dev, bytes), *out = host_take(dev, bytes);
    shuffle_queue(dev, &s);
    dev->ops->capture_begin(dev);
    shuffle_queue(dev, &s);
    struct graph *graph = dev->ops->capture_end(dev);
    expect_finish(dev);
    assert_non_null(graph);
    for (uint32_t turn = 0; turn < 4; turn++) {
        number_rows(in, bytes / ROWS, turn);
        memset(out, 0xff, bytes);
        dev->ops->lane_in(dev, s.from.data, in, bytes);
        await(dev, LANE_IN, dev->ops->lane_mark(dev, LANE_IN));
        dev->ops->graph_run(dev, graph);
        dev->ops->lane_out(dev, out, s.from.data, bytes);
        await(dev, LANE_OUT, dev->ops->lane_mark(dev, LANE_OUT));
        expect_rows(out, bytes / ROWS, turn);
    }
    dev->ops->graph_free(dev, graph);
    dev->ops->host_free(dev, in, bytes);
    dev->ops->host_free(dev, out, bytes);
    shuffle_close(dev, &s);
    dev->ops->close(dev);
}

static void pieces_come_back_as_they_went(void **state)
{
    struct dev *dev = open_device(state);
    size_t bytes = (size_t)PIECE * PIECES;
    uint64_t seed = 3, place[PIECES];
    uint8_t *from = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *to = malloc(bytes);  // pageable
    char *device = device_take(dev, bytes);
    assert_true(from != MAP_FAILED);
    assert_non_null(to);
    for (size_t i = 0; i < bytes; i += 64) from[i] = (uint8_t)test_random(&seed);
    memset(to, 0xff, bytes);
    bool pinned = dev->ops->host_pin(dev, from, bytes);
    if (!pinned) print_message("memory cannot be pinned here\n");

    for (uint32_t i = 0; i < PIECES; i++) {
        uint32_t at = (i * 17 + 5) % PIECES;  // the other way round on the device
        dev->ops->lane_in(dev, device + (size_t)at * PIECE, from + (size_t)i * PIECE, PIECE);
        place[i] = dev->ops->lane_mark(dev, LANE_IN);
        assert_true(i == 0 || place[i] > place[i - 1]);
    }
    assert_true(dev->ops->lane_mark(dev, LANE_IN) == place[PIECES - 1]);
    await(dev, LANE_IN, place[PIECES - 1]);
    for (uint32_t i = 0; i < PIECES; i++) assert_true(dev->ops->lane_done(dev, LANE_IN, place[i]));
    for (uint32_t i = 0; i < PIECES; i++)
        dev->ops->lane_out(dev, to + (size_t)i * PIECE,
                           device + (size_t)((i * 17 + 5) % PIECES) * PIECE, PIECE);
    await(dev, LANE_OUT, dev->ops->lane_mark(dev, LANE_OUT));
    assert_memory_equal(to, from, bytes);
    if (pinned) dev->ops->host_unpin(dev, from, bytes);
    expect_finish(dev);
    munmap(from, bytes);
    free(to);
    dev->ops->free(dev, device, bytes);
    dev->ops->close(dev);
}

static void copies_across_take_their_turn(void **state)
{
    struct dev *dev = open_device(state);
    struct shuffle s;
    shuffle_open(dev, &s);
    size_t bytes = shuffle_bytes(&s);
    uint8_t *in = host_take(dev, bytes), *out = host_take(dev, bytes);
    char *copy = device_take(dev, bytes);
    number_rows(in, bytes / ROWS, 9);
    dev->ops->copy_in(dev, s.from.data, in, bytes);
    shuffle_queue(dev, &s);
    dev->ops->copy_across(dev, copy, s.from.data, bytes);
    shuffle_queue(dev, &s);
    dev->ops->copy_out(dev, out, copy, bytes);
    expect_finish(dev);
    expect_rows(out, bytes / ROWS, 9);
    dev->ops->host_free(dev, in, bytes);
    dev->ops->host_free(dev, out, bytes);
    dev->ops->free(dev, copy, bytes);
    shuffle_close(dev, &s);
    dev->ops->close(dev);
}

/* Lengths and places of every alignment, there and back, with nothing written around them. */
static void small_copies_arrive_whole(void **state)
{
    static const size_t length[] = {
        1, 3, 4, 7, 16, 20, 60, 64, 1000, 4100, 65536, 262148, 524287
    };
    struct dev *dev = open_device(state);
    size_t bytes = 1 << 20;
    uint8_t *in = host_take(dev, bytes), *out = host_take(dev, bytes);
    char *device = device_take(dev, bytes);
    uint64_t seed = 5;
    for (size_t i = 0; i < bytes; i++) in[i] = (uint8_t)test_random(&seed);
    for (uint32_t i = 0; i < 200; i++) {
        size_t size = length[i % (sizeof length / sizeof *length)];
        uint32_t grain = 1u << test_random(&seed) % 6;  // 1 to 32
        size_t from = 64 + test_random(&seed) % 1000 * grain,
               to = 64 + test_random(&seed) % 1000 * grain;
        size_t back = 64 + test_random(&seed) % 1000 * grain;
        memset(out, 0xa5, bytes);
        dev->ops->copy_in(dev, device + to, in + from, size);
        dev->ops->copy_out(dev, out + back, device + to, size);
        expect_finish(dev);
        assert_memory_equal(out + back, in + from, size);
        for (size_t k = 1; k <= 64; k++)
            assert_true(out[back - k] == 0xa5 && out[back + size + k - 1] == 0xa5);
    }
    dev->ops->host_free(dev, in, bytes);
    dev->ops->host_free(dev, out, bytes);
    dev->ops->free(dev, device, bytes);
    dev->ops->close(dev);
}

static void a_copy_that_fails_is_never_done(void **state)
{
    struct dev *dev = open_device(state);
    struct err err = { "" };
    char *device = device_take(dev, PIECE), *host = host_take(dev, PIECE);
    dev->ops->lane_out(dev, NULL, device, PIECE);
    uint64_t place = dev->ops->lane_mark(dev, LANE_OUT);
    assert_false(dev->ops->lane_done(dev, LANE_OUT, place));
    assert_int_equal(dev->ops->wait(dev, 0, &err), DEVICE_FAILED);
    assert_true(strlen(err.text) > 0);
    assert_int_equal(dev->ops->finish(dev, &err), DEVICE_FAILED);
    dev->ops->lane_out(dev, host, device, PIECE);
    assert_false(dev->ops->lane_done(dev, LANE_OUT, place));
    dev->ops->host_free(dev, host, PIECE);
    dev->ops->free(dev, device, PIECE);
    dev->ops->close(dev);
}

#define ON(name, backend) cmocka_unit_test_prestate(name, (char[]){ backend })

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(a_copy_follows_what_was_queued_before_it, "cpu"),
        ON(pieces_come_back_as_they_went, "cpu"),
        ON(copies_across_take_their_turn, "cpu"),
        ON(small_copies_arrive_whole, "cpu"),
        ON(a_copy_follows_what_was_queued_before_it, "cuda"),
        ON(a_copy_follows_a_graph, "cuda"),
        ON(pieces_come_back_as_they_went, "cuda"),
        ON(copies_across_take_their_turn, "cuda"),
        ON(small_copies_arrive_whole, "cuda"),
        ON(a_copy_that_fails_is_never_done, "cuda"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
