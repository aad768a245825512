/* attention_test.c - attention on the GPU against the CPU twin, over KV memory that both share, and
 * with the same bits for a token whatever else is in the batch. */
#include "kernels/cuda/kv_testing.h"

enum { IDS = 3, POOL = 499, SEQS_MOST = 4 };

struct shape_case {
    uint32_t heads, ratio, topk;  // topk 0: all visible
    struct test_seq seq[SEQS_MOST];
};

struct memory {  // KV of all sequences on one device
    char *window, *entries;
    size_t window_bytes, entry_bytes;
};

struct scene {
    struct shape_case shape;
    struct test_blocks blocks;
    uint32_t tokens, seqs;
    struct dev *cpu, *gpu;
    struct memory host, card;
    float *q, *sink, *wanted, *found;
    uint32_t *selected, *count;
};

static void memory_fill(char *data, size_t rows, uint64_t seed)
{
    uint8_t pool[POOL][ENTRY_BYTES_OFFICIAL];
    for (int i = 0; i < POOL; i++) test_entry(pool[i], &seed);
    for (size_t i = 0; i < rows; i++)
        memcpy(data + i * ENTRY_BYTES_OFFICIAL, pool[test_random(&seed) % POOL],
               ENTRY_BYTES_OFFICIAL);
}

/* Ascending entries, all where they are few. */
static void select_entries(struct scene *s, uint32_t t, uint32_t position, uint64_t *seed)
{
    uint32_t visible = (position + 1) / s->shape.ratio, topk = s->shape.topk, n = 0;
    for (uint32_t e = 0; e < visible && n < topk; e++)
        if (visible <= topk || test_random(seed) % (visible - e) < topk - n)
            s->selected[t * topk + n++] = e;
    s->count[t] = n;
}

static struct scene scene_make(struct shape_case shape)
{
    struct scene s = { .shape = shape, .blocks = { 1, 80 } };
    uint64_t seed = 17 + shape.heads * 1000 + shape.ratio;

    for (; s.seqs < SEQS_MOST && shape.seq[s.seqs].tokens; s.seqs++) {
        uint32_t end = shape.seq[s.seqs].start + shape.seq[s.seqs].tokens;
        s.tokens += shape.seq[s.seqs].tokens;
        if (end / 128 + 1 > s.blocks.g) s.blocks.g = (end / 128 + 1) | 1;
    }
    s.gpu = test_gpu();
    s.cpu = test_cpu();
    s.host.window_bytes = (size_t)IDS * s.blocks.w * 128 * ENTRY_BYTES_OFFICIAL;
    s.host.entry_bytes =
        (size_t)IDS * s.blocks.g * (shape.ratio ? 128 / shape.ratio : 1) * ENTRY_BYTES_OFFICIAL;
    s.host.window = malloc(s.host.window_bytes);
    s.host.entries = malloc(s.host.entry_bytes);
    memory_fill(s.host.window, s.host.window_bytes / ENTRY_BYTES_OFFICIAL, 1);
    memory_fill(s.host.entries, s.host.entry_bytes / ENTRY_BYTES_OFFICIAL, 2);
    s.card = s.host;
    s.card.window = test_to_device(s.gpu, s.host.window, s.host.window_bytes);
    s.card.entries = test_to_device(s.gpu, s.host.entries, s.host.entry_bytes);
    test_finish(s.gpu);

    size_t values = (size_t)s.tokens * shape.heads * TEST_DIM;
    s.q = test_normals(values, 1, 3);
    for (size_t i = 0; i < values; i++)  // one head in three looks harder at few keys
        if (i / TEST_DIM % 3 == 1) s.q[i] *= 4;
    s.sink = test_normals(shape.heads, 1, 4);
    s.wanted = malloc(values * 4);
    s.found = malloc(values * 4);
    s.selected = calloc((size_t)s.tokens * (shape.topk + 1), 4);
    s.count = calloc(s.tokens, 4);
    for (uint32_t i = 0, t = 0; shape.topk && i < s.seqs; i++)
        for (uint32_t k = 0; k < shape.seq[i].tokens; k++, t++)
            select_entries(&s, t, shape.seq[i].start + k, &seed);
    return s;
}

static void scene_release(struct scene *s)
{
    s->gpu->ops->free(s->gpu, s->card.window, s->card.window_bytes);
    s->gpu->ops->free(s->gpu, s->card.entries, s->card.entry_bytes);
    s->gpu->ops->close(s->gpu);
    s->cpu->ops->close(s->cpu);
    void *all[] = { s->host.window, s->host.entries, s->q,        s->sink,
                    s->wanted,      s->found,        s->selected, s->count };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static struct kv_plane plane(char *base, uint32_t rows)
{
    return (struct kv_plane){ base, (size_t)rows * ENTRY_BYTES_OFFICIAL, ENTRY_BYTES_OFFICIAL,
                              rows };
}

/* Attention of `seqs` sequences whose rows are first ... of the scene, into out [rows, heads * DIM]. */
static void attend(struct scene *s, struct dev *dev, const struct test_seq *seq, uint32_t seqs,
                   uint32_t first, float *out)
{
    const struct memory *memory = dev == s->cpu ? &s->host : &s->card;
    uint32_t ratio = s->shape.ratio, topk = s->shape.topk, wide = s->shape.heads * TEST_DIM;
    struct test_batch batch = test_batch_make(dev, seq, seqs, s->blocks);
    uint32_t n = batch.batch.tokens;
    struct rope rope = test_rope(dev);
    struct weight *sink = test_vector(dev, s->sink, 1, s->shape.heads);
    struct test_mat q = test_mat_from(dev, dev->activation, s->q + (size_t)first * wide, n, wide);
    struct test_mat o = test_mat_make(dev, dev->activation, n, wide);
    size_t selected_bytes = (size_t)n * topk * 4;
    uint32_t *selected = test_to_device(dev, s->selected + (size_t)first * topk, selected_bytes);
    uint32_t *count = test_to_device(dev, s->count + first, n * 4);

    test_finish(dev);
    dev->ops->attention(
        dev, &(struct attention_args){ .q = q.mat,
                                       .out = o.mat,
                                       .heads = s->shape.heads,
                                       .sink = sink,
                                       .rope = rope,
                                       .batch = &batch.batch,
                                       .window = plane(memory->window, 128),
                                       .ratio = ratio,
                                       .entries = plane(memory->entries, ratio ? 128 / ratio : 1),
                                       .selected = topk ? selected : NULL,
                                       .count = topk ? count : NULL,
                                       .topk = topk });
    test_mat_read(dev, &o, out);
    dev->ops->free(dev, selected, selected_bytes), dev->ops->free(dev, count, n * 4);
    test_mat_release(dev, &q), test_mat_release(dev, &o);
    dev->ops->weight_free(dev, sink);
    test_rope_release(dev, &rope);
    test_batch_release(&batch);
}

static void check_error(struct scene *s)
{
    double worst = -1,
           all = test_error(s->found, s->wanted, (size_t)s->tokens * s->shape.heads * TEST_DIM);
    uint32_t at = 0, bad = 0;
    for (uint32_t i = 0; i < s->tokens * s->shape.heads; i++) {
        double error =
            test_error(s->found + (size_t)i * TEST_DIM, s->wanted + (size_t)i * TEST_DIM, TEST_DIM);
        if (error > 6e-3) bad++;
        if (!(error <= worst)) worst = error, at = i;
    }
    print_message("heads %u ratio %u topk %u: error %.2e, of a head at most %.2e\n", s->shape.heads,
                  s->shape.ratio, s->shape.topk, all, worst);
    if (all > 3e-3 || bad > 0) {
        uint32_t heads = s->shape.heads;
        const float *found = s->found + (size_t)at * TEST_DIM;
        const float *wanted = s->wanted + (size_t)at * TEST_DIM;
        for (uint32_t i = 0; i < TEST_DIM; i += 37)
            print_message("  %u: %g, wanted %g\n", i, (double)found[i], (double)wanted[i]);
        test_fail("%u heads are off by more than 6e-3; the worst is token %u head %u\n", bad,
                  at / heads, at % heads);
    }
}

/* Bits of rows first ... first + n - 1 of the scene when `seqs` sequences come by themselves. */
static void check_bits(struct scene *s, const char *what, const struct test_seq *seq, uint32_t seqs,
                       uint32_t first)
{
    uint32_t n = 0, wide = s->shape.heads * TEST_DIM;
    for (uint32_t i = 0; i < seqs; i++) n += seq[i].tokens;
    float *out = malloc((size_t)n * wide * 4);
    attend(s, s->gpu, seq, seqs, first, out);
    const float *wanted = s->found + (size_t)first * wide;
    for (size_t i = 0; i < (size_t)n * wide; i++)
        if (f32_bits(out[i]) != f32_bits(wanted[i]))
            test_fail("%s: row %zu of %u, head %zu, channel %zu: %a, in company %a\n", what,
                      i / wide, n, i % wide / TEST_DIM, i % TEST_DIM, (double)out[i],
                      (double)wanted[i]);
    free(out);
}

static void check_shape(struct shape_case shape)
{
    struct scene s = scene_make(shape);
    uint32_t first = 0;

    attend(&s, s.cpu, shape.seq, s.seqs, 0, s.wanted);
    attend(&s, s.gpu, shape.seq, s.seqs, 0, s.found);
    check_error(&s);
    check_bits(&s, "again", shape.seq, s.seqs, 0);
    for (uint32_t i = 0; i < s.seqs; i++) {
        const struct test_seq *seq = &shape.seq[i];
        uint32_t step = seq->tokens / 7 + 1, half = (seq->tokens + 1) / 2;
        for (uint32_t t = 0; t < seq->tokens; t += step)
            check_bits(&s, "a token alone", &(struct test_seq){ seq->id, seq->start + t, 1 }, 1,
                       first + t);
        check_bits(&s, "half a chunk", &(struct test_seq){ seq->id, seq->start, half }, 1, first);
        first += seq->tokens;
    }
    scene_release(&s);
}

static void window_alone(void **unused)
{
    (void)unused;
    check_shape((struct shape_case){ 64, 0, 0, { { 0, 0, 200 }, { 1, 126, 4 }, { 2, 5000, 65 } } });
    check_shape((struct shape_case){ 2, 0, 0, { { 0, 0, 9 }, { 2, 500, 8 } } });
}

static void entries_of_128(void **unused)
{
    (void)unused;
    check_shape(
        (struct shape_case){ 64, 128, 0, { { 0, 0, 300 }, { 1, 8190, 3 }, { 2, 131070, 2 } } });
    check_shape((struct shape_case){ 6, 128, 0, { { 0, 60, 70 }, { 1, 65535, 1 } } });
}

static void selected_entries_of_4(void **unused)
{
    (void)unused;
    check_shape(
        (struct shape_case){ 64, 4, 512, { { 0, 0, 130 }, { 1, 2040, 20 }, { 2, 20000, 9 } } });
    check_shape((struct shape_case){ 4, 4, 16, { { 0, 0, 150 }, { 1, 1000, 7 } } });
    check_shape((struct shape_case){ 128, 4, 1024, { { 0, 3, 5 }, { 2, 9000, 4 } } });
}

static void every_entry_of_4(void **unused)
{
    (void)unused;
    check_shape((struct shape_case){ 64, 4, 0, { { 0, 120, 12 }, { 1, 2044, 12 } } });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(window_alone),
        cmocka_unit_test(entries_of_128),
        cmocka_unit_test(selected_entries_of_4),
        cmocka_unit_test(every_entry_of_4),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
