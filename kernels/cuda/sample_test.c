/* sample_test.c - what the GPU draws is what the CPU draws, but where a sum in double falls to the
 * other side of the draw; log-probabilities and their order; the same for a row in any company. */
#include "kernels/cuda/testing.h"

enum { SEEN = 300, BIAS = 40 };

struct input {
    uint32_t rows, vocab;
    float *logits;
    struct sample_row *row;  // host lists
};

/* Every kind of row in turn. */
static struct sample_row kind_of(uint32_t i, uint64_t *seed)
{
    struct sample_row row = { .top_p = 1,
                              .repetition = 1,
                              .seed = (uint64_t)test_random(seed) << 31 | test_random(seed),
                              .position = test_random(seed) % 100000 };
    switch (i % 16) {
    case 0:
        break;
    case 1:
        row.temperature = 1;
        break;
    case 2:
        row.temperature = 0.7f;
        break;
    case 3:
        row.temperature = 1.9f;
        break;
    case 4:
        row.temperature = 1, row.top_p = 0.95f;
        break;
    case 5:
        row.temperature = 0.6f, row.top_p = 0.5f, row.top_k = 40;
        break;
    case 6:
        row.temperature = 1.3f, row.min_p = 0.05f;
        break;
    case 7:
        row.temperature = 1, row.top_k = 1 + test_random(seed) % 3000;
        break;
    case 8:
        row.logprobs = 21;
        break;
    case 9:
        row.temperature = 1, row.logprobs = 6;
        break;
    case 10:
        row.forced = true, row.forced_id = 17, row.logprobs = 1;
        break;
    case 11:
        row.forced = true, row.forced_id = 5;
        break;
    case 12:
        row.temperature = 2, row.top_p = 0.999f, row.min_p = 0.0001f, row.top_k = 20000;
        break;
    case 13:
        row.temperature = 1, row.top_k = 1;
        break;
    case 14:
        row.temperature = 0.01f, row.top_p = 0.3f;
        break;
    default:
        row.temperature = 5, row.top_p = 0.99999f;
        break;
    }
    return row;
}

static struct input input_make(uint32_t rows, uint32_t vocab, float step, bool lists)
{
    struct input in = { .rows = rows, .vocab = vocab };
    uint64_t seed = 1 + vocab + rows;

    in.logits = malloc((size_t)rows * vocab * sizeof(float));
    in.row = calloc(rows, sizeof *in.row);
    for (size_t i = 0; i < (size_t)rows * vocab; i++) {
        float x = 2.5f * test_normal(&seed);
        in.logits[i] = step > 0 ? roundf(x / step) * step : x;
    }
    for (uint32_t r = 0; r < rows; r++) {
        struct sample_row *row = &in.row[r];
        *row = kind_of(r, &seed);
        if (!lists) continue;
        if (r % 3 == 0) {
            struct token_bias *bias = calloc(BIAS, sizeof *bias);
            for (uint32_t i = 0; i < BIAS; i++)  // some ids twice
                bias[i] = (struct token_bias){ test_random(&seed) % (i % 4 ? vocab + 3 : 9),
                                               test_normal(&seed) };
            row->bias = bias, row->bias_count = BIAS;
        }
        if (r % 4 < 2) {
            uint32_t count = vocab / 2 < SEEN ? vocab / 2 : SEEN;
            struct token_count *seen = calloc(count, sizeof *seen);
            for (uint32_t i = 0; i < count; i++)
                seen[i] = (struct token_count){ i * 2, i % 3, i % 5 };
            row->seen = seen, row->seen_count = count;
            row->repetition = 1.1f, row->frequency = 0.2f, row->presence = -0.3f;
        }
        if (r % 5 == 1) {
            uint32_t words = (vocab + 31) / 32, *allowed = calloc(words, 4);
            for (uint32_t i = 0; i < words; i++) allowed[i] = r % 10 == 1 ? test_random(&seed) : 0;
            allowed[0] |= 0x81u;
            row->allowed = allowed;
        }
    }
    return in;
}

static void input_release(struct input *in)
{
    for (uint32_t r = 0; r < in->rows; r++) {
        free((void *)(uintptr_t)in->row[r].bias);
        free((void *)(uintptr_t)in->row[r].seen);
        free((void *)(uintptr_t)in->row[r].allowed);
    }
    free(in->row), free(in->logits);
}

static const void *list(struct dev *dev, const void *host, size_t bytes)
{
    return host ? test_to_device(dev, host, bytes) : NULL;
}

static void unlist(struct dev *dev, const void *data, size_t bytes)
{
    if (data) dev->ops->free(dev, (void *)(uintptr_t)data, bytes);
}

static struct sample_out *run(struct dev *dev, const struct input *in, uint32_t first,
                              uint32_t rows)
{
    size_t out_bytes = rows * sizeof(struct sample_out), row_bytes = rows * sizeof *in->row;
    size_t words = (in->vocab + 31) / 32 * sizeof(uint32_t);
    struct sample_row *row = malloc(row_bytes);
    struct sample_out *out = malloc(out_bytes);
    struct test_mat logits =
        test_mat_from(dev, DT_F32, in->logits + (size_t)first * in->vocab, rows, in->vocab);

    memcpy(row, in->row + first, row_bytes);
    for (uint32_t r = 0; r < rows; r++) {
        row[r].bias = list(dev, row[r].bias, row[r].bias_count * sizeof *row[r].bias);
        row[r].seen = list(dev, row[r].seen, row[r].seen_count * sizeof *row[r].seen);
        row[r].allowed = list(dev, row[r].allowed, words);
    }
    memset(out, 0xff, out_bytes);
    struct sample_row *rows_there = test_to_device(dev, row, row_bytes);
    struct sample_out *out_there = test_to_device(dev, out, out_bytes);
    dev->ops->sample(dev, &(struct sample_args){ logits.mat, rows_there, out_there });
    dev->ops->copy_out(dev, out, out_there, out_bytes);
    test_finish(dev);
    for (uint32_t r = 0; r < rows; r++) {
        unlist(dev, row[r].bias, row[r].bias_count * sizeof *row[r].bias);
        unlist(dev, row[r].seen, row[r].seen_count * sizeof *row[r].seen);
        unlist(dev, row[r].allowed, words);
    }
    test_mat_release(dev, &logits);
    dev->ops->free(dev, rows_there, row_bytes);
    dev->ops->free(dev, out_there, out_bytes);
    free(row);
    return out;
}

static void compare(const char *what, const struct input *in, const struct sample_out *found,
                    const struct sample_out *wanted)
{
    uint32_t differ = 0;
    double worst = 0;

    for (uint32_t r = 0; r < in->rows; r++) {
        const struct sample_row *row = &in->row[r];
        if (found[r].id != wanted[r].id) {
            if (differ++ < 5)
                print_message("  %s: row %u, kind %u: found %u, wanted %u\n", what, r, r % 16,
                              found[r].id, wanted[r].id);
            continue;
        }
        if (!row->logprobs) continue;
        worst = fmax(worst, fabs((double)found[r].logprob - wanted[r].logprob));
        uint32_t top = row->logprobs - 1 < in->vocab ? row->logprobs - 1 : in->vocab;
        for (uint32_t i = 0; i < top; i++) {
            if (found[r].top_id[i] != wanted[r].top_id[i])
                test_fail("%s: row %u: top %u is %u, wanted %u\n", what, r, i, found[r].top_id[i],
                          wanted[r].top_id[i]);
            worst = fmax(worst, fabs((double)found[r].top_logprob[i] - wanted[r].top_logprob[i]));
        }
    }
    print_message("  %s: vocabulary %u: %u of %u ids differ, log-probabilities by %.1e at most\n",
                  what, in->vocab, differ, in->rows, worst);
    assert_true(worst < 1e-5 && differ * 100 <= in->rows);
}

static void check(const char *what, uint32_t rows, uint32_t vocab, float step, bool lists)
{
    struct dev *gpu = test_gpu(), *cpu = test_cpu();
    struct input in = input_make(rows, vocab, step, lists);
    struct sample_out *wanted = run(cpu, &in, 0, rows), *whole = run(gpu, &in, 0, rows);

    for (uint32_t r = 0; r < rows; r += 1 + r % 7) {
        struct sample_out *alone = run(gpu, &in, r, 1);
        if (memcmp(alone, whole + r, sizeof *alone))
            test_fail("%s: row %u alone: %u, in company %u\n", what, r, alone->id, whole[r].id);
        free(alone);
    }
    compare(what, &in, whole, wanted);
    free(wanted), free(whole);
    input_release(&in);
    cpu->ops->close(cpu);
    gpu->ops->close(gpu);
}

static void gpu_draws_as_the_cpu(void **unused)
{
    (void)unused;
    check("plain logits", 256, 129280, 0, false);
    check("small", 640, 1000, 0, false);
    check("tiny", 640, 37, 0, false);
}

static void gpu_draws_as_the_cpu_with_lists(void **unused)
{
    (void)unused;
    check("lists", 160, 129280, 0, true);
    check("lists, small", 640, 517, 0, true);
}

static void ties_go_to_the_smaller_ids(void **unused)
{
    (void)unused;
    check("ties", 160, 129280, 0.5f, false);
    check("ties, small", 640, 1000, 1, true);
    check("all equal", 160, 4099, 100, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpu_draws_as_the_cpu),
        cmocka_unit_test(gpu_draws_as_the_cpu_with_lists),
        cmocka_unit_test(ties_go_to_the_smaller_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
