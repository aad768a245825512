/* kv_layout.h - how the attention state of a sequence is divided into G blocks, W pages and private
 * state.
 *
 *   G block   what never changes once 128 tokens are complete: for each CSA layer 32 entries, for
 *             each CSA layer 32 index keys, for each HCA layer 1 entry
 *   W page    what only the next 128 tokens need: for each layer 128 window rows, for each CSA layer
 *             the compressor's last 4 rows (tail), the same for the indexer's compressor;
 *             behind the image, a draft block's window rows
 *   state     what a sequence keeps between steps: the compressors' rows of unfinished blocks
 *
 * The order inside is the one of the canonical image (cache.md 5): plane by plane, layer by layer. An
 * image is what is cached: a whole G block, and a W page without the windows of draft blocks. Planes
 * are padded to 64 bytes; nobody writes the padding, so in memory that began as zeros it is zero.
 * Geometry is data: a layer is its ratio, and nothing here counts on a model.
 */
#ifndef CACHE_KV_LAYOUT_H
#define CACHE_KV_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "config/status.h"

struct kv_geometry {
    const uint32_t *ratio;  // [layers + drafts]: 0, 4 or 128
    uint32_t layers, drafts;
    uint32_t entry_dim, index_dim;      // channels: 512, 128
    uint32_t entry_bytes, index_bytes;  // of one row, by numerics
};

struct kv_layer {
    uint32_t ratio;
    size_t entries, keys;           // bytes into a G block; ratio > 0, ratio 4
    size_t window, tail, key_tail;  // bytes into a W page; the tails with ratio 4
    size_t state, key_state;        // bytes into the private state; ratio > 0, ratio 4
};

struct kv_layout {
    struct kv_layer *layer;  // [layers + drafts], owned
    uint32_t layers, drafts;
    size_t g_bytes, w_bytes, state_bytes;  // of one block, page, sequence; multiples of 64
    size_t w_image_bytes;                  // of a page, without drafts
};

/* NO_MEMORY leaves nothing to release. */
CHECKED enum status kv_layout_init(struct kv_layout *layout, const struct kv_geometry *geometry);
void kv_layout_release(struct kv_layout *layout);

#endif
