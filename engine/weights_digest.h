/* weights_digest.h - which weights these are: a digest of a checkpoint's files by their content.
 *
 *   file    SHA-256 of the SHA-256 of each 4 MiB, so that all cores share one file
 *   model   SHA-256 of (name, size, digest) of config.json, the index and every shard, by name
 *
 * Content is read once and remembered, as text, in a file of the caller's (private_file.h):
 *
 *   fathom weights 1 SUM                        XXH3 of all that follows
 *   model DIGEST                                the latest, newest first
 *   file DIGEST SIZE MTIME CTIME INODE NAME     bytes and ns; those of other models stay
 *
 * A file whose size, times or inode differ is read again, and so is one changed within a tenth of a
 * second before it was read, since a clock's tick may hide a second change. A damaged memory is
 * none.
 *
 * A core does 1.0 GB/s from the page cache (Xeon with SHA instructions, weights_digest_test; the sum
 * alone 1.3), so that from some 8 cores on disks bound it: 160 GB at 6 GB/s are half a minute, once.
 * Thread: any; those it starts have ended when it returns.
 */
#ifndef ENGINE_WEIGHTS_DIGEST_H
#define ENGINE_WEIGHTS_DIGEST_H

#include "config/private_file.h"
#include "config/sha256.h"

struct weights_digest_options {
    const char *model;    // checkpoint directory
    bool random_weights;  // then config.json and the seed are the model
    uint64_t random_seed;
    const struct private_file *memory;
    uint32_t threads;                                              // 0: one a core
    void (*progress)(void *user, uint64_t bytes, uint64_t total);  // may be NULL
    void *user;
};

struct weights_digest_cost {
    uint32_t files;
    uint64_t bytes, hashed_bytes;  // of all files; of those that had to be read
};

/* BAD_INPUT, IO_FAILED, NO_MEMORY with a sentence. A memory that cannot be written costs a line in
 * the log and the next start its time; one that is not ours alone is BAD_INPUT. */
CHECKED enum status weights_digest(const struct weights_digest_options *options,
                                   uint8_t digest[SHA256_BYTES], struct weights_digest_cost *cost,
                                   struct err *err);

#define WEIGHTS_MODELS_MOST 16u

/* Digests of the models that the memory knows, newest first; returns how many. */
uint32_t weights_digest_known(const struct private_file *file,
                              uint8_t model[WEIGHTS_MODELS_MOST][SHA256_BYTES]);

#endif
