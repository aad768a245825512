/* attention.c - softmax over window and compressed keys with a sink (model.md 4.3, 5.10).
 *
 * A key, which is also its value, is unpacked once for all heads. Scores: 16 lanes over the channels
 * in order, then the lanes' tree. Weights: exp(score - largest), summed by 16 lanes over the keys.
 * Output: each channel sums over the keys in order, window first.
 */
#include "kernels/cpu/vectors.h"
#include "kernels/cpu/share.h"

/* How many heads, keys and vectors of channels go side by side: what the registers hold. */
#if defined __AVX512F__
enum { SCORE_HEADS = 4, SCORE_KEYS = 4, VALUE_HEADS = 4, VALUE_VECTORS = 4 };
#else
enum { SCORE_HEADS = 2, SCORE_KEYS = 2, VALUE_HEADS = 4, VALUE_VECTORS = 1 };
#endif

struct attention_job {
    const struct attention_args *args;
    const float *sink;
    uint32_t dim;      // of a head
    size_t keys_most;  // of one token, a multiple of 16
    float *key;        // [keys_most, dim] of every thread
    float *score;      // [VALUE_HEADS, keys_most] of every thread
    bool official;
};

static uint32_t window_count(uint32_t position)
{
    return position < BLOCK_TOKENS ? position + 1 : BLOCK_TOKENS;
}

static uint32_t entry_count(const struct attention_args *args, uint32_t t)
{
    if (args->ratio == 0) return 0;
    return args->selected ? args->count[t] : (args->batch->position[t] + 1) / args->ratio;
}

/* Unpacks the keys of a token: its window by position, then entries ascending. */
INLINE uint32_t gather_keys(const struct attention_job *job, uint32_t t, float *key)
{
    const struct attention_args *args = job->args;
    const struct batch *batch = args->batch;
    uint32_t position = batch->position[t], seq = batch->seq[t], window = window_count(position);
    uint32_t entries = entry_count(args, t);
    const uint32_t *pages = batch->w_table + (size_t)seq * batch->w_stride;
    const uint32_t *blocks = batch->g_table + (size_t)seq * batch->g_stride;

    for (uint32_t p = position + 1 - window; p <= position; p++) {
        uint32_t page = pages[p / BLOCK_TOKENS - batch->w_first[seq]];
        entry_read(key, plane_row(&args->window, page, p % BLOCK_TOKENS), job->dim, job->official);
        key += job->dim;
    }
    for (uint32_t i = 0; i < entries; i++) {
        uint32_t entry = args->selected ? args->selected[(size_t)t * args->topk + i] : i;
        uint32_t rows = BLOCK_TOKENS / args->ratio;
        entry_read(key, plane_row(&args->entries, blocks[entry / rows], entry % rows), job->dim,
                   job->official);
        key += job->dim;
    }
    return window + entries;
}

INLINE void score_tile(float *score, size_t stride, const float *q, const float *key, uint32_t dim,
                       uint32_t heads, uint32_t keys)
{
    vf sum[SCORE_HEADS][SCORE_KEYS], scale = vf_all((float)(1.0 / sqrt((double)dim)));

    for (uint32_t h = 0; h < heads; h++)
        for (uint32_t k = 0; k < keys; k++) sum[h][k] = vf_all(0);
    for (uint32_t i = 0; i < dim; i += VF_LANES) {
        vf v[SCORE_KEYS];
        for (uint32_t k = 0; k < keys; k++) v[k] = vf_load(key + (size_t)k * dim + i);
        for (uint32_t h = 0; h < heads; h++) {
            vf x = vf_load(q + (size_t)h * dim + i);
            for (uint32_t k = 0; k < keys; k++) sum[h][k] = vf_fma(x, v[k], sum[h][k]);
        }
    }
    for (uint32_t h = 0; h < heads; h++)
        for (uint32_t k = 0; k < keys; k++)
            score[h * stride + k] = vf_first(vf_mul(vf_sum_all(sum[h][k]), scale));
}

INLINE void score_heads(float *score, size_t stride, const float *q, const float *key, uint32_t dim,
                        uint32_t heads, uint32_t keys)
{
    uint32_t k = 0;

    for (; k + SCORE_KEYS <= keys; k += SCORE_KEYS)
        score_tile(score + k, stride, q, key + (size_t)k * dim, dim, heads, SCORE_KEYS);
    for (; k < keys; k++) score_tile(score + k, stride, q, key + (size_t)k * dim, dim, heads, 1);
}

/* Scores to weights, in place; padded to whole vectors. Returns what divides the output. */
INLINE float weigh(float *score, uint32_t keys, float sink, bool official)
{
    uint32_t padded = (keys + VF_LANES - 1) / VF_LANES * VF_LANES;
    vf peak = vf_all(-INFINITY), sum = vf_all(0);
    float most;

    for (uint32_t k = keys; k < padded; k++) score[k] = -INFINITY;
    for (uint32_t k = 0; k < padded; k += VF_LANES) peak = vf_max(peak, vf_load(score + k));
    most = vf_most(peak);
    for (uint32_t k = 0; k < padded; k += VF_LANES) {
        vf e = vf_exp(vf_sub(vf_load(score + k), vf_all(most)));
        sum = vf_add(sum, e);
        vf_store(score + k, vf_round(e, official));
    }
    return vf_sum(sum) + exp_f32(sink - most);
}

INLINE void value_tile(float *out, const float *weight, size_t stride, const float *key,
                       uint32_t dim, uint32_t keys, const float *divisor, uint32_t heads,
                       bool official)
{
    vf sum[VALUE_HEADS][VALUE_VECTORS];

    for (uint32_t h = 0; h < heads; h++)
        for (uint32_t c = 0; c < VALUE_VECTORS; c++) sum[h][c] = vf_all(0);
    for (uint32_t k = 0; k < keys; k++) {
        vf v[VALUE_VECTORS];
        for (uint32_t c = 0; c < VALUE_VECTORS; c++)
            v[c] = vf_load(key + (size_t)k * dim + c * VF_LANES);
        for (uint32_t h = 0; h < heads; h++) {
            vf w = vf_all(weight[h * stride + k]);
            for (uint32_t c = 0; c < VALUE_VECTORS; c++) sum[h][c] = vf_fma(w, v[c], sum[h][c]);
        }
    }
    for (uint32_t h = 0; h < heads; h++)
        for (uint32_t c = 0; c < VALUE_VECTORS; c++)
            vf_store(out + (size_t)h * dim + c * VF_LANES,
                     vf_round(vf_div(sum[h][c], vf_all(divisor[h])), official));
}

/* `heads` of one token, at most VALUE_HEADS; both tile sizes are constants after inlining. */
INLINE void attend_heads(const struct attention_job *job, uint32_t t, uint32_t head, uint32_t heads,
                         const float *key, uint32_t keys, float *score, const struct turn *turn)
{
    uint32_t dim = job->dim, h = 0;
    const float *q = (const float *)mat_row(&job->args->q, t) + (size_t)head * dim;
    float *out = (float *)mat_row(&job->args->out, t) + (size_t)head * dim, divisor[VALUE_HEADS];

    for (; h + SCORE_HEADS <= heads; h += SCORE_HEADS)
        score_heads(score + h * job->keys_most, job->keys_most, q + (size_t)h * dim, key, dim,
                    SCORE_HEADS, keys);
    for (; h < heads; h++)
        score_heads(score + h * job->keys_most, job->keys_most, q + (size_t)h * dim, key, dim, 1,
                    keys);
    for (h = 0; h < heads; h++)
        divisor[h] = weigh(score + h * job->keys_most, keys, job->sink[head + h], job->official);
    for (uint32_t c = 0; c < dim; c += VALUE_VECTORS * VF_LANES)
        value_tile(out + c, score, job->keys_most, key + c, dim, keys, divisor, heads,
                   job->official);
    for (h = 0; h < heads; h++) row_turn(out + (size_t)h * dim, dim, turn, job->official);
}

static void attend_tokens(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct attention_job *job = context;
    const struct attention_args *args = job->args;
    float *key = job->key + thread * job->keys_most * job->dim;
    float *score = job->score + thread * job->keys_most * VALUE_HEADS;

    for (uint32_t t = from; t < to; t++) {
        uint32_t keys = gather_keys(job, t, key), h = 0;
        struct turn turn;

        turn_init(&turn, &args->rope, args->batch->position[t], true);
        for (; h + VALUE_HEADS <= args->heads; h += VALUE_HEADS)
            attend_heads(job, t, h, VALUE_HEADS, key, keys, score, &turn);
        for (; h < args->heads; h++) attend_heads(job, t, h, 1, key, keys, score, &turn);
    }
}

static void attention_check(const struct attention_args *args, uint32_t dim, bool official)
{
    uint32_t bytes = official ? ENTRY_BYTES_OFFICIAL : dim * (uint32_t)sizeof(float);

    must(dim * args->heads == args->q.cols && args->out.cols == args->q.cols);
    must(dim % (VALUE_VECTORS * VF_LANES) == 0 && (!official || dim == ENTRY_DIM));
    must(args->sink->rows * args->sink->cols == args->heads);
    must(args->window.row_bytes == bytes && (!args->ratio || args->entries.row_bytes == bytes));
    must(args->rope.dim % VF_LANES == 0 && args->rope.dim <= ROPE_MOST && args->rope.dim <= dim);
}

void ISA(attention)(struct cpu_dev *cpu, const struct attention_args *args)
{
    uint32_t threads = pool_threads(cpu->pool), most = 0;
    struct attention_job job = {
        .args = args,
        .sink = weight_floats(args->sink),
        .dim = args->q.cols / args->heads,
        .official = is_official(cpu),
    };

    attention_check(args, job.dim, job.official);
    for (uint32_t t = 0; t < args->batch->tokens; t++) {
        uint32_t keys = window_count(args->batch->position[t]) + entry_count(args, t);
        if (keys > most) most = keys;
    }
    job.keys_most = (most + VF_LANES - 1) / VF_LANES * VF_LANES;
    cpu_scratch_begin(cpu);
    job.key = cpu_take(cpu, threads * job.keys_most * job.dim * sizeof *job.key);
    job.score = cpu_take(cpu, threads * job.keys_most * VALUE_HEADS * sizeof *job.score);
    if (!job.key || !job.score) return;
    share_rows(cpu, args->batch->tokens, 1, attend_tokens, &job);
}

OPERATION(attention)
