/* kv_codec.h - what the image of a block is made of, for codec.h: which bytes are alike.
 *
 *   official   entry [448 e4m3][64 bf16][8 scales]   key [64 B of e2m1][4 scales]
 *   exact      F32 throughout
 *
 * Pure; any thread.
 */
#ifndef ENGINE_KV_CODEC_H
#define ENGINE_KV_CODEC_H

#include "cache/codec.h"
#include "cache/kv_layout.h"
#include "kernels/backend.h"

/* Of a G under this layout, whose rows take so many bytes. Pair with codec_map_release. NO_MEMORY. */
struct kv_rows {
    enum numerics numerics;
    uint32_t entry_bytes, index_bytes;
};
CHECKED enum status kv_codec_map(const struct kv_layout *layout, const struct kv_rows *rows,
                                 struct codec_map *map);

#endif
