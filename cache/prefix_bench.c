/* prefix_bench.c - what the index costs, and what its policies hit on public traces.
 *
 *     build/cache/prefix_bench [BLOCKS]     blocks in the index while it is timed; 1,000,000
 *
 * The traces are looked for below FATHOM_SHARED or ../shared.
 */
#include <glob.h>
#include "cache/replay.h"
#include "cache/prefix_tree.h"
#include "config/clock.h"

enum { PROMPT = 100000, PATH = PROMPT / KV_BLOCK_TOKENS + 1, ROUNDS = 50 };
enum { OUTPUTS = REPLAY_OUTPUT_KNOWN, ENDS = REPLAY_PROMPT_END | REPLAY_OUTPUT_END | OUTPUTS };

static void ignore_freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    (void)user, (void)object, (void)tier, (void)slot;
}

/* ---- time and memory ------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print_times(const char *what, uint64_t *ns, uint32_t count, double each)
{
    qsort(ns, count, sizeof *ns, by_size);
    printf("%-44s %8.3f ms median %8.3f worst", what, (double)ns[count / 2] / 1e6,
           (double)ns[count - 1] / 1e6);
    printf("   %6.0f ns a block\n", (double)ns[count / 2] / each);
}

/* Prompts of 100,000 tokens until the tree is full; prompt p's tokens all start from p. */
static void fill_prompt(uint32_t *token, uint32_t prompt)
{
    for (uint32_t i = 0; i < PROMPT; i++) token[i] = prompt * 7919 + i;
}

static void add_prompt(struct prefix_tree *tree, const struct prefix_key *root,
                       const uint32_t *token, struct prefix_ref *path)
{
    struct prefix_key key = *root;
    for (uint32_t i = 0; i < PATH - 1; i++) {
        key = prefix_key_next(&key, SLICE(""), token + (size_t)i * KV_BLOCK_TOKENS);
        struct prefix_add add = {
            .before = i ? path[i - 1] : PREFIX_ROOT, .key = key, .tier = KV_HOST, .slot = tree->live
        };
        must(prefix_tree_add(tree, &add, &path[i], NULL) == PREFIX_ADOPTED);
    }
}

static enum status time_index(uint32_t blocks)
{
    struct prefix_tree tree;
    struct prefix_key root = { 0 };
    uint32_t *token = malloc(PROMPT * sizeof *token), prompts = blocks / (PATH - 1);
    static struct prefix_ref path[PATH];
    uint64_t add[ROUNDS], match[ROUNDS], touch[ROUNDS], evict[ROUNDS];
    struct prefix_options options = {
        .nodes = blocks, .tenants = 1, .ends_kept = 2, .freed = ignore_freed
    };
    if (!token || prefix_tree_init(&tree, &options) != OK) {
        free(token);
        return NO_MEMORY;
    }
    for (uint32_t p = 0; p < prompts; p++) {
        fill_prompt(token, p);
        uint64_t from = now_ns();
        add_prompt(&tree, &root, token, path);
        add[p % ROUNDS] = now_ns() - from;
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        fill_prompt(token, round * 7 % prompts);
        uint64_t from = now_ns();
        must(prefix_tree_match(&tree, &root, token, PROMPT, path) == PATH - 1);
        match[round] = now_ns() - from;
        from = now_ns();
        prefix_tree_touch(&tree, path, PATH - 1, true);
        touch[round] = now_ns() - from;
    }
    struct prefix_evict want = { .object = KV_G, .tier = KV_HOST };
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint64_t from = now_ns();
        must(prefix_tree_evict(&tree, &want, PATH - 1) == PATH - 1);
        evict[round] = now_ns() - from;
    }
    printf("index of %u blocks, prompts of %d tokens\n", prompts * (PATH - 1), PROMPT);
    print_times("match, keys hashed", match, ROUNDS, PATH - 1);
    print_times("touch", touch, ROUNDS, PATH - 1);
    print_times("add, keys hashed", add, prompts < ROUNDS ? prompts : ROUNDS, PATH - 1);
    print_times("evict as many", evict, ROUNDS, PATH - 1);
    printf("%-44s %8.1f bytes a block\n\n", "memory",
           (double)prefix_tree_bytes(&tree) / (double)blocks);
    prefix_tree_release(&tree);
    free(token);
    return OK;
}

/* ---- policies ------------------------------------------------------------------------------- */

/* The sum over the files of a pattern; false, having said so: there are none. */
static bool replay(const char *pattern, const struct replay_options *options,
                   struct replay_result *result)
{
    const char *shared = getenv("FATHOM_SHARED");
    char full[512];
    glob_t files;
    struct err err;
    *result = (struct replay_result){ 0 };
    snprintf(full, sizeof full, "%s/fixtures/traces/%s", shared ? shared : "../shared", pattern);
    if (glob(full, 0, NULL, &files) != 0) {
        printf("skipped: no %s\n", full);
        return false;
    }
    bool all = true;
    for (size_t i = 0; i < files.gl_pathc; i++) {
        struct trace trace;
        if (trace_read(&trace, files.gl_pathv[i], &err) != OK) {
            printf("%s\n", err.text);
            all = false;
            continue;
        }
        if (replay_trace(&trace, i, options, result) != OK) all = false;
        trace_release(&trace);
    }
    globfree(&files);
    return all;
}

/* A number, or a dash for one that nobody stated. */
static const char *stated_text(double stated, int digits, char text[16])
{
    snprintf(text, 16, "%.*f", digits, stated);
    return stated < 0 ? "-" : text;
}

/* stated: of the whole traces, of which these are the first halves. */
static void eviction_table(void)
{
    static const struct {
        const char *file;
        double gigabytes, stated;
    } row[] = {
        { "conversation_first6000", 5, -1 },     { "conversation_first6000", 20, 0.217 },
        { "conversation_first6000", 50, 0.316 }, { "conversation_first6000", 100, 0.357 },
        { "conversation_first6000", 200, -1 },   { "conversation_first6000", 0, 0.374 },
        { "synthetic_first2000", 5, -1 },        { "synthetic_first2000", 20, 0.449 },
        { "synthetic_first2000", 50, 0.632 },    { "synthetic_first2000", 100, -1 },
        { "synthetic_first2000", 200, -1 },      { "synthetic_first2000", 0, 0.651 },
    };
    printf("eviction: blocks of 512 tokens, Flash bytes; stated: cache.md 8.4, whole traces\n");
    printf("%-28s %8s %8s %8s %10s\n", "trace", "GB", "hit", "stated", "evicted");
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char file[128], text[16];
        struct replay_result result;
        struct replay_options options = { .kinds = REPLAY_NO_WINDOWS | REPLAY_WHOLE_IDS,
                                          .blocks =
                                              (uint32_t)(row[i].gigabytes * 1e9 / (4 * 492832)) };
        snprintf(file, sizeof file, "mooncake/%s.jsonl", row[i].file);
        if (!replay(file, &options, &result)) return;
        printf("%-28s %8.0f %8.4f %8s %10lu\n", row[i].file, row[i].gigabytes,
               (double)result.hit_tokens / (double)result.input_tokens,
               stated_text(row[i].stated, 3, text), (unsigned long)result.evicted);
    }
    printf("\n");
}

static void windows_table(void)
{
    static const struct {
        const char *name;
        struct replay_options options;
        double stated;  // points below windows everywhere
    } row[] = {
        { "everywhere, inputs alone", { .kinds = REPLAY_NO_WINDOWS }, 0 },
        { "everywhere", { .kinds = OUTPUTS | REPLAY_NO_WINDOWS }, 0 },
        { "each 8,192", { .kinds = OUTPUTS, .interval_tokens = 8192 }, 3.53 },
        { "each 2,048", { .kinds = OUTPUTS, .interval_tokens = 2048 }, 1.08 },
        { "prompt end", { .kinds = OUTPUTS | REPLAY_PROMPT_END }, 0.86 },
        { "prompt and output end", { .kinds = ENDS }, 0.60 },
        { "  and branches", { .kinds = ENDS | REPLAY_BRANCH }, 0.46 },
        { "  and each 32,768", { .kinds = ENDS | REPLAY_BRANCH, .interval_tokens = 32768 }, 0.21 },
        { "prompt and output end, each 8,192", { .kinds = ENDS, .interval_tokens = 8192 }, 0.16 },
        { "ends and branches, newest 1", { .kinds = ENDS | REPLAY_BRANCH, .ends_kept = 1 }, 0.95 },
        { "ends and branches, newest 2", { .kinds = ENDS | REPLAY_BRANCH, .ends_kept = 2 }, 0.32 },
        { "ends and branches, newest 4", { .kinds = ENDS | REPLAY_BRANCH, .ends_kept = 4 }, 0.31 },
        { "newest 2, each 32,768",
          { .kinds = ENDS | REPLAY_BRANCH, .ends_kept = 2, .interval_tokens = 32768 },
          -1 },
    };
    printf("windows: agent sessions, room for all G; lost: points below windows everywhere,\n");
    printf("stated by cache.md 6.3 of 177 and 89 sessions; bytes at Flash's sizes\n");
    printf("%-36s %8s %6s %6s %8s %9s %8s\n", "kept", "hit", "lost", "stated", "W a req",
           "W/G kept", "W/G last");
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char text[16];
        struct replay_result result;
        if (!replay("weka-agentic/*.json", &row[i].options, &result)) return;
        double hit = (double)result.hit_tokens / (double)result.input_tokens;
        double known = (double)result.known_tokens / (double)result.input_tokens;
        double w_of_g = 3644416.0 / 492832.0 / (double)result.blocks;
        printf("%-36s %8.4f %6.2f %6s %8.2f %9.3f %8.3f\n", row[i].name, hit, (known - hit) * 100,
               stated_text(row[i].stated, 2, text),
               (double)result.windows / (double)result.requests, (double)result.windows * w_of_g,
               (double)result.windows_last * w_of_g);
    }
}

int main(int argc, char **argv)
{
    uint32_t blocks = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
    if (blocks < (PATH - 1) * ROUNDS) {
        fprintf(stderr, "prefix_bench: BLOCKS: found %u, wanted %d or more\n", blocks,
                (PATH - 1) * ROUNDS);
        return 2;
    }
    if (time_index(blocks) != OK) {
        fprintf(stderr, "prefix_bench: no memory for %u blocks\n", blocks);
        return 1;
    }
    eviction_table();
    windows_table();
    return 0;
}
