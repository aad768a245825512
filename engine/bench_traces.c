/* bench_traces.c - what the index and its policies hit on published traces, at several sizes.
 *
 * Sizes are those of Flash. A trace of whole-prefix ids tells about room: its blocks are of 512
 * tokens, and a prefix is of use wherever it ends. Agent sessions tell about windows: each session
 * has the cache to itself, with room for all of it.
 */
#include <stdbool.h>
#include <string.h>
#include "cache/prefix_key.h"
#include "cache/replay.h"
#include "engine/bench_cache.h"

#define G_BYTES 492832.0   // of a block of 128 tokens
#define G_STORED 495616.0  // as a record on disk
#define W_BYTES 3644416.0
#define SEGMENT_BYTES (128.0 * (1 << 20))

enum { PLAIN = REPLAY_NO_WINDOWS | REPLAY_WHOLE_IDS };
enum { OUTPUTS = REPLAY_OUTPUT_KNOWN, ENDS = REPLAY_PROMPT_END | REPLAY_OUTPUT_END | OUTPUTS };

static const double GIGABYTES[] = { 5, 20, 50, 100, 200 };
#define SIZES (sizeof GIGABYTES / sizeof *GIGABYTES)

static bool is_sessions(const char *path)
{
    size_t size = strlen(path);
    return size < 6 || strcmp(path + size - 6, ".jsonl") != 0;
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100 * (double)part / (double)whole : 0;
}

/* ---- room ----------------------------------------------------------------------------------- */

struct room {
    const struct trace *trace;
    double block_bytes;  // of as many tokens as an id stands for
    double block_stored;
};

static uint32_t blocks_of(const struct room *room, double gigabytes)
{
    return (uint32_t)(gigabytes * 1e9 / room->block_bytes);
}

/* How much there is of each, in gigabytes, 0 for all of it or none. */
struct sizes {
    double host, disk;
    uint32_t disk_after_s;
};

static enum status run(const struct room *room, uint32_t kinds, const struct sizes *sizes,
                       struct replay_result *result)
{
    struct replay_options options = {
        .kinds = kinds,
        .blocks = blocks_of(room, sizes->host),
        .disk_blocks = blocks_of(room, sizes->disk),
        .one_shot_s = sizes->disk_after_s,
        .segment_blocks = (uint32_t)(SEGMENT_BYTES / room->block_stored),
        .forward_percent = 75,
    };
    *result = (struct replay_result){ 0 };
    return replay_trace(room->trace, 0, &options, result);
}

static void print_disk(const struct room *room, const struct replay_result *r)
{
    double written = (double)r->disk_writes * room->block_stored / 1e9;
    double again = (double)r->disk_forwards * room->block_stored / 1e9;
    printf(" %8.1f %8.2f", written + again, written > 0 ? (written + again) / written : 0);
}

static enum status print_alone(const struct room *room, double gigabytes)
{
    struct replay_result host, disk;
    enum status status = run(room, PLAIN, &(struct sizes){ .host = gigabytes }, &host);
    if (status == OK)
        status = run(room, PLAIN | REPLAY_NO_HOST, &(struct sizes){ .disk = gigabytes }, &disk);
    if (status != OK) return status;
    printf("%6.0f GB  %7.2f %% %9.1f  | %7.2f %%", gigabytes,
           percent(host.hit_tokens, host.input_tokens),
           (double)host.evicted * room->block_bytes / 1e9,
           percent(disk.hit_tokens, disk.input_tokens));
    print_disk(room, &disk);
    printf("\n");
    return OK;
}

static enum status print_both(const struct room *room, const struct sizes *sizes)
{
    struct replay_result r;
    char after[32] = "all";
    enum status status = run(room, PLAIN, sizes, &r);
    if (status != OK) return status;
    if (sizes->disk_after_s < UINT32_MAX)
        snprintf(after, sizeof after, "after %u s", sizes->disk_after_s);
    printf("%4.0f + %4.0f GB  %-14s %7.2f %% %7.2f %% %7.2f %%", sizes->host, sizes->disk, after,
           percent(r.hit_tokens, r.input_tokens),
           percent(r.hit_tokens - r.disk_hit_tokens, r.input_tokens),
           percent(r.disk_hit_tokens, r.input_tokens));
    print_disk(room, &r);
    printf("\n");
    return OK;
}

static enum status print_written(const struct room *room, double disk)
{
    static const uint32_t after_s[] = { UINT32_MAX, 600, 60 };
    enum status status = OK;
    for (size_t i = 0; i < sizeof after_s / sizeof *after_s && status == OK; i++)
        status = print_both(room, &(struct sizes){ 20, disk, after_s[i] });
    return status;
}

static enum status room_tables(const struct trace *trace, const char *path)
{
    double each = (double)trace->id_tokens / KV_BLOCK_TOKENS;
    struct room room = { trace, each * G_BYTES, each * G_STORED };
    struct replay_result all;
    enum status status = run(&room, PLAIN, &(struct sizes){ 0 }, &all);
    if (status != OK) return status;
    printf("%s: %lu requests, %lu input tokens\n", path, (unsigned long)all.requests,
           (unsigned long)all.input_tokens);
    printf("room for all of its %.1f GB: %lu tokens hit, %.4f %%\n",
           (double)all.blocks * room.block_bytes / 1e9, (unsigned long)all.hit_tokens,
           percent(all.hit_tokens, all.input_tokens));
    printf("%9s  %9s %9s  | %9s %8s %8s\n", "room", "host, hit", "evict GB", "disk, hit",
           "write GB", "amplif.");
    for (size_t i = 0; i < SIZES && status == OK; i++) status = print_alone(&room, GIGABYTES[i]);
    printf("%14s %-14s %9s %9s %9s %8s %8s\n", "host + disk", "disk-after", "hit", "of host",
           "of disk", "write GB", "amplif.");
    for (size_t i = 1; i < SIZES && status == OK; i++) status = print_written(&room, GIGABYTES[i]);
    printf("\n");
    return status;
}

/* ---- windows -------------------------------------------------------------------------------- */

struct window_row {
    const char *name;
    struct replay_options options;
};

static const struct window_row WINDOW[] = {
    { "everywhere, inputs alone", { .kinds = REPLAY_NO_WINDOWS } },
    { "everywhere", { .kinds = OUTPUTS | REPLAY_NO_WINDOWS } },
    { "each 8,192", { .kinds = OUTPUTS, .interval_tokens = 8192 } },
    { "each 2,048", { .kinds = OUTPUTS, .interval_tokens = 2048 } },
    { "prompt end", { .kinds = OUTPUTS | REPLAY_PROMPT_END } },
    { "prompt and output end", { .kinds = ENDS } },
    { "  and branches", { .kinds = ENDS | REPLAY_BRANCH } },
    { "  and each 32,768", { .kinds = ENDS | REPLAY_BRANCH, .interval_tokens = 32768 } },
    { "prompt and output end, each 8,192", { .kinds = ENDS, .interval_tokens = 8192 } },
    { "ends and branches, newest 1", { .kinds = ENDS | REPLAY_BRANCH, .ends_kept = 1 } },
    { "ends and branches, newest 2", { .kinds = ENDS | REPLAY_BRANCH, .ends_kept = 2 } },
    { "ends and branches, newest 4", { .kinds = ENDS | REPLAY_BRANCH, .ends_kept = 4 } },
    { "  newest 2, each 32,768",
      { .kinds = ENDS | REPLAY_BRANCH, .ends_kept = 2, .interval_tokens = 32768 } },
};
#define WINDOWS (sizeof WINDOW / sizeof *WINDOW)

static void print_windows(const struct window_row *row, const struct replay_result *r)
{
    double w_of_g = W_BYTES / G_BYTES / (double)r->blocks;
    printf("%-36s %10lu %7.2f %% %6.2f %9.0f %8.2f %9.3f %8.3f\n", row->name,
           (unsigned long)r->hit_tokens, percent(r->hit_tokens, r->input_tokens),
           percent(r->known_tokens - r->hit_tokens, r->input_tokens),
           (double)(r->known_tokens - r->hit_tokens) / (double)r->requests,
           (double)r->windows / (double)r->requests, (double)r->windows * w_of_g,
           (double)r->windows_last * w_of_g);
}

static void window_table(const struct replay_result result[WINDOWS], uint32_t sessions)
{
    printf("%u sessions, %lu requests, %lu input tokens; room for all G\n", sessions,
           (unsigned long)result[0].requests, (unsigned long)result[0].input_tokens);
    printf("%-36s %10s %9s %6s %9s %8s %9s %8s\n", "windows", "hit", "", "lost", "recompute",
           "W a req", "W/G kept", "W/G last");
    for (size_t i = 0; i < WINDOWS; i++) print_windows(&WINDOW[i], &result[i]);
    printf("lost: points below windows everywhere; recompute: tokens a request\n");
}

/* ---- files ---------------------------------------------------------------------------------- */

enum status bench_cache_traces(const struct bench_cache_options *options, struct err *err)
{
    struct replay_result window[WINDOWS] = { 0 };
    uint32_t sessions = 0;
    enum status status = OK;
    for (uint32_t i = 0; i < options->traces && status == OK; i++) {
        struct trace trace;
        status = trace_read(&trace, options->trace[i], err);
        if (status != OK) break;
        if (is_sessions(options->trace[i])) {
            for (size_t w = 0; w < WINDOWS && status == OK; w++)
                status = replay_trace(&trace, i, &WINDOW[w].options, &window[w]);
            sessions++;
        } else {
            status = room_tables(&trace, options->trace[i]);
        }
        if (status != OK) (void)fail(err, status, "%s: no memory", options->trace[i]);
        trace_release(&trace);
    }
    if (status == OK && sessions) window_table(window, sessions);
    return status;
}
