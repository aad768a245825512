/* tool_memory.h - tool call id to the exact text the model wrote.
 *
 * A conversation that is sent again carries parsed calls; rendered anew they may differ from what
 * was sampled (spacing, number forms), and then the tokens that the cache knows no longer match. So
 * the sampled block is kept under the ids of its calls and comes back when they do. The ids carry
 * 128 random bits and are looked up within their tenant alone. Bounded by bytes: the block unused
 * for longest goes first.
 *
 * Thread: any; it guards itself.
 */
#ifndef SERVER_TOOL_MEMORY_H
#define SERVER_TOOL_MEMORY_H

#include <stdint.h>
#include "config/buf.h"
#include "config/slice.h"
#include "config/status.h"

struct tool_memory;

/* NO_MEMORY leaves *memory NULL. */
CHECKED enum status tool_memory_open(size_t most_bytes, struct tool_memory **memory);
void tool_memory_close(struct tool_memory *memory);

/* Keeps a block's text under its calls' ids, in order. A block that does not fit, or for which there is no
 * memory, is not kept: it is only a help. */
void tool_memory_keep(struct tool_memory *memory, uint64_t tenant, const struct slice *id,
                      uint32_t count, struct slice text);

/* Appends to out the block whose calls are exactly these ids in this order; false when it is not
 * known to this tenant. */
bool tool_memory_find(struct tool_memory *memory, uint64_t tenant, const struct slice *id,
                      uint32_t count, struct buf *out);

/* Forgets everything. */
void tool_memory_flush(struct tool_memory *memory);

struct tool_memory_stats {
    uint64_t blocks, bytes, kept, found, missed, dropped;
};
void tool_memory_stats(struct tool_memory *memory, struct tool_memory_stats *stats);

#endif
