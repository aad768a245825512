/* bench_store.c - the disk store beside fio: the same directory, sizes, depth and registered buffers,
 * in turns, and what the engine's calls cost while the store runs as fast as it can.
 *
 * A turn is fio, store, fio: the store is held against the mean of its neighbours, since a shared
 * machine is never the same twice. Everything was written once before the first turn, so that both
 * write over blocks that the file system knows, and both have huge pages. fio goes through 16 buffers;
 * where the store goes through many more, the transfers miss the processor's caches more often, which
 * costs more than everything the store does.
 */
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cache/disk.h"
#include "config/clock.h"
#include "config/hash.h"
#include "config/json.h"
#include "engine/bench_cache.h"

#define DEPTH 16u  // requests at a time on the device: 8 MiB of 484 KiB
#define SLOTS_MOST 256u
#define SEGMENT (128u << 20)
#define ROUNDS_MOST 32u
#define TURNS_MOST (1u << 20)

enum work { WRITE_IN_ORDER, READ_IN_ORDER, READ_AT_RANDOM, WORKS };

static const struct {
    const char *name, *fio;
    double bar;  // of what fio reaches
} WORK[WORKS] = {
    { "write", "write", 0.85 },
    { "read", "read", 0.90 },
    { "read at random", "randread", 0.90 },
};

struct store_bench {
    const struct bench_cache_options *options;
    char dir[300], store[320], file[320];
    uint32_t slot_bytes;
    uint64_t blocks;
    uint32_t slots;   // blocks that the engine has asked for at a time
    uint8_t *memory;  // [slots][slot_bytes]
    struct disk *disk;
    struct disk_op op[SLOTS_MOST];
    uint64_t *took;  // [blocks] of the latest run
    uint64_t *turn;  // [TURNS_MOST] what the calls of one turn of the engine took
    uint32_t turns;
};

static int remove_one(const char *path, const struct stat *s, int flag, struct FTW *ftw)
{
    (void)s, (void)flag, (void)ftw;
    return remove(path);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- fio ------------------------------------------------------------------------------------ */

/* In a child whose output goes to `out`. */
static void become_fio(const struct store_bench *b, enum work work, int out)
{
    char file[340], rw[40], bs[40], size[40], depth[40];
    snprintf(file, sizeof file, "--filename=%s", b->file);
    snprintf(rw, sizeof rw, "--rw=%s", WORK[work].fio);
    snprintf(bs, sizeof bs, "--bs=%u", b->slot_bytes);
    snprintf(size, sizeof size, "--size=%llu", b->blocks * 1ull * b->slot_bytes);
    snprintf(depth, sizeof depth, "--iodepth=%u", DEPTH);
    dup2(out, STDOUT_FILENO);
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere >= 0) dup2(nowhere, STDERR_FILENO);
    (void)setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", 1);  // pages as large as ours
    execlp("fio", "fio", "--name=x", file, rw, bs, size, depth, "--ioengine=io_uring", "--direct=1",
           "--fixedbufs=1", "--registerfiles=1", "--invalidate=0", "--output-format=json",
           (char *)NULL);
    _exit(127);
}

/* What it prints; empty: it is not here or did not do it. */
static void ask_fio(const struct store_bench *b, enum work work, struct buf *text)
{
    int pipes[2], code = -1;
    char part[4096];
    ssize_t got;
    if (pipe2(pipes, O_CLOEXEC) != 0) return;
    pid_t pid = fork();
    if (pid == 0) become_fio(b, work, pipes[1]);
    close(pipes[1]);
    while (pid > 0 && (got = read(pipes[0], part, sizeof part)) > 0)
        buf_add(text, part, (size_t)got);
    close(pipes[0]);
    if (pid > 0) waitpid(pid, &code, 0);
    if (code != 0) buf_clear(text);
}

/* Bytes a second; 0: no fio. */
static double run_fio(const struct store_bench *b, enum work work)
{
    struct buf text;
    struct json *root = NULL;
    double rate = 0;
    buf_init(&text, 16 << 20);
    ask_fio(b, work, &text);
    if (text.size && js_parse(text.data, text.size, &js_file_limits, &root, NULL) == OK) {
        const struct json *job = js_at(js_get(root, "jobs"), 0);
        const struct json *side = js_get(job, work == WRITE_IN_ORDER ? "write" : "read");
        rate = js_real(js_get(side, "bw_bytes"));
        js_free(root);
    }
    buf_release(&text);
    return rate;
}

/* ---- the store ------------------------------------------------------------------------------ */

static struct record_id id_of(uint64_t block)
{
    struct record_id id = { .depth = (uint32_t)block };
    memcpy(id.key.byte, &block, sizeof block);
    return id;
}

static uint64_t block_at(const struct store_bench *b, enum work work, uint64_t at)
{
    return work == READ_AT_RANDOM ? hash64(&at, sizeof at, 5) % b->blocks : at;
}

/* A turn of the engine: takes what is finished, hands over what may be asked for. The calls' time
 * is what the store adds to a turn. */
struct turn {
    uint64_t sent, back, failed;
    uint32_t free[SLOTS_MOST], free_count;
};

static bool take_turn(struct store_bench *b, enum work work, struct turn *t)
{
    struct disk_op *done[SLOTS_MOST];
    struct disk_lost lost[SLOTS_MOST];
    struct disk_stats stats;
    uint32_t next[SLOTS_MOST], nexts = 0;
    uint64_t start = now_ns();
    uint32_t got = disk_take(b->disk, done, SLOTS_MOST);
    uint64_t calls = now_ns() - start;
    for (uint32_t i = 0; i < got; i++) {
        t->failed += done[i]->status != OK;
        b->took[t->back++] = done[i]->took_ns;
        t->free[t->free_count++] = (uint32_t)(done[i] - b->op);
    }
    for (; t->free_count && t->sent < b->blocks; t->sent++) {
        uint32_t at = t->free[--t->free_count];
        uint64_t block = block_at(b, work, t->sent);
        b->op[at] = (struct disk_op){ .kind = work == WRITE_IN_ORDER ? DISK_WRITE : DISK_READ,
                                      .id = id_of(block),
                                      .slot = (uint32_t)block,
                                      .memory = b->memory + (size_t)at * b->slot_bytes };
        next[nexts++] = at;
    }
    start = now_ns();
    for (uint32_t i = 0; i < nexts; i++) disk_submit(b->disk, &b->op[next[i]]);
    (void)disk_lost(b->disk, lost, SLOTS_MOST);
    disk_stats(b->disk, &stats);
    calls += now_ns() - start;
    if (b->turns < TURNS_MOST) b->turn[b->turns++] = calls;
    return got > 0;
}

/* Bytes a second; 0: an operation failed. */
static double run_store(struct store_bench *b, enum work work)
{
    struct turn t = { .free_count = b->slots };
    for (uint32_t i = 0; i < b->slots; i++) t.free[i] = i;
    if (work == WRITE_IN_ORDER)
        for (uint64_t i = 0; i < b->blocks; i++) disk_forget(b->disk, (uint32_t)i);
    uint64_t start = now_ns();
    while (t.back < b->blocks) {
        struct pollfd ready = { .fd = disk_event_fd(b->disk), .events = POLLIN };
        if (!take_turn(b, work, &t)) poll(&ready, 1, 1000);
    }
    uint64_t ns = now_ns() - start;
    return t.failed ? 0 : (double)(b->blocks * b->slot_bytes) * 1e9 / (double)ns;
}

static enum status open_store(struct store_bench *b, struct err *err)
{
    struct iovec whole = { b->memory, (size_t)b->slots * b->slot_bytes };
    struct disk_config config = {
        .store = { .dir = b->store,
                   .bytes = (b->blocks * b->slot_bytes / SEGMENT + 6) * SEGMENT,
                   .segment_bytes = SEGMENT,
                   .image_bytes = { b->options->image_bytes, 0 },
                   .read_most = DEPTH * b->slot_bytes,
                   .write_most = DEPTH * b->slot_bytes,
                   .io_kind = IO_AUTO,
                   .buffer = &whole,
                   .buffers = 1 },
        .codec_threads = b->options->codec_threads,
        .writes_most = b->slots,
    };
    enum status status = disk_open(&config, &b->disk, err);
    if (status == OK && err->text[0]) printf("%s\n", err->text);
    return status;
}

/* ---- in turns ------------------------------------------------------------------------------- */

static double median(double *value, uint32_t count)
{
    qsort(value, count, sizeof *value, by_value);
    return value[count / 2];
}

static void print_calls(struct store_bench *b)
{
    if (!b->turns) return;
    qsort(b->turn, b->turns, sizeof *b->turn, by_size);
    uint32_t half = b->turns / 2, late = (uint32_t)((uint64_t)b->turns * 99 / 100);
    double p99 = (double)b->turn[late] / 1e6;
    printf("  the engine's calls in one of its turns: %.4f ms median, %.3f p99, %.3f worst, %u "
           "turns  %s\n",
           (double)b->turn[half] / 1e6, p99, (double)b->turn[b->turns - 1] / 1e6, b->turns,
           p99 <= 1 ? "ok (p99 <= 1 ms)" : "MISSED (p99 <= 1 ms)");
}

static enum status measure(struct store_bench *b, enum work work, struct err *err)
{
    double share[ROUNDS_MOST], rate[ROUNDS_MOST], fio[ROUNDS_MOST];
    uint64_t half = b->blocks / 2, late = b->blocks * 99 / 100;
    b->turns = 0;
    for (uint32_t round = 0; round < b->options->rounds; round++) {
        double before = run_fio(b, work);
        rate[round] = run_store(b, work);
        double after = run_fio(b, work);
        if (rate[round] == 0) return fail(err, IO_FAILED, "%s: operations failed", WORK[work].name);
        fio[round] = (before + after) / 2;
        share[round] = fio[round] > 0 ? rate[round] / fio[round] : 0;
        qsort(b->took, b->blocks, sizeof *b->took, by_size);
        printf("  %-15s fio %6.2f, store %6.2f, fio %6.2f GB/s: %3.0f %%; a block %.2f ms median, "
               "%.2f p99, %.2f worst\n",
               WORK[work].name, before / 1e9, rate[round] / 1e9, after / 1e9, share[round] * 100,
               (double)b->took[half] / 1e6, (double)b->took[late] / 1e6,
               (double)b->took[b->blocks - 1] / 1e6);
        fflush(stdout);
    }
    uint32_t rounds = b->options->rounds;
    double found = median(share, rounds);
    printf("%-17s fio %6.2f, store %6.2f GB/s, median share %3.0f %%  ", WORK[work].name,
           median(fio, rounds) / 1e9, median(rate, rounds) / 1e9, found * 100);
    if (found == 0) printf("no fio here: nothing to compare with\n");
    else printf("%s (%.0f %%)\n", found >= WORK[work].bar ? "ok" : "MISSED", WORK[work].bar * 100);
    print_calls(b);
    return OK;
}

static enum status take_memory(struct store_bench *b, struct err *err)
{
    size_t bytes = (size_t)b->slots * b->slot_bytes;
    b->took = calloc(b->blocks, sizeof *b->took);
    b->turn = calloc(TURNS_MOST, sizeof *b->turn);
    b->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!b->took || !b->turn || b->memory == MAP_FAILED)
        return fail(err, NO_MEMORY, "no memory for %u blocks", b->slots);
    (void)madvise(b->memory, bytes, MADV_HUGEPAGE);
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t word = hash64(&i, sizeof i, 1);
        memcpy(b->memory + i, &word, 8);
    }
    return OK;
}

static enum status bench(struct store_bench *b, struct err *err)
{
    enum status status = open_store(b, err);
    if (status != OK) return status;
    printf("store: %llu records of %u bytes a run, %u asked for at a time, %u of them of the "
           "device; %u codec threads\n",
           (unsigned long long)b->blocks, b->slot_bytes, b->slots, DEPTH,
           b->options->codec_threads);
    (void)run_fio(b, WRITE_IN_ORDER);
    for (int round = 0; round < 2 && status == OK; round++)
        if (run_store(b, WRITE_IN_ORDER) == 0)
            status = fail(err, IO_FAILED, "the store could not be filled");
    for (enum work work = 0; status == OK && work < WORKS; work++) status = measure(b, work, err);
    if (!disk_close(b->disk, 60000) && status == OK)
        status = fail(err, IO_FAILED, "the device kept requests");
    return status;
}

enum status bench_cache_store(const struct bench_cache_options *options, struct err *err)
{
    struct store_bench b = { .options = options };
    b.slot_bytes = record_slot_bytes(options->image_bytes);
    b.blocks = options->bytes / b.slot_bytes;
    b.slots = options->slots;
    if (b.slots > SLOTS_MOST || b.blocks < b.slots || options->rounds > ROUNDS_MOST)
        return fail(err, BAD_INPUT,
                    "found %u slots, %llu blocks and %u rounds, wanted at most %u slots and %u "
                    "rounds, and no fewer blocks than slots",
                    b.slots, (unsigned long long)b.blocks, options->rounds, SLOTS_MOST,
                    ROUNDS_MOST);
    snprintf(b.dir, sizeof b.dir, "%s/fathom-bench-XXXXXX", options->store);
    if (!mkdtemp(b.dir)) return fail(err, IO_FAILED, "%s: cannot be made", b.dir);
    snprintf(b.store, sizeof b.store, "%s/store", b.dir);
    snprintf(b.file, sizeof b.file, "%s/fio", b.dir);
    enum status status = take_memory(&b, err);
    if (status == OK) status = bench(&b, err);
    if (b.memory && b.memory != MAP_FAILED) munmap(b.memory, (size_t)b.slots * b.slot_bytes);
    free(b.turn);
    free(b.took);
    nftw(b.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return status;
}
