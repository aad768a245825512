/* backend.h - a device, and the table of operations that a backend fills.
 *
 * Operations are queued in call order and return nothing; the device keeps its first failure and the
 * engine learns of it once a step, from finish. Arguments are read before the call returns, the
 * matrices they point at when the operation runs.
 *
 * Contract for bits: what an operation writes for one token depends on that token, its sequence's
 * own state and the weights alone. Not on the other tokens of the batch, its row, the cut of a
 * prefill into chunks, the number of threads, or the instruction set.
 */
#ifndef KERNELS_BACKEND_H
#define KERNELS_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "config/status.h"
#include "kernels/random_fill.h"

/* exact: fp32 arithmetic on the dequantised weights; it judges everything else.
 * official: the release's own roundings and quantisers (model.md 5). */
enum numerics { NUMERICS_EXACT, NUMERICS_OFFICIAL };

enum isa { ISA_AUTO, ISA_PLAIN, ISA_AVX2, ISA_AVX512 };

struct mat {              // a view; the device owns the bytes
    void *data;           // device address
    enum dtype type;      // activations: dev->activation; else F32 or as said at the argument
    uint32_t rows, cols;  // elements
    uint32_t stride;      // elements from one row to the next
};

/* What a backend makes of one tensor of the checkpoint; packed as its kernels want it. */
struct weight;

enum weight_use {
    WEIGHT_LINEAR,  // [out, in], the right side of a product
    WEIGHT_TABLE,   // rows looked up by id (embed, tid2eid); may stay in the mapped file
    WEIGHT_VECTOR,  // norms, biases, sinks, small fp32 tables: becomes F32 [rows, cols]
};

struct weight_source {
    const char *name;                 // for messages
    const void *data;                 // in the mapped file; NULL: random
    enum dtype type;                  // I8: two e2m1 codes a byte, so a row holds cols / 2 bytes
    uint32_t rows, cols;              // logical elements
    const uint8_t *scale;             // e8m0, or NULL
    uint32_t scale_rows, scale_cols;  // elements of scale that one scale spans: 128x128, 1x32
    enum weight_use use;
    struct random_fill fill, scale_fill;  // what data and scale would hold, if data is NULL
};

struct dev {
    const struct ops *ops;
    enum numerics numerics;
    enum dtype activation;  // type of every activation matrix: F32 on the CPU in both numerics
};

struct dev_options {
    int index;  // which GPU; 0 on the CPU
    enum numerics numerics;
    uint32_t threads;  // CPU; 0 = all the process may use
    enum isa isa;      // CPU
};

enum { DEV_MARKS = 4 };

enum dev_lane { LANE_OUT, LANE_IN, DEV_LANES };

struct dev_memory {
    uint64_t free, total;  // bytes
};

struct graph;  // a captured run of operations

#define OP(name) struct name##_args;
#include "kernels/ops.def"
#undef OP

/* What a device reaches at best, measured. */
struct ceilings {
    double read;       // bytes/s from memory
    double fp8, bf16;  // FLOP/s of products; 0: it has no such unit
};

struct ops {
    const char *name;  // "cpu", "cuda"
    bool fills;        // weight_load makes random weights itself, from source.fill

    CHECKED enum status (*open)(const struct dev_options *options, struct dev **dev,
                                struct err *err);
    void (*close)(struct dev *dev);

    void (*ceilings)(struct dev *dev, struct ceilings *ceilings);  // about a second; NULL: unknown

    void *(*alloc)(struct dev *dev, size_t bytes);  // zeroed, 64-byte aligned; NULL: none is left
    void (*free)(struct dev *dev, void *data, size_t bytes);
    void (*copy_in)(struct dev *dev, void *to, const void *from, size_t bytes);   // host to device
    void (*copy_out)(struct dev *dev, void *to, const void *from, size_t bytes);  // device to host
    void (*copy_across)(struct dev *dev, void *to, const void *from, size_t bytes);  // both on it
    CHECKED enum status (*finish)(struct dev *dev, struct err *err);  // waits; first failure

    /* The calling thread is the one that uses the device from now on; its opener need not ask. */
    void (*enter)(struct dev *dev);

    /* Memory of the host, zeroed, that copy_in and copy_out reach without the host's waiting: it is
     * read or written when the copy's turn comes. NULL: none is left. */
    void *(*host_alloc)(struct dev *dev, size_t bytes);
    void (*host_free)(struct dev *dev, void *data, size_t bytes);

    /* Lanes: copies beside the computing, device to host and host to device; in order on a lane. A
     * copy begins when all that was queued on the device before the call has run, graphs too. What is
     * queued later runs beside it: until lane_done it must not write the copy's source nor touch its
     * target. Not between capture_begin and capture_end, nor between aside_begin and aside_join. The
     * host does not wait, except where its end of the copy is pageable memory.
     * lane_mark: the place behind the lane's copies so far. lane_done: that place is reached; false
     * for good after a failure of the device, which finish and wait tell: neither waits for lanes. */
    void (*lane_out)(struct dev *dev, void *to, const void *from, size_t bytes);
    void (*lane_in)(struct dev *dev, void *to, const void *from, size_t bytes);
    uint64_t (*lane_mark)(struct dev *dev, enum dev_lane lane);
    bool (*lane_done)(struct dev *dev, enum dev_lane lane, uint64_t place);

    /* Makes memory that exists, whole pages and 1 GiB at most, as good for copies as host_alloc's; a
     * copy then lies in one such piece or in none. False: it cannot be, and copies work all the same.
     * Unpinned piece by piece before it is freed, with no copy under way. */
    bool (*host_pin)(struct dev *dev, void *data, size_t bytes);
    void (*host_unpin)(struct dev *dev, void *data, size_t bytes);

    /* A place in the queue that can be waited for while what was queued later still runs; a mark may
     * be set again once it was waited for. wait tells the first failure like finish. */
    void (*mark)(struct dev *dev, uint32_t mark);
    CHECKED enum status (*wait)(struct dev *dev, uint32_t mark, struct err *err);

    /* What is queued between aside_begin and aside_end may run beside what is queued from there to
     * aside_join; neither may touch what the other writes. NULL: all runs in order. */
    void (*aside_begin)(struct dev *dev);
    void (*aside_end)(struct dev *dev);
    void (*aside_join)(struct dev *dev);

    /* Memory of the device as it stands: all of it, and what nobody has taken. */
    void (*memory)(struct dev *dev, struct dev_memory *memory);

    /* Operations queued between capture_begin and capture_end are recorded instead of run; a graph
     * repeats them with the same arguments and what their matrices then hold. Each must have run in
     * the same shape before. No copies, no allocations in between. capture_end: NULL after a failure,
     * which finish tells. A backend without graphs has four NULLs here. */
    void (*capture_begin)(struct dev *dev);
    struct graph *(*capture_end)(struct dev *dev);
    void (*graph_run)(struct dev *dev, struct graph *graph);
    void (*graph_free)(struct dev *dev, struct graph *graph);

    /* NO_MEMORY, or BAD_INPUT with a sentence: a NaN scale or value, a type it cannot use. The
     * source's memory must outlive a weight that has no bytes of its own; any other is a copy. */
    CHECKED enum status (*weight_load)(struct dev *dev, const struct weight_source *source,
                                       struct weight **weight, struct err *err);
    void (*weight_free)(struct dev *dev, struct weight *weight);
    size_t (*weight_bytes)(const struct weight *weight);  // device memory of its own

#define OP(name) void (*name)(struct dev * dev, const struct name##_args *args);
#include "kernels/ops.def"
#undef OP
};

extern const struct ops cpu_ops;
extern const struct ops cuda_ops;  // in builds with FATHOM_CUDA

/* Opens a backend by name and checks that every slot of its table is filled. "auto": a GPU that can
 * be used, else the CPU. BAD_INPUT: there is no such backend in this build. */
CHECKED enum status backend_open(const char *name, const struct dev_options *options,
                                 struct dev **dev, struct err *err);

static inline struct mat mat_of(void *data, enum dtype type, uint32_t rows, uint32_t cols)
{
    return (struct mat){ data, type, rows, cols, cols };
}

static inline void *mat_row(const struct mat *mat, uint32_t row)
{
    return (char *)mat->data + (size_t)row * mat->stride * dtype_size(mat->type);
}

#endif
