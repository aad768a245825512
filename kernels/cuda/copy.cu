/* copy.cu - memory of the host that the card reaches, and copies in the queue of operations.
 *
 * Small copies to and from such memory, those of a step, are made by a kernel: a copy engine would
 * take them behind everything that the lanes have given it.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/grid.cuh"

#define KERNEL_BYTES ((size_t)4 << 20)  // more is a copy engine's

enum { COPY_THREADS = 256 };

struct pinned_piece {
    char *data;
    size_t bytes;
};

/* ---- memory of the host -------------------------------------------------------------------- */

static void remember(struct cuda_dev *cuda, void *data, size_t bytes)
{
    size_t room = (cuda->pinned_count + 1) * sizeof *cuda->pinned;
    struct pinned_piece *grown = (struct pinned_piece *)realloc(cuda->pinned, room);
    if (!grown) return;  // its copies are a copy engine's
    grown[cuda->pinned_count++] = { (char *)data, bytes };
    cuda->pinned = grown;
}

static void forget(struct cuda_dev *cuda, const void *data)
{
    for (uint32_t i = 0; i < cuda->pinned_count; i++)
        if (cuda->pinned[i].data == data) cuda->pinned[i--] = cuda->pinned[--cuda->pinned_count];
}

static bool is_pinned(const struct cuda_dev *cuda, const void *data, size_t bytes)
{
    uintptr_t at = (uintptr_t)data;
    for (uint32_t i = 0; i < cuda->pinned_count; i++) {
        uintptr_t start = (uintptr_t)cuda->pinned[i].data;
        if (at >= start && at + bytes <= start + cuda->pinned[i].bytes) return true;
    }
    return false;
}

void *cuda_host_alloc(struct dev *dev, size_t bytes)
{
    void *data = NULL;
    if (cudaHostAlloc(&data, bytes ? bytes : 1, cudaHostAllocDefault) != cudaSuccess) {
        (void)cudaGetLastError();  // an allocation that fails leaves the context whole
        return NULL;
    }
    memset(data, 0, bytes);
    remember(cuda_of(dev), data, bytes);
    return data;
}

void cuda_host_free(struct dev *dev, void *data, size_t)
{
    if (!data) return;
    forget(cuda_of(dev), data);
    cuda_worked(cuda_of(dev), cudaFreeHost(data), "freeing pinned memory");
}

bool cuda_host_pin(struct dev *, void *data, size_t bytes)
{
    if (cudaHostRegister(data, bytes, cudaHostRegisterDefault) == cudaSuccess) return true;
    (void)cudaGetLastError();  // the limit of locked memory, say: nothing is broken
    return false;
}

void cuda_host_unpin(struct dev *dev, void *data, size_t)
{
    cuda_worked(cuda_of(dev), cudaHostUnregister(data), "unpinning memory");
}

/* ---- copies -------------------------------------------------------------------------------- */

/* Sixteen bytes at a time, then single words. Memory of the host is read past the caches. */
static __global__ void __launch_bounds__(COPY_THREADS)
    copy_words(uint32_t *to, const uint32_t *from, uint32_t vectors, uint32_t words)
{
    uint32_t i = blockIdx.x * COPY_THREADS + threadIdx.x;

    grid_launch();
    grid_wait();
    for (uint32_t v = i; v < vectors; v += gridDim.x * COPY_THREADS)
        ((uint4 *)to)[v] = __ldcv((const uint4 *)from + v);
    for (uint32_t w = vectors * 4 + i; w < words; w += gridDim.x * COPY_THREADS)
        to[w] = __ldcv(from + w);
}

static void copy_by_kernel(struct cuda_dev *cuda, void *to, const void *from, size_t bytes)
{
    bool wide = ((uintptr_t)to | (uintptr_t)from) % 16 == 0;
    uint32_t words = (uint32_t)(bytes / 4), vectors = wide ? words / 4 : 0;
    uint32_t most = (unsigned)cuda->sms, ctas = (wide ? vectors : words) / COPY_THREADS + 1;
    launch(cuda, "copying", copy_words, dim3(ctas < most ? ctas : most), COPY_THREADS, 0,
           (uint32_t *)to, (const uint32_t *)from, vectors, words);
}

static void copy_by_engine(struct cuda_dev *cuda, void *to, const void *from, size_t bytes,
                           cudaMemcpyKind kind)
{
    cuda->queued++;
    cuda_worked(cuda, cudaMemcpyAsync(to, from, bytes, kind, cuda->stream),
                kind == cudaMemcpyHostToDevice   ? "copying to the GPU"
                : kind == cudaMemcpyDeviceToHost ? "copying from the GPU"
                                                 : "copying on the GPU");
}

static void copy(struct cuda_dev *cuda, void *to, const void *from, size_t bytes,
                 cudaMemcpyKind kind)
{
    const void *host = kind == cudaMemcpyHostToDevice ? from : to;
    bool words = ((uintptr_t)to | (uintptr_t)from | bytes) % 4 == 0;
    if (!bytes) return;
    if (words && bytes <= KERNEL_BYTES && is_pinned(cuda, host, bytes))
        copy_by_kernel(cuda, to, from, bytes);
    else copy_by_engine(cuda, to, from, bytes, kind);
}

/* The source is read before the call returns, as with pageable memory, unless it is pinned: then it
 * must live until finish. */
void cuda_copy_in(struct dev *dev, void *to, const void *from, size_t bytes)
{
    copy(cuda_of(dev), to, from, bytes, cudaMemcpyHostToDevice);
}

void cuda_copy_out(struct dev *dev, void *to, const void *from, size_t bytes)
{
    copy(cuda_of(dev), to, from, bytes, cudaMemcpyDeviceToHost);
}

void cuda_copy_across(struct dev *dev, void *to, const void *from, size_t bytes)
{
    if (bytes) copy_by_engine(cuda_of(dev), to, from, bytes, cudaMemcpyDeviceToDevice);
}
