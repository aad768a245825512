/* kv_layout.c - offsets, plane by plane. */
#include "cache/kv_layout.h"
#include "cache/kv_pool.h"

enum { CSA = 4, HCA = 128, ALIGN = 64 };

static size_t place(size_t *end, size_t bytes)
{
    size_t at = *end;
    *end += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return at;
}

/* Floats of one layer's compressor state: value and gate rows; CSA keeps 8 of double width. */
static size_t state_floats(uint32_t ratio, uint32_t dim)
{
    return ratio == CSA ? 8u * 2 * 2 * dim : (size_t)ratio * 2 * dim;
}

static size_t tail_bytes(uint32_t dim)
{
    return CSA * 2 * dim * sizeof(float);
}

enum status kv_layout_init(struct kv_layout *layout, const struct kv_geometry *geometry)
{
    uint32_t count = geometry->layers + geometry->drafts;
    *layout = (struct kv_layout){ .layers = geometry->layers, .drafts = geometry->drafts };
    layout->layer = calloc(count, sizeof *layout->layer);
    if (!layout->layer) return NO_MEMORY;

    struct kv_layer *layer = layout->layer;
    for (uint32_t l = 0; l < count; l++) {
        layer[l].ratio = geometry->ratio[l];
        must(layer[l].ratio == 0 ||
             (l < layout->layers && (layer[l].ratio == CSA || layer[l].ratio == HCA)));
    }

    size_t g = 0, w = 0, state = 0;
    uint32_t rows = KV_BLOCK_TOKENS / CSA;
    for (uint32_t l = 0; l < count; l++)
        if (layer[l].ratio == CSA) layer[l].entries = place(&g, rows * geometry->entry_bytes);
    for (uint32_t l = 0; l < count; l++)
        if (layer[l].ratio == CSA) layer[l].keys = place(&g, rows * geometry->index_bytes);
    for (uint32_t l = 0; l < count; l++)
        if (layer[l].ratio == HCA) layer[l].entries = place(&g, geometry->entry_bytes);

    size_t window = (size_t)KV_BLOCK_TOKENS * geometry->entry_bytes;
    for (uint32_t l = 0; l < layout->layers; l++) layer[l].window = place(&w, window);
    for (uint32_t l = 0; l < count; l++)
        if (layer[l].ratio == CSA) layer[l].tail = place(&w, tail_bytes(geometry->entry_dim));
    for (uint32_t l = 0; l < count; l++)
        if (layer[l].ratio == CSA) layer[l].key_tail = place(&w, tail_bytes(geometry->index_dim));
    layout->w_image_bytes = w;
    for (uint32_t l = layout->layers; l < count; l++) layer[l].window = place(&w, window);

    for (uint32_t l = 0; l < count; l++) {
        if (layer[l].ratio == 0) continue;
        layer[l].state =
            place(&state, sizeof(float) * state_floats(layer[l].ratio, geometry->entry_dim));
        if (layer[l].ratio == CSA)
            layer[l].key_state =
                place(&state, sizeof(float) * state_floats(CSA, geometry->index_dim));
    }
    layout->g_bytes = g ? g : ALIGN;
    layout->w_bytes = w;
    layout->state_bytes = state ? state : ALIGN;
    return OK;
}

void kv_layout_release(struct kv_layout *layout)
{
    free(layout->layer);
    *layout = (struct kv_layout){ 0 };
}
