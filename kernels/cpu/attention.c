/* attention.c - softmax over window and compressed keys with a sink (model.md 4.3, 5.10).
 *
 * Scores: 16 lanes over the channels in order, then the lanes' tree. Weights: exp(score - largest),
 * summed by 16 lanes over the keys. Output: each channel sums over the keys in order, window first.
 *
 * Keys pass in blocks of sixteen through all heads, twice: for their scores, then for their values.
 * Official rows are unpacked to fp32 on the way: those of a chunk once for all its tokens (shared),
 * or, for a few tokens, block by block into the first-level cache. Exact rows are used in place.
 */
#include "kernels/cpu/share.h"
#include "kernels/cpu/vectors.h"

/* How many sums go side by side: what the registers hold. Of heads, as many as a tile has; of keys, or
 * of vectors of channels, the rest. */
#if defined __AVX512F__
enum { TILE = 16, TILE_HEADS = 4 };
#else
enum { TILE = 4, TILE_HEADS = 2 };
#endif

enum {
    KEY_BLOCK = 16,          // keys that pass together
    HEADS_MOST = 32,         // of an item
    OWN_ROWS = 512,          // 1 MiB, which the second-level cache holds
    SHARED_TOKENS = 4,       // from so many tokens of one sequence on, rows are unpacked for all
    SHARED_ENTRIES = 32768,  // at most so many entries are (64 MiB)
};

struct span {  // rows of one sequence, unpacked for all its tokens; NULL: not shared
    float *window, *entry;
    uint32_t first;  // position of window's first row
    uint32_t windows, entries;
};

struct attention_job {
    const struct attention_args *args;
    const float *sink;
    uint32_t dim;         // of a head
    uint32_t heads_each;  // of an item; an item is a token and some of its heads
    size_t keys_most;     // of one token, a multiple of KEY_BLOCK
    struct span *span;    // [seqs]
    size_t own_rows;      // keys_most, or KEY_BLOCK where those would be too many
    float *key;           // [own_rows, dim] of every thread
    float *score;         // [heads_each, keys_most] of every thread
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

/* ---- rows ---------------------------------------------------------------------------------- */

static const char *window_row(const struct attention_args *args, uint32_t seq, uint32_t position)
{
    const struct batch *batch = args->batch;
    uint32_t column = position / BLOCK_TOKENS - batch->w_first[seq];
    uint32_t page = batch->w_table[(size_t)seq * batch->w_stride + column];

    return plane_row(&args->window, page, position % BLOCK_TOKENS);
}

static const char *entry_row(const struct attention_args *args, uint32_t seq, uint32_t entry)
{
    uint32_t rows = BLOCK_TOKENS / args->ratio;
    const uint32_t *block = args->batch->g_table + (size_t)seq * args->batch->g_stride;

    return plane_row(&args->entries, block[entry / rows], entry % rows);
}

static void unpack_shared(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct attention_job *job = context;
    const struct attention_args *args = job->args;
    uint32_t start = 0;  // rows of the sequences before
    (void)thread;

    for (uint32_t seq = 0; seq < args->batch->seqs && start < to; seq++) {
        const struct span *span = &job->span[seq];
        uint32_t rows = span->windows + span->entries;
        for (uint32_t i = from > start ? from - start : 0; i < rows && start + i < to; i++) {
            uint32_t entry = i - span->windows;  // or below, and then not used
            if (i < span->windows)
                entry_read(span->window + (size_t)i * job->dim,
                           window_row(args, seq, span->first + i), job->dim, true);
            else
                entry_read(span->entry + (size_t)entry * job->dim, entry_row(args, seq, entry),
                           job->dim, true);
        }
        start += rows;
    }
}

/* Where one row of fp32 lies: exact in its plane, else unpacked to `own`, unless it is there already. */
INLINE const float *row_at(const struct attention_job *job, const char *row, float *own, bool there)
{
    if (!job->official) return (const float *)(const void *)row;
    if (!there) entry_read(own, row, job->dim, true);
    return own;
}

/* Keys first .. first + 15 of a token, which has its window by position, then its entries; past the
 * last one the last one again. */
INLINE void block_rows(const struct attention_job *job, uint32_t t, uint32_t first, uint32_t keys,
                       const float **row, float *own, bool there)
{
    const struct attention_args *args = job->args;
    const struct span *span = &job->span[args->batch->seq[t]];
    uint32_t position = args->batch->position[t], seq = args->batch->seq[t];
    uint32_t window = window_count(position), start = position + 1 - window, dim = job->dim;
    const uint32_t *selected = args->selected ? args->selected + (size_t)t * args->topk : NULL;

    for (uint32_t i = 0; i < KEY_BLOCK; i++, own += dim) {
        uint32_t k = first + i, entry = k - window;
        if (k >= keys) {
            row[i] = row[i - 1];
        } else if (k < window) {
            row[i] = span->window ? span->window + (size_t)(start + k - span->first) * dim
                                  : row_at(job, window_row(args, seq, start + k), own, there);
        } else {
            if (selected) entry = selected[entry];
            row[i] = span->entry ? span->entry + (size_t)entry * dim
                                 : row_at(job, entry_row(args, seq, entry), own, there);
        }
    }
}

/* ---- scores -------------------------------------------------------------------------------- */

/* The tree of vf_sum over each of TILE vectors, into their own lane of the result. */
#if defined __AVX512F__
INLINE void sum_tile(float *out, const vf *sum)
{
    vf half[8], quarter[4];

    for (int i = 0; i < 8; i++) {  // sums 4q + k: of two q, the upper and the lower half
        int at = i / 4 * 8 + i % 4;
        half[i] = vf_add(_mm512_shuffle_f32x4(sum[at], sum[at + 4], 0x44),
                         _mm512_shuffle_f32x4(sum[at], sum[at + 4], 0xee));
    }
    for (int k = 0; k < 4; k++)  // quarter q of it: four lanes of sum 4q + k
        quarter[k] = vf_add(_mm512_shuffle_f32x4(half[k], half[k + 4], 0x88),
                            _mm512_shuffle_f32x4(half[k], half[k + 4], 0xdd));
    for (int k = 0; k < 4; k += 2)
        quarter[k] = vf_add(_mm512_shuffle_ps(quarter[k], quarter[k + 1], 0x44),
                            _mm512_shuffle_ps(quarter[k], quarter[k + 1], 0xee));
    vf_store(out, vf_add(_mm512_shuffle_ps(quarter[0], quarter[2], 0x88),
                         _mm512_shuffle_ps(quarter[0], quarter[2], 0xdd)));
}
#else
INLINE void sum_tile(float *out, const vf *sum)
{
    for (int i = 0; i < TILE; i++) out[i] = vf_sum(sum[i]);
}
#endif

/* Scores of `heads` heads (1, 2 or 4, a constant after inlining) with a block of keys. */
INLINE void score_heads(float *score, size_t stride, const float *q, const float *const *row,
                        uint32_t dim, uint32_t heads)
{
    const uint32_t wide = TILE / heads;  // keys of a tile
    const float scale = (float)(1.0 / sqrt((double)dim));

    for (uint32_t k = 0; k < KEY_BLOCK; k += wide) {
        vf sum[TILE];
        float out[TILE];

        for (uint32_t i = 0; i < TILE; i++) sum[i] = vf_all(0);
        for (uint32_t c = 0; c < dim; c += VF_LANES) {
            vf x[TILE_HEADS];
            for (uint32_t h = 0; h < heads; h++) x[h] = vf_load(q + (size_t)h * dim + c);
            for (uint32_t i = 0; i < wide; i++) {
                vf v = vf_load(row[k + i] + c);
                for (uint32_t h = 0; h < heads; h++)
                    sum[h * wide + i] = vf_fma(x[h], v, sum[h * wide + i]);
            }
        }
        sum_tile(out, sum);
        for (uint32_t h = 0; h < heads; h++)
            for (uint32_t i = 0; i < wide; i++)
                score[h * stride + k + i] = out[h * wide + i] * scale;
    }
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

/* ---- values -------------------------------------------------------------------------------- */

/* Adds the weighted values of the first keys of a block to `out` of `heads` heads; `fresh`: to 0. */
INLINE void value_heads(float *out, const float *weight, size_t stride, const float *const *row,
                        uint32_t keys, bool fresh, uint32_t dim, uint32_t heads)
{
    const uint32_t wide = TILE / heads;  // vectors of channels

    for (uint32_t c = 0; c < dim; c += wide * VF_LANES) {
        vf sum[TILE];

        for (uint32_t h = 0; h < heads; h++)
            for (uint32_t i = 0; i < wide; i++)
                sum[h * wide + i] =
                    fresh ? vf_all(0) : vf_load(out + (size_t)h * dim + c + i * VF_LANES);
        for (uint32_t k = 0; k < keys; k++) {
            vf w[TILE_HEADS];
            for (uint32_t h = 0; h < heads; h++) w[h] = vf_all(weight[h * stride + k]);
            for (uint32_t i = 0; i < wide; i++) {
                const float *from = row[k] + c + i * VF_LANES;
                vf v = vf_load(from);
                __builtin_prefetch(from + wide * VF_LANES);  // rows are too far apart for hardware
                for (uint32_t h = 0; h < heads; h++)
                    sum[h * wide + i] = vf_fma(w[h], v, sum[h * wide + i]);
            }
        }
        for (uint32_t h = 0; h < heads; h++)
            for (uint32_t i = 0; i < wide; i++)
                vf_store(out + (size_t)h * dim + c + i * VF_LANES, sum[h * wide + i]);
    }
}

/* ---- a token ------------------------------------------------------------------------------- */

struct head_range {  // heads of one item
    uint32_t first, end;
};

INLINE void score_block(const struct attention_job *job, const float *q, const float *const *row,
                        struct head_range range, float *score)
{
    uint32_t dim = job->dim, h = range.first;
    size_t stride = job->keys_most;

    q += (size_t)h * dim;
    for (; TILE_HEADS == 4 && h + 4 <= range.end; h += 4, q += 4 * dim, score += 4 * stride)
        score_heads(score, stride, q, row, dim, TILE_HEADS);
    for (; h + 2 <= range.end; h += 2, q += 2 * dim, score += 2 * stride)
        score_heads(score, stride, q, row, dim, 2);
    if (h < range.end) score_heads(score, stride, q, row, dim, 1);
}

INLINE void value_block(const struct attention_job *job, float *out, const float *const *row,
                        struct head_range range, const float *weight, uint32_t keys, bool fresh)
{
    uint32_t dim = job->dim, h = range.first;
    size_t stride = job->keys_most;

    out += (size_t)h * dim;
    for (; TILE_HEADS == 4 && h + 4 <= range.end; h += 4, out += 4 * dim, weight += 4 * stride)
        value_heads(out, weight, stride, row, keys, fresh, dim, TILE_HEADS);
    for (; h + 2 <= range.end; h += 2, out += 2 * dim, weight += 2 * stride)
        value_heads(out, weight, stride, row, keys, fresh, dim, 2);
    if (h < range.end) value_heads(out, weight, stride, row, keys, fresh, dim, 1);
}

INLINE void finish_head(float *out, uint32_t dim, float divisor, const struct turn *turn,
                        bool official)
{
    for (uint32_t c = 0; c < dim; c += VF_LANES)
        vf_store(out + c, vf_round(vf_div(vf_load(out + c), vf_all(divisor)), official));
    row_turn(out, dim, turn, official);
}

static void attend_token(const struct attention_job *job, uint32_t t, struct head_range range,
                         float *own, float *score)
{
    const struct attention_args *args = job->args;
    uint32_t keys = window_count(args->batch->position[t]) + entry_count(args, t);
    float *out = mat_row(&args->out, t);
    size_t dim = job->dim;
    bool kept = keys <= job->own_rows;  // what is unpacked for the scores serves the values too
    const float *row[KEY_BLOCK];
    float divisor[HEADS_MOST];
    struct turn turn;

    for (uint32_t k = 0; k < keys; k += KEY_BLOCK) {
        block_rows(job, t, k, keys, row, own + (kept ? k * dim : 0), false);
        score_block(job, mat_row(&args->q, t), row, range, score + k);
    }
    for (uint32_t h = range.first; h < range.end; h++)
        divisor[h - range.first] =
            weigh(score + (h - range.first) * job->keys_most, keys, job->sink[h], job->official);
    for (uint32_t k = 0; k < keys; k += KEY_BLOCK) {
        block_rows(job, t, k, keys, row, own + (kept ? k * dim : 0), kept);
        value_block(job, out, row, range, score + k, keys - k < KEY_BLOCK ? keys - k : KEY_BLOCK,
                    k == 0);
    }
    turn_init(&turn, &args->rope, args->batch->position[t], true);
    for (uint32_t h = range.first; h < range.end; h++)
        finish_head(out + (size_t)h * job->dim, job->dim, divisor[h - range.first], &turn,
                    job->official);
}

static void attend_items(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct attention_job *job = context;
    uint32_t each = job->heads_each, groups = (job->args->heads + each - 1) / each;
    float *own = job->key + thread * job->own_rows * job->dim;
    float *score = job->score + thread * job->keys_most * each;

    for (uint32_t item = from; item < to; item++) {
        uint32_t head = item % groups * each, left = job->args->heads - head;
        struct head_range range = { head, head + (left < each ? left : each) };
        attend_token(job, item / groups, range, own, score);
    }
}

static void attention_check(const struct attention_args *args, uint32_t dim, bool official)
{
    uint32_t bytes = official ? ENTRY_BYTES_OFFICIAL : dim * (uint32_t)sizeof(float);

    must(dim * args->heads == args->q.cols && args->out.cols == args->q.cols);
    must(dim % (TILE * VF_LANES) == 0 && (!official || dim == ENTRY_DIM));
    must(args->sink->rows * args->sink->cols == args->heads);
    must(args->window.row_bytes == bytes && (!args->ratio || args->entries.row_bytes == bytes));
    must(args->rope.dim % VF_LANES == 0 && args->rope.dim <= ROPE_MOST && args->rope.dim <= dim);
}

/* What is unpacked for all tokens of a sequence: the windows where its tokens are many enough, and the
 * entries where that costs less than each token's own. Returns the rows. */
static uint32_t plan_span(const struct attention_job *job, uint32_t seq, struct span *span)
{
    const struct attention_args *args = job->args;
    const struct batch *batch = args->batch;
    uint32_t first = batch->first[seq], end = batch->first[seq + 1], entries = 0;
    uint64_t own = 0;  // entries that the tokens would unpack by themselves

    *span = (struct span){ 0 };
    if (!job->official || end - first < SHARED_TOKENS) return 0;
    for (uint32_t t = first; t < end; t++) own += entry_count(args, t);
    if (args->ratio) entries = (batch->position[end - 1] + 1) / args->ratio;
    span->first = batch->position[first] + 1 - window_count(batch->position[first]);
    span->windows = batch->position[end - 1] + 1 - span->first;
    if (entries <= own && entries <= SHARED_ENTRIES) span->entries = entries;
    return span->windows + span->entries;
}

/* Memory for the shared rows, and their unpacking. False: there is no memory. */
static bool unpack_spans(struct cpu_dev *cpu, struct attention_job *job)
{
    uint32_t seqs = job->args->batch->seqs, rows = 0;
    float *data;

    job->span = cpu_take(cpu, seqs * sizeof *job->span);
    if (!job->span) return false;
    for (uint32_t seq = 0; seq < seqs; seq++) rows += plan_span(job, seq, &job->span[seq]);
    if (rows == 0) return true;
    data = cpu_take(cpu, (size_t)rows * job->dim * sizeof *data);
    if (!data) return false;
    for (uint32_t seq = 0; seq < seqs; seq++) {
        struct span *span = &job->span[seq];
        if (span->windows) span->window = data;
        data += (size_t)span->windows * job->dim;
        if (span->entries) span->entry = data;
        data += (size_t)span->entries * job->dim;
    }
    share_rows(cpu, rows, 256, unpack_shared, job);
    return true;
}

/* Few tokens are shared out by heads, where the work is worth waking threads. */
static uint32_t choose_heads(const struct attention_args *args, uint32_t threads, size_t keys)
{
    uint32_t heads = args->heads, items = args->batch->tokens, most = heads;

    if (items < 2 * threads && keys * heads >= 1024)
        most = items * heads / 4 >= threads ? 4 : items * heads / 2 >= threads ? 2 : 1;
    if (most > HEADS_MOST) most = HEADS_MOST;
    return most < heads ? most : heads;
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
    cpu_scratch_begin(cpu);
    job.keys_most = (most + VF_LANES - 1) / VF_LANES * VF_LANES;
    job.heads_each = choose_heads(args, threads, most);
    job.score = cpu_take(cpu, threads * job.keys_most * job.heads_each * sizeof *job.score);
    job.own_rows = job.keys_most <= OWN_ROWS ? job.keys_most : KEY_BLOCK;
    job.key = cpu_take(cpu, threads * job.own_rows * job.dim * sizeof *job.key);
    if (!job.score || !job.key || !unpack_spans(cpu, &job)) return;
    uint32_t groups = (args->heads + job.heads_each - 1) / job.heads_each;
    share_rows(cpu, args->batch->tokens * groups, 1, attend_items, &job);
}

OPERATION(attention)
