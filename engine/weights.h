/* weights.h - every tensor of the model, as the device wants it.
 *
 * The shards are mapped read-only and stay mapped: a backend may keep using the mapped bytes. Each
 * tensor is checked for presence, dtype and shape against the shape before the first one is loaded.
 * Thread: opened and closed by whoever starts the engine; constant in between.
 */
#ifndef ENGINE_WEIGHTS_H
#define ENGINE_WEIGHTS_H

#include "engine/shape.h"
#include "kernels/backend.h"

struct hyper_weights {  // model.md 4.2; hc_attn, hc_ffn, hc_head
    struct weight *fn, *base, *scale;
};

struct compressor_weights {
    struct weight *ape, *wkv, *wgate, *norm;
};

struct layer_weights {
    struct hyper_weights hc_attn, hc_ffn;
    struct weight *attn_norm, *ffn_norm;
    struct weight *wq_a, *q_norm, *wq_b, *wkv, *kv_norm, *wo_a, *wo_b, *attn_sink;
    struct compressor_weights compressor;  // ratio > 0; else all NULL
    struct {
        struct weight *wq_b, *weights_proj;
        struct compressor_weights compressor;
    } indexer;                             // ratio 4; else all NULL
    struct weight *gate, *bias, *tid2eid;  // bias, or tid2eid on a hashed layer; the other is NULL
    struct weight **w1, **w2, **w3;        // [experts + 1]; index `experts` is the shared one
};

struct mtp_weights {
    struct layer_weights layer;
    struct weight *e_proj, *h_proj, *enorm, *hnorm, *norm;
    struct hyper_weights hc_head;
};

struct weights {
    struct weight *embed, *norm, *head;
    struct hyper_weights hc_head;
    struct layer_weights *layer;  // [shape->layers]
    struct mtp_weights *mtp;      // [drafter_blocks] for DRAFTER_MTP, else NULL

    uint64_t stored_bytes;  // of all tensors loaded, as the checkpoint stores them
    uint64_t device_bytes;  // what the backend allocated for them
    uint64_t load_ns;
    char note[512];  // one line for the log about tensors left alone; empty when there are none

    struct weights_owner *owner;  // private: the mapped files, the list to free
};

/* Told every 256 MiB or so, and once at the end. */
struct weights_progress {
    uint64_t bytes, total_bytes;  // as stored
    uint64_t elapsed_ns;
    uint32_t tensors, total_tensors;
};

struct weights_options {
    const char *dir;      // the checkpoint; unused by weights_random
    uint64_t seed;        // weights_random
    struct shape *shape;  // expert_type is settled here when config.json only implies it
    struct dev *dev;
    void (*progress)(void *context, const struct weights_progress *progress);  // may be NULL
    void *context;
};

/* Checks every tensor from the headers, then loads. BAD_INPUT or IO_FAILED with a sentence that names
 * file, tensor, found and wanted; NO_MEMORY. A failure leaves nothing open. */
CHECKED enum status weights_open(const struct weights_options *options, struct weights *weights,
                                 struct err *err);

/* Random values of plausible size for every tensor of the shape, the same for the same seed and
 * name, whatever the order. No checkpoint is needed. */
CHECKED enum status weights_random(const struct weights_options *options, struct weights *weights,
                                   struct err *err);

void weights_close(struct weights *weights, struct dev *dev);

#endif
