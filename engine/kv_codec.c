/* kv_codec.c - spans, row by row in the order of the image. */
#include "engine/kv_codec.h"
#include "cache/kv_pool.h"
#include "kernels/ops.h"

/* Planes of stored bytes. A number of several bytes takes as many planes in a row. */
enum { CODES = 0, ROPE = 1, SCALES = 3, KEYS = 4, KEY_SCALES = 5 };
enum { EXACT_ENTRIES = 0, EXACT_KEYS = 4 };
enum { CSA = 4, HCA = 128, PARTS_MOST = 3 };

struct row {
    struct codec_span part[PARTS_MOST];  // off: within the row
    uint32_t parts, bytes;
};

struct spans {
    struct codec_span *span;  // [room] owned
    uint32_t count, room, end;
};

static const struct row official_entry = {
    .part = { { 0, 448, 1, CODES }, { 448, 128, 2, ROPE }, { 576, 8, 1, SCALES } },
    .parts = 3,
    .bytes = ENTRY_BYTES_OFFICIAL,
};
static const struct row official_key = {
    .part = { { 0, 64, 1, KEYS }, { 64, 4, 1, KEY_SCALES } },
    .parts = 2,
    .bytes = INDEX_BYTES_OFFICIAL,
};

static struct row exact_row(uint32_t bytes, uint8_t plane)
{
    return (struct row){ .part = { { 0, bytes, 4, plane } }, .parts = 1, .bytes = bytes };
}

static bool add(struct spans *spans, struct codec_span span)
{
    if (spans->count == spans->room) {
        uint32_t room = spans->room ? spans->room * 2 : 1024;
        struct codec_span *more = realloc(spans->span, room * sizeof *more);
        if (!more) return false;
        spans->span = more;
        spans->room = room;
    }
    spans->span[spans->count++] = span;
    spans->end = span.off + span.bytes;
    return true;
}

/* What lies between planes is zero: it goes with the scales. */
static bool pad(struct spans *spans, size_t off)
{
    must(off >= spans->end);
    uint32_t bytes = (uint32_t)off - spans->end;
    return !bytes || add(spans, (struct codec_span){ spans->end, bytes, 1, SCALES });
}

static bool add_rows(struct spans *spans, size_t off, const struct row *row, uint32_t rows)
{
    if (!pad(spans, off)) return false;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t i = 0; i < row->parts; i++) {
            struct codec_span span = row->part[i];
            span.off += (uint32_t)off + r * row->bytes;
            if (!add(spans, span)) return false;
        }
    return true;
}

enum status kv_codec_map(const struct kv_layout *layout, const struct kv_rows *rows,
                         struct codec_map *map)
{
    bool official = rows->numerics == NUMERICS_OFFICIAL;
    struct row entry = official ? official_entry : exact_row(rows->entry_bytes, EXACT_ENTRIES);
    struct row key = official ? official_key : exact_row(rows->index_bytes, EXACT_KEYS);
    struct spans spans = { 0 };
    bool done = true;
    must(entry.bytes == rows->entry_bytes && key.bytes == rows->index_bytes);

    const struct kv_layer *layer = layout->layer;
    for (uint32_t l = 0; l < layout->layers; l++)
        if (layer[l].ratio == CSA)
            done &= add_rows(&spans, layer[l].entries, &entry, KV_BLOCK_TOKENS / CSA);
    for (uint32_t l = 0; l < layout->layers; l++)
        if (layer[l].ratio == CSA)
            done &= add_rows(&spans, layer[l].keys, &key, KV_BLOCK_TOKENS / CSA);
    for (uint32_t l = 0; l < layout->layers; l++)
        if (layer[l].ratio == HCA) done &= add_rows(&spans, layer[l].entries, &entry, 1);
    done = done && pad(&spans, layout->g_bytes);
    enum status status = done ? codec_map_init(map, spans.span, spans.count) : NO_MEMORY;
    free(spans.span);
    return status;
}
