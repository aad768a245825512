/* safetensors_header.h - reads the header of one safetensors file: a pure function over bytes.
 *
 *     0        8                    8 + N                            file size
 *     | N, u64 | N bytes of JSON    | tensor bytes, little endian     |
 *
 *     JSON: { "NAME": { "dtype": "BF16", "shape": [129280, 4096], "data_offsets": [begin, end] },
 *             "__metadata__": { "key": "string" } }   blanks may follow to pad it
 *
 * Offsets count from byte 8 + N. As the format's own reader does, we want the tensors to cover the
 * data without overlap, gap or rest. JSON goes through a reader of its own, because a release has
 * 145,116 tensors and `fathomd plan` looks at each.
 */
#ifndef ENGINE_SAFETENSORS_HEADER_H
#define ENGINE_SAFETENSORS_HEADER_H

#include "config/arena.h"
#include "kernels/dtype.h"

enum {
    ST_MOST_DIMS = 8,
    ST_MOST_HEADER = 100000000,  // bytes; the limit of the format's own reader
    ST_MOST_NAME = 256,          // bytes
};

struct st_tensor {
    struct slice name;
    struct slice type_name;  // as the file spells it
    enum dtype type;         // DT_COUNT: one that the model has no use for
    uint32_t dims;
    uint64_t shape[ST_MOST_DIMS];
    uint64_t begin, bytes;  // from the start of the file
    uint32_t file;          // of the set it belongs to; 0 here
};

struct st_header {
    struct st_tensor *tensor;  // [count]; in the order of the file; malloc'ed, the caller's to free
    uint32_t count;
};

/* `file` is its whole mapping, `path` serves the sentences. Names and type names point into the
 * mapping, or into the arena where the file escapes them. BAD_INPUT or NO_MEMORY leaves nothing to
 * free. */
CHECKED enum status st_header_read(const char *path, struct slice file, struct arena *arena,
                                   struct st_header *header, struct err *err);

/* "BF16 [129280, 4096]", for sentences. */
void st_describe(char text[160], struct slice type_name, const uint64_t *shape, uint32_t dims);

#endif
