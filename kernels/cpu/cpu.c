/* cpu.c - opens the CPU: which instructions, how many threads, and the table of operations. */
#include "kernels/cpu/gemm.h"

#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define LARGE_BYTES ((size_t)256 << 10)
#define SLAB_BYTES ((size_t)16 << 20)

struct scratch_chunk {
    struct scratch_chunk *next;
    size_t bytes;  // after the header
    char pad[48];
    char data[];  // 64-byte aligned
};

/* ---- memory -------------------------------------------------------------------------------- */

/* Large pieces ask for huge pages: a decode step reads every weight, and page walks would show. */
static void *memory_take(size_t bytes)
{
    size_t align = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : 64;
    if (bytes > SIZE_MAX - align) return NULL;
    void *data = aligned_alloc(align, (bytes + align - 1) / align * align);
    if (data && align == HUGE_PAGE) {
        (void)madvise(data, bytes, MADV_HUGEPAGE);
        (void)madvise(data, bytes, MADV_DONTDUMP);  // weights, and what prompts were computed to
    }
    return data;
}

void cpu_fail(struct cpu_dev *cpu, enum status status, const char *what)
{
    if (cpu->failed != OK) return;
    cpu->failed = fail(&cpu->failure, status, "cpu: %s", what);
}

void cpu_scratch_begin(struct cpu_dev *cpu)
{
    struct scratch_chunk *chunk = cpu->scratch;
    cpu->scratch_used = 0;
    if (!chunk || !chunk->next) return;

    size_t bytes = 0;  // several chunks: the next operation gets one that holds them all
    while (chunk) {
        struct scratch_chunk *next = chunk->next;
        bytes += chunk->bytes;
        free(chunk);
        chunk = next;
    }
    cpu->scratch = memory_take(sizeof *chunk + bytes);
    if (cpu->scratch) *cpu->scratch = (struct scratch_chunk){ .bytes = bytes };
}

void *cpu_take(struct cpu_dev *cpu, size_t bytes)
{
    struct scratch_chunk *chunk = cpu->scratch;
    bytes = (bytes + 63) / 64 * 64;

    if (!chunk || chunk->bytes - cpu->scratch_used < bytes) {
        size_t grown = bytes < (1 << 20) ? 1 << 20 : bytes;
        chunk = memory_take(sizeof *chunk + grown);
        if (!chunk) {
            cpu_fail(cpu, NO_MEMORY, "no memory is left for the work space of an operation");
            return NULL;
        }
        *chunk = (struct scratch_chunk){ .next = cpu->scratch, .bytes = grown };
        cpu->scratch = chunk;
        cpu->scratch_used = 0;
    }
    void *data = chunk->data + cpu->scratch_used;
    cpu->scratch_used += bytes;
    return data;
}

/* Large pieces are zero pages that cost nothing until they are written: KV memory is planned for the
 * worst case. Small ones would waste most of a page and a system call. */
static void *cpu_alloc(struct dev *dev, size_t bytes)
{
    (void)dev;
    if (bytes < LARGE_BYTES) {
        void *data = memory_take(bytes ? bytes : 1);
        return data ? memset(data, 0, bytes) : NULL;
    }
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return data == MAP_FAILED ? NULL : data;
}

static void cpu_free(struct dev *dev, void *data, size_t bytes)
{
    (void)dev;
    if (!data) return;
    if (bytes < LARGE_BYTES) free(data);
    else munmap(data, bytes);
}

/* Weights stand close together in slabs of huge pages: a step reads them all, and a page walk for
 * each 4 KiB would show. A slab goes when the last weight in it does. */
struct weight_slab {
    size_t bytes, used;  // with this header
    uint32_t live;
};

void *cpu_weight_take(struct cpu_dev *cpu, size_t bytes, struct weight_slab **slab)
{
    bytes = (bytes + 63) / 64 * 64 + 64;  // apart, so that no two begin in the same cache set
    if (!cpu->slab || cpu->slab->bytes - cpu->slab->used < bytes) {
        size_t whole = bytes + 64 < SLAB_BYTES ? SLAB_BYTES : bytes + 64;
        struct weight_slab *fresh = memory_take(whole);
        if (!fresh) return NULL;
        *fresh = (struct weight_slab){ .bytes = whole, .used = 64 };
        if (cpu->slab && cpu->slab->live == 0) free(cpu->slab);
        cpu->slab = fresh;
    }
    *slab = cpu->slab;
    void *data = (char *)cpu->slab + cpu->slab->used;
    cpu->slab->used += bytes;
    cpu->slab->live++;
    return data;
}

void cpu_weight_give(struct cpu_dev *cpu, struct weight_slab *slab)
{
    must(slab->live > 0);
    if (--slab->live == 0 && slab != cpu->slab) free(slab);
}

static void cpu_copy(struct dev *dev, void *to, const void *from, size_t bytes)
{
    (void)dev;
    if (bytes) memcpy(to, from, bytes);
}

static enum status cpu_finish(struct dev *dev, struct err *err)
{
    struct cpu_dev *cpu = cpu_of(dev);
    enum status status = cpu->failed;

    if (status != OK && err) *err = cpu->failure;
    cpu->failed = OK;
    return status;
}

/* ---- what only a device beside the host needs ------------------------------------------------ */

static void cpu_enter(struct dev *dev)
{
    (void)dev;
}

static void cpu_mark(struct dev *dev, uint32_t mark)
{
    (void)dev;
    must(mark < DEV_MARKS);
}

static enum status cpu_wait(struct dev *dev, uint32_t mark, struct err *err)
{
    must(mark < DEV_MARKS);
    return cpu_finish(dev, err);
}

static void cpu_lane_out(struct dev *dev, void *to, const void *from, size_t bytes)
{
    cpu_copy(dev, to, from, bytes);
    cpu_of(dev)->lane_copies[LANE_OUT]++;
}

static void cpu_lane_in(struct dev *dev, void *to, const void *from, size_t bytes)
{
    cpu_copy(dev, to, from, bytes);
    cpu_of(dev)->lane_copies[LANE_IN]++;
}

static uint64_t cpu_lane_mark(struct dev *dev, enum dev_lane lane)
{
    must(lane < DEV_LANES);
    return cpu_of(dev)->lane_copies[lane];
}

static bool cpu_lane_done(struct dev *dev, enum dev_lane lane, uint64_t place)
{
    must(lane < DEV_LANES && place <= cpu_of(dev)->lane_copies[lane]);
    return cpu_of(dev)->failed == OK;
}

static bool cpu_host_pin(struct dev *dev, void *data, size_t bytes)
{
    (void)dev, (void)data, (void)bytes;
    return true;
}

static void cpu_host_unpin(struct dev *dev, void *data, size_t bytes)
{
    (void)dev, (void)data, (void)bytes;
}

static void cpu_memory(struct dev *dev, struct dev_memory *memory)
{
    long free = sysconf(_SC_AVPHYS_PAGES), all = sysconf(_SC_PHYS_PAGES);
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    (void)dev;
    *memory = (struct dev_memory){ .free = free > 0 ? (uint64_t)free * page : 0,
                                   .total = all > 0 ? (uint64_t)all * page : 0 };
}

/* ---- opening ------------------------------------------------------------------------------- */

static bool isa_present(enum isa isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vbmi");
    return isa == ISA_AVX512 ? avx512 : isa == ISA_AVX2 ? avx2 : true;
#else
    return isa == ISA_PLAIN;
#endif
}

static enum status choose_isa(enum isa wanted, enum isa *isa, struct err *err)
{
    static const char *const name[] = { "auto", "plain", "avx2", "avx512" };

    *isa = wanted;
    if (wanted == ISA_AUTO) {
        *isa = isa_present(ISA_AVX512) ? ISA_AVX512 : isa_present(ISA_AVX2) ? ISA_AVX2 : ISA_PLAIN;
    } else if (!isa_present(wanted)) {
        return fail(err, BAD_INPUT, "cpu: %s instructions were asked for, and this CPU lacks them",
                    name[wanted]);
    }
    return OK;
}

static uint32_t cores_allowed(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count > POOL_MAX_THREADS ? POOL_MAX_THREADS : (uint32_t)count;
}

static void cpu_close(struct dev *dev)
{
    struct cpu_dev *cpu = cpu_of(dev);
    pool_close(cpu->pool);
    must(!cpu->slab || cpu->slab->live == 0);
    free(cpu->slab);
    for (struct scratch_chunk *chunk = cpu->scratch, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(cpu);
}

static enum status cpu_open(const struct dev_options *options, struct dev **dev, struct err *err)
{
    enum isa isa;
    enum status status = choose_isa(options->isa, &isa, err);
    if (status != OK) return status;

    uint32_t threads = options->threads ? options->threads : cores_allowed();
    if (threads > POOL_MAX_THREADS)
        return fail(err, BAD_INPUT, "cpu: %u threads were asked for, at most %d are possible",
                    threads, POOL_MAX_THREADS);
    struct cpu_dev *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return fail(err, NO_MEMORY, "cpu: no memory is left");
    status = pool_open(threads, &cpu->pool);
    if (status != OK) {
        free(cpu);
        return fail(err, status, "cpu: could not start %u threads", threads);
    }
    cpu->dev = (struct dev){ &cpu_ops, options->numerics, DT_F32 };
    cpu->isa = isa;
    cpu->products = product_kernels(isa);
    *dev = &cpu->dev;
    return OK;
}

const struct ops cpu_ops = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .copy_in = cpu_copy,
    .copy_out = cpu_copy,
    .copy_across = cpu_copy,
    .finish = cpu_finish,
    .enter = cpu_enter,
    .host_alloc = cpu_alloc,
    .host_free = cpu_free,
    .lane_out = cpu_lane_out,
    .lane_in = cpu_lane_in,
    .lane_mark = cpu_lane_mark,
    .lane_done = cpu_lane_done,
    .host_pin = cpu_host_pin,
    .host_unpin = cpu_host_unpin,
    .mark = cpu_mark,
    .wait = cpu_wait,
    .memory = cpu_memory,
    .weight_load = cpu_weight_load,
    .weight_free = cpu_weight_free,
    .weight_bytes = cpu_weight_bytes,
#define OP(name) .name = cpu_##name,
#include "kernels/ops.def"
#undef OP
};
