/* bench_fill.c - KV memory that looks lived in: a few random blocks and pages, again and again. */
#include "engine/bench.h"
#include <string.h>

enum { PATTERNS = 4 };

static uint64_t draw(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return *random >> 33;
}

/* e4m3 codes of both signs from 0.5 to 7.5, bf16 near 1, scales of 1. */
static void fill_entry(uint8_t *row, uint64_t *random)
{
    for (uint32_t i = 0; i < 448; i++) row[i] = (uint8_t)((draw(random) & 0x9f) + 0x30);
    for (uint32_t i = 0; i < 64; i++) {
        uint16_t half = f32_to_bf16((float)(draw(random) & 1023) * 0x1p-9f - 1);
        memcpy(row + 448 + 2 * i, &half, 2);
    }
    memset(row + 576, 125, 7);
    row[583] = 0;
}

static void fill_key(uint8_t *row, uint64_t *random)
{
    for (uint32_t i = 0; i < 64; i++) row[i] = (uint8_t)draw(random);
    memset(row + 64, 127, 4);
}

static void fill_floats(void *data, size_t bytes, uint64_t *random)
{
    float *value = data;
    for (size_t i = 0; i < bytes / sizeof *value; i++)
        value[i] = (float)(draw(random) & 0xffff) * 0x1p-15f - 1;
}

static void fill_block(const struct model *m, char *block, uint64_t *random)
{
    for (uint32_t l = 0; l < m->shape->layers; l++) {
        const struct kv_layer *layer = &m->layout.layer[l];
        if (!layer->ratio) continue;
        for (uint32_t r = 0; r < BLOCK_TOKENS / layer->ratio; r++)
            fill_entry((uint8_t *)block + layer->entries + r * m->entry_bytes, random);
        if (layer->ratio != SHAPE_CSA_RATIO) continue;
        for (uint32_t r = 0; r < BLOCK_TOKENS / layer->ratio; r++)
            fill_key((uint8_t *)block + layer->keys + r * m->index_bytes, random);
    }
}

static void fill_page(const struct model *m, char *page, uint64_t *random)
{
    fill_floats(page, m->layout.w_bytes, random);  // the tails
    for (uint32_t l = 0; l < m->shape->layers; l++)
        for (uint32_t r = 0; r < BLOCK_TOKENS; r++)
            fill_entry((uint8_t *)page + m->layout.layer[l].window + r * m->entry_bytes, random);
}

/* `count` pieces of device memory of `bytes` each, from PATTERNS of them on the host. */
static enum status spread(struct bench *b, char *to, const char *pattern, size_t bytes,
                          uint32_t count, struct err *err)
{
    for (uint32_t i = 0; i < count; i++)
        b->dev->ops->copy_in(b->dev, to + i * bytes, pattern + i % PATTERNS * bytes, bytes);
    return b->dev->ops->finish(b->dev, err);
}

enum status bench_fill_kv(struct bench *b, struct err *err)
{
    const struct model *m = &b->model;
    const struct kv_layout *layout = &m->layout;
    size_t most = layout->g_bytes > layout->w_bytes ? layout->g_bytes : layout->w_bytes;
    if (layout->state_bytes > most) most = layout->state_bytes;
    char *pattern = b->dev->ops->host_alloc(b->dev, PATTERNS * most);
    uint64_t random = 1;
    if (!pattern) return fail(err, NO_MEMORY, "no memory for patterns of KV blocks");
    must(b->dev->numerics == NUMERICS_OFFICIAL);

    for (uint32_t i = 0; i < PATTERNS; i++) fill_block(m, pattern + i * layout->g_bytes, &random);
    enum status status = spread(b, m->g, pattern, layout->g_bytes, b->kv.g_blocks, err);
    for (uint32_t i = 0; i < PATTERNS; i++) fill_page(m, pattern + i * layout->w_bytes, &random);
    if (status == OK) status = spread(b, m->w, pattern, layout->w_bytes, b->kv.w_pages, err);
    fill_floats(pattern, PATTERNS * layout->state_bytes, &random);
    if (status == OK) status = spread(b, m->state, pattern, layout->state_bytes, b->kv.states, err);
    b->dev->ops->host_free(b->dev, pattern, PATTERNS * most);
    return status;
}
