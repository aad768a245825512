/* model.h - the forward pass, layer by layer (model.md 4).
 *
 * The model owns the activations, planned at open for the largest batch, and the KV memory; which
 * block belongs to whom is the caller's affair and comes in with each batch. Operations are queued:
 * nothing is computed for sure before the device's finish.
 * Thread: the engine thread.
 */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include "cache/kv_layout.h"
#include "engine/weights.h"
#include "kernels/ops.h"

/* How this shape's attention state is laid out under these numerics; pair with kv_layout_release. */
CHECKED enum status model_layout(const struct shape *shape, enum numerics numerics,
                                 struct kv_layout *layout);

struct model_options {
    const struct shape *shape;      // must outlive the model
    const struct weights *weights;  // likewise
    struct dev *dev;
    uint32_t most_tokens;  // of one batch
    uint32_t most_rows;    // logits computed at a time
};

struct model_kv {
    uint32_t g_blocks, w_pages, states;
};

struct model {
    const struct shape *shape;
    const struct weights *weights;
    struct dev *dev;
    struct kv_layout layout;
    uint32_t most_tokens, most_rows;
    uint32_t entry_bytes, index_bytes;  // of a KV entry and an index key
    char *g, *w, *state;                // device; KV memory
    size_t g_bytes, w_bytes, state_bytes;
    size_t activation_bytes;
    struct rope rope_plain, rope_compressed;

    /* Activations, device; rows are tokens of the batch. */
    struct mat streams;              // [tokens, n * d]
    struct mat draft_streams;        // [tokens, n * d], the MTP block's
    struct mat x, y;                 // [tokens, d]
    struct mat post, comb;           // F32 [tokens, n], [tokens, n * n]
    struct mat qr_raw, qr;           // [tokens, q_rank]
    struct mat q, o;                 // [tokens, heads * head_dim]
    struct mat kv;                   // [tokens, head_dim]
    struct mat value, gate;          // F32 [tokens, 2 * head_dim]
    struct mat key_value, key_gate;  // F32 [tokens, 2 * index_dim]
    struct mat iq, iw;               // [tokens, index_heads * index_dim], [tokens, index_heads]
    struct mat z;                    // [tokens, o_groups * o_rank]
    struct mat row_streams;          // [most_rows, n * d]
    struct mat row;                  // [most_rows, d]
    struct mat logits;               // F32 [most_rows, vocab]
    uint32_t *selected, *selected_count;  // [tokens, topk], [tokens]
    uint32_t *expert;                     // [tokens, experts_per_token]
    float *expert_weight;                 // likewise
    struct device_piece *piece;           // all device memory of the model, to be freed
    uint32_t pieces;
};

/* NO_MEMORY: err says how much was wanted for what. A failure leaves nothing open. Without KV memory
 * as yet. */
CHECKED enum status model_open(const struct model_options *options, struct model *model,
                               struct err *err);

/* Takes KV memory, zeroed, in place of what there was; nothing may be under way. After NO_MEMORY the
 * model has none. */
CHECKED enum status model_take_kv(struct model *model, const struct model_kv *kv, struct err *err);
size_t model_kv_bytes(const struct model *model, const struct model_kv *kv);
void model_close(struct model *model);

/* The whole backbone: embeds the batch and runs every layer; the streams hold the result. */
void model_forward(struct model *model, const struct batch *batch);

/* Its two parts, for tests that look between layers. */
void model_embed(struct model *model, const struct batch *batch);
void model_layer(struct model *model, uint32_t layer, const struct batch *batch);

/* logits[i] = of batch row row[i]; count <= most_rows; row is a device array. */
void model_logits(struct model *model, const uint32_t *row, uint32_t count);

/* The MTP block over the batch (model.md 8.1): the streams are those that model_forward left, and
 * batch->id holds the NEXT token of each position. Overwrites the streams. The block keeps its own
 * window in the W pages. */
void model_draft(struct model *model, const struct batch *batch);
void model_draft_logits(struct model *model, const uint32_t *row, uint32_t count);

#endif
