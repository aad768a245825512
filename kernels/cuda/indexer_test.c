/* indexer_test.c - which entries the GPU selects: the CPU's, but where a rounding of sine or cosine
 * moves a score across the edge; and the same for a token however many stand beside it. */
#include "kernels/cuda/testing.h"

enum { DIM = 128, RATIO = 4, ROWS = BLOCK_TOKENS / RATIO, STRIDE = ROWS * 68 + 64, ROPE = 64 };

struct input {
    uint32_t tokens, seqs, heads, topk, blocks;
    uint32_t *position, *seq, *first, *table;  // table: [seqs, blocks]
    float *q, *weights;
    uint8_t *keys;  // [seqs * blocks, STRIDE]
};

static float *halves(size_t count, uint64_t seed, float scale)
{
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++) x[i] = round_bf16(scale * test_normal(&seed));
    return x;
}

/* Sequence s has each[s] tokens, the last at last[s]. */
static struct input input_make(uint32_t seqs, const uint32_t *each, const uint32_t *last,
                               uint32_t heads, uint32_t topk)
{
    struct input in = { .seqs = seqs, .heads = heads, .topk = topk };
    uint64_t seed = 77;

    in.first = calloc(seqs + 1, 4);
    for (uint32_t s = 0; s < seqs; s++) {
        in.first[s + 1] = in.first[s] + each[s];
        if (last[s] / BLOCK_TOKENS + 1 > in.blocks) in.blocks = last[s] / BLOCK_TOKENS + 1;
    }
    in.tokens = in.first[seqs];
    in.position = calloc(in.tokens, 4), in.seq = calloc(in.tokens, 4);
    for (uint32_t s = 0; s < seqs; s++)
        for (uint32_t t = in.first[s]; t < in.first[s + 1]; t++) {
            in.position[t] = last[s] - (in.first[s + 1] - 1 - t);
            in.seq[t] = s;
        }
    uint32_t count = seqs * in.blocks;
    in.table = calloc(count, 4);
    for (uint32_t i = 0; i < count; i++) in.table[i] = i;
    for (uint32_t i = count; i-- > 1;) {
        uint32_t k = test_random(&seed) % (i + 1), swap = in.table[i];
        in.table[i] = in.table[k], in.table[k] = swap;
    }
    in.keys = malloc((size_t)count * STRIDE);
    for (size_t i = 0; i < (size_t)count * STRIDE; i++) in.keys[i] = (uint8_t)test_random(&seed);
    for (size_t b = 0; b < count; b++)
        for (uint32_t r = 0; r < ROWS; r++)
            for (uint32_t g = 0; g < 4; g++)
                in.keys[b * STRIDE + r * 68 + 64 + g] = (uint8_t)(124 + test_random(&seed) % 4);
    in.q = halves((size_t)in.tokens * heads * DIM, 5, 1.5f);
    in.weights = halves((size_t)in.tokens * heads, 6, 1);
    return in;
}

static void input_release(struct input *in)
{
    free(in->position), free(in->seq), free(in->first), free(in->table);
    free(in->q), free(in->weights), free(in->keys);
}

struct output {
    uint32_t *selected, *count;
};

/* The rows from `first`, `tokens` of them, in a batch of their own: whole sequences or a part of one. */
static struct output run(struct dev *dev, const struct input *in, uint32_t first, uint32_t tokens)
{
    float frequency[ROPE / 2];
    uint32_t begins[in->seqs + 1], seqs = 0, seq[tokens];
    uint32_t from = in->seq[first];

    for (int i = 0; i < ROPE / 2; i++) frequency[i] = (float)pow(160000.0, -2.0 * i / ROPE);
    for (uint32_t t = 0; t < tokens; t++) {
        seq[t] = in->seq[first + t] - from;
        if (t == 0 || seq[t] != seq[t - 1]) begins[seqs++] = t;
    }
    begins[seqs] = tokens;
    void *on[] = { test_to_device(dev, frequency, sizeof frequency),
                   test_to_device(dev, in->position + first, tokens * 4),
                   test_to_device(dev, seq, tokens * 4),
                   test_to_device(dev, begins, (seqs + 1) * 4),
                   test_to_device(dev, in->table + (size_t)from * in->blocks,
                                  seqs * in->blocks * 4),
                   test_to_device(dev, in->keys, (size_t)in->seqs * in->blocks * STRIDE) };
    struct test_mat q = test_mat_from(dev, dev->activation, in->q + (size_t)first * in->heads * DIM,
                                      tokens, in->heads * DIM),
                    weights =
                        test_mat_from(dev, dev->activation, in->weights + (size_t)first * in->heads,
                                      tokens, in->heads),
                    selected = test_mat_make(dev, DT_F32, tokens, in->topk),
                    count = test_mat_make(dev, DT_F32, tokens, 1);
    struct batch batch = { .tokens = tokens,
                           .seqs = seqs,
                           .position = on[1],
                           .seq = on[2],
                           .first = on[3],
                           .g_table = on[4],
                           .g_stride = in->blocks };
    dev->ops->indexer(dev, &(struct indexer_args){ .q = q.mat,
                                                   .weights = weights.mat,
                                                   .heads = in->heads,
                                                   .dim = DIM,
                                                   .topk = in->topk,
                                                   .ratio = RATIO,
                                                   .rope = { on[0], ROPE },
                                                   .batch = &batch,
                                                   .keys = { on[5], STRIDE, 68, ROWS },
                                                   .selected = selected.mat.data,
                                                   .count = count.mat.data });
    struct output out = { malloc((size_t)tokens * in->topk * 4), malloc(tokens * 4) };
    test_mat_read(dev, &selected, (float *)out.selected);
    test_mat_read(dev, &count, (float *)out.count);
    struct test_mat *all[] = { &q, &weights, &selected, &count };
    for (int i = 0; i < 4; i++) test_mat_release(dev, all[i]);
    size_t bytes[] = { sizeof frequency,
                       tokens * 4,
                       tokens * 4,
                       (seqs + 1) * 4,
                       (size_t)seqs * in->blocks * 4,
                       (size_t)in->seqs * in->blocks * STRIDE };
    for (int i = 0; i < 6; i++) dev->ops->free(dev, on[i], bytes[i]);
    return out;
}

static void output_release(struct output *out)
{
    free(out->selected), free(out->count);
}

/* How many of token t's entries are not in the other list; both ascend. */
static uint32_t differing(const uint32_t *a, const uint32_t *b, uint32_t count)
{
    uint32_t i = 0, k = 0, differ = 0;
    while (i < count) {
        if (k < count && b[k] < a[i]) k++;
        else if (k < count && b[k] == a[i]) i++, k++;
        else i++, differ++;
    }
    return differ;
}

static void compare(const char *what, const struct input *in, const struct output *found,
                    const struct output *wanted)
{
    uint64_t entries = 0, differ = 0, tokens = 0;

    for (uint32_t t = 0; t < in->tokens; t++) {
        const uint32_t *a = found->selected + (size_t)t * in->topk,
                       *b = wanted->selected + (size_t)t * in->topk;
        uint32_t visible = (in->position[t] + 1) / RATIO, count = wanted->count[t];
        if (found->count[t] != count)
            test_fail("%s: token %u: count %u, wanted %u\n", what, t, found->count[t], count);
        for (uint32_t i = 0; i < count; i++)
            if (a[i] >= visible || (i && a[i] <= a[i - 1]))
                test_fail("%s: token %u, position %u: entry %u is %u after %u\n", what, t,
                          in->position[t], i, a[i], i ? a[i - 1] : 0);
        for (uint32_t i = count; i < in->topk; i++)
            if (a[i] != UINT32_MAX)
                test_fail("%s: token %u: wrote past its count, at %u\n", what, t, i);
        uint32_t d = differing(a, b, count);
        entries += count, differ += d, tokens += d > 0;
    }
    print_message(
        "  %s: %u tokens, %u heads, top %u: %llu of %llu entries differ, in %llu tokens\n", what,
        in->tokens, in->heads, in->topk, (unsigned long long)differ, (unsigned long long)entries,
        (unsigned long long)tokens);
    assert_true(differ * 500 <= entries);
}

static void same_rows(const char *what, const struct input *in, const struct output *part,
                      const struct output *whole, uint32_t first, uint32_t tokens)
{
    for (uint32_t t = 0; t < tokens; t++) {
        if (part->count[t] != whole->count[first + t])
            test_fail("%s: %u from %u: count of %u\n", what, tokens, first, t);
        for (uint32_t i = 0; i < in->topk; i++) {
            uint32_t a = part->selected[(size_t)t * in->topk + i],
                     b = whole->selected[(size_t)(first + t) * in->topk + i];
            if (a != b)
                test_fail("%s: %u tokens from %u: token %u entry %u: %u, in company %u\n", what,
                          tokens, first, t, i, a, b);
        }
    }
}

static void check(const char *what, uint32_t seqs, const uint32_t *each, const uint32_t *last,
                  uint32_t heads, uint32_t topk)
{
    struct dev *gpu = test_gpu(), *cpu = test_cpu();
    struct input in = input_make(seqs, each, last, heads, topk);
    struct output wanted = run(cpu, &in, 0, in.tokens), whole = run(gpu, &in, 0, in.tokens);
    static const uint32_t few[] = { 1, 7, 8, 9, 63, 129, 200 };

    compare(what, &in, &whole, &wanted);
    struct output again = run(gpu, &in, 0, in.tokens);
    same_rows("again", &in, &again, &whole, 0, in.tokens);
    output_release(&again);
    for (size_t i = 0; i < sizeof few / sizeof *few; i++)
        for (uint32_t first = 0; first < in.tokens; first += 1 + in.tokens / 3) {
            if (first + few[i] > in.tokens) continue;
            struct output part = run(gpu, &in, first, few[i]);
            same_rows("alone", &in, &part, &whole, first, few[i]);
            output_release(&part);
        }
    output_release(&wanted), output_release(&whole);
    input_release(&in);
    cpu->ops->close(cpu);
    gpu->ops->close(gpu);
}

static void decode_selects_as_the_cpu(void **unused)
{
    uint32_t one[] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    uint32_t last[] = { 8191, 2051, 2052, 2047, 0, 4100, 12345, 2055, 33000 };
    (void)unused;
    check("decode", 9, one, last, 64, 512);
    check("decode of Pro", 9, one, last, 64, 1024);
    check("decode, small", 9, one, last, 4, 16);
    check("decode, two heads", 5, one, last, 2, 64);
}

static void decode_of_many_selects_as_the_cpu(void **unused)
{
    enum { SEQS = 600 };
    uint32_t each[SEQS], last[SEQS];
    (void)unused;
    for (uint32_t s = 0; s < SEQS; s++) each[s] = 1, last[s] = 1900 + s * 3;
    check("decode of many", SEQS, each, last, 64, 512);
}

static void prefill_selects_as_the_cpu(void **unused)
{
    uint32_t each[] = { 700, 1, 333, 1, 1, 2 }, last[] = { 2600, 5000, 3000, 70, 8000, 2500 };
    uint32_t long_one[] = { 2200 }, long_last[] = { 4199 };
    (void)unused;
    check("prefill", 6, each, last, 64, 512);
    check("prefill, small", 6, each, last, 6, 32);
    check("prefill in two passes", 1, long_one, long_last, 16, 512);
}

static void a_million_positions_select_as_the_cpu(void **unused)
{
    uint32_t each[] = { 1, 1 }, last[] = { 1048575, 400000 };
    (void)unused;
    check("a million", 2, each, last, 64, 512);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_selects_as_the_cpu),
        cmocka_unit_test(decode_of_many_selects_as_the_cpu),
        cmocka_unit_test(prefill_selects_as_the_cpu),
        cmocka_unit_test(a_million_positions_select_as_the_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
