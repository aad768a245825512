/* indexer.c - which compressed entries each token attends to (model.md 4.6, 5.9).
 *
 * Official: queries and keys are e2m1, so the products of a group of 32 channels are summed exactly,
 * in integers of a quarter; the four groups follow in order, in fp32; then the release's roundings.
 * Sixteen keys stand side by side. Exact: fp32 dot products.
 */
#include "kernels/cpu/vectors.h"
#include "kernels/cpu/share.h"

enum { GROUPS = INDEX_DIM / INDEX_GROUP };

struct index_head {          // one head of one query
    int8_t code[INDEX_DIM];  // twice the e2m1 values
    float scale[GROUPS];     // of a quarter
    float weight;
};

struct indexer_job {
    const struct indexer_args *args;
    struct index_head *head;  // official: [heads] of every thread
    float *score;             // of every thread
    size_t score_stride;      // floats from thread to thread
    uint32_t token;           // when the keys of one token are shared out
    bool official;
};

static const int8_t twice_e2m1[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

static uint32_t visible_entries(const struct indexer_args *args, uint32_t t)
{
    return (args->batch->position[t] + 1) / args->ratio;
}

static const char *key_row(const struct indexer_args *args, uint32_t seq, uint32_t entry)
{
    uint32_t rows = BLOCK_TOKENS / args->ratio;
    const uint32_t *table = args->batch->g_table + (size_t)seq * args->batch->g_stride;

    return plane_row(&args->keys, table[entry / rows], entry % rows);
}

/* Turns the query's heads in place and, official, quantises them. */
INLINE void prepare_query(const struct indexer_job *job, uint32_t t, struct index_head *head)
{
    const struct indexer_args *args = job->args;
    const float *weight = mat_row(&args->weights, t);
    float scale = (float)(1.0 / sqrt((double)args->dim) * (1.0 / sqrt((double)args->heads)));
    struct turn turn;

    turn_init(&turn, &args->rope, args->batch->position[t], false);
    for (uint32_t h = 0; h < args->heads; h++) {
        float *q = (float *)mat_row(&args->q, t) + (size_t)h * args->dim;
        uint8_t code[INDEX_DIM], power;

        row_turn(q, args->dim, &turn, job->official);
        head[h].weight = round_to(weight[h] * scale, job->official);
        if (!job->official) continue;
        row_hadamard(q);
        for (uint32_t g = 0; g < GROUPS; g++) {
            row_to_e2m1(code + g * INDEX_GROUP, &power, q + g * INDEX_GROUP, INDEX_GROUP);
            head[h].scale[g] = e8m0_to_f32(power) * 0.25f;
        }
        for (uint32_t i = 0; i < INDEX_DIM; i++) head[h].code[i] = twice_e2m1[code[i]];
    }
}

/* Sixteen keys, channel by channel, and their scales. */
struct key_tile {
    int8_t code[INDEX_DIM][VF_LANES];
    float scale[GROUPS][VF_LANES];
};

INLINE void tile_load(struct key_tile *tile, const struct indexer_args *args, uint32_t seq,
                      uint32_t entry, uint32_t count)
{
    for (uint32_t k = 0; k < VF_LANES; k++) {
        const uint8_t *row = (const uint8_t *)key_row(args, seq, entry + (k < count ? k : 0));
        for (uint32_t i = 0; i < INDEX_DIM / 2; i++) {
            tile->code[2 * i][k] = twice_e2m1[row[i] & 15];
            tile->code[2 * i + 1][k] = twice_e2m1[row[i] >> 4];
        }
        for (uint32_t g = 0; g < GROUPS; g++)
            tile->scale[g][k] = e8m0_to_f32(row[INDEX_DIM / 2 + g]);
    }
}

INLINE vf tile_score(const struct key_tile *tile, const struct index_head *head, uint32_t heads)
{
    vf score = vf_all(0), zero = vf_all(0);

    for (uint32_t h = 0; h < heads; h++) {
        vf dot = vf_all(0);
        for (uint32_t g = 0; g < GROUPS; g++) {
            int16_t sum[VF_LANES] = { 0 };
            int32_t wide[VF_LANES];
            vi whole;
            for (uint32_t i = g * INDEX_GROUP; i < (g + 1) * INDEX_GROUP; i++)
                for (uint32_t k = 0; k < VF_LANES; k++)
                    sum[k] = (int16_t)(sum[k] + tile->code[i][k] * head[h].code[i]);
            for (uint32_t k = 0; k < VF_LANES; k++) wide[k] = sum[k];
            memcpy(&whole, wide, sizeof wide);
            dot = vf_fma(vf_from_int(whole),
                         vf_mul(vf_load(tile->scale[g]), vf_all(head[h].scale[g])), dot);
        }
        dot = vf_max(vf_round_bf16(dot), zero);
        score = vf_add(score, vf_round_bf16(vf_mul(dot, vf_all(head[h].weight))));
    }
    return vf_add(vf_round_bf16(score), zero);  // no -0, which would sort below 0
}

INLINE float exact_score(const struct indexer_args *args, const struct index_head *head,
                         const float *q, const float *key)
{
    float score = 0;

    for (uint32_t h = 0; h < args->heads; h++) {
        float dot = row_dot(q + (size_t)h * args->dim, key, args->dim);
        score = fmaf(dot > 0 ? dot : 0, head[h].weight, score);
    }
    return score + 0.0f;
}

/* Scores of entries in groups from .. to - 1 of sixteen; score has room for whole groups. */
INLINE void score_groups(const struct indexer_job *job, uint32_t t, const struct index_head *head,
                         uint32_t from, uint32_t to, float *score)
{
    const struct indexer_args *args = job->args;
    uint32_t count = visible_entries(args, t), seq = args->batch->seq[t];

    for (uint32_t group = from; group < to; group++) {
        uint32_t entry = group * VF_LANES, left = count - entry;
        if (job->official) {
            struct key_tile tile;
            tile_load(&tile, args, seq, entry, left);
            vf_store(score + entry, tile_score(&tile, head, args->heads));
            continue;
        }
        for (uint32_t k = entry; k < entry + VF_LANES && k < count; k++)
            score[k] = exact_score(args, head, mat_row(&args->q, t),
                                   (const float *)(const void *)key_row(args, seq, k));
    }
}

/* ---- selection ----------------------------------------------------------------------------------- */

static uint32_t order_of(float score)  // unsigned order is the order of the floats
{
    uint32_t bits = f32_bits(score);
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

/* The `want` largest of `count` scores, ascending by index; equal ones by the smaller index. Finds
 * the last score that is taken digit by digit, from histograms, then takes in one pass. */
static void select_largest(const float *score, uint32_t count, uint32_t want, uint32_t *selected)
{
    static const uint32_t shift[] = { 21, 10, 0 }, bits[] = { 11, 11, 10 };
    uint32_t known = 0, mask = 0,
             equal = want;  // of scores whose known digits are those of the last

    for (int pass = 0; pass < 3; pass++) {
        uint32_t histogram[1 << 11] = { 0 }, digit = (1u << bits[pass]) - 1;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t order = order_of(score[i]);
            if ((order & mask) == known) histogram[order >> shift[pass] & digit]++;
        }
        while (histogram[digit] < equal) equal -= histogram[digit--];
        known |= digit << shift[pass];
        mask |= ((1u << bits[pass]) - 1) << shift[pass];
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t order = order_of(score[i]);
        if (order < known || (order == known && equal == 0)) continue;
        if (order == known) equal--;
        *selected++ = i;
    }
}

static void select_token(const struct indexer_args *args, uint32_t t, const float *score)
{
    uint32_t *selected = args->selected + (size_t)t * args->topk;
    uint32_t count = visible_entries(args, t);

    args->count[t] = count < args->topk ? count : args->topk;
    if (count > args->topk) select_largest(score, count, args->topk, selected);
    else
        for (uint32_t i = 0; i < count; i++) selected[i] = i;
}

/* ---- sharing out --------------------------------------------------------------------------------- */

static void index_tokens(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct indexer_job *job = context;
    const struct indexer_args *args = job->args;
    struct index_head *head = job->head + (size_t)thread * args->heads;
    float *score = job->score + thread * job->score_stride;

    for (uint32_t t = from; t < to; t++) {
        uint32_t count = visible_entries(args, t);
        if (count > args->topk) {
            prepare_query(job, t, head);
            score_groups(job, t, head, 0, (count + VF_LANES - 1) / VF_LANES, score);
        }
        select_token(args, t, score);
    }
}

static void index_keys(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct indexer_job *job = context;
    (void)thread;
    score_groups(job, job->token, job->head, from, to, job->score);
}

void ISA(indexer)(struct cpu_dev *cpu, const struct indexer_args *args)
{
    struct indexer_job job = { .args = args, .official = is_official(cpu) };
    uint32_t threads = pool_threads(cpu->pool), tokens = args->batch->tokens, most = 0;

    must(args->dim % VF_LANES == 0 && args->q.cols == args->heads * args->dim);
    must(!job.official || args->dim == INDEX_DIM);
    must(args->rope.dim % VF_LANES == 0 && args->rope.dim <= ROPE_MOST);
    for (uint32_t t = 0; t < tokens; t++) {
        uint32_t count = visible_entries(args, t);
        if (count > most) most = count;
    }
    cpu_scratch_begin(cpu);
    job.score_stride = (most + VF_LANES - 1) / VF_LANES * VF_LANES;
    job.head = cpu_take(cpu, (size_t)threads * args->heads * sizeof *job.head);
    job.score = cpu_take(cpu, threads * job.score_stride * sizeof *job.score);
    if (!job.head || !job.score) return;
    if (tokens >= 2 * threads || most <= args->topk) {
        share_rows(cpu, tokens, most <= args->topk ? 64 : 1, index_tokens, &job);
        return;
    }
    for (job.token = 0; job.token < tokens; job.token++) {  // few tokens: share out their keys
        uint32_t count = visible_entries(args, job.token);
        if (count > args->topk) {
            prepare_query(&job, job.token, job.head);
            share_rows(cpu, (count + VF_LANES - 1) / VF_LANES, 32, index_keys, &job);
        }
        select_token(args, job.token, job.score);
    }
}

OPERATION(indexer)
