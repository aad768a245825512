/* cuda.h - one GPU as a device; the private face of this folder. CUDA C, sm_90a, official numerics.
 *
 * Everything an operation launches goes to dev->stream, in call order. No operation waits for the
 * GPU, allocates outside the workspace, or reads device memory from the host, so a step can be
 * captured as a graph; what differs from step to step is therefore read by kernels from the batch's
 * arrays, and a kernel's grid depends on the counts in its arguments alone.
 *
 * Thread: one thread at a time calls a device.
 */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include <cuda_runtime.h>
extern "C" {
#include "kernels/ops.h"
}

struct lane {  // see lanes.cu
    cudaStream_t stream;
    uint64_t follows;                        // what was queued when its copies wait for that
    uint64_t copies, marked, done;           // so far; up to the last event; known to have run
    struct lane_event *first, *last, *idle;  // under way, oldest first; and to be used again
    bool broken;
};

struct cuda_dev {
    struct dev dev;  // first, so that a struct dev of ours is a struct cuda_dev
    int index;
    int sms;                        // multiprocessors
    size_t memory;                  // bytes taken from the card by this device
    cudaStream_t stream;            // operations
    cudaStream_t aside;             // the other of two streams: see aside_begin
    cudaEvent_t fork, join;         // of these two
    struct workspace_chunk *chunk;  // newest first
    size_t chunk_used;              // bytes of the newest chunk
    size_t taken;                   // of the workspace since cuda_scratch_begin
    cudaEvent_t mark[DEV_MARKS];    // NULL until it is first set; see step.cu
    uint64_t queued;                // grows with all that goes to the stream
    uint64_t fenced;                // queued, when the fence was last set
    cudaEvent_t fence;
    struct lane lane[DEV_LANES];
    struct pinned_piece *pinned;  // [pinned_count] what host_alloc gave; see copy.cu
    uint32_t pinned_count;
    uint32_t *tickets;             // [TICKETS]; see below
    struct loader *loader;         // weights on their way; NULL when all have arrived
    struct slab *slab;             // memory of weights, newest first
    struct expert_table *experts;  // by layer; see experts.cu
    enum status failed;            // first failure since the last finish
    struct err failure;
};

static inline struct cuda_dev *cuda_of(struct dev *dev)
{
    return (struct cuda_dev *)dev;
}

/* Keeps the first failure for finish; `what` names the call or the kernel. True: there is none. */
bool cuda_worked(struct cuda_dev *cuda, cudaError_t error, const char *what);

/* Memory of one operation: cuda_scratch_begin ends the life of everything taken before; cuda_take
 * gives 256-byte aligned, uninitialised device memory. NULL: none is left, the failure is noted and
 * the operation just returns. Chunks are never given back before close: a captured graph keeps their
 * addresses. */
void cuda_scratch_begin(struct cuda_dev *cuda);
void *cuda_take(struct cuda_dev *cuda, size_t bytes);

/* cuda->tickets: counters on the device, zero between kernels; a kernel that uses one leaves it zero. */
enum { TICKETS = 65536 };

/* Device memory, counted; NULL: none is left. */
void *cuda_memory_take(struct cuda_dev *cuda, size_t bytes);
void cuda_memory_give(struct cuda_dev *cuda, void *data, size_t bytes);

/* ---- weights ------------------------------------------------------------------------------- */

enum {
    TILE_ROWS = 64,   // of every packed tile of a product's weights
    TILE_COLS = 128,  // FP8 and FP4; BF16: 64
};

/* WEIGHT_VECTOR: data is float [rows, cols]. WEIGHT_TABLE: data is as stored, row by row.
 * WEIGHT_LINEAR: packed as repack.cuh says; read by the products alone. */
struct weight {
    enum weight_use use;
    enum dtype type;      // of what data holds; I8: e2m1
    uint32_t rows, cols;  // logical elements
    uint8_t *data;        // device
    uint8_t *scale;       // LINEAR F8_E4M3, or NULL: one scale for each block; see repack.cuh
    uint32_t row_tiles, k_tiles;  // LINEAR
    size_t bytes;                 // of device memory
    struct slab *slab;
};

static inline const float *weight_floats(const struct weight *weight)
{
    must(weight->use == WEIGHT_VECTOR);
    return (const float *)weight->data;
}

/* ---- launching ----------------------------------------------------------------------------- */

/* Queues a kernel. With programmatic dependent launch its CTAs may start before the kernel before
 * it has ended: every kernel calls grid_launch() first thing, and grid_wait() before it touches
 * anything but weights, in every thread (tile/grid.cuh). */
template <typename... Params, typename... Args>
static inline void launch(struct cuda_dev *cuda, const char *name, void (*kernel)(Params...),
                          dim3 grid, unsigned threads, size_t shared, Args... args)
{
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = grid;
    config.blockDim = threads;
    config.dynamicSmemBytes = shared;
    config.stream = cuda->stream;
    cuda->queued++;
    config.attrs = &attribute;
    config.numAttrs = 1;
    if (shared > 48 * 1024 &&
        !cuda_worked(cuda,
                     cudaFuncSetAttribute((const void *)kernel,
                                          cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
                     name))
        return;
    cuda_worked(cuda, cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...), name);
}

/* The operation linear inside another one: takes workspace after what that one has taken. */
void cuda_products(struct cuda_dev *cuda, const struct linear_args *args);

/* ---- the operations, one file each --------------------------------------------------------- */

extern "C" {
#define OP(name) void cuda_##name(struct dev *dev, const struct name##_args *args);
#include "kernels/ops.def"
#undef OP

CHECKED enum status cuda_weight_load(struct dev *dev, const struct weight_source *source,
                                     struct weight **weight, struct err *err);
void cuda_weight_free(struct dev *dev, struct weight *weight);
size_t cuda_weight_bytes(const struct weight *weight);
void cuda_aside_begin(struct dev *dev);
void cuda_aside_end(struct dev *dev);
void cuda_aside_join(struct dev *dev);
void cuda_ceilings(struct dev *dev, struct ceilings *ceilings);
}

/* Waits for weights on their way. BAD_INPUT names a tensor with a value that is no number. */
CHECKED enum status cuda_loader_finish(struct cuda_dev *cuda, struct err *err);
void cuda_loader_close(struct cuda_dev *cuda);
void cuda_experts_close(struct cuda_dev *cuda);

/* ---- steps that overlap, and captured ones (step.cu) ---------------------------------------- */

void cuda_enter(struct dev *dev);
void cuda_mark(struct dev *dev, uint32_t mark);
CHECKED enum status cuda_wait(struct dev *dev, uint32_t mark, struct err *err);
void cuda_marks_close(struct cuda_dev *cuda);
void cuda_memory(struct dev *dev, struct dev_memory *memory);
void cuda_capture_begin(struct dev *dev);
struct graph *cuda_capture_end(struct dev *dev);
void cuda_graph_run(struct dev *dev, struct graph *graph);
void cuda_graph_free(struct dev *dev, struct graph *graph);

/* ---- copies beside the computing (lanes.cu) ------------------------------------------------- */

bool cuda_lanes_open(struct cuda_dev *cuda);
void cuda_lanes_close(struct cuda_dev *cuda);
void cuda_lane_out(struct dev *dev, void *to, const void *from, size_t bytes);
void cuda_lane_in(struct dev *dev, void *to, const void *from, size_t bytes);
uint64_t cuda_lane_mark(struct dev *dev, enum dev_lane lane);
bool cuda_lane_done(struct dev *dev, enum dev_lane lane, uint64_t place);

/* ---- memory of the host, and copies in the queue (copy.cu) ---------------------------------- */

void *cuda_host_alloc(struct dev *dev, size_t bytes);
void cuda_host_free(struct dev *dev, void *data, size_t bytes);
bool cuda_host_pin(struct dev *dev, void *data, size_t bytes);
void cuda_host_unpin(struct dev *dev, void *data, size_t bytes);
void cuda_copy_in(struct dev *dev, void *to, const void *from, size_t bytes);
void cuda_copy_out(struct dev *dev, void *to, const void *from, size_t bytes);
void cuda_copy_across(struct dev *dev, void *to, const void *from, size_t bytes);

#endif
