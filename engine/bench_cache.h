/* bench_cache.h - what `fathom-bench cache` measures: policies on published traces, the store beside
 * fio, and a running daemon. Thread: the caller's.
 */
#ifndef ENGINE_BENCH_CACHE_H
#define ENGINE_BENCH_CACHE_H

#include "config/status.h"
#include <stdint.h>

enum { BENCH_PROMPTS = 8 };

struct bench_cache_options {
    char **trace;  // [traces] files
    uint32_t traces;
    const char *store;   // directory whose disk is measured; NULL: none is
    const char *server;  // URL of a running daemon; NULL: none
    const char *daemon;  // command that starts one, which is restarted too; NULL: none
    uint32_t prompt[BENCH_PROMPTS], prompts;  // tokens
    uint32_t vocab;                           // ids of prompts are below it
    uint32_t requests;                        // of a trace, at most
    uint32_t longest;  // tokens that the longest prompt of a trace is scaled to
    uint64_t bytes;    // that each turn of the store moves
    uint32_t rounds;
    uint32_t image_bytes;  // of a G
    uint32_t slots;        // of memory that the blocks go through
    uint32_t codec_threads;
};

/* The whole verb: its own arguments, argv[0] is "cache". The exit status. */
int bench_cache(int argc, char **argv);

/* Policies on traces; the store beside fio; a daemon. Each prints as it goes. */
CHECKED enum status bench_cache_traces(const struct bench_cache_options *options, struct err *err);
CHECKED enum status bench_cache_store(const struct bench_cache_options *options, struct err *err);
CHECKED enum status bench_cache_server(const struct bench_cache_options *options, struct err *err);

#endif
