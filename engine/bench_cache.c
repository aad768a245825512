/* bench_cache.c - `fathom-bench cache`: its arguments, and which measurement they ask for. */
#include "engine/bench_cache.h"
#include <getopt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: fathom-bench cache TRACE...\n"
    "       fathom-bench cache --store DIR [--gigabytes N] [--rounds N] [--image BYTES]\n"
    "                    [--slots N] [--codec-threads N]\n"
    "       fathom-bench cache --server URL | --daemon COMMAND [--prompts N,...] [--rounds N]\n"
    "                    [--vocab N] [TRACE... [--requests N] [--longest N]]\n"
    "  TRACE    NAME.jsonl (Mooncake) or NAME.json (agent sessions): what the index alone hits\n"
    "           on them, or what a daemon does\n"
    "  DIR      on the disk to be measured: the store beside fio\n"
    "  URL      of a running daemon: the first token by where the prefix came from\n"
    "  COMMAND  starts one, so that it can be restarted: \"fathomd serve --listen ...\"\n";

static bool read_number(const char *text, uint32_t least, uint32_t *value)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    *value = (uint32_t)number;
    return end != text && !*end && number >= least && number <= 1u << 30;
}

static bool read_prompts(const char *text, struct bench_cache_options *o)
{
    char copy[128], *rest = copy;
    if (strlen(text) >= sizeof copy) return false;
    memcpy(copy, text, strlen(text) + 1);
    o->prompts = 0;
    for (char *item; (item = strsep(&rest, ","));)
        if (o->prompts == BENCH_PROMPTS || !read_number(item, 1, &o->prompt[o->prompts++]))
            return false;
    return true;
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
    case 'd':
        o->daemon = text;
        return true;
    case 'p':
        return read_prompts(text, o);
    case 'v':
        return read_number(text, 512, &o->vocab);
    case 'q':
        return read_number(text, 1, &o->requests);
    case 'l':
        return read_number(text, 1, &o->longest);
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
        { "daemon", required_argument, NULL, 'd' },
        { "prompts", required_argument, NULL, 'p' },
        { "vocab", required_argument, NULL, 'v' },
        { "requests", required_argument, NULL, 'q' },
        { "longest", required_argument, NULL, 'l' },
        { "slots", required_argument, NULL, 'n' },
        { 0 },
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (!read_option(o, option, optarg)) return false;
    o->trace = argv + optind;
    o->traces = (uint32_t)(argc - optind);
    return o->traces || o->store || o->server || o->daemon;
}

int bench_cache(int argc, char **argv)
{
    struct bench_cache_options options = {
        .bytes = 2ull << 30,
        .rounds = 5,
        .image_bytes = 492832,
        .slots = 24,
        .codec_threads = 1,
        .prompt = { 1000, 4000 },
        .prompts = 2,
        .vocab = 2048,
        .requests = 200,
        .longest = 8192,
    };
    struct err err = { "" };
    if (!read_arguments(&options, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    enum status status = OK;
    bool has_daemon = options.server || options.daemon;
    if (options.traces && !has_daemon) status = bench_cache_traces(&options, &err);
    if (status == OK && options.store) status = bench_cache_store(&options, &err);
    if (status == OK && has_daemon) status = bench_cache_server(&options, &err);
    if (status == OK) return 0;
    fprintf(stderr, "fathom-bench: %s\n", err.text);
    return 1;
}
