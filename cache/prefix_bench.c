/* prefix_bench.c - what the index costs: time of its calls, memory a block.
 *
 *     build/cache/prefix_bench [BLOCKS]     blocks in the index while it is timed; 1,000,000
 *
 * What its policies hit, `fathom-bench cache TRACE...` tells.
 */
#include "cache/prefix_tree.h"
#include "config/clock.h"

enum { PROMPT = 100000, PATH = PROMPT / KV_BLOCK_TOKENS + 1, ROUNDS = 50 };

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
    return 0;
}
