/* store_bench.c - what the disk store reaches: bandwidth at its block sizes beside plain requests of
 * the same size and depth, and the restart of a terabyte.
 *
 *     store_bench [DIR [IMAGE_BYTES [GIGABYTES [CODEC_THREADS]]]]
 *
 * GIGABYTES 0: the restart alone
 *
 * "plain" are requests of the same size, 16 at a time, to one file, with nothing around them. Beside it:
 *     fio --ioengine=io_uring --direct=1 --bs=484k --iodepth=16 --fixedbufs=1 --registerfiles=1
 */
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cache/disk.h"
#include "cache/store_parts.h"
#include "config/clock.h"
#include "config/hash.h"

#define DEEP 16   // requests at a time on the device: 8 MiB of 484 KiB
#define ASKED 64  // blocks that the engine has asked for at a time

static char dir[256];

static int remove_one(const char *path, const struct stat *s, int flag, struct FTW *ftw)
{
    (void)s, (void)flag, (void)ftw;
    return remove(path);
}

static void say(const char *what, uint64_t bytes, uint64_t requests, uint64_t ns)
{
    printf("%-34s %8.2f GB/s %10.0f blocks/s\n", what, (double)bytes / (double)ns,
           (double)requests * 1e9 / (double)ns);
    fflush(stdout);
}

static uint8_t *memory_for(uint32_t slot_bytes)
{
    size_t bytes = (size_t)ASKED * slot_bytes;
    uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(memory != MAP_FAILED);
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t word = hash64(&i, sizeof i, 1);
        memcpy(memory + i, &word, 8);
    }
    return memory;
}

/* ---- requests of the same size without a store around them */

static void plain(enum io_kind kind, enum io_op op, uint8_t *memory, uint32_t bytes,
                  uint64_t blocks, const char *what)
{
    char path[300];
    struct err err;
    struct io *io;
    struct iovec whole = { memory, (size_t)DEEP * bytes };
    snprintf(path, sizeof path, "%s/plain", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0600);
    if (fd < 0) fd = open(path, O_RDWR | O_CREAT, 0600);
    must(fd >= 0);
    if (op == IO_WRITE) must(posix_fallocate(fd, 0, (off_t)(blocks * bytes)) == 0);
    struct io_config config = {
        .kind = kind, .depth = DEEP, .files = 1, .buffer = &whole, .buffers = 1, .threads = DEEP
    };
    if (io_open(&config, &io, &err) != OK) {
        printf("%-34s %s\n", what, err.text);
        close(fd);
        return;
    }
    io_set_file(io, 0, fd);
    uint64_t sent = 0, back = 0, start = now_ns();
    uint32_t free_at[DEEP], free_count = DEEP;
    for (uint32_t i = 0; i < DEEP; i++) free_at[i] = i;
    while (back < blocks) {
        while (free_count && sent < blocks) {
            uint32_t at = free_at[--free_count];
            struct io_request r = { .op = op,
                                    .offset = sent++ * bytes,
                                    .data = memory + (size_t)at * bytes,
                                    .bytes = bytes,
                                    .tag = at };
            must(io_submit(io, &r, 1) == OK);
        }
        struct io_done done[DEEP];
        uint32_t got = io_take(io, done, DEEP);
        for (uint32_t i = 0; i < got; i++) {
            must(done[i].error == 0);
            free_at[free_count++] = (uint32_t)done[i].tag;
        }
        back += got;
        if (!got) io_wait(io, 1000);
    }
    say(what, blocks * bytes, blocks, now_ns() - start);
    io_close(io);
    close(fd);
}

/* ---- the same through the whole path */

struct bench {
    struct disk *disk;
    struct disk_op op[ASKED];
    uint64_t worst_ns, *took, took_count;
};

static struct record_id id_of(uint64_t block)
{
    struct record_id id = { .depth = (uint32_t)block };
    memcpy(id.key.byte, &block, sizeof block);
    return id;
}

static int compare_ns(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void through_disk(struct bench *b, enum disk_kind kind, uint8_t *memory, uint64_t blocks,
                         bool at_random, const char *what)
{
    uint32_t bytes = disk_slot_bytes(b->disk, RECORD_G), free_at[ASKED], free_count = ASKED;
    uint64_t sent = 0, back = 0, failed = 0, start = now_ns();

    b->took_count = 0;
    for (uint32_t i = 0; i < ASKED; i++) free_at[i] = i;
    while (back < blocks) {
        while (free_count && sent < blocks) {
            uint32_t at = free_at[--free_count];
            uint64_t block = at_random ? hash64(&sent, 8, 5) % blocks : sent;
            sent++;
            b->op[at] = (struct disk_op){ .kind = kind,
                                          .id = id_of(block),
                                          .slot = (uint32_t)block,
                                          .memory = memory + (size_t)at * bytes };
            disk_submit(b->disk, &b->op[at]);
        }
        struct disk_op *done[ASKED];
        uint32_t got = disk_take(b->disk, done, ASKED);
        for (uint32_t i = 0; i < got; i++) {
            failed += done[i]->status != OK;
            b->took[b->took_count++] = done[i]->took_ns;
            free_at[free_count++] = (uint32_t)(done[i] - b->op);
        }
        back += got;
        if (got) continue;
        struct pollfd ready = { .fd = disk_event_fd(b->disk), .events = POLLIN };
        poll(&ready, 1, 1000);
    }
    say(what, blocks * bytes, blocks, now_ns() - start);
    qsort(b->took, b->took_count, sizeof *b->took, compare_ns);
    printf("%-34s %8.2f ms p50 %6.2f ms p99%s\n", "", (double)b->took[b->took_count / 2] / 1e6,
           (double)b->took[b->took_count * 99 / 100] / 1e6, failed ? "  FAILED REQUESTS" : "");
}

static void bandwidth(uint32_t image, uint64_t bytes, uint32_t threads)
{
    uint32_t slot = record_slot_bytes(image);
    uint64_t blocks = bytes / slot;
    uint8_t *memory = memory_for(slot);
    char store[300];
    snprintf(store, sizeof store, "%s/store", dir);
    printf("blocks of %u bytes, records of %u, %llu of them, %u at a time\n", image, slot,
           (unsigned long long)blocks, DEEP);
    plain(IO_RING, IO_WRITE, memory, slot, blocks, "plain ring, first write");
    plain(IO_RING, IO_WRITE, memory, slot, blocks, "plain ring, write again");
    plain(IO_RING, IO_READ, memory, slot, blocks, "plain ring, read");
    plain(IO_THREADS, IO_READ, memory, slot, blocks, "plain pread, read");

    for (int kind = IO_RING; kind <= IO_THREADS; kind++) {
        struct bench b = { .took = malloc(blocks * sizeof(uint64_t)) };
        struct iovec whole = { memory, (size_t)ASKED * slot };
        struct disk_config config = { .store = { .dir = store,
                                                 .bytes = bytes + bytes / 4 + (1u << 30),
                                                 .image_bytes = { image, 0 },
                                                 .read_most = DEEP * slot,
                                                 .write_most = DEEP * slot,
                                                 .io_kind = (enum io_kind)kind,
                                                 .io_threads = DEEP,
                                                 .buffer = &whole,
                                                 .buffers = 1 },
                                      .codec_threads = threads };
        struct err err;
        char what[64];
        must(b.took);
        if (disk_open(&config, &b.disk, &err) != OK) {
            printf("%s\n", err.text);
            free(b.took);
            continue;
        }
        const char *name = kind == IO_RING ? "ring" : "threads";
        snprintf(what, sizeof what, "store on %s, write", name);
        through_disk(&b, DISK_WRITE, memory, blocks, false, what);
        snprintf(what, sizeof what, "store on %s, read", name);
        through_disk(&b, DISK_READ, memory, blocks, false, what);
        snprintf(what, sizeof what, "store on %s, read at random", name);
        through_disk(&b, DISK_READ, memory, blocks, true, what);
        must(disk_close(b.disk, 60000));
        free(b.took);
        nftw(store, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
    char path[300];
    snprintf(path, sizeof path, "%s/plain", dir);
    unlink(path);
    munmap(memory, (size_t)ASKED * slot);
}

/* ---- a terabyte's tables of contents, without the terabyte */

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
    uint64_t bytes = argc > 3 ? strtoull(argv[3], NULL, 10) << 30 : 2ull << 30;
    snprintf(dir, sizeof dir, "%s/fathom-bench-XXXXXX", argc > 1 ? argv[1] : "/tmp");
    if (!mkdtemp(dir)) {
        fprintf(stderr, "%s: cannot be made\n", dir);
        return 1;
    }
    uint32_t threads = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 0;
    if (bytes) bandwidth(image, bytes, threads);
    restart(1000000000000ull, image);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
