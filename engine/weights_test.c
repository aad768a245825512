/* weights_test.c - each tensor reaches the device once, with the numbers the shape says, and a bad
 * value in one stops the load with its sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <unistd.h>
#include "config/hash.h"
#include "engine/model_writer.h"
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

static enum status fake_finish(struct dev *dev, struct err *err)
{
    (void)dev;
    (void)err;
    return OK;
}

static const struct ops fake_ops = {
    .name = "fake",
    .finish = fake_finish,
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

/* ---- bad values, with the CPU as the device ------------------------------------------------- */

/* A random model of the small shape in a directory of its own. */
struct lab {
    char dir[64];
    struct shape shape;
    struct dev *dev;
    uint32_t files;
};

static void open_lab(struct lab *lab)
{
    struct model_written written;
    struct err err = { "" };

    strcpy(lab->dir, "/tmp/fathom-weights-XXXXXX");
    assert_non_null(mkdtemp(lab->dir));
    lab->shape = small_shape();
    struct model_writer_options options = {
        .dir = lab->dir, .shape = &lab->shape, .random = true, .seed = 1
    };
    assert_int_equal(model_write(&options, &written, &err), OK);
    lab->files = written.files;
    struct dev_options device = { .threads = 1 };
    assert_int_equal(backend_open("cpu", &device, &lab->dev, &err), OK);
}

static void close_lab(struct lab *lab)
{
    char path[128];

    lab->dev->ops->close(lab->dev);
    for (uint32_t i = 1; i <= lab->files; i++) {
        snprintf(path, sizeof path, "%s/model-%05u-of-%05u.safetensors", lab->dir, i, lab->files);
        unlink(path);
    }
    static const char *const names[] = { "config.json", "generation_config.json",
                                         "model.safetensors.index.json" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", lab->dir, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(lab->dir), 0);
}

/* Overwrites bytes of a tensor in its file; before[size] receives what stood there. */
static void put_value(const struct lab *lab, const char *name, uint64_t at, const void *value,
                      size_t size, void *before)
{
    struct st_set set;
    struct err err = { "" };

    assert_int_equal(st_open_dir(lab->dir, &set, &err), OK);
    const struct st_tensor *tensor = st_find(&set, slice_of(name));
    assert_non_null(tensor);
    if (before) memcpy(before, (const char *)st_data(&set, tensor) + at, size);
    FILE *file = fopen(st_path(&set, tensor), "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)(tensor->begin + at), SEEK_SET), 0);
    assert_int_equal(fwrite(value, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    st_close(&set);
}

static void bad_values_are_refused_by_file_and_tensor(void **unused)
{
    static const int64_t four = 4, minus = -1;
    static const float nan_value = __builtin_nanf("");
    static const struct {
        const char *tensor;
        uint64_t at;
        const void *value;
        size_t size;
        const char *sentence;  // what follows the directory
    } cases[] = {
        { "layers.1.ffn.experts.2.w1.scale", 7, "\xff", 1,
          "/model-00003-of-00006.safetensors: layers.1.ffn.experts.2.w1.weight: a scale is NaN "
          "(e8m0 code 255)" },
        { "layers.1.attn.wq_a.scale", 0, "\xff", 1,
          "/model-00003-of-00006.safetensors: layers.1.attn.wq_a.weight: a scale is NaN "
          "(e8m0 code 255)" },
        { "layers.2.attn.wkv.weight", 77, "\x7f", 1,
          "/model-00004-of-00006.safetensors: layers.2.attn.wkv.weight: a value is not a finite "
          "number" },
        { "mtp.0.ffn.gate.bias", 4, &nan_value, 4,
          "/model-00006-of-00006.safetensors: mtp.0.ffn.gate.bias: a value is not a finite "
          "number" },
        { "layers.0.ffn.gate.tid2eid", 24 * 17 + 8, &four, 8,
          "/model-00002-of-00006.safetensors: tensor layers.0.ffn.gate.tid2eid: row 17: found "
          "expert 4, wanted 0 to 3" },
        { "layers.0.ffn.gate.tid2eid", 0, &minus, 8,
          "/model-00002-of-00006.safetensors: tensor layers.0.ffn.gate.tid2eid: row 0: found "
          "expert -1, wanted 0 to 3" },
    };
    struct lab lab;
    struct weights w;
    struct err err = { "" };
    (void)unused;

    open_lab(&lab);
    struct weights_options options = { .dir = lab.dir, .shape = &lab.shape, .dev = lab.dev };
    assert_int_equal(weights_open(&options, &w, &err), OK);
    weights_close(&w, lab.dev);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char before[8];
        put_value(&lab, cases[i].tensor, cases[i].at, cases[i].value, cases[i].size, before);
        assert_int_equal(weights_open(&options, &w, &err), BAD_INPUT);
        assert_int_equal(strncmp(err.text, lab.dir, strlen(lab.dir)), 0);
        assert_string_equal(err.text + strlen(lab.dir), cases[i].sentence);
        put_value(&lab, cases[i].tensor, cases[i].at, before, cases[i].size, NULL);
    }
    int64_t twice[2] = { 2, 2 };
    put_value(&lab, "layers.0.ffn.gate.tid2eid", 24 * 5, twice, sizeof twice, NULL);
    assert_int_equal(weights_open(&options, &w, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "row 5: found expert 2 twice, wanted 3 different ones"));
    close_lab(&lab);
}

/* The writer and weights_random draw the same values. */
static void a_written_random_model_loads_as_the_random_one(void **unused)
{
    struct lab lab;
    struct fake from_files = fake_dev(), drawn = fake_dev();
    struct weights w;
    struct err err = { "" };
    (void)unused;

    open_lab(&lab);
    struct weights_options options = { .dir = lab.dir, .shape = &lab.shape, .seed = 1 };
    options.dev = &from_files.dev;
    assert_int_equal(weights_open(&options, &w, &err), OK);
    weights_close(&w, &from_files.dev);
    options.dev = &drawn.dev;
    assert_int_equal(weights_random(&options, &w, &err), OK);
    weights_close(&w, &drawn.dev);
    assert_true(from_files.loads == drawn.loads && from_files.sum == drawn.sum);
    close_lab(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_fills_every_place),
        cmocka_unit_test(a_tensor_that_the_device_refuses_frees_all_others),
        cmocka_unit_test(random_weights_depend_on_seed_and_name_alone),
        cmocka_unit_test(random_values_are_plausible),
        cmocka_unit_test(random_codes_and_scales_fit_together),
        cmocka_unit_test(bad_values_are_refused_by_file_and_tensor),
        cmocka_unit_test(a_written_random_model_loads_as_the_random_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
