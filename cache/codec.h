/* codec.h - makes the image of a block smaller without losing a bit; zstd's one door.
 *
 * KV bytes look like noise until the same byte of every number lies together. So the caller says what
 * an image is made of (spans of numbers of one width), the bytes of each kind are gathered into a
 * plane, and each plane is stored by zstd's fastest level or, where that saves nothing, as it is:
 *
 *     image  [rows of FP8][rope, 2 B each][scales]...    one span each, again for every layer
 *     planes  0: all FP8   1: low bytes, 2: high bytes of all rope   3: all scales
 *     stored [plane 0][plane 1][plane 2][plane 3]
 *
 * Thread: a struct codec belongs to one thread at a time; a map is read by many.
 */
#ifndef CACHE_CODEC_H
#define CACHE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "config/status.h"

#define CODEC_PLANES 8

struct codec_span {
    uint32_t off, bytes;  // within the image; spans cover it in order, without gaps
    uint8_t width;        // bytes of a number, 1, 2, 4 or 8: its byte k goes to plane + k
    uint8_t plane;
};

struct codec_map {
    struct codec_span *span;  // [spans]; owned
    uint32_t spans;
    uint32_t image_bytes;
    uint32_t planes;
    uint32_t plane_bytes[CODEC_PLANES];
};

/* Copies the spans. NO_MEMORY leaves nothing to release. */
CHECKED enum status codec_map_init(struct codec_map *map, const struct codec_span *span,
                                   uint32_t spans);
void codec_map_release(struct codec_map *map);

struct codec;

/* image_most: bytes of the largest image. NULL: no memory. */
struct codec *codec_open(uint32_t image_most);
void codec_close(struct codec *codec);

/* Stores the image at out in fewer than out_most bytes and fills stored[planes]. Returns the bytes,
 * or 0 when it would take out_most or more. */
uint32_t codec_encode(struct codec *codec, const struct codec_map *map, const void *image,
                      void *out, uint32_t out_most, uint32_t stored[CODEC_PLANES]);

/* The way back. `in` and `image` may be the same memory. False: these bytes are no encoding by this
 * map; then image holds anything. */
CHECKED bool codec_decode(struct codec *codec, const struct codec_map *map,
                          const uint32_t stored[CODEC_PLANES], const void *in, uint32_t in_bytes,
                          void *image);

/* Whether trying pays: one image in 32 is tried, and every one while the mean saving is 8 % or more;
 * below it nothing is tried for 1,024 images, then it is measured anew. */
struct codec_gauge {
    double saving;   // 0..1, a running mean
    uint32_t tried;  // images since it began to measure
    uint32_t seen;   // images
    uint32_t rest;   // images left to store as they are
};

bool codec_gauge_wants(struct codec_gauge *gauge);                     // asked once an image
void codec_gauge_saw(struct codec_gauge *gauge, uint32_t image_bytes,  // and told what came of it;
                     uint32_t stored_bytes);                           // stored_bytes 0: no gain

#endif
