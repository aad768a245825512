/* bench_cache.c - `fathom-bench cache`: its arguments, and which measurement they ask for. */
#include "engine/bench_cache.h"
#include <getopt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: fathom-bench cache TRACE...\n"
    "       fathom-bench cache --store DIR [--gigabytes N] [--rounds N] [--image BYTES] "
    "[--slots N] [--codec-threads N]\n"
    "  TRACE  NAME.jsonl (Mooncake) or NAME.json (agent sessions): what the index hits on them\n"
    "  DIR    on the disk to be measured: the store beside fio\n";

static bool read_number(const char *text, uint32_t least, uint32_t *value)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    *value = (uint32_t)number;
    return end != text && !*end && number >= least && number <= 1u << 30;
}

static bool read_option(struct bench_cache_options *o, int option, const char *text)
{
    uint32_t number = 0;
    switch (option) {
    case 's':
        o->store = text;
        return true;
    case 'u':
        o->server = text;
        return true;
    case 'r':
        return read_number(text, 1, &o->rounds);
    case 'i':
        return read_number(text, 1, &o->image_bytes);
    case 'n':
        return read_number(text, 1, &o->slots);
    case 'c':
        return read_number(text, 0, &o->codec_threads);
    case 'g':
        if (!read_number(text, 1, &number)) return false;
        o->bytes = (uint64_t)number << 30;
        return true;
    default:
        return false;
    }
}

static bool read_arguments(struct bench_cache_options *o, int argc, char **argv)
{
    static const struct option options[] = {
        { "store", required_argument, NULL, 's' },
        { "server", required_argument, NULL, 'u' },
        { "rounds", required_argument, NULL, 'r' },
        { "image", required_argument, NULL, 'i' },
        { "gigabytes", required_argument, NULL, 'g' },
        { "codec-threads", required_argument, NULL, 'c' },
        { "slots", required_argument, NULL, 'n' },
        { 0 },
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (!read_option(o, option, optarg)) return false;
    o->trace = argv + optind;
    o->traces = (uint32_t)(argc - optind);
    return o->traces || o->store || o->server;
}

int bench_cache(int argc, char **argv)
{
    struct bench_cache_options options = {
        .bytes = 2ull << 30, .rounds = 5, .image_bytes = 492832, .slots = 24, .codec_threads = 1
    };
    struct err err = { "" };
    if (!read_arguments(&options, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    enum status status = OK;
    if (options.traces) status = bench_cache_traces(&options, &err);
    if (status == OK && options.store) status = bench_cache_store(&options, &err);
    if (status == OK) return 0;
    fprintf(stderr, "fathom-bench: %s\n", err.text);
    return 1;
}
