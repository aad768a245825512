/* store_bench.c - how long a restart takes that finds a terabyte.
 *
 *     build/cache/store_bench [DIR [IMAGE_BYTES]]
 *
 * Segments without their records: heads and tables of contents of a terabyte, in some 500 MB of
 * sparse files. What the store moves a second, `fathom-bench cache --store` measures.
 */
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cache/store_parts.h"
#include "config/clock.h"
#include "config/hash.h"

static char dir[256];

static int remove_one(const char *path, const struct stat *s, int flag, struct FTW *ftw)
{
    (void)s, (void)flag, (void)ftw;
    return remove(path);
}

static void fake_segments(struct store *store)
{
    uint32_t bytes = store->super.table_bytes[0], pages = store->config.image_bytes[0];
    uint8_t *memory = aligned_alloc(RECORD_PAGE, bytes);
    struct table_entry *entry = calloc(store->table_most[0], sizeof *entry);
    uint64_t block = 0;
    must(memory && entry);
    pages = record_slot_bytes(pages) / RECORD_PAGE;
    for (uint32_t at = 0; at < store->segments; at++) {
        uint32_t count = 0;
        for (uint32_t page = 1; page + pages <= store->table_page[0]; page += pages, block++) {
            struct record_id id = { .depth = (uint32_t)(block % 800) };  // sessions of 100K tokens
            for (uint32_t i = 0; i < 4; i++) {
                uint64_t part = hash64(&block, 8, i), before = block - 1;
                memcpy(id.key.byte + i * 8, &part, 8);
                part = hash64(&before, 8, i);
                memcpy(id.before.byte + i * 8, &part, 8);
            }
            entry[count++] =
                (struct table_entry){ .id = id, .sequence = block, .page = page, .pages = pages };
        }
        store->segment[at].generation = ++store->generation;
        struct segment_head head = { .magic = SEGMENT_MAGIC,
                                     .version = FORMAT_VERSION,
                                     .generation = store->generation,
                                     .segment = at };
        memcpy(head.store, store->super.store, RECORD_TAG);
        head.sum = sum_of(&head, offsetof(struct segment_head, sum));
        memset(memory, 0, RECORD_PAGE);
        memcpy(memory, &head, sizeof head);
        must(pwrite(store->segment[at].fd, memory, RECORD_PAGE, 0) == RECORD_PAGE);
        fill_table(store, at, entry, count, memory);
        must(pwrite(store->segment[at].fd, memory, bytes,
                    (off_t)store->table_page[0] * RECORD_PAGE) == (ssize_t)bytes);
    }
    free(entry);
    free(memory);
}

static void restart(uint64_t bytes, uint32_t image)
{
    char path[300];
    struct store *store;
    struct store_stats stats;
    struct err err;
    snprintf(path, sizeof path, "%s/restart", dir);
    struct store_config config = { .dir = path,
                                   .bytes = bytes,
                                   .segment_bytes = 128u << 20,
                                   .image_bytes = { image, 0 },
                                   .sparse = true };
    if (store_open(&config, &store, &err) != OK) {
        printf("restart: %s\n", err.text);
        return;
    }
    fake_segments(store);
    must(store_close(store, 10000));
    for (int i = 0; i < 3; i++) {
        uint64_t start = now_ns();
        must(store_open(&config, &store, &err) == OK);
        uint64_t took = now_ns() - start;
        store_stats(store, &stats);
        printf("restart of %.2f TB: %llu segments, %llu blocks, opened in %.2f s, scan %.2f s, "
               "%.1f bytes of RAM a block%s%s\n",
               (double)bytes / 1e12, (unsigned long long)stats.segments,
               (unsigned long long)stats.found, (double)took / 1e9, (double)stats.scan_ns / 1e9,
               (double)(store->slots * sizeof(struct extent) +
                        store->segments * sizeof(struct segment)) /
                   (double)stats.found,
               err.text[0] ? "; " : "", err.text);
        must(store_close(store, 10000));
    }
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(int argc, char **argv)
{
    uint32_t image = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 492832;
    snprintf(dir, sizeof dir, "%s/fathom-bench-XXXXXX", argc > 1 ? argv[1] : "/tmp");
    if (!mkdtemp(dir)) {
        fprintf(stderr, "%s: cannot be made\n", dir);
        return 1;
    }
    restart(1000000000000ull, image);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
