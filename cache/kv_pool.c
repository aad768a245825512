/* kv_pool.c - two rings through one array.
 *
 * FREE and WARM blocks each form a ring, linked by number inside `slot`, with a head slot past the
 * last block. Blocks join a ring at its tail, so the WARM ring runs from coldest to newest and
 * every operation costs the same however many blocks there are. HELD blocks are in no ring.
 */
#include "cache/kv_pool.h"

enum kv_state { FREE, WARM, HELD };

/* 8 bytes, since there is one for every block on disk. */
struct kv_slot {
    union {
        uint32_t prev;     // in its ring
        uint32_t holders;  // while HELD; > 0
    };
    uint32_t next : 30;  // in its ring
    uint32_t state : 2;  // enum kv_state
};

static const uint32_t BLOCKS_MOST = (1u << 30) - 3;

static void set_next(struct kv_slot *slot, uint32_t next)
{
    slot->next = next & ((1u << 30) - 1);
}

static uint32_t ring_head(const struct kv_pool *pool, enum kv_state ring)
{
    return pool->block_count + (uint32_t)ring;
}

static uint32_t *ring_count(struct kv_pool *pool, enum kv_state ring)
{
    return ring == FREE ? &pool->free_count : &pool->warm_count;
}

static void ring_append(struct kv_pool *pool, uint32_t block, enum kv_state ring)
{
    struct kv_slot *slot = pool->slot;
    uint32_t head = ring_head(pool, ring), tail = slot[head].prev;

    slot[block] = (struct kv_slot){ .prev = tail, .state = ring & 3u };
    set_next(&slot[block], head);
    set_next(&slot[tail], block);
    slot[head].prev = block;
    *ring_count(pool, ring) += 1;
}

static void ring_remove(struct kv_pool *pool, uint32_t block)
{
    struct kv_slot *slot = pool->slot, *gone = &slot[block];

    set_next(&slot[gone->prev], gone->next);
    slot[gone->next].prev = gone->prev;
    *ring_count(pool, gone->state) -= 1;
    gone->state = HELD;
    gone->holders = 0;
}

enum status kv_pool_init(struct kv_pool *pool, uint32_t block_count)
{
    must(block_count > 0 && block_count <= BLOCKS_MOST);
    *pool = (struct kv_pool){ .block_count = block_count };
    pool->slot = calloc((size_t)block_count + 2, sizeof *pool->slot);
    if (!pool->slot) return NO_MEMORY;

    for (enum kv_state ring = FREE; ring <= WARM; ring++) {
        uint32_t head = ring_head(pool, ring);
        pool->slot[head].prev = head;
        set_next(&pool->slot[head], head);
    }
    for (uint32_t block = 0; block < block_count; block++) ring_append(pool, block, FREE);
    return OK;
}

void kv_pool_release(struct kv_pool *pool)
{
    must(pool->free_count + pool->warm_count == pool->block_count);  // every hold was dropped
    free(pool->slot);
    *pool = (struct kv_pool){ 0 };
}

enum status kv_pool_take(struct kv_pool *pool, uint32_t want, uint32_t *block)
{
    if (want > pool->free_count) return BUSY;
    for (uint32_t i = 0; i < want; i++) {
        block[i] = pool->slot[ring_head(pool, FREE)].next;
        ring_remove(pool, block[i]);
        pool->slot[block[i]].holders = 1;
    }
    return OK;
}

void kv_pool_hold(struct kv_pool *pool, uint32_t block)
{
    must(block < pool->block_count);
    must(pool->slot[block].state != FREE);
    if (pool->slot[block].state == WARM) ring_remove(pool, block);
    pool->slot[block].holders++;
}

void kv_pool_drop(struct kv_pool *pool, uint32_t block, enum kv_after_drop after)
{
    must(block < pool->block_count);
    must(pool->slot[block].state == HELD);
    if (--pool->slot[block].holders == 0) ring_append(pool, block, after == KV_KEEP ? WARM : FREE);
}

uint32_t kv_pool_coldest(const struct kv_pool *pool)
{
    return pool->warm_count ? pool->slot[ring_head(pool, WARM)].next : KV_NO_BLOCK;
}

void kv_pool_forget(struct kv_pool *pool, uint32_t block)
{
    must(block < pool->block_count);
    must(pool->slot[block].state == WARM);
    ring_remove(pool, block);
    ring_append(pool, block, FREE);
}
