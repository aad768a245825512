/* codec.c - gather the planes, compress each, and back. */
#include "cache/codec.h"
#include <string.h>
#include <zstd.h>

#define LEVEL 1  // 3 gains nothing on KV (cache.md 8.3)
#define WINDOW_LOG 20
#define WORTH 0.08       // saving below it is not worth decoding
#define REST 1024        // images stored as they are once trying stopped paying
#define SAMPLE 32        // one image in so many is tried while it is unclear whether it pays
#define SAMPLE_ENOUGH 4  // tries before the mean decides

struct codec {
    ZSTD_CCtx *in;
    ZSTD_DCtx *out;
    uint8_t *plane;  // [image_most]: the planes one after another
    uint32_t image_most;
};

enum status codec_map_init(struct codec_map *map, const struct codec_span *span, uint32_t spans)
{
    *map = (struct codec_map){ .spans = spans };
    for (uint32_t i = 0; i < spans; i++) {
        const struct codec_span *s = &span[i];
        must(s->off == map->image_bytes && s->bytes > 0 && s->width > 0);
        must(s->bytes % s->width == 0 && s->plane + s->width <= CODEC_PLANES);
        map->image_bytes += s->bytes;
        for (uint32_t k = 0; k < s->width; k++)
            map->plane_bytes[s->plane + k] += s->bytes / s->width;
        if (s->plane + s->width > map->planes) map->planes = (uint32_t)s->plane + s->width;
    }
    map->span = malloc((spans + 1) * sizeof *span);
    if (!map->span) return NO_MEMORY;
    memcpy(map->span, span, spans * sizeof *span);
    return OK;
}

void codec_map_release(struct codec_map *map)
{
    free(map->span);
    *map = (struct codec_map){ 0 };
}

struct codec *codec_open(uint32_t image_most)
{
    struct codec *codec = calloc(1, sizeof *codec);
    if (!codec) return NULL;
    codec->in = ZSTD_createCCtx();
    codec->out = ZSTD_createDCtx();
    codec->plane = malloc(image_most ? image_most : 1);
    codec->image_most = image_most;
    if (codec->in && codec->out && codec->plane &&
        !ZSTD_isError(ZSTD_CCtx_setParameter(codec->in, ZSTD_c_compressionLevel, LEVEL)) &&
        !ZSTD_isError(ZSTD_CCtx_setParameter(codec->in, ZSTD_c_windowLog, WINDOW_LOG)) &&
        !ZSTD_isError(ZSTD_CCtx_setParameter(codec->in, ZSTD_c_checksumFlag, 0)))
        return codec;
    codec_close(codec);
    return NULL;
}

void codec_close(struct codec *codec)
{
    if (!codec) return;
    ZSTD_freeCCtx(codec->in);
    ZSTD_freeDCtx(codec->out);
    free(codec->plane);
    free(codec);
}

/* Where each plane's next byte goes, from the start of codec->plane. */
static void plane_starts(const struct codec *codec, const struct codec_map *map,
                         uint8_t *at[CODEC_PLANES])
{
    uint8_t *next = codec->plane;
    for (uint32_t p = 0; p < CODEC_PLANES; p++) {
        at[p] = next;
        next += map->plane_bytes[p];
    }
}

static void gather(const struct codec *codec, const struct codec_map *map, const uint8_t *image)
{
    uint8_t *at[CODEC_PLANES];

    plane_starts(codec, map, at);
    for (uint32_t i = 0; i < map->spans; i++) {
        const struct codec_span *s = &map->span[i];
        uint32_t count = s->bytes / s->width;
        if (s->width == 1) {
            memcpy(at[s->plane], image + s->off, count);
            at[s->plane] += count;
            continue;
        }
        for (uint32_t k = 0; k < s->width; k++) {
            const uint8_t *from = image + s->off + k;
            uint8_t *to = at[s->plane + k];
            for (uint32_t n = 0; n < count; n++) to[n] = from[(size_t)n * s->width];
            at[s->plane + k] += count;
        }
    }
}

static void scatter(const struct codec *codec, const struct codec_map *map, uint8_t *image)
{
    uint8_t *at[CODEC_PLANES];

    plane_starts(codec, map, at);
    for (uint32_t i = 0; i < map->spans; i++) {
        const struct codec_span *s = &map->span[i];
        uint32_t count = s->bytes / s->width;
        if (s->width == 1) {
            memcpy(image + s->off, at[s->plane], count);
            at[s->plane] += count;
            continue;
        }
        for (uint32_t k = 0; k < s->width; k++) {
            const uint8_t *from = at[s->plane + k];
            uint8_t *to = image + s->off + k;
            for (uint32_t n = 0; n < count; n++) to[(size_t)n * s->width] = from[n];
            at[s->plane + k] += count;
        }
    }
}

uint32_t codec_encode(struct codec *codec, const struct codec_map *map, const void *image,
                      void *out, uint32_t out_most, uint32_t stored[CODEC_PLANES])
{
    const uint8_t *plane = codec->plane;
    uint32_t used = 0;

    must(map->image_bytes <= codec->image_most);
    memset(stored, 0, CODEC_PLANES * sizeof *stored);
    gather(codec, map, image);
    for (uint32_t p = 0; p < map->planes; p++) {
        uint32_t bytes = map->plane_bytes[p], room = out_most - used;
        size_t got = ZSTD_compress2(codec->in, (uint8_t *)out + used, room, plane, bytes);
        if (ZSTD_isError(got) || got >= bytes) {  // no room, or no gain
            if (bytes >= room) return 0;
            memcpy((uint8_t *)out + used, plane, bytes);
            got = bytes;
        }
        stored[p] = (uint32_t)got;
        used += (uint32_t)got;
        plane += bytes;
    }
    return used < out_most ? used : 0;
}

bool codec_decode(struct codec *codec, const struct codec_map *map,
                  const uint32_t stored[CODEC_PLANES], const void *in, uint32_t in_bytes,
                  void *image)
{
    const uint8_t *from = in;
    uint8_t *plane = codec->plane;
    uint64_t sum = 0;

    must(map->image_bytes <= codec->image_most);
    for (uint32_t p = 0; p < CODEC_PLANES; p++) {
        if (stored[p] > map->plane_bytes[p]) return false;
        sum += stored[p];
    }
    if (sum != in_bytes) return false;
    for (uint32_t p = 0; p < map->planes; p++) {
        uint32_t bytes = map->plane_bytes[p];
        if (stored[p] == bytes) memcpy(plane, from, bytes);
        else if (ZSTD_decompressDCtx(codec->out, plane, bytes, from, stored[p]) != bytes)
            return false;
        from += stored[p];
        plane += bytes;
    }
    scatter(codec, map, image);
    return true;
}

bool codec_gauge_wants(struct codec_gauge *gauge)
{
    if (gauge->rest) {
        gauge->rest--;
        return false;
    }
    gauge->seen++;
    return gauge->tried >= SAMPLE_ENOUGH ? true : gauge->seen % SAMPLE == 1;
}

void codec_gauge_saw(struct codec_gauge *gauge, uint32_t image_bytes, uint32_t stored_bytes)
{
    double saved = stored_bytes ? 1.0 - (double)stored_bytes / (double)image_bytes : 0.0;

    gauge->saving = gauge->tried ? gauge->saving + (saved - gauge->saving) / 8 : saved;
    gauge->tried++;
    if (gauge->tried >= SAMPLE_ENOUGH && gauge->saving < WORTH)
        *gauge = (struct codec_gauge){ .rest = REST };
}
