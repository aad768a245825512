/* query_test.c - heads of the query and window rows on the GPU against the CPU twin, and with the same
 * bits in any company. */
#include "kernels/cuda/kv_testing.h"

enum { IDS = 3, PAGES = 41 };

static const struct test_blocks blocks = { 1, PAGES };
static const struct test_seq sequences[] = { { 0, 0, 200 }, { 1, 4999, 65 }, { 2, 126, 4 } };
enum { SEQS = 3, TOKENS = 269 };

/* ---- query --------------------------------------------------------------------------------- */

static void turn(struct dev *dev, const float *q, uint32_t heads, const struct test_seq *seq,
                 uint32_t seqs, float *out)
{
    struct test_batch batch = test_batch_make(dev, seq, seqs, blocks);
    struct test_mat mat =
        test_mat_from(dev, dev->activation, q, batch.batch.tokens, heads * TEST_DIM);
    struct rope rope = test_rope(dev);
    dev->ops->query(dev, &(struct query_args){ mat.mat, heads, 1e-6f, rope, &batch.batch });
    test_mat_read(dev, &mat, out);
    test_mat_release(dev, &mat);
    test_rope_release(dev, &rope);
    test_batch_release(&batch);
}

static void heads_are_those_of_the_cpu(void **unused)
{
    static const uint32_t heads[] = { 2, 4, 6, 64, 128 };
    struct dev *gpu = test_gpu(), *cpu = test_cpu();
    (void)unused;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        uint32_t wide = heads[i] * TEST_DIM, first = 0;
        size_t count = (size_t)TOKENS * wide, differ = 0;
        float *q = test_normals(count, 3, 5), *wanted = malloc(count * 4),
              *found = malloc(count * 4);
        float *alone = malloc(count * 4);

        turn(cpu, q, heads[i], sequences, SEQS, wanted);
        turn(gpu, q, heads[i], sequences, SEQS, found);
        for (size_t k = 0; k < count; k++) differ += f32_bits(wanted[k]) != f32_bits(found[k]);
        print_message("%u heads: %zu of %zu differ, error %.2e\n", heads[i], differ, count,
                      test_error(found, wanted, count));
        // Where a mean stands at a tie of bf16 the whole head's scale moves by 2^-9.
        test_close("query", found, wanted, TOKENS, wide, 5e-4);
        assert_true(differ < count / 100);
        for (uint32_t s = 0; s < SEQS; first += sequences[s].tokens, s++) {
            struct test_seq one = { sequences[s].id, sequences[s].start, 1 };
            turn(gpu, q + (size_t)first * wide, heads[i], &one, 1, alone);
            assert_memory_equal(alone, found + (size_t)first * wide, wide * 4);
        }
        free(q), free(wanted), free(found), free(alone);
    }
    gpu->ops->close(gpu), cpu->ops->close(cpu);
}

/* ---- window_store -------------------------------------------------------------------------- */

enum { ROWS = IDS * PAGES * 128, BYTES = ROWS * ENTRY_BYTES_OFFICIAL };

static uint8_t *store(struct dev *dev, const float *in, const float *norm, bool one_by_one)
{
    uint8_t *out = malloc(BYTES);
    memset(out, 0xff, BYTES);
    char *window = test_to_device(dev, out, BYTES);
    struct rope rope = test_rope(dev);
    struct weight *weight = test_vector(dev, norm, 1, TEST_DIM);
    struct kv_plane plane = { window, 128 * ENTRY_BYTES_OFFICIAL, ENTRY_BYTES_OFFICIAL, 128 };
    uint32_t first = 0;

    for (uint32_t s = 0; s < SEQS; s++) {
        uint32_t n = one_by_one ? 1 : sequences[s].tokens;
        for (uint32_t t = 0; t < sequences[s].tokens; t += n, first += n) {
            struct test_seq part = { sequences[s].id, sequences[s].start + t, n };
            struct test_batch batch = test_batch_make(dev, &part, 1, blocks);
            struct test_mat mat =
                test_mat_from(dev, dev->activation, in + (size_t)first * TEST_DIM, n, TEST_DIM);
            dev->ops->window_store(dev, &(struct window_store_args){ mat.mat, weight, 1e-6f, rope,
                                                                     &batch.batch, plane });
            test_finish(dev);
            test_mat_release(dev, &mat);
            test_batch_release(&batch);
        }
    }
    dev->ops->copy_out(dev, out, window, BYTES);
    test_finish(dev);
    dev->ops->weight_free(dev, weight);
    test_rope_release(dev, &rope);
    dev->ops->free(dev, window, BYTES);
    return out;
}

static void window_rows_are_those_of_the_cpu(void **unused)
{
    struct dev *gpu = test_gpu(), *cpu = test_cpu();
    float *in = test_normals((size_t)TOKENS * TEST_DIM, 2, 6), *norm = test_normals(TEST_DIM, 1, 7);
    (void)unused;
    for (int i = 0; i < 64; i++) in[64 + i] = 0;  // a group of zeros has a scale too
    uint8_t *wanted = store(cpu, in, norm, false), *found = store(gpu, in, norm, false);
    uint8_t *alone = store(gpu, in, norm, true);
    test_rows_close("window rows", found, wanted, ROWS, ENTRY_BYTES_OFFICIAL);
    assert_memory_equal(found, alone, BYTES);
    free(in), free(norm), free(wanted), free(found), free(alone);
    gpu->ops->close(gpu), cpu->ops->close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_those_of_the_cpu),
        cmocka_unit_test(window_rows_are_those_of_the_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
