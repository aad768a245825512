/* cpu.h - the CPU as a device; the private face of this folder.
 *
 * Operations run when they are called, on the caller's thread and the pool. Every operation exists
 * in plain C, which defines its result, and may have faster twins with the same bits, chosen by
 * cpu_dev.isa.
 *
 * Thread: one thread at a time calls a device.
 */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "kernels/cpu/pool.h"
#include "kernels/ops.h"

struct cpu_dev {
    struct dev dev;  // first, so that a struct dev of ours is a struct cpu_dev
    enum isa isa;    // what to use; never ISA_AUTO
    const struct product_kernels *products;  // gemm.h
    struct pool *pool;
    struct scratch_chunk *scratch;  // newest first
    size_t scratch_used;            // bytes of the newest chunk
    struct weight_slab *slab;       // newest
    uint64_t lane_copies[DEV_LANES];
    enum status failed;  // first failure since the last finish
    struct err failure;
};

static inline struct cpu_dev *cpu_of(struct dev *dev)
{
    return (struct cpu_dev *)dev;
}

static inline bool is_official(const struct cpu_dev *cpu)
{
    return cpu->dev.numerics == NUMERICS_OFFICIAL;
}

/* Keeps the first failure for finish. */
void cpu_fail(struct cpu_dev *cpu, enum status status, const char *what);

/* Memory for one operation: cpu_scratch_begin ends the life of everything taken before; cpu_take
 * gives `bytes` of uninitialised memory, 64-byte aligned. NULL: none is left, and the failure is
 * noted, so the operation just returns. Only the calling thread takes, before it runs the pool. */
void cpu_scratch_begin(struct cpu_dev *cpu);
void *cpu_take(struct cpu_dev *cpu, size_t bytes);

/* ---- weights ------------------------------------------------------------------------------- */

enum {
    LANES = 16,  // outputs that a packed weight keeps side by side: a row group
    BAND = 8,    // row groups whose words take turns in memory
};

/* WEIGHT_VECTOR: data is float [rows, cols]. WEIGHT_TABLE: data is the mapped file's.
 * WEIGHT_LINEAR: packed as weight.c draws it; read by the products alone. */
struct weight {
    enum weight_use use;
    enum dtype type;  // of what data holds; I8: e2m1
    uint32_t rows, cols;
    void *data;
    bool mapped;           // data belongs to the file
    uint32_t row_groups;   // LINEAR: of LANES rows each, the last one padded
    uint32_t words;        // LINEAR: 32-bit words of one row, padded
    uint32_t block;        // LINEAR: columns that share one scale, and one chain of additions
    uint32_t blocks;       // LINEAR: of them in a row
    uint32_t scale_lanes;  // LINEAR: 1 (all rows of a group share a scale) or LANES
    uint8_t *scale;        // LINEAR: e8m0 [row_groups, blocks, scale_lanes]; NULL: all are 1
    uint32_t *rare;        // LINEAR e4m3: [row_groups, blocks], see weight.c
    size_t bytes;          // owned
    struct weight_slab *slab;
};

static inline const float *weight_floats(const struct weight *weight)
{
    must(weight->use == WEIGHT_VECTOR);
    return weight->data;
}

/* Uninitialised memory for a weight, and the slab to give it back to. NULL: none is left. */
void *cpu_weight_take(struct cpu_dev *cpu, size_t bytes, struct weight_slab **slab);
void cpu_weight_give(struct cpu_dev *cpu, struct weight_slab *slab);

enum status cpu_weight_load(struct dev *dev, const struct weight_source *source,
                            struct weight **out, struct err *err);
void cpu_weight_free(struct dev *dev, struct weight *weight);
size_t cpu_weight_bytes(const struct weight *weight);

/* ---- operations: cpu_rmsnorm, cpu_linear, ... ----------------------------------------------- */

#define OP(name) void cpu_##name(struct dev *dev, const struct name##_args *args);
#include "kernels/ops.def"
#undef OP

#endif
