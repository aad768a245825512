/* tool_memory.c - a ring of blocks from oldest to newest, and a table of their ids.
 *
 * The ids are random, so an id's hash is as good as its bytes; they are compared whole all the same.
 */
#include "server/tool_memory.h"
#include <pthread.h>
#include "config/hash.h"

enum { BUCKETS = 1 << 14 };

/* One call's id; lies behind its block. */
struct id_node {
    struct id_node *next;  // in its bucket
    struct block_node *block;
    uint64_t hash;
    const char *text;  // in the block's memory
    uint32_t size;     // bytes
    uint32_t index;    // of the call in the block
};

struct block_node {
    struct block_node *older, *newer;
    uint64_t tenant;
    size_t bytes;  // of this allocation
    const char *text;
    size_t size;          // bytes of text
    uint32_t count;       // ids
    struct id_node id[];  // [count], then the texts
};

struct tool_memory {
    pthread_mutex_t lock;
    size_t most_bytes;
    struct tool_memory_stats stats;
    struct block_node *oldest, *newest;
    struct id_node *bucket[BUCKETS];
};

enum status tool_memory_open(size_t most_bytes, struct tool_memory **memory)
{
    *memory = calloc(1, sizeof **memory);
    if (!*memory) return NO_MEMORY;
    (*memory)->most_bytes = most_bytes;
    pthread_mutex_init(&(*memory)->lock, NULL);
    return OK;
}

static uint64_t id_hash(uint64_t tenant, struct slice id)
{
    return hash64(id.data, id.size, tenant);
}

static struct id_node **bucket_of(struct tool_memory *memory, uint64_t hash)
{
    return &memory->bucket[hash % BUCKETS];
}

static void ring_remove(struct tool_memory *memory, struct block_node *block)
{
    if (block->older) block->older->newer = block->newer;
    else memory->oldest = block->newer;
    if (block->newer) block->newer->older = block->older;
    else memory->newest = block->older;
}

static void ring_append(struct tool_memory *memory, struct block_node *block)
{
    block->older = memory->newest;
    block->newer = NULL;
    if (memory->newest) memory->newest->newer = block;
    else memory->oldest = block;
    memory->newest = block;
}

static void drop_oldest(struct tool_memory *memory)
{
    struct block_node *block = memory->oldest;
    for (uint32_t i = 0; i < block->count; i++) {
        struct id_node **link = bucket_of(memory, block->id[i].hash);
        while (*link != &block->id[i]) link = &(*link)->next;
        *link = block->id[i].next;
    }
    memory->oldest = block->newer;
    if (memory->oldest) memory->oldest->older = NULL;
    else memory->newest = NULL;
    memory->stats.blocks--;
    memory->stats.bytes -= block->bytes;
    explicit_bzero(block, block->bytes);
    free(block);
}

void tool_memory_close(struct tool_memory *memory)
{
    if (!memory) return;
    while (memory->oldest) drop_oldest(memory);
    pthread_mutex_destroy(&memory->lock);
    free(memory);
}

/* A block with its ids and texts in one piece of memory, in no ring yet; NULL: no memory. */
static struct block_node *make_block(uint64_t tenant, const struct slice *id, uint32_t count,
                                     struct slice text)
{
    size_t head = sizeof(struct block_node) + count * sizeof(struct id_node);
    size_t bytes = head + text.size;
    for (uint32_t i = 0; i < count; i++) bytes += id[i].size;
    struct block_node *block = calloc(1, bytes);
    if (!block) return NULL;

    char *at = (char *)block + head;
    *block = (struct block_node){
        .tenant = tenant, .bytes = bytes, .text = at, .size = text.size, .count = count
    };
    memcpy(at, text.data, text.size);
    at += text.size;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(at, id[i].data, id[i].size);
        block->id[i] = (struct id_node){ .block = block,
                                         .hash = id_hash(tenant, id[i]),
                                         .text = at,
                                         .size = (uint32_t)id[i].size,
                                         .index = i };
        at += id[i].size;
    }
    return block;
}

void tool_memory_keep(struct tool_memory *memory, uint64_t tenant, const struct slice *id,
                      uint32_t count, struct slice text)
{
    if (!memory || count == 0 || text.size == 0) return;
    struct block_node *block = make_block(tenant, id, count, text);
    if (!block) return;
    if (block->bytes > memory->most_bytes) {
        free(block);
        return;
    }

    pthread_mutex_lock(&memory->lock);
    while (memory->stats.bytes + block->bytes > memory->most_bytes) {
        drop_oldest(memory);
        memory->stats.dropped++;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct id_node **bucket = bucket_of(memory, block->id[i].hash);
        block->id[i].next = *bucket;
        *bucket = &block->id[i];
    }
    ring_append(memory, block);
    memory->stats.blocks++;
    memory->stats.bytes += block->bytes;
    memory->stats.kept++;
    pthread_mutex_unlock(&memory->lock);
}

static struct id_node *find_id(struct tool_memory *memory, uint64_t tenant, struct slice id)
{
    uint64_t hash = id_hash(tenant, id);
    for (struct id_node *node = *bucket_of(memory, hash); node; node = node->next)
        if (node->hash == hash && node->block->tenant == tenant &&
            slice_equal((struct slice){ node->text, node->size }, id))
            return node;
    return NULL;
}

bool tool_memory_find(struct tool_memory *memory, uint64_t tenant, const struct slice *id,
                      uint32_t count, struct buf *out)
{
    if (!memory || count == 0) return false;

    pthread_mutex_lock(&memory->lock);
    struct id_node *first = find_id(memory, tenant, id[0]);
    bool found = first && first->index == 0 && first->block->count == count;
    for (uint32_t i = 1; found && i < count; i++) {
        struct id_node *node = &first->block->id[i];
        found = slice_equal((struct slice){ node->text, node->size }, id[i]);
    }
    if (found) {
        buf_add(out, first->block->text, first->block->size);
        ring_remove(memory, first->block);
        ring_append(memory, first->block);
        memory->stats.found++;
    } else {
        memory->stats.missed++;
    }
    pthread_mutex_unlock(&memory->lock);
    return found;
}

void tool_memory_flush(struct tool_memory *memory)
{
    pthread_mutex_lock(&memory->lock);
    while (memory->oldest) drop_oldest(memory);
    pthread_mutex_unlock(&memory->lock);
}

void tool_memory_stats(struct tool_memory *memory, struct tool_memory_stats *stats)
{
    pthread_mutex_lock(&memory->lock);
    *stats = memory->stats;
    pthread_mutex_unlock(&memory->lock);
}
