/* cuda.cu - opening a GPU, its memory, its first failure, and the table of operations. */
#include "kernels/cuda/cuda.h"

/* ---- failures ------------------------------------------------------------------------------ */

bool cuda_worked(struct cuda_dev *cuda, cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return true;
    if (cuda->failed != OK) return false;
    cuda->failed = error == cudaErrorMemoryAllocation     ? NO_MEMORY
                   : error == cudaErrorDevicesUnavailable ? BUSY  // another process has it alone
                                                          : DEVICE_FAILED;
    snprintf(cuda->failure.text, sizeof cuda->failure.text, "GPU %d: %s: %s", cuda->index, what,
             cudaGetErrorString(error));
    return false;
}

static enum status cuda_finish(struct dev *dev, struct err *err)
{
    struct cuda_dev *cuda = cuda_of(dev);
    enum status loaded = cuda_loader_finish(cuda, err);
    cuda_worked(cuda, cudaStreamSynchronize(cuda->stream), "a step");
    cuda_worked(cuda, cudaGetLastError(), "a step");
    enum status status = cuda->failed;
    if (status == OK) return loaded;
    if (err) *err = cuda->failure;
    cuda->failed = OK;
    return status;
}

/* ---- memory -------------------------------------------------------------------------------- */

void *cuda_memory_take(struct cuda_dev *cuda, size_t bytes)
{
    void *data = NULL;
    cudaError_t error = cudaMalloc(&data, bytes);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();  // an allocation that fails leaves the context whole
        return NULL;
    }
    cuda->memory += bytes;
    return data;
}

void cuda_memory_give(struct cuda_dev *cuda, void *data, size_t bytes)
{
    cuda->memory -= bytes;
    cuda_worked(cuda, cudaFree(data), "freeing memory");
}

static void *cuda_alloc(struct dev *dev, size_t bytes)
{
    struct cuda_dev *cuda = cuda_of(dev);
    void *data = cuda_memory_take(cuda, bytes ? bytes : 1);
    if (data) cuda_worked(cuda, cudaMemsetAsync(data, 0, bytes, cuda->stream), "clearing memory");
    cuda->queued++;
    return data;
}

static void cuda_free(struct dev *dev, void *data, size_t bytes)
{
    if (data) cuda_memory_give(cuda_of(dev), data, bytes ? bytes : 1);
}

struct workspace_chunk {
    struct workspace_chunk *older;
    char *data;
    size_t bytes;
};

enum { WORKSPACE_BYTES = 64 << 20, WORKSPACE_ALIGN = 256 };

void cuda_scratch_begin(struct cuda_dev *cuda)
{
    cuda->chunk_used = cuda->taken = 0;
}

/* A chunk that is added has room for all the operation has taken so far: when the operation runs again
 * all of it fits, so a capture after a first run allocates nothing. */
void *cuda_take(struct cuda_dev *cuda, size_t bytes)
{
    bytes = (bytes + WORKSPACE_ALIGN - 1) / WORKSPACE_ALIGN * WORKSPACE_ALIGN;
    if (!cuda->chunk || cuda->chunk->bytes - cuda->chunk_used < bytes) {
        size_t room = cuda->chunk ? 2 * cuda->chunk->bytes : (size_t)WORKSPACE_BYTES;
        while (room < cuda->taken + bytes) room *= 2;
        struct workspace_chunk *chunk = (struct workspace_chunk *)calloc(1, sizeof *chunk);
        if (chunk) chunk->data = (char *)cuda_memory_take(cuda, room);
        if (!chunk || !chunk->data) {
            free(chunk);
            cuda_worked(cuda, cudaErrorMemoryAllocation, "workspace");
            return NULL;
        }
        chunk->older = cuda->chunk;
        chunk->bytes = room;
        cuda->chunk = chunk;
        cuda->chunk_used = 0;
    }
    void *data = cuda->chunk->data + cuda->chunk_used;
    cuda->chunk_used += bytes;
    cuda->taken += bytes;
    return data;
}

/* ---- opening ------------------------------------------------------------------------------- */

static void cuda_close(struct dev *dev)
{
    struct cuda_dev *cuda = cuda_of(dev);
    cuda_loader_close(cuda);
    cuda_marks_close(cuda);
    cuda_lanes_close(cuda);
    cuda_experts_close(cuda);
    if (cuda->stream) {
        (void)cudaStreamSynchronize(cuda->stream);
        (void)cudaStreamDestroy(cuda->stream);
    }
    if (cuda->aside) (void)cudaStreamDestroy(cuda->aside);
    if (cuda->fork) (void)cudaEventDestroy(cuda->fork);
    if (cuda->join) (void)cudaEventDestroy(cuda->join);
    (void)cudaFree(cuda->tickets);
    free(cuda->pinned);
    for (struct workspace_chunk *chunk = cuda->chunk, *older; chunk; chunk = older) {
        older = chunk->older;
        (void)cudaFree(chunk->data);
        free(chunk);
    }
    free(cuda);
}

static enum status check_card(int index, int *sms, struct err *err)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess)
        return fail(err, DEVICE_FAILED, "cuda: no GPU can be used: %s", cudaGetErrorString(error));
    if (index < 0 || index >= count)
        return fail(err, BAD_INPUT, "cuda: GPU %d was asked for, and there are %d", index, count);
    struct cudaDeviceProp card;
    error = cudaGetDeviceProperties(&card, index);
    if (error != cudaSuccess)
        return fail(err, DEVICE_FAILED, "cuda: GPU %d: %s", index, cudaGetErrorString(error));
    if (card.major != 9 || card.minor != 0)
        return fail(err, BAD_INPUT,
                    "cuda: GPU %d is %s of compute capability %d.%d, wanted 9.0 (H100, H200)",
                    index, card.name, card.major, card.minor);
    *sms = card.multiProcessorCount;
    return OK;
}

static bool take_tickets(struct cuda_dev *cuda)
{
    size_t bytes = TICKETS * sizeof *cuda->tickets;
    cuda->tickets = (uint32_t *)cuda_memory_take(cuda, bytes);
    return cuda_worked(cuda,
                       cuda->tickets ? cudaMemsetAsync(cuda->tickets, 0, bytes, cuda->stream)
                                     : cudaErrorMemoryAllocation,
                       "tickets");
}

static enum status cuda_open(const struct dev_options *options, struct dev **dev, struct err *err)
{
    int sms = 0;
    if (options->numerics != NUMERICS_OFFICIAL)
        return fail(err, BAD_INPUT,
                    "cuda: numerics: found exact, wanted official; exact runs on the CPU");
    enum status status = check_card(options->index, &sms, err);
    if (status != OK) return status;

    struct cuda_dev *cuda = (struct cuda_dev *)calloc(1, sizeof *cuda);
    if (!cuda) return fail(err, NO_MEMORY, "cuda: no memory is left");
    cuda->dev.ops = &cuda_ops;
    cuda->dev.numerics = options->numerics;
    cuda->dev.activation = DT_BF16;
    cuda->index = options->index;
    cuda->sms = sms;
    if (!cuda_worked(cuda, cudaSetDevice(cuda->index), "choosing it") ||
        !cuda_worked(cuda, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking),
                     "making a stream") ||
        !cuda_worked(cuda, cudaStreamCreateWithFlags(&cuda->aside, cudaStreamNonBlocking),
                     "making a stream") ||
        !cuda_worked(cuda, cudaEventCreateWithFlags(&cuda->fork, cudaEventDisableTiming),
                     "making an event") ||
        !cuda_worked(cuda, cudaEventCreateWithFlags(&cuda->join, cudaEventDisableTiming),
                     "making an event") ||
        !cuda_lanes_open(cuda) || !take_tickets(cuda)) {
        *err = cuda->failure;
        status = cuda->failed;
        cuda_close(&cuda->dev);
        return status;
    }
    *dev = &cuda->dev;
    return OK;
}

extern "C" const struct ops cuda_ops = {
    .name = "cuda",
    .fills = true,
    .open = cuda_open,
    .close = cuda_close,
    .ceilings = cuda_ceilings,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .copy_in = cuda_copy_in,
    .copy_out = cuda_copy_out,
    .copy_across = cuda_copy_across,
    .finish = cuda_finish,
    .enter = cuda_enter,
    .host_alloc = cuda_host_alloc,
    .host_free = cuda_host_free,
    .lane_out = cuda_lane_out,
    .lane_in = cuda_lane_in,
    .lane_mark = cuda_lane_mark,
    .lane_done = cuda_lane_done,
    .host_pin = cuda_host_pin,
    .host_unpin = cuda_host_unpin,
    .mark = cuda_mark,
    .wait = cuda_wait,
    .aside_begin = cuda_aside_begin,
    .aside_end = cuda_aside_end,
    .aside_join = cuda_aside_join,
    .memory = cuda_memory,
    .capture_begin = cuda_capture_begin,
    .capture_end = cuda_capture_end,
    .graph_run = cuda_graph_run,
    .graph_free = cuda_graph_free,
    .weight_load = cuda_weight_load,
    .weight_free = cuda_weight_free,
    .weight_bytes = cuda_weight_bytes,
#define OP(name) .name = cuda_##name,
#include "kernels/ops.def"
#undef OP
};
