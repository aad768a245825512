/* ops.h - the arguments of every operation, every matrix with its shape.
 *
 * T tokens in the batch, S sequences, d hidden size, n residual streams, H query heads, hd head_dim,
 * rd rope dim. act = an activation matrix (dev->activation). Under official numerics every act value
 * is bf16-representable: an operation rounds what it writes (model.md 5). Formulas: model.md 4.
 */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include "kernels/backend.h"

/* ---- the batch, as the engine lays it out; all arrays on the device ----------------------- */

struct batch {
    uint32_t tokens, seqs;
    const uint32_t *id;        // [tokens] token ids
    const uint32_t *position;  // [tokens] absolute, ascending inside a sequence
    const uint32_t *seq;       // [tokens] which sequence
    const uint32_t *first;     // [seqs + 1] first row of each sequence; its rows are contiguous
    const uint32_t *g_table;   // [seqs, g_stride] G block of position / 128
    uint32_t g_stride;
    const uint32_t *g_from;   // [seqs] a multiple of 128: entries of tokens before this position
                              //   are not stored, those in G stand; NULL: 0 for all
    const uint32_t *w_table;  // [seqs, w_stride] W page of position / 128 - w_first[seq]; covers
    uint32_t w_stride;        //   the chunk and the 127 positions before it
    const uint32_t *w_first;  // [seqs] position / 128 of w_table's first column
    const uint32_t *state;    // [seqs] slot of the sequence's private compressor state
    const uint32_t *live;  // [1] tokens that count; rows behind them only fill up the shape, each a
                           //   sequence at position 0 in blocks that nobody reads
};

enum { BLOCK_TOKENS = 128 };  // window, W page and G block alike

/* One plane of KV memory: row r of block b lies at base + b * block_stride + r * row_bytes. The
 * format of a row follows the numerics: official 584-byte entries (448 e4m3, 64 bf16, 7 e8m0 scales
 * of 64 channels each, one zero byte) or 68-byte index keys (64 bytes of e2m1, 4 e8m0); exact F32. */
struct kv_plane {
    void *base;
    size_t block_stride;  // bytes
    uint32_t row_bytes;
    uint32_t rows;  // rows a block
};

enum {
    ENTRY_BYTES_OFFICIAL = 584,
    INDEX_BYTES_OFFICIAL = 68,
};

/* Inverse frequencies of the rd / 2 pairs of one kind of layer (model.md 4.4); the angle is
 * fp32(position) * frequency rounded to fp32, and its sine and cosine are accurate ones. */
struct rope {
    const float *frequency;  // [dim / 2], device
    uint32_t dim;            // rotated channels, the last ones of a vector, interleaved pairs
};

/* ---- operations ---------------------------------------------------------------------------- */

/* out[t] = `copies` copies of table[id[t]] side by side. */
struct embed_args {
    struct mat out;              // act [T, copies * d]
    const struct weight *table;  // BF16 [vocab, d]
    const uint32_t *id;          // [T]
    uint32_t copies;
};

/* Products with one input: part[i].out = in x part[i].weight^T. Under official numerics the input is
 * quantised to e4m3 in groups of 128 for FP8 weights, unless raw. Several parts share the input, its
 * quantised form and one pass. groups > 1: a block-diagonal product, group g of the input columns
 * with group g of the output columns (wo_a). */
struct linear_part {
    const struct weight *weight;  // [out * groups, in]
    struct mat out;               // act [T, out * groups], or F32 when unrounded
    bool unrounded;               // the fp32 sums as they are: compressors, router, logits
};

struct linear_args {
    struct mat in;  // act [T, in * groups]
    uint32_t count;
    struct linear_part part[8];
    uint32_t groups;  // 0 and 1: plain
    bool raw;         // no activation quantisation (wo_a)
};

/* out[t] = in[t] * weight * rsqrt(mean(in[t]^2) + eps) */
struct rmsnorm_args {
    struct mat out;               // act [T, dim]
    struct mat in;                // act [T, dim]; may be out
    const struct weight *weight;  // [1, dim]
    float eps;
};

/* The entry of a sub-layer: mixing coefficients from the streams, their weighted sum, its RMSNorm
 * (model.md 4.2). With `after`, the output of the sub-layer before, the streams first advance in place
 * as hyper_post does it, by what post and comb hold then. */
struct hyper_pre_args {
    struct mat streams;                      // act [T, n * d]
    struct mat after;                        // act [T, d]; data NULL: the streams stand
    const struct weight *fn, *base, *scale;  // F32 [2n + n*n, n * d], [2n + n*n], [3]
    const struct weight *norm;               // [1, d]
    float norm_eps, hyper_eps;
    uint32_t copies, iterations;  // n, Sinkhorn passes
    struct mat out;               // act [T, d], after the norm
    struct mat post;              // F32 [T, n]; read first where there is `after`
    struct mat comb;              // F32 [T, n * n], [source][destination]; likewise
};

/* streams[t][k] = post[t][k] * in[t] + sum over j of comb[t][j][k] * streams[t][j], in place */
struct hyper_post_args {
    struct mat streams;  // act [T, n * d]
    struct mat in;       // act [T, d]
    struct mat post, comb;
    uint32_t copies;
};

/* The streams' weighted sum before the head, and its RMSNorm. */
struct hyper_head_args {
    struct mat streams;                      // act [R, n * d]
    const struct weight *fn, *base, *scale;  // F32 [n, n * d], [n], [1]
    const struct weight *norm;               // [1, d]
    float norm_eps, hyper_eps;
    uint32_t copies;
    struct mat out;  // act [R, d]
};

/* Per-head norm without weight, then rope, in place (model.md 4.3, 5.11). */
struct query_args {
    struct mat q;  // act [T, heads * head_dim]
    uint32_t heads;
    float eps;
    struct rope rope;
    const struct batch *batch;
};

/* in -> RMSNorm, rope, KV rounding, row position % 128 of the token's W page. */
struct window_store_args {
    struct mat in;  // act [T, head_dim], the raw product of wkv
    const struct weight *norm;
    float eps;
    struct rope rope;
    const struct batch *batch;
    struct kv_plane window;
};

/* Compressed entries (model.md 4.5): takes the raw products of the chunk's tokens, completes every
 * block of `ratio` tokens that ends in it, stores those from g_from on, and keeps what the next chunk
 * needs in the sequence's private state. A sequence that starts at position 0 needs no cleared state.
 * State of one sequence, F32: ratio 4 (overlapped): 8 rows by position % 8 of value[2 * dim],
 * gate[2 * dim] (ape added); ratio 128: 128 rows by position % 128 of value[dim], gate[dim].
 * tail (ratio 4): at a page's last 4 positions also their first halves go to the W page, rows 0..3 of
 * value[dim], gate[dim], F32: what a resume at the page's end needs besides the window. */
struct compress_args {
    struct mat value, gate;     // F32 [T, dim or 2 * dim], not rounded
    const struct weight *ape;   // F32 [ratio, dim or 2 * dim]
    const struct weight *norm;  // [1, dim]
    uint32_t ratio, dim;
    float eps;
    struct rope rope;
    bool index;  // an indexer key: Hadamard, FP4 (official); else a KV entry
    const struct batch *batch;
    struct kv_plane entries;  // in G blocks, 128 / ratio rows each
    struct kv_plane tail;     // in W pages; base NULL: none
    char *state;              // this layer's part in slot 0
    size_t state_stride;      // bytes from slot to slot
};

/* Which compressed entries each token attends to (model.md 4.6), ascending; all visible ones when
 * they are no more than topk. Ties at the boundary: the smaller index wins. */
struct indexer_args {
    struct mat q;  // act [T, heads * dim], the raw product of indexer.wq_b; may be overwritten
    struct mat weights;  // act [T, heads], the raw product of weights_proj
    uint32_t heads, dim, topk, ratio;
    struct rope rope;
    const struct batch *batch;
    struct kv_plane keys;
    uint32_t *selected;  // [T, topk]
    uint32_t *count;     // [T]
};

/* Softmax over window and compressed keys with a sink, inverse rope on the result (model.md 4.3).
 * Key order: window by position, then entries ascending. */
struct attention_args {
    struct mat q;    // act [T, heads * head_dim]
    struct mat out;  // act [T, heads * head_dim]
    uint32_t heads;
    const struct weight *sink;  // F32 [1, heads]
    struct rope rope;
    const struct batch *batch;
    struct kv_plane window;
    uint32_t ratio;                    // 0: window alone
    struct kv_plane entries;           // ratio > 0
    const uint32_t *selected, *count;  // [T, topk], [T]; NULL: all visible entries
    uint32_t topk;
};

#define NO_EXPERT UINT32_MAX  // a choice that costs nothing and adds nothing

/* Expert choice and weights (model.md 4.7), fp32. */
struct route_args {
    struct mat in;               // act [T, d]
    const struct weight *gate;   // [experts, d]
    const struct weight *bias;   // F32 [1, experts]; NULL with table
    const struct weight *table;  // I64 [vocab, topk], hash layers; NULL with bias
    const uint32_t *id;          // [T]
    uint32_t topk;
    float scaling;
    const uint32_t *live;  // [1] rows that count, or NULL: all; the others choose NO_EXPERT
    uint32_t *expert;      // [T, topk], by falling score, or in the table's order
    float *weight;         // [T, topk]
};

/* out = sum over the chosen experts in the order of `expert`, plus the shared one (model.md 4.7);
 * NO_EXPERT is passed over. */
struct experts_args {
    struct mat in;   // act [T, d]
    struct mat out;  // act [T, d]
    const uint32_t *expert;
    const float *weight;
    uint32_t experts, topk, inter;
    float limit;                                             // SwiGLU clamp
    const struct weight *const *w1, *const *w2, *const *w3;  // [experts]; index `experts` = shared
};

/* out[i] = in[row[i]] */
struct gather_rows_args {
    struct mat out, in;
    const uint32_t *row;  // [out.rows]
};

/* streams[t][k] = e[t] + h[t][k], the entry of an MTP block (model.md 8.1) */
struct mtp_join_args {
    struct mat out;  // act [T, n * d]
    struct mat e;    // act [T, d]
    struct mat h;    // act [T, n * d]
    uint32_t copies;
};

/* ---- sampling ------------------------------------------------------------------------------ */

enum { TOP_LOGPROBS = 20 };

struct token_count {
    uint32_t id;
    uint32_t prompt, output;  // how often it stands in either
};

struct token_bias {
    uint32_t id;
    float bias;
};

/* Order: bias, penalties, mask, then with temperature 0 the largest logit (the smaller id on a tie);
 * else temperature, top_k, min_p, top_p, and a draw that is a function of seed, position and id
 * alone (counter-based), so a seed gives the same text in any company. */
struct sample_row {                         // its arrays lie on the device, as it does
    float temperature;                      // 0: greedy
    float top_p;                            // (0, 1]
    float min_p;                            // [0, 1)
    uint32_t top_k;                         // 0: all
    float repetition, frequency, presence;  // 1, 0, 0: none
    const struct token_count *seen;
    uint32_t seen_count;
    const struct token_bias *bias;
    uint32_t bias_count;
    const uint32_t *allowed;  // bit set over the vocabulary; NULL: all
    uint64_t seed;
    uint32_t position;  // of the token to be drawn
    uint32_t logprobs;  // how many top entries are wanted, plus 1; 0: none
    bool forced;        // no draw: the answer is forced_id, with its log-probability
    uint32_t forced_id;
};

/* Log-probabilities are those of the model: log softmax of the raw logits. */
struct sample_out {
    uint32_t id;
    float logprob;  // of id; filled when logprobs > 0
    uint32_t top_id[TOP_LOGPROBS];
    float top_logprob[TOP_LOGPROBS];
    uint32_t wrong;  // 1: the logits are no numbers, and id means nothing
};

struct sample_args {
    struct mat logits;             // F32 [R, vocab]; overwritten
    const struct sample_row *row;  // [R], device
    struct sample_out *out;        // [R], device
};

/* id[i] = out[from[i]].id, where from[i] is not NO_ROW: tokens of the step before that the host has
 * not seen yet. */
#define NO_ROW UINT32_MAX

struct feed_args {
    uint32_t *id;          // [T]
    const uint32_t *from;  // [T]
    uint32_t tokens;
    const struct sample_out *out;
};

#endif
