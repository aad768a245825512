/* weights_test.c - each tensor reaches the device once, with the numbers the shape says, and a bad
 * value in one stops the load with its sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <unistd.h>
#include "config/hash.h"
#include "engine/random_tensor.h"
#include "engine/tensors.h"

/* A device that remembers what it was given. */
struct weight {
    struct weight_source source;
    uint64_t hash;  // of data and scale
    bool copied;
};

struct fake {
    struct dev dev;
    bool copies;       // says it has bytes of its own, so sources may go
    uint32_t held;     // weights
    uint32_t fail_at;  // the load that fails, from 1; 0: none
    uint32_t loads;
    uint64_t sum;  // of hashes, whatever the order
};

static uint64_t stored_bytes(const struct weight_source *s)
{
    return (uint64_t)s->rows * s->cols * dtype_size(s->type) / (s->type == DT_I8 ? 2 : 1);
}

static enum status fake_load(struct dev *dev, const struct weight_source *source,
                             struct weight **weight, struct err *err)
{
    struct fake *fake = (struct fake *)(void *)dev;

    if (++fake->loads == fake->fail_at)
        return fail(err, BAD_INPUT, "tensor %s: a NaN scale", source->name);
    *weight = calloc(1, sizeof **weight);
    (*weight)->source = *source;
    (*weight)->copied = fake->copies;
    uint64_t hash = hash64(source->name, strlen(source->name), 0);
    hash = hash64(source->data, stored_bytes(source), hash);
    if (source->scale)
        hash = hash64(source->scale,
                      (size_t)(source->rows / source->scale_rows) *
                          (source->cols / source->scale_cols),
                      hash);
    (*weight)->hash = hash;
    fake->sum += hash;
    fake->held++;
    return OK;
}

static void fake_free(struct dev *dev, struct weight *weight)
{
    ((struct fake *)(void *)dev)->held--;
    free(weight);
}

static size_t fake_bytes(const struct weight *weight)
{
    return weight->copied ? stored_bytes(&weight->source) : 0;
}

static const struct ops fake_ops = {
    .name = "fake",
    .weight_load = fake_load,
    .weight_free = fake_free,
    .weight_bytes = fake_bytes,
};

static struct fake fake_dev(void)
{
    return (struct fake){ .dev = { .ops = &fake_ops } };
}

/* The pilot model's directory, or a skipped test. */
static const char *pilot_dir(void)
{
    static char path[512];
    const char *shared = getenv("FATHOM_SHARED");

    snprintf(path, sizeof path, "%s/pilot/model", shared ? shared : "../shared");
    if (access(path, R_OK) != 0) {
        print_message("%s is absent\n", path);
        skip();
    }
    return path;
}

static struct shape small_shape(void)
{
    struct shape s = {
        .vocab = 300,
        .hidden = 128,
        .layers = 3,
        .heads = 2,
        .head_dim = 512,
        .rope_dim = 64,
        .q_rank = 128,
        .o_groups = 1,
        .o_rank = 128,
        .window = 128,
        .index_heads = 2,
        .index_dim = 128,
        .index_topk = 8,
        .experts = 4,
        .experts_per_token = 3,
        .inter = 128,
        .hash_layers = 1,
        .streams = 4,
        .expert_type = DT_I8,
        .drafter = DRAFTER_MTP,
        .drafter_blocks = 1,
        .layer = { { 0, true }, { 4, false }, { 128, false }, { 0, false } },
    };
    return s;
}

struct told {
    uint32_t times;
    struct weights_progress last;
};

static void hear(void *context, const struct weights_progress *progress)
{
    struct told *told = context;
    told->times++;
    told->last = *progress;
}

static void a_checkpoint_fills_every_place(void **unused)
{
    const char *dir = pilot_dir();
    struct fake fake = fake_dev();
    struct shape shape;
    struct weights w;
    struct told told = { 0 };
    struct err err = { "" };
    (void)unused;

    assert_int_equal(shape_read(dir, &shape, &err), OK);
    struct weights_options options = {
        .dir = dir, .shape = &shape, .dev = &fake.dev, .progress = hear, .context = &told
    };
    enum status status = weights_open(&options, &w, &err);
    if (status != OK) print_message("%s\n", err.text);
    assert_int_equal(status, OK);
    assert_string_equal(w.note, "");
    assert_int_equal(w.stored_bytes, 25350392);  // total_size of its index
    assert_int_equal(told.last.bytes, told.last.total_bytes);
    assert_int_equal(told.last.tensors, told.last.total_tensors);
    assert_string_equal(w.embed->source.name, "embed.weight");
    assert_int_equal(w.embed->source.rows, shape.vocab);
    assert_string_equal(w.hc_head.scale->source.name, "hc_head_scale");
    for (uint32_t i = 0; i < shape.layers; i++) {
        const struct layer_weights *layer = &w.layer[i];
        char name[96];
        for (uint32_t e = 0; e < shape.experts; e++) {
            snprintf(name, sizeof name, "layers.%u.ffn.experts.%u.w2.weight", i, e);
            assert_string_equal(layer->w2[e]->source.name, name);
        }
        snprintf(name, sizeof name, "layers.%u.ffn.shared_experts.w3.weight", i);
        assert_string_equal(layer->w3[shape.experts]->source.name, name);
        assert_true((layer->tid2eid != NULL) == shape.layer[i].hashed);
        assert_true((layer->bias != NULL) != shape.layer[i].hashed);
        assert_true((layer->compressor.ape != NULL) == (shape.layer[i].ratio > 0));
        assert_true((layer->indexer.wq_b != NULL) == (shape.layer[i].ratio == 4));
    }
    assert_string_equal(w.mtp[0].layer.wq_a->source.name, "mtp.0.attn.wq_a.weight");
    assert_string_equal(w.mtp[0].h_proj->source.name, "mtp.0.h_proj.weight");
    assert_string_equal(w.mtp[0].hc_head.fn->source.name, "mtp.0.hc_head_fn");
    assert_int_equal(w.layer[0].w1[0]->source.scale_cols, 32);
    assert_int_equal(w.layer[0].w1[0]->source.cols, shape.hidden);
    weights_close(&w, &fake.dev);
    assert_int_equal(fake.held, 0);
}

static void a_tensor_that_the_device_refuses_frees_all_others(void **unused)
{
    const char *dir = pilot_dir();
    struct fake fake = fake_dev();
    struct shape shape;
    struct weights w;
    struct err err = { "" };
    (void)unused;

    assert_int_equal(shape_read(dir, &shape, &err), OK);
    fake.fail_at = 100;
    struct weights_options options = { .dir = dir, .shape = &shape, .dev = &fake.dev };
    assert_int_equal(weights_open(&options, &w, &err), BAD_INPUT);
    assert_int_equal(fake.held, 0);
    assert_non_null(strstr(err.text, ".safetensors: tensor "));  // the file, then the tensor
    assert_non_null(strstr(err.text, ": a NaN scale"));
}

static void random_weights_depend_on_seed_and_name_alone(void **unused)
{
    struct shape shape = small_shape();
    uint64_t sums[3];
    (void)unused;

    for (uint32_t i = 0; i < 3; i++) {
        struct fake fake = fake_dev();
        struct weights w;
        struct err err = { "" };
        struct weights_options options = { .shape = &shape,
                                           .dev = &fake.dev,
                                           .seed = i < 2 ? 7 : 8 };
        fake.copies = i == 1;
        assert_int_equal(weights_random(&options, &w, &err), OK);
        assert_true(w.stored_bytes > 0);
        assert_true((w.device_bytes > 0) == fake.copies);
        sums[i] = fake.sum;
        weights_close(&w, &fake.dev);
        assert_int_equal(fake.held, 0);
    }
    assert_true(sums[0] == sums[1]);
    assert_true(sums[0] != sums[2]);
}

/* What random values must have so that the model runs on them. */
static void check_values(const struct tensor_need *need, const struct shape *shape,
                         const uint8_t *data)
{
    uint64_t bytes = tensor_bytes(need), count = (uint64_t)need->rows * need->cols;
    double sum = 0, squares = 0;

    for (uint64_t i = 0; i < bytes && need->type == DT_F8_E8M0; i++)
        assert_in_range(data[i], 100, 140);
    for (uint64_t i = 0; i < bytes && need->type == DT_F8_E4M3; i++)
        assert_int_not_equal(data[i] & 0x7f, 0x7f);
    if (need->type == DT_I64) {
        const int64_t *expert = (const int64_t *)(const void *)data;
        for (uint32_t r = 0; r < need->rows; r++)
            for (uint32_t i = 0; i < need->cols; i++) {
                assert_in_range(expert[r * need->cols + i], 0, shape->experts - 1);
                for (uint32_t k = 0; k < i; k++)
                    assert_int_not_equal(expert[r * need->cols + i], expert[r * need->cols + k]);
            }
    }
    if (need->type != DT_F32 && need->type != DT_BF16) return;
    for (uint64_t i = 0; i < count; i++) {
        double x = need->type == DT_F32 ? ((const float *)(const void *)data)[i]
                                        : bf16_to_f32(((const uint16_t *)(const void *)data)[i]);
        sum += x;
        squares += x * x;
    }
    if (count < 1000) return;  // too few for a mean
    double mean = sum / (double)count, wanted = need->gain;
    if (need->fill == FILL_SCALED) wanted /= __builtin_sqrt(need->cols);
    if (need->fill == FILL_NORM) return;
    assert_true(__builtin_fabs(mean) < 0.2 * wanted);
    assert_true(__builtin_fabs(__builtin_sqrt(squares / (double)count) - wanted) < 0.1 * wanted);
}

static void random_values_are_plausible(void **unused)
{
    struct shape shape = small_shape();
    struct tensor_list list;
    struct err err = { "" };
    (void)unused;

    assert_int_equal(tensor_list_init(&list, &shape, &err), OK);
    for (uint32_t i = 0; i < list.count; i++) {
        uint8_t *data = malloc(tensor_bytes(&list.need[i]));
        random_tensor(&list.need[i], &shape, 3, data);
        check_values(&list.need[i], &shape, data);
        free(data);
    }
    tensor_list_release(&list);
}

/* The spread of a random quantised matrix is the one that an unquantised one would have. */
static void random_codes_and_scales_fit_together(void **unused)
{
    struct shape shape = small_shape();
    struct tensor_list list;
    struct err err = { "" };
    (void)unused;

    assert_int_equal(tensor_list_init(&list, &shape, &err), OK);
    for (uint32_t i = 0; i < list.count; i++) {
        const struct tensor_need *need = &list.need[i];
        if (need->type != DT_I8 || need->scale == TENSOR_NONE) continue;
        const struct tensor_need *scale = &list.need[need->scale];
        uint8_t *data = malloc(tensor_bytes(need)), *scales = malloc(tensor_bytes(scale));
        random_tensor(need, &shape, 5, data);
        random_tensor(scale, &shape, 5, scales);
        double squares = 0;
        for (uint32_t r = 0; r < need->rows; r++)
            for (uint32_t c = 0; c < need->cols; c++) {
                uint8_t code = data[(r * need->cols + c) / 2] >> (c % 2 * 4) & 15;
                double x =
                    e2m1_to_f32(code) * e8m0_to_f32(scales[r * scale->cols + c / need->scale_cols]);
                squares += x * x;
            }
        double spread = __builtin_sqrt(squares / need->rows / need->cols);
        double wanted = need->gain / __builtin_sqrt(need->cols);
        assert_true(spread > wanted / 2 && spread < wanted * 2);
        free(data);
        free(scales);
    }
    tensor_list_release(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_fills_every_place),
        cmocka_unit_test(a_tensor_that_the_device_refuses_frees_all_others),
        cmocka_unit_test(random_weights_depend_on_seed_and_name_alone),
        cmocka_unit_test(random_values_are_plausible),
        cmocka_unit_test(random_codes_and_scales_fit_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
