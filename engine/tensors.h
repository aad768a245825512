/* tensors.h - every tensor that a shape demands: name, dtype, shape, what it is for.
 *
 * One table of rows (tensors.c) makes the list; loading, `fathomd plan`, random weights and the
 * writer of test checkpoints all walk it. The order is that of a layer's reading.
 */
#ifndef ENGINE_TENSORS_H
#define ENGINE_TENSORS_H

#include "engine/safetensors.h"
#include "engine/weights.h"

/* Parts of the model, as the memory table of `fathomd plan` names them. */
enum tensor_part {
    PART_EMBED,
    PART_HEAD,
    PART_ATTENTION,  // projections, their norms, sinks
    PART_COMPRESSOR,
    PART_INDEXER,
    PART_HYPER,
    PART_NORM,  // of layers, before the head, and the mixing of streams there
    PART_ROUTER,
    PART_TID2EID,
    PART_EXPERTS,
    PART_SHARED,
    PART_DRAFTER,  // what only a drafter block has
    PART_COUNT,
};

/* What random values should be like. */
enum tensor_fill {
    FILL_NORM,     // 1 and a little
    FILL_SCALED,   // standard deviation gain / sqrt(columns)
    FILL_SPREAD,   // standard deviation gain
    FILL_MIX,      // hc scales: near 1
    FILL_EXPERTS,  // distinct expert numbers in each row
};

enum tensor_owner { OWNER_TOP, OWNER_LAYER, OWNER_DRAFTER };

#define TENSOR_NONE UINT32_MAX

struct tensor_need {
    const char *name;  // in the list's arena
    enum dtype type;
    uint32_t dims;
    uint32_t shape[2];    // as stored: an I8 row holds two codes a byte
    uint32_t rows, cols;  // logical elements
    uint32_t scale;       // number of the need that is its scale, or TENSOR_NONE
    bool is_scale;
    uint32_t scale_rows, scale_cols;  // what one element of the scale spans
    enum weight_use use;
    enum tensor_part part;
    enum tensor_fill fill;
    float gain;

    bool loaded;  // false: checked only (DSpark)
    enum tensor_owner owner;
    uint32_t block;   // layer or drafter block
    size_t slot;      // of a struct weight * in struct weights, layer_weights or mtp_weights;
    uint32_t expert;  //   with an expert, of a struct weight ** there; else TENSOR_NONE
};

struct tensor_list {
    struct tensor_need *need;  // [count]
    uint32_t count;
    uint64_t bytes;  // stored
    struct arena arena;
};

/* NO_MEMORY leaves nothing to release. */
CHECKED enum status tensor_list_init(struct tensor_list *list, const struct shape *shape,
                                     struct err *err);
void tensor_list_release(struct tensor_list *list);

uint64_t tensor_bytes(const struct tensor_need *need);

/* Settles shape->expert_type from the file's first expert when config.json only implies it. */
void tensors_settle(struct shape *shape, const struct st_set *set);

/* Finds every need in the set, in order: found[count] receives them. BAD_INPUT with a sentence: one
 * is missing, of another dtype or shape, or the set has tensors of the model's own names that the
 * shape does not have. Tensors of other names are left alone and told in note. */
CHECKED enum status tensors_check(const struct tensor_list *list, const struct shape *shape,
                                  const struct st_set *set, const struct st_tensor **found,
                                  char note[512], struct err *err);

#endif
