/* model_writer.h - writes a checkpoint of any shape in the release's form: config.json, shards, index.
 *
 * Sparse, for `fathomd plan` and its tests: headers and sizes are the real ones and the data is a
 * hole, so 865 GB take some 20 MB of disk. Or with random weights, for tests that run a model.
 * One logical unit a file, as the releases have it: embed; each layer; norm, head and their streams;
 * each drafter block. Within a file: I64, F32, BF16, F8_E8M0, F8_E4M3, I8, each by name.
 */
#ifndef ENGINE_MODEL_WRITER_H
#define ENGINE_MODEL_WRITER_H

#include "config/buf.h"
#include "engine/shape.h"

struct model_writer_options {
    const char *dir;  // exists
    const struct shape *shape;
    bool random;  // else sparse
    uint64_t seed;
};

struct model_written {
    uint32_t tensors, files;
    uint64_t tensor_bytes;
};

/* IO_FAILED or NO_MEMORY with a sentence; what was written so far stays. */
CHECKED enum status model_write(const struct model_writer_options *options,
                                struct model_written *written, struct err *err);

/* The config.json of a shape. */
void model_config(const struct shape *shape, struct buf *out);

/* The shape of a release by name: flash, pro, flash-base, pro-base, flash-0731, pro-0813. False:
 * there is none of this name. */
bool shape_of_release(const char *name, struct shape *shape);

#endif
