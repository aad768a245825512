/* attention_test.c - one layer's attention as the model runs it: query, window rows, compressed
 * entries, index keys, selection, softmax; against the formulas in double, and with the same bits
 * however its tokens are cut into chunks, in any company, on any instruction set. */
#include "kernels/testing.h"
#include <string.h>

enum {
    DIM = 512,
    INDEX = 128,
    INDEX_HEADS = 5,
    TOPK = 16,
    PAIRS = 32,
    BLOCKS = 8,  // in each plane; the sequences' own are scattered over them
    TOKENS = 300,
};

static const enum isa isas[] = { ISA_PLAIN, ISA_AVX2, ISA_AVX512 };

struct scene {  // one sequence's inputs, and what the operations make of them
    uint32_t tokens, heads, ratio, width, index_width;
    float *q, *kv, *value, *gate;  // [tokens, heads * DIM], DIM, width, width
    float *index_q, *index_w, *index_value, *index_gate;  // [tokens, INDEX_HEADS * INDEX] ...
    float *norm, *index_norm, *ape, *index_ape, *sink;
    float frequency[PAIRS];
    float *turned, *out;         // [tokens, heads * DIM]
    uint32_t *selected, *count;  // [tokens, TOPK], [tokens]
    char *window, *entries, *keys, *tail, *index_tail, *state, *index_state;
    uint32_t entry_bytes, key_bytes;
    uint32_t page[BLOCKS], block[BLOCKS];
};

static float *normal(size_t count, uint64_t seed, float scale)
{
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++) x[i] = round_bf16(scale * test_normal(&seed));
    return x;
}

static char *poisoned(size_t bytes)
{
    char *data = malloc(bytes);
    memset(data, 0xff, bytes);  // NaN, whatever is read before it is written
    return data;
}

static struct scene scene_make(enum numerics numerics, uint32_t tokens, uint32_t heads,
                               uint32_t ratio, uint64_t seed)
{
    bool official = numerics == NUMERICS_OFFICIAL;
    struct scene s = { .tokens = tokens, .heads = heads, .ratio = ratio };
    size_t t = tokens;

    s.width = ratio == 4 ? 2 * DIM : DIM, s.index_width = 2 * INDEX;
    s.entry_bytes = official ? ENTRY_BYTES_OFFICIAL : DIM * 4;
    s.key_bytes = official ? INDEX_BYTES_OFFICIAL : INDEX * 4;
    s.q = normal(t * heads * DIM, seed + 1, 1);
    s.kv = normal(t * DIM, seed + 2, 1);
    s.value = normal(t * s.width, seed + 3, 1);
    s.gate = normal(t * s.width, seed + 4, 1);
    s.index_q = normal(t * INDEX_HEADS * INDEX, seed + 5, 1);
    s.index_w = normal(t * INDEX_HEADS, seed + 6, 1);
    s.index_value = normal(t * s.index_width, seed + 7, 1);
    s.index_gate = normal(t * s.index_width, seed + 8, 1);
    s.norm = normal(DIM, 9, 1), s.index_norm = normal(INDEX, 10, 1);
    s.ape = normal(128 * 2 * DIM, 11, 0.5f), s.index_ape = normal(4 * 2 * INDEX, 12, 0.5f);
    s.sink = normal(heads, 13, 1);
    for (uint32_t i = 0; i < PAIRS; i++) s.frequency[i] = (float)pow(10000, -(double)i / PAIRS);
    s.turned = (float *)(void *)poisoned(t * heads * DIM * 4);
    s.out = (float *)(void *)poisoned(t * heads * DIM * 4);
    s.selected = (uint32_t *)(void *)poisoned(t * TOPK * 4);
    s.count = (uint32_t *)(void *)poisoned(t * 4);
    s.window = poisoned((size_t)BLOCKS * 128 * s.entry_bytes);
    s.entries = poisoned((size_t)BLOCKS * 32 * s.entry_bytes);
    s.keys = poisoned((size_t)BLOCKS * 32 * s.key_bytes);
    s.tail = poisoned((size_t)BLOCKS * 4 * 2 * DIM * 4);
    s.index_tail = poisoned((size_t)BLOCKS * 4 * 2 * INDEX * 4);
    s.state = poisoned((size_t)2 * 128 * 4 * DIM * 4);
    s.index_state = poisoned((size_t)2 * 8 * 4 * INDEX * 4);
    for (uint32_t i = 0; i < BLOCKS; i++)
        s.page[i] = (3 * i + 5) % BLOCKS, s.block[i] = BLOCKS - 1 - i;
    return s;
}

static void scene_release(struct scene *s)
{
    void *all[] = { s->q,        s->kv,          s->value,      s->gate,       s->index_q,
                    s->index_w,  s->index_value, s->index_gate, s->norm,       s->index_norm,
                    s->ape,      s->index_ape,   s->sink,       s->turned,     s->out,
                    s->selected, s->count,       s->window,     s->entries,    s->keys,
                    s->tail,     s->index_tail,  s->state,      s->index_state };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* Rows of NaN: what a resume at a page's end finds in a slot that another sequence had. */
static void scene_forget_state(struct scene *s)
{
    memset(s->state, 0xff, (size_t)2 * 128 * 4 * DIM * 4);
    memset(s->index_state, 0xff, (size_t)2 * 8 * 4 * INDEX * 4);
}

static struct weight *vector(struct dev *dev, const float *data, uint32_t rows, uint32_t cols)
{
    struct weight *weight = NULL;
    struct err err;
    struct weight_source source = { .name = "test",
                                    .data = data,
                                    .type = DT_F32,
                                    .rows = rows,
                                    .cols = cols,
                                    .use = WEIGHT_VECTOR };
    assert_int_equal(dev->ops->weight_load(dev, &source, &weight, &err), OK);
    return weight;
}

static struct kv_plane plane(char *base, uint32_t row_bytes, uint32_t rows)
{
    return (struct kv_plane){ base, (size_t)row_bytes * rows, row_bytes, rows };
}

static struct mat rows(float *data, uint32_t first, uint32_t count, uint32_t cols)
{
    return mat_of(data + (size_t)first * cols, DT_F32, count, cols);
}

static void run_compressors(struct scene *s, struct dev *dev, const struct batch *batch,
                            struct rope rope, uint32_t first, uint32_t n)
{
    struct weight *norm = vector(dev, s->norm, 1, DIM),
                  *index_norm = vector(dev, s->index_norm, 1, INDEX);
    struct weight *ape = vector(dev, s->ape, s->ratio, s->width);
    struct weight *index_ape = vector(dev, s->index_ape, 4, s->index_width);
    bool four = s->ratio == 4;

    dev->ops->compress(
        dev, &(struct compress_args){ .value = rows(s->value, first, n, s->width),
                                      .gate = rows(s->gate, first, n, s->width),
                                      .ape = ape,
                                      .norm = norm,
                                      .ratio = s->ratio,
                                      .dim = DIM,
                                      .eps = 1e-6f,
                                      .rope = rope,
                                      .batch = batch,
                                      .entries = plane(s->entries, s->entry_bytes, 128 / s->ratio),
                                      .tail = plane(four ? s->tail : NULL, 2 * DIM * 4, 4),
                                      .state = s->state,
                                      .state_stride = (size_t)128 * 4 * DIM * 4 });
    if (four)
        dev->ops->compress(
            dev, &(struct compress_args){ .value = rows(s->index_value, first, n, s->index_width),
                                          .gate = rows(s->index_gate, first, n, s->index_width),
                                          .ape = index_ape,
                                          .norm = index_norm,
                                          .ratio = 4,
                                          .dim = INDEX,
                                          .eps = 1e-6f,
                                          .rope = rope,
                                          .index = true,
                                          .batch = batch,
                                          .entries = plane(s->keys, s->key_bytes, 32),
                                          .tail = plane(s->index_tail, 2 * INDEX * 4, 4),
                                          .state = s->index_state,
                                          .state_stride = (size_t)8 * 4 * INDEX * 4 });
    dev->ops->weight_free(dev, norm), dev->ops->weight_free(dev, index_norm);
    dev->ops->weight_free(dev, ape), dev->ops->weight_free(dev, index_ape);
}

/* One step: tokens first .. first + n - 1 of the sequence. */
static void scene_step(struct scene *s, struct dev *dev, uint32_t first, uint32_t n)
{
    uint32_t position[TOKENS], seq[TOKENS], start[] = { 0, n },
                                            w_first = first < 128 ? 0 : first / 128 - 1;
    uint32_t state = 1;
    struct rope rope = { s->frequency, 2 * PAIRS };
    struct weight *norm = vector(dev, s->norm, 1, DIM), *sink = vector(dev, s->sink, 1, s->heads);
    struct err err;
    uint32_t wide = s->heads * DIM;

    for (uint32_t i = 0; i < n; i++) position[i] = first + i, seq[i] = 0;
    struct batch batch = { .tokens = n,
                           .seqs = 1,
                           .position = position,
                           .seq = seq,
                           .first = start,
                           .g_table = s->block,
                           .g_stride = BLOCKS,
                           .w_table = s->page + w_first,
                           .w_stride = BLOCKS,
                           .w_first = &w_first,
                           .state = &state };
    memcpy(s->turned + (size_t)first * wide, s->q + (size_t)first * wide, (size_t)n * wide * 4);
    dev->ops->query(dev, &(struct query_args){ rows(s->turned, first, n, wide), s->heads, 1e-6f,
                                               rope, &batch });
    dev->ops->window_store(
        dev, &(struct window_store_args){ rows(s->kv, first, n, DIM), norm, 1e-6f, rope, &batch,
                                          plane(s->window, s->entry_bytes, 128) });
    if (s->ratio) run_compressors(s, dev, &batch, rope, first, n);
    if (s->ratio == 4) {
        float *q = malloc((size_t)n * INDEX_HEADS * INDEX * 4);
        memcpy(q, s->index_q + (size_t)first * INDEX_HEADS * INDEX,
               (size_t)n * INDEX_HEADS * INDEX * 4);
        dev->ops->indexer(
            dev, &(struct indexer_args){ .q = mat_of(q, DT_F32, n, INDEX_HEADS * INDEX),
                                         .weights = rows(s->index_w, first, n, INDEX_HEADS),
                                         .heads = INDEX_HEADS,
                                         .dim = INDEX,
                                         .topk = TOPK,
                                         .ratio = 4,
                                         .rope = rope,
                                         .batch = &batch,
                                         .keys = plane(s->keys, s->key_bytes, 32),
                                         .selected = s->selected + (size_t)first * TOPK,
                                         .count = s->count + first });
        free(q);
    }
    dev->ops->attention(
        dev, &(struct attention_args){
                 .q = rows(s->turned, first, n, wide),
                 .out = rows(s->out, first, n, wide),
                 .heads = s->heads,
                 .sink = sink,
                 .rope = rope,
                 .batch = &batch,
                 .window = plane(s->window, s->entry_bytes, 128),
                 .ratio = s->ratio,
                 .entries = plane(s->entries, s->entry_bytes, s->ratio ? 128 / s->ratio : 1),
                 .selected = s->ratio == 4 ? s->selected + (size_t)first * TOPK : NULL,
                 .count = s->ratio == 4 ? s->count + first : NULL,
                 .topk = TOPK });
    assert_int_equal(dev->ops->finish(dev, &err), OK);
    dev->ops->weight_free(dev, norm), dev->ops->weight_free(dev, sink);
}

static void scene_run(struct scene *s, struct dev *dev, uint32_t chunk)
{
    for (uint32_t t = 0; t < s->tokens; t += chunk)
        scene_step(s, dev, t, s->tokens - t < chunk ? s->tokens - t : chunk);
}

/* ---- the formulas, in double (model.md 4.3 to 4.6) ----------------------------------------- */

static void norm_row(double *x, const float *weight, uint32_t dim)
{
    double sum = 0;
    for (uint32_t i = 0; i < dim; i++) sum += x[i] * x[i];
    for (uint32_t i = 0; i < dim; i++)
        x[i] *= (weight ? (double)weight[i] : 1.0) / sqrt(sum / dim + 1e-6);
}

static void turn_row(const struct scene *s, double *x, uint32_t dim, uint32_t position, int sign)
{
    x += dim - 2 * PAIRS;
    for (uint32_t i = 0; i < PAIRS; i++) {
        double angle = sign * (double)((float)position * s->frequency[i]);
        double a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cos(angle) - b * sin(angle);
        x[2 * i + 1] = a * sin(angle) + b * cos(angle);
    }
}

static double *window_row(const struct scene *s, uint32_t t)
{
    double *x = malloc(DIM * sizeof *x);
    for (uint32_t i = 0; i < DIM; i++) x[i] = (double)s->kv[(size_t)t * DIM + i];
    norm_row(x, s->norm, DIM);
    turn_row(s, x, DIM, t, 1);
    return x;
}

/* Entry j of the compressor, or of the indexer's. */
static double *entry_row(const struct scene *s, uint32_t j, bool index)
{
    uint32_t m = s->ratio, dim = index ? INDEX : DIM, width = m == 4 ? 2 * dim : dim;
    const float *value = index ? s->index_value : s->value, *gate = index ? s->index_gate : s->gate;
    const float *ape = index ? s->index_ape : s->ape;
    double *x = calloc(dim, sizeof *x);

    for (uint32_t c = 0; c < dim; c++) {
        double sum = 0;
        for (uint32_t r = m == 4 && j > 0 ? 0 : m; r < 2 * m; r++) {  // the block before, then this
            uint32_t t = j * m + r - m, at = c + (m == 4 && r >= m ? dim : 0);
            double e = exp((double)gate[t * width + at] + (double)ape[t % m * width + at]);
            sum += e;
            x[c] += e * (double)value[t * width + at];
        }
        x[c] /= sum;
    }
    norm_row(x, index ? s->index_norm : s->norm, dim);
    turn_row(s, x, dim, j * m, 1);
    return x;
}

/* What the device keeps of a row: its values in double. */
static void read_row(double *x, const char *row, uint32_t dim, enum numerics numerics)
{
    const uint8_t *code = (const uint8_t *)row;
    uint16_t half;

    for (uint32_t i = 0; i < dim; i++) {
        float v;
        if (numerics == NUMERICS_EXACT) {
            memcpy(&v, row + 4 * i, 4);
        } else if (dim == INDEX) {
            v = e2m1_to_f32(code[i / 2] >> (i % 2 * 4) & 15) * e8m0_to_f32(code[64 + i / 32]);
        } else if (i < 448) {
            v = e4m3_to_f32(code[i]) * e8m0_to_f32(code[576 + i / 64]);
        } else {
            memcpy(&half, code + 448 + 2 * (i - 448), 2);
            v = bf16_to_f32(half);
        }
        x[i] = (double)v;
    }
}

static void near(const char *what, uint32_t at, const double *got, const double *want,
                 uint32_t count, double tol)
{
    double error = 0, size = 1e-30;
    for (uint32_t i = 0; i < count; i++) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        size += want[i] * want[i];
    }
    if (!(sqrt(error / size) < tol))
        test_fail("%s %u: relative error %g\n", what, at, sqrt(error / size));
}

static const char *window_at(const struct scene *s, uint32_t t)
{
    return s->window + ((size_t)s->page[t / 128] * 128 + t % 128) * s->entry_bytes;
}

static const char *entry_at(const struct scene *s, uint32_t j)
{
    uint32_t each = 128 / s->ratio;
    return s->entries + ((size_t)s->block[j / each] * each + j % each) * s->entry_bytes;
}

static const char *key_at(const struct scene *s, uint32_t j)
{
    return s->keys + ((size_t)s->block[j / 32] * 32 + j % 32) * s->key_bytes;
}

static void check_rows(const struct scene *s, enum numerics numerics)
{
    bool official = numerics == NUMERICS_OFFICIAL;
    double tol = official ? 4e-2 : 1e-5, got[DIM];  // e4m3 keeps 4 bits

    for (uint32_t t = s->tokens < 128 ? 0 : s->tokens - 128; t < s->tokens; t++) {
        double *want = window_row(s, t);
        read_row(got, window_at(s, t), DIM, numerics);
        near("window row", t, got, want, DIM, tol);
        if (official) near("its rope channels", t, got + 448, want + 448, 64, 6e-3);
        free(want);
    }
    for (uint32_t j = 0; s->ratio && j < s->tokens / s->ratio; j++) {
        double *want = entry_row(s, j, false);
        read_row(got, entry_at(s, j), DIM, numerics);
        near("entry", j, got, want, DIM, tol);
        free(want);
        if (s->ratio != 4 || official) continue;  // official keys: by their scores, below
        want = entry_row(s, j, true);
        read_row(got, key_at(s, j), INDEX, numerics);
        near("index key", j, got, want, INDEX, tol);
        free(want);
    }
}

static void hadamard(double *x)
{
    double y[INDEX];
    for (uint32_t r = 0; r < INDEX; r++) {
        y[r] = 0;
        for (uint32_t c = 0; c < INDEX; c++) y[r] += __builtin_popcount(r & c) % 2 ? -x[c] : x[c];
    }
    for (uint32_t r = 0; r < INDEX; r++) x[r] = y[r] / sqrt(128.0);
}

/* The nearest e2m1 numbers under the group's scale. */
static void to_four_bits(double *x)
{
    for (uint32_t g = 0; g < INDEX; g += 32) {
        double most = 0;
        for (uint32_t i = g; i < g + 32; i++) most = fmax(most, fabs(x[i]));
        double scale = exp2(ceil(log2(most / 6)));
        for (uint32_t i = g; i < g + 32; i++)
            x[i] = (double)e2m1_to_f32(f32_to_e2m1((float)(x[i] / scale))) * scale;
    }
}

/* The selection is right when nothing left out beats anything taken by more than rounding. */
static void check_selection(const struct scene *s, uint32_t t, enum numerics numerics)
{
    bool official = numerics == NUMERICS_OFFICIAL, taken[TOKENS] = { 0 };
    uint32_t visible = (t + 1) / 4, count = s->count[t];
    double score[TOKENS] = { 0 }, least = INFINITY, most = -INFINITY, size = 0;

    assert_int_equal(count, visible < TOPK ? visible : TOPK);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t j = s->selected[t * TOPK + i];
        assert_true(j < visible && (i == 0 || j > s->selected[t * TOPK + i - 1]));
        taken[j] = true;
    }
    for (uint32_t h = 0; h < INDEX_HEADS; h++) {
        double q[INDEX], key[INDEX],
            w = (double)s->index_w[t * INDEX_HEADS + h] / sqrt(128.0 * INDEX_HEADS);
        for (uint32_t i = 0; i < INDEX; i++)
            q[i] = (double)s->index_q[(t * INDEX_HEADS + h) * INDEX + i];
        turn_row(s, q, INDEX, t, 1);
        if (official) hadamard(q), to_four_bits(q);
        for (uint32_t j = 0; j < visible; j++) {
            double dot = 0;
            read_row(key, key_at(s, j), INDEX, numerics);
            for (uint32_t i = 0; i < INDEX; i++) dot += q[i] * key[i];
            score[j] += dot > 0 ? dot * w : 0;
        }
    }
    for (uint32_t j = 0; j < visible; j++) {
        if (taken[j]) least = fmin(least, score[j]);
        else most = fmax(most, score[j]);
        size = fmax(size, fabs(score[j]));
    }
    if (!(least >= most - (official ? 0.03 : 1e-5) * size))
        test_fail("token %u: took %g, left %g of at most %g\n", t, least, most, size);
}

/* Attention over the rows as the device keeps them, so that quantisers do not blur it. */
static void check_token(const struct scene *s, uint32_t t, enum numerics numerics)
{
    uint32_t window = t < 128 ? t + 1 : 128;
    uint32_t entries = s->ratio == 0 ? 0 : s->ratio == 4 ? s->count[t] : (t + 1) / s->ratio;
    uint32_t keys = window + entries;
    double *key = malloc((size_t)keys * DIM * sizeof *key), *p = malloc(keys * sizeof *p);

    for (uint32_t i = 0; i < window; i++)
        read_row(key + (size_t)i * DIM, window_at(s, t + 1 - window + i), DIM, numerics);
    for (uint32_t i = 0; i < entries; i++) {
        uint32_t j = s->ratio == 4 ? s->selected[t * TOPK + i] : i;
        read_row(key + (size_t)(window + i) * DIM, entry_at(s, j), DIM, numerics);
    }
    for (uint32_t h = 0; h < s->heads; h++) {
        double q[DIM], out[DIM] = { 0 }, got[DIM], sum = exp((double)s->sink[h]);
        size_t at = ((size_t)t * s->heads + h) * DIM;

        for (uint32_t i = 0; i < DIM; i++) q[i] = (double)s->q[at + i];
        norm_row(q, NULL, DIM);
        turn_row(s, q, DIM, t, 1);
        for (uint32_t i = 0; i < DIM; i++) got[i] = (double)s->turned[at + i];
        near("query", t, got, q, DIM, numerics == NUMERICS_OFFICIAL ? 1e-2 : 1e-5);
        for (uint32_t k = 0; k < keys; k++) {
            double dot = 0;
            for (uint32_t i = 0; i < DIM; i++) dot += got[i] * key[(size_t)k * DIM + i];
            p[k] = exp(dot / sqrt(512.0));
            sum += p[k];
        }
        for (uint32_t k = 0; k < keys; k++)
            for (uint32_t i = 0; i < DIM; i++) out[i] += p[k] * key[(size_t)k * DIM + i] / sum;
        turn_row(s, out, DIM, t, -1);
        for (uint32_t i = 0; i < DIM; i++) got[i] = (double)s->out[at + i];
        near("attention", t, got, out, DIM, numerics == NUMERICS_OFFICIAL ? 6e-3 : 1e-5);
    }
    free(key), free(p);
}

static void check_formulas(uint32_t heads, uint32_t ratio, enum numerics numerics)
{
    static const uint32_t tokens[] = {
        0, 1, 2, 3, 4, 7, 8, 126, 127, 128, 129, 199, 255, 256, 299
    };
    struct dev *dev = test_open(numerics, ISA_AUTO, 2);
    struct scene s = scene_make(numerics, TOKENS, heads, ratio, 100);

    scene_run(&s, dev, TOKENS);
    check_rows(&s, numerics);
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        if (ratio == 4) check_selection(&s, tokens[i], numerics);
        check_token(&s, tokens[i], numerics);
    }
    scene_release(&s);
    dev->ops->close(dev);
}

static void attention_is_its_formula(void **unused)
{
    (void)unused;
    for (int official = 0; official < 2; official++) {
        enum numerics numerics = official ? NUMERICS_OFFICIAL : NUMERICS_EXACT;
        check_formulas(4, 4, numerics);
        check_formulas(4, 128, numerics);
        check_formulas(1, 0, numerics);
        check_formulas(7, 4, numerics);
    }
}

/* ---- bits ---------------------------------------------------------------------------------- */

static void same(const struct scene *a, const struct scene *b)
{
    assert_memory_equal(a->turned, b->turned, (size_t)a->tokens * a->heads * DIM * 4);
    for (uint32_t t = 0; t < a->tokens; t++)
        assert_memory_equal(window_at(a, t), window_at(b, t), a->entry_bytes);
    for (uint32_t j = 0; a->ratio && j < a->tokens / a->ratio; j++) {
        assert_memory_equal(entry_at(a, j), entry_at(b, j), a->entry_bytes);
        if (a->ratio == 4) assert_memory_equal(key_at(a, j), key_at(b, j), a->key_bytes);
    }
    for (uint32_t t = 0; a->ratio == 4 && t < a->tokens; t++)
        assert_memory_equal(a->selected + t * TOPK, b->selected + t * TOPK, a->count[t] * 4);
    assert_memory_equal(a->out, b->out, (size_t)a->tokens * a->heads * DIM * 4);
}

static void bits_are_those_of_plain_c_one_token_at_a_time(void **unused)
{
    static const uint32_t chunks[] = { 1, 5, 64, TOKENS }, ratios[] = { 4, 128 };
    (void)unused;

    for (int official = 0; official < 2; official++)
        for (uint32_t r = 0; r < 2; r++) {
            enum numerics numerics = official ? NUMERICS_OFFICIAL : NUMERICS_EXACT;
            uint32_t heads = r ? 1 : 5, tokens = r ? TOKENS : 140;
            struct scene want = scene_make(numerics, tokens, heads, ratios[r], 7);
            struct dev *plain = test_open(numerics, ISA_PLAIN, 1);
            scene_run(&want, plain, 1);
            plain->ops->close(plain);
            for (uint32_t i = 0; i < 3; i++)
                for (uint32_t c = i ? 0 : 3; c < 4; c++) {  // plain C: all tokens at once
                    struct dev *dev = test_open(numerics, isas[i], 1 + c % 3);
                    if (!dev) continue;
                    struct scene got = scene_make(numerics, tokens, heads, ratios[r], 7);
                    scene_run(&got, dev, chunks[c]);
                    same(&want, &got);
                    scene_release(&got);
                    dev->ops->close(dev);
                }
            scene_release(&want);
        }
}

static void of_equal_scores_the_first_entries_are_taken(void **unused)
{
    (void)unused;
    for (int official = 0; official < 2; official++) {
        enum numerics numerics = official ? NUMERICS_OFFICIAL : NUMERICS_EXACT;
        struct dev *dev = test_open(numerics, ISA_AUTO, 1);
        struct scene s = scene_make(numerics, TOKENS, 1, 4, 5);

        memset(s.index_w, 0, (size_t)TOKENS * INDEX_HEADS * 4);
        scene_run(&s, dev, TOKENS);
        for (uint32_t t = 0; t < TOKENS; t++)
            for (uint32_t i = 0; i < s.count[t]; i++) assert_int_equal(s.selected[t * TOPK + i], i);
        scene_release(&s);
        dev->ops->close(dev);
    }
}

static void a_sequence_resumes_at_a_pages_end_without_its_state(void **unused)
{
    (void)unused;
    for (uint32_t ratio = 4; ratio <= 128; ratio += 124) {
        struct dev *dev = test_open(NUMERICS_OFFICIAL, ISA_AUTO, 1);
        struct scene want = scene_make(NUMERICS_OFFICIAL, TOKENS, 2, ratio, 3);
        struct scene got = scene_make(NUMERICS_OFFICIAL, TOKENS, 2, ratio, 3);

        scene_run(&want, dev, TOKENS);
        scene_step(&got, dev, 0, 128);
        scene_forget_state(&got);
        scene_step(&got, dev, 128, 1);
        scene_step(&got, dev, 129, 127);
        scene_forget_state(&got);
        scene_step(&got, dev, 256, TOKENS - 256);
        same(&want, &got);
        scene_release(&want), scene_release(&got);
        dev->ops->close(dev);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_is_its_formula),
        cmocka_unit_test(bits_are_those_of_plain_c_one_token_at_a_time),
        cmocka_unit_test(of_equal_scores_the_first_entries_are_taken),
        cmocka_unit_test(a_sequence_resumes_at_a_pages_end_without_its_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
