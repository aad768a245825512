/* depot_bench.c - how long a long prefix takes to leave the device and to come back: from the host, and
 * from the disk after a restart, through everything that lies between.
 *
 *     depot_bench [blocks [directory]]     782 blocks are 100,000 tokens
 */
#include <ftw.h>
#include <string.h>
#include <unistd.h>
#include "cache/kv_layout.h"
#include "config/clock.h"
#include "config/log.h"
#include "engine/depot.h"
#include "kernels/ops.h"

struct bench {
    char dir[128];
    uint32_t blocks;
    struct dev *dev;
    struct kv_layout layout;
    struct prefix_tree tree;
    struct tiers tiers;
    struct depot depot;
    struct depot_options options;
    struct kv_pool pool[KV_OBJECTS][KV_TIERS];
    struct prefix_ref *path;
    uint64_t *step_ns;  // [STEPS_MOST] of the phase
    uint32_t steps;
};

enum { STEPS_MOST = 1 << 20 };

static uint32_t tenant_of(void *user, const uint8_t tag[RECORD_TAG])
{
    (void)user;
    return tag[0];
}

static void tag_of(void *user, uint32_t tenant, uint8_t tag[RECORD_TAG])
{
    (void)user;
    memset(tag, (int)tenant, RECORD_TAG);
}

static void freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    struct bench *bench = user;
    depot_freed(&bench->depot, object, tier, slot);
}

static void make_layout(struct kv_layout *layout)
{
    uint32_t ratio[43] = { 0 };  // V4-Flash
    for (uint32_t l = 2; l < 43; l++) ratio[l] = l % 2 ? 128 : 4;
    struct kv_geometry geometry = { .ratio = ratio,
                                    .layers = 43,
                                    .entry_dim = 512,
                                    .index_dim = 128,
                                    .entry_bytes = ENTRY_BYTES_OFFICIAL,
                                    .index_bytes = INDEX_BYTES_OFFICIAL };
    must(kv_layout_init(layout, &geometry) == OK);
}

static void start(struct bench *bench)
{
    struct err err;
    memset(bench->pool, 0, sizeof bench->pool);
    must(kv_pool_init(&bench->pool[KV_G][KV_DEVICE], bench->blocks) == OK);
    must(kv_pool_init(&bench->pool[KV_W][KV_DEVICE], 2) == OK);
    struct prefix_options tree = { .nodes = bench->blocks + depot_blocks(&bench->options),
                                   .tenants = 1,
                                   .ends_kept = 2,
                                   .user = bench,
                                   .freed = freed };
    must(prefix_tree_init(&bench->tree, &tree) == OK);
    enum status status = depot_init(&bench->depot, &bench->options, &err);
    if (status != OK) fprintf(stderr, "%s\n", err.text);
    must(status == OK && bench->depot.disk);
}

static void stop(struct bench *bench)
{
    depot_close(&bench->depot, 60000);
    depot_release(&bench->depot);
    prefix_tree_release(&bench->tree);
    for (int object = 0; object < KV_OBJECTS; object++)
        kv_pool_release(&bench->pool[object][KV_DEVICE]);
}

static struct prefix_key key_of(uint32_t block)
{
    return (struct prefix_key){ { (uint8_t)block, (uint8_t)(block >> 8), 1 } };
}

static void step(struct bench *bench)
{
    uint64_t start_ns = now_ns();
    depot_step(&bench->depot, (struct depot_turn){ .idle = false });
    if (bench->steps < STEPS_MOST) bench->step_ns[bench->steps++] = now_ns() - start_ns;
}

/* As a prompt does that has just been computed. */
static void seal(struct bench *bench)
{
    struct prefix_ref before = PREFIX_ROOT;
    uint32_t slot;
    for (uint32_t i = 0; i < bench->blocks; i++) {
        must(kv_pool_take(&bench->pool[KV_G][KV_DEVICE], 1, &slot) == OK);
        struct prefix_add add = { .before = before, .key = key_of(i), .slot = slot };
        must(prefix_tree_add(&bench->tree, &add, &bench->path[i], NULL) == PREFIX_ADOPTED);
        before = bench->path[i];
        depot_sealed(&bench->depot, before, KV_G);
    }
    must(kv_pool_take(&bench->pool[KV_W][KV_DEVICE], 1, &slot) == OK);
    struct prefix_keep keep = { .ref = before, .w_class = W_END, .slot = slot };
    must(prefix_tree_keep(&bench->tree, &keep, NULL) == PREFIX_ADOPTED);
    depot_sealed(&bench->depot, before, KV_W);
}

static void find(struct bench *bench)
{
    struct prefix_ref before = PREFIX_ROOT;
    for (uint32_t i = 0; i < bench->blocks; i++) {
        struct prefix_key key = key_of(i);
        before = bench->path[i] = prefix_tree_find(&bench->tree, before, &key);
        must(!prefix_is_none(before));
    }
}

static void load(struct bench *bench)
{
    struct resume_plan plan = { .mode = RESUME_RESTORE };
    struct tiers_load one;
    enum load_state state;
    plan.known = plan.from = bench->blocks;
    must(tiers_load_begin(&bench->tiers, &one, bench->path, &plan, 0) == OK);
    while ((state = tiers_load_poll(&bench->tiers, &one)) == LOAD_WAIT) step(bench);
    must(state == LOAD_READY);
    tiers_load_end(&bench->tiers, &one);
}

static uint64_t image_bytes(const struct bench *bench)
{
    return bench->blocks * (uint64_t)bench->layout.g_bytes + bench->layout.w_image_bytes;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print(struct bench *bench, const char *what, uint64_t since_ns)
{
    double seconds = (double)(now_ns() - since_ns) / 1e9, bytes = (double)image_bytes(bench);
    printf("%-28s %8.2f ms  %6.2f GB/s", what, seconds * 1e3, bytes / seconds / 1e9);
    if (bench->steps) {
        qsort(bench->step_ns, bench->steps, sizeof *bench->step_ns, by_size);
        printf("   %6u steps, 99 %% of them within %.0f us, the longest %.0f", bench->steps,
               (double)bench->step_ns[(uint64_t)bench->steps * 99 / 100] / 1e3,
               (double)bench->step_ns[bench->steps - 1] / 1e3);
    }
    printf("\n");
    bench->steps = 0;
}

static int remove_one(const char *path, const struct stat *s, int flag, struct FTW *ftw)
{
    (void)s, (void)flag, (void)ftw;
    return remove(path);
}

static void set_up(struct bench *bench, int argc, char **argv)
{
    struct dev_options dev = { .numerics = NUMERICS_OFFICIAL };
    struct err err;
    log_set_level(OPT_LOG_LEVEL_WARN);
    bench->blocks = argc > 1 ? (uint32_t)atoi(argv[1]) : 782;
    snprintf(bench->dir, sizeof bench->dir, "%s/fathom-depot-XXXXXX", argc > 2 ? argv[2] : "/tmp");
    must(bench->blocks && mkdtemp(bench->dir));
    must(backend_open("auto", &dev, &bench->dev, &err) == OK);
    make_layout(&bench->layout);
    bench->path = calloc(bench->blocks, sizeof *bench->path);
    bench->step_ns = calloc(STEPS_MOST, sizeof *bench->step_ns);
    must(bench->path && bench->step_ns);
    uint64_t bytes = image_bytes(bench);
    bench->options = (struct depot_options){
        .dev = bench->dev,
        .tree = &bench->tree,
        .tiers = &bench->tiers,
        .pool = bench->pool,
        .stride = { bench->layout.g_bytes, bench->layout.w_bytes },
        .image_bytes = { bench->layout.g_bytes, bench->layout.w_image_bytes },
        .host_bytes = bytes + bytes / 4 + (64u << 20),
        .disk = { .store = { .dir = bench->dir, .bytes = bytes * 2 + (1u << 30) },
                  .codec_threads = 4 },
        .limits = { .disk_after_s = 60, .one_shot_s = 60, .w_ttl_s = 900 },
        .user = bench,
        .tenant_of = tenant_of,
        .tag_of = tag_of,
    };
    for (int object = 0; object < KV_OBJECTS; object++) {
        size_t slots = object == KV_G ? bench->blocks : 2;
        size_t size = slots * bench->options.stride[object];
        bench->options.device[object] = bench->dev->ops->alloc(bench->dev, size);
        must(bench->options.device[object]);
    }
    printf("%s, %u blocks of %zu bytes and a window of %zu\n", bench->dev->ops->name, bench->blocks,
           bench->layout.g_bytes, bench->layout.w_image_bytes);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    set_up(&bench, argc, argv);
    start(&bench);
    seal(&bench);
    uint64_t since = now_ns();
    while (bench.depot.save[KV_G].count || bench.depot.save[KV_W].count || bench.tiers.in_flight)
        step(&bench);
    print(&bench, "device to host", since);

    for (int round = 0; round < 2; round++) {
        prefix_tree_flush(&bench.tree, KV_DEVICE);
        since = now_ns();
        load(&bench);
        print(&bench, "host to device", since);
    }
    since = now_ns();
    stop(&bench);
    print(&bench, "host to disk, and closed", since);
    for (int round = 0; round < 2; round++) {
        since = now_ns();
        start(&bench);
        printf("%-28s %8.2f ms\n", "opened", (double)(now_ns() - since) / 1e6);
        find(&bench);
        since = now_ns();
        load(&bench);
        print(&bench, "disk to device", since);
        stop(&bench);
        bench.steps = 0;
    }
    nftw(bench.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    bench.dev->ops->close(bench.dev);
    return 0;
}
