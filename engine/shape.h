/* shape.h - the model's numbers, read from its config.json and checked against each other.
 *
 * Geometry is data: whatever a checkpoint says within the family of model.md 1 is served, and what is
 * outside of it is refused with a sentence that names the field, the value found and the one wanted.
 * Thread: filled at start, constant from then on.
 */
#ifndef ENGINE_SHAPE_H
#define ENGINE_SHAPE_H

#include <stdbool.h>
#include <stdint.h>
#include "config/status.h"
#include "kernels/dtype.h"

enum {
    SHAPE_MOST_LAYERS = 512,  // backbone and drafter blocks together
    SHAPE_MOST_STREAMS = 8,   // hc_mult
    SHAPE_MOST_TARGETS = 16,  // layers that a DSpark drafter listens to
    SHAPE_FP8_BLOCK = 128,    // rows and columns that one scale of an FP8 matrix spans
    SHAPE_FP4_GROUP = 32,     // columns that one scale of an FP4 matrix spans
    SHAPE_CSA_RATIO = 4,      // overlapped entries, selected by an indexer
    SHAPE_HCA_RATIO = 128,    // plain entries, all of them read
};

struct layer_shape {
    uint32_t ratio;  // 0: sliding window alone; 4: and selected entries; 128: and all entries
    bool hashed;     // experts by token id (tid2eid), not by score
};

/* What follows the backbone in `mtp.*`. */
enum drafter {
    DRAFTER_NONE,
    DRAFTER_MTP,     // blocks with e_proj and h_proj, model.md 8
    DRAFTER_DSPARK,  // 3 stages, model.md 12: checked for presence, not used
};

struct shape {
    uint32_t vocab;
    uint32_t hidden;
    uint32_t layers;  // of the backbone
    uint32_t heads, head_dim, rope_dim;
    uint32_t q_rank;            // q_lora_rank
    uint32_t o_groups, o_rank;  // the output projection: groups of heads, and each one's rank
    uint32_t window;            // tokens
    uint32_t index_heads, index_dim, index_topk;
    uint32_t experts, experts_per_token;
    uint32_t inter;        // width of an expert, routed or shared
    uint32_t hash_layers;  // the first ones
    float routed_scaling;
    float swiglu_limit;
    uint32_t streams;  // hc_mult
    uint32_t sinkhorn_iters;
    float hc_eps, norm_eps;
    float rope_theta;           // ratio 0
    float compress_rope_theta;  // other ratios, with YaRN:
    float yarn_factor, yarn_beta_fast, yarn_beta_slow;
    uint32_t yarn_original;    // positions
    uint32_t positions;        // max_position_embeddings
    enum dtype expert_type;    // DT_I8 (FP4) or DT_F8_E4M3
    bool expert_type_implied;  // config.json does not say: the tensors decide
    uint32_t bos, eos;         // ids as config.json has them

    enum drafter drafter;
    uint32_t drafter_blocks;  // mtp.0 .. ; MTP: 0 or 1 here
    uint32_t dspark_targets;  // backbone layers it listens to
    uint32_t dspark_rank;     // dspark_markov_rank

    bool vision;  // config.json describes a vision tower: its tensors are left alone

    struct layer_shape layer[SHAPE_MOST_LAYERS];  // [layers + drafter_blocks]
};

/* How this checkpoint wants to be sampled when a request does not say (generation_config.json). */
struct generation {
    float temperature;  // do_sample false reads as 0
    float top_p;
    float min_p;
    uint32_t top_k;  // 0: all
};

/* Reads DIR/config.json. BAD_INPUT or IO_FAILED with a sentence; *shape is then undefined. */
CHECKED enum status shape_read(const char *dir, struct shape *shape, struct err *err);

/* Reads DIR/generation_config.json; without the file: temperature 1, top_p 1. */
CHECKED enum status generation_read(const char *dir, struct generation *generation,
                                    struct err *err);

/* Inverse frequencies of a layer of this ratio (model.md 4.4): frequency[rope_dim / 2]. The indexer
 * of a ratio-4 layer rotates with the same ones. */
void shape_rope_frequencies(const struct shape *shape, uint32_t ratio, float *frequency);

/* Rows of a compressor's products and of ape for one entry of `dim` channels: twice dim where entries
 * overlap. */
static inline uint32_t shape_compress_width(uint32_t ratio, uint32_t dim)
{
    return ratio == SHAPE_CSA_RATIO ? 2 * dim : dim;
}

#endif
