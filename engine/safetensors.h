/* safetensors.h - a set of safetensors files, mapped read-only, in which a tensor is found by name.
 *
 * A checkpoint directory is read through its model.safetensors.index.json; without one, the single
 * file model.safetensors serves. A file by itself (goldens) works the same way.
 * Whoever shortens a file while it is mapped kills the process; the checks hold for what was there
 * when it was opened. Thread: opened and closed by one; constant in between.
 */
#ifndef ENGINE_SAFETENSORS_H
#define ENGINE_SAFETENSORS_H

#include "engine/safetensors_header.h"

struct st_file {
    char *path;          // owned, as sentences print it
    const char *name;    // its last part, as the index spells it
    struct slice bytes;  // the mapping
};

struct st_set {
    struct st_file *file;  // [files]
    uint32_t files;
    struct st_tensor *tensor;  // [tensors]; those of one file stand together, in its order
    uint32_t tensors;
    uint32_t *bucket;       // [buckets] tensor number + 1 by hash of the name; 0 is free
    uint32_t buckets;       // a power of two
    uint64_t tensor_bytes;  // of all tensors
    struct arena arena;     // names that the files escape
};

/* Opens one file. BAD_INPUT, IO_FAILED or NO_MEMORY with a sentence leaves nothing open. */
CHECKED enum status st_open_file(const char *path, struct st_set *set, struct err *err);

/* Opens every file that the index names, and checks that index and files agree on where each tensor
 * is. Outcomes as above. */
CHECKED enum status st_open_dir(const char *dir, struct st_set *set, struct err *err);

void st_close(struct st_set *set);

/* The tensor of this name, or NULL. */
const struct st_tensor *st_find(const struct st_set *set, struct slice name);

static inline const void *st_data(const struct st_set *set, const struct st_tensor *tensor)
{
    return set->file[tensor->file].bytes.data + tensor->begin;
}

static inline const char *st_path(const struct st_set *set, const struct st_tensor *tensor)
{
    return set->file[tensor->file].path;
}

#endif
