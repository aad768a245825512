/* indexer.c - which compressed entries each token attends to (model.md 4.6, 5.9).
 *
 * Official: queries and keys are e2m1, so the products of a group of 32 channels are summed exactly,
 * in integers of a quarter; the four groups follow in order, in fp32; then the release's roundings.
 * Sixteen keys stand side by side. Exact: fp32 dot products.
 */
#include "kernels/cpu/vectors.h"
#include "kernels/cpu/share.h"

enum { GROUPS = INDEX_DIM / INDEX_GROUP };

struct index_head {  // one head of one query
    int32_t code[INDEX_DIM /
                 4];         // four channels a word: twice their e2m1 values, as tile_load has them
    int32_t offset[GROUPS];  // KEY_OFFSET times the sum of a group's codes
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

enum { KEY_OFFSET = 12 };  // keys are multiplied as unsigned bytes: twice their values, and 12 more

static const int8_t twice_e2m1[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };
static const int8_t key_e2m1[16] = { 12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0 };

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

/* Word 2w holds the even channels of 8w .. 8w + 7 and word 2w + 1 the odd ones, which is how the low
 * and the high halves of a key's bytes lie. */
INLINE void quantise_head(struct index_head *head, const float *q)
{
    uint8_t code[INDEX_DIM], power;

    for (uint32_t g = 0; g < GROUPS; g++) {
        row_to_e2m1(code + g * INDEX_GROUP, &power, q + g * INDEX_GROUP, INDEX_GROUP);
        head->scale[g] = e8m0_to_f32(power) * 0.25f;
        head->offset[g] = 0;
        for (uint32_t i = g * INDEX_GROUP; i < (g + 1) * INDEX_GROUP; i++)
            head->offset[g] += KEY_OFFSET * twice_e2m1[code[i]];
    }
    for (uint32_t w = 0; w < INDEX_DIM / 4; w++) {
        uint32_t word = 0, first = w / 2 * 8 + w % 2;
        for (uint32_t i = 0; i < 4; i++)
            word |= (uint32_t)(uint8_t)twice_e2m1[code[first + 2 * i]] << (8 * i);
        head->code[w] = (int32_t)word;
    }
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

        row_turn(q, args->dim, &turn, job->official);
        head[h].weight = round_to(weight[h] * scale, job->official);
        if (!job->official) continue;
        row_hadamard(q);
        quantise_head(&head[h], q);
    }
}

/* Sixteen keys side by side: 32 words of four channels each, in index_head's order, and the scales. */
struct key_tile {
    int32_t word[INDEX_DIM / 4][VF_LANES];
    float scale[GROUPS][VF_LANES];
};

enum { ROW_WORDS = INDEX_BYTES_OFFICIAL / 4 };

/* Turns sixteen rows, 17 words each, into 17 vectors of one word of each row. */
#if defined __AVX512F__
INLINE void transpose_rows(int32_t (*out)[VF_LANES], const char *row)
{
    __m512i a[16], b[16];

    for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(row + i * INDEX_BYTES_OFFICIAL);
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int k = 0; k < 2;
             k++) {  // a[i + 2k + h]: words 2k + h of each four, of rows i .. i + 3
            a[i + 2 * k] = _mm512_unpacklo_epi64(b[i + k], b[i + k + 2]);
            a[i + 2 * k + 1] = _mm512_unpackhi_epi64(b[i + k], b[i + k + 2]);
        }
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 16; i += 8) {
            b[i + k] = _mm512_shuffle_i32x4(a[i + k], a[i + k + 4], 0x88);
            b[i + k + 4] = _mm512_shuffle_i32x4(a[i + k], a[i + k + 4], 0xdd);
        }
    for (int k = 0; k < 4; k++) {  // quarters 0 and 2 are in b[k], 1 and 3 in b[k + 4]
        _mm512_storeu_si512(out[k], _mm512_shuffle_i32x4(b[k], b[k + 8], 0x88));
        _mm512_storeu_si512(out[k + 8], _mm512_shuffle_i32x4(b[k], b[k + 8], 0xdd));
        _mm512_storeu_si512(out[k + 4], _mm512_shuffle_i32x4(b[k + 4], b[k + 12], 0x88));
        _mm512_storeu_si512(out[k + 12], _mm512_shuffle_i32x4(b[k + 4], b[k + 12], 0xdd));
    }
    for (int i = 0; i < 16; i++)
        memcpy(&out[16][i], row + i * INDEX_BYTES_OFFICIAL + INDEX_DIM / 2, sizeof out[16][i]);
}
#else
INLINE void transpose_rows(int32_t (*out)[VF_LANES], const char *row)
{
    for (int i = 0; i < VF_LANES; i++)
        for (int w = 0; w < ROW_WORDS; w++)
            memcpy(&out[w][i], row + i * INDEX_BYTES_OFFICIAL + 4 * w, sizeof out[w][i]);
}
#endif

/* Keys entry .. entry + 15, which lie in one block; rows not yet written give scores nobody reads. */
INLINE void tile_load(struct key_tile *tile, const struct indexer_args *args, uint32_t seq,
                      uint32_t entry)
{
    int32_t word[ROW_WORDS][VF_LANES];
    vi low = vi_all(0x0f0f0f0f);

    transpose_rows(word, key_row(args, seq, entry));
    for (uint32_t w = 0; w < INDEX_DIM / 8; w++) {
        vi both = vi_load(word[w]);
        vi_store(tile->word[2 * w], vi_lookup(key_e2m1, vi_and(both, low)));
        vi_store(tile->word[2 * w + 1], vi_lookup(key_e2m1, vi_and(vi_shr(both, 4), low)));
    }
    vi scales = vi_load(word[ROW_WORDS - 1]);  // e8m0, the first one lowest; the least is 2^-126
    for (uint32_t g = 0; g < GROUPS; g++) {
        vf_store(tile->scale[g], vf_from_bits(vi_shl(vi_and(scales, vi_all(0xff)), 23)));
        scales = vi_shr(scales, 8);
    }
}

INLINE vf tile_score(const struct key_tile *tile, const struct index_head *head, uint32_t heads)
{
    vf score = vf_all(0), zero = vf_all(0);

    for (uint32_t h = 0; h < heads; h++) {
        vf dot = vf_all(0);
#pragma GCC unroll 4
        for (uint32_t g = 0; g < GROUPS; g++) {
            vi sum = vi_all(0);  // pairs of 16 bits: at most 8 * 2 * 24 * 12 = 4608 each
#pragma GCC unroll 8
            for (uint32_t w = g * 8; w < g * 8 + 8; w++)
                sum = vi_add16(sum, vi_dot_bytes(vi_load(tile->word[w]), vi_all(head[h].code[w])));
            sum = vi_sub(vi_pairs16(sum), vi_all(head[h].offset[g]));
            dot = vf_fma(vf_from_int(sum),
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
        uint32_t entry = group * VF_LANES;
        if (job->official) {
            struct key_tile tile;
            tile_load(&tile, args, seq, entry);
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

enum { DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS, TABLES = 4 };

/* How often each digit occurs among scores whose higher digits are `known`. Four tables in turn:
 * scores are alike, and counting in one place would wait for itself. */
static void count_digits(const float *score, uint32_t count, uint32_t known, uint32_t mask,
                         int shift, uint32_t *digits)
{
    uint32_t table[TABLES][DIGITS] = { 0 };

    for (uint32_t i = 0; i < count; i++) {
        uint32_t order = order_of(score[i]);
        if ((order & mask) == known) table[i % TABLES][order >> shift & (DIGITS - 1)]++;
    }
    for (uint32_t d = 0; d < DIGITS; d++)
        digits[d] = table[0][d] + table[1][d] + table[2][d] + table[3][d];
}

/* The `want` largest of `count` scores, ascending by index; equal ones by the smaller index. Finds
 * the last score that is taken digit by digit, then takes in one pass. Scores rounded to bf16 are
 * told apart by their upper two digits. */
static void select_largest(const float *score, uint32_t count, uint32_t want, bool bf16,
                           uint32_t *selected)
{
    uint32_t known = 0, mask = 0,
             equal = want;  // of scores whose known digits are those of the last
    uint32_t digits[DIGITS], digit, low = bf16 ? 0xffff : 0;

    for (int shift = 32 - DIGIT_BITS; shift >= (bf16 ? 16 : 0); shift -= DIGIT_BITS) {
        count_digits(score, count, known, mask, shift, digits);
        for (digit = DIGITS - 1; digits[digit] < equal; digit--) equal -= digits[digit];
        known |= digit << shift;
        mask |= (uint32_t)(DIGITS - 1) << shift;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t order = order_of(score[i]) & ~low;
        if (order < known || (order == known && equal == 0)) continue;
        if (order == known) equal--;
        *selected++ = i;
    }
}

static void select_token(const struct indexer_job *job, uint32_t t, const float *score)
{
    const struct indexer_args *args = job->args;
    uint32_t *selected = args->selected + (size_t)t * args->topk;
    uint32_t count = visible_entries(args, t);

    args->count[t] = count < args->topk ? count : args->topk;
    if (count > args->topk) select_largest(score, count, args->topk, job->official, selected);
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
        select_token(job, t, score);
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
    must(!job.official || (args->dim == INDEX_DIM && args->keys.row_bytes == INDEX_BYTES_OFFICIAL));
    must(BLOCK_TOKENS / args->ratio % VF_LANES == 0);  // so that sixteen keys lie in one block
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
        select_token(&job, job.token, job.score);
    }
}

OPERATION(indexer)
