/* ceilings.cu - what this card reaches at best, measured: benchmarks say percent of it.
 *
 * Reading: every thread keeps four 16-byte loads in flight over a buffer far larger than the L2.
 * Products: each warpgroup repeats wgmma on random tiles that stay in shared memory.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/bulk.cuh"
#include "kernels/cuda/tile/wgmma.cuh"

enum {
    READ_BYTES = 1 << 30,
    REPEATS = 9,
    ROUNDS = 4096,  // instructions of a warpgroup in one launch
    PRODUCT_COLUMNS = 128,
};

static __global__ void read_all(const uint4 *data, size_t count, uint32_t *sink)
{
    size_t step = (size_t)gridDim.x * blockDim.x;
    uint32_t sum = 0;
    size_t whole = count / (4 * step) * (4 * step);
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < whole; i += 4 * step) {
        uint4 word[4];
#pragma unroll
        for (int k = 0; k < 4; k++) word[k] = __ldcs(data + i + k * step);
#pragma unroll
        for (int k = 0; k < 4; k++) sum ^= word[k].x ^ word[k].y ^ word[k].z ^ word[k].w;
    }
    if (sum == 0x12345678u) *sink = sum;  // so that nothing is left out
}

static __global__ void fill_noise(uint32_t *data, size_t count)
{
    struct random_fill fill = { RANDOM_E4M3, 1, 0, 0, 0 };
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        data[i] = (uint32_t)random_codes(&fill, i * 8);
}

/* Two warpgroups, one tile of A each (8 KB), one of B (16 KB). */
template <bool FP8> static __global__ void __launch_bounds__(256, 1) multiply(uint32_t *sink)
{
    extern __shared__ __align__(1024) uint8_t room[];
    struct random_fill fill = { RANDOM_E4M3, 2, 0, 0, 0 };
    for (uint32_t i = threadIdx.x; i < 32 * 1024 / 8; i += blockDim.x) {
        uint64_t codes = random_codes(&fill, i * 8);
        if (!FP8) codes = (codes & 0x81ff81ff81ff81ffull) | 0x3e003e003e003e00ull;
        ((uint64_t *)room)[i] = codes;
    }
    shared_written();
    __syncthreads();
    uint64_t a = wgmma_rows(shared_address(room + threadIdx.x / 128 * 8192));
    uint64_t b = wgmma_rows(shared_address(room + 16384));
    float d[PRODUCT_COLUMNS / 2] = { 0 };
    for (int round = 0; round < ROUNDS; round += 4) {
        wgmma_begin();
#pragma unroll
        for (int s = 0; s < 4; s++) {
            if (FP8) wgmma<PRODUCT_COLUMNS>::fp8(d, a + 2 * s, b + 2 * s, true);
            else wgmma<PRODUCT_COLUMNS>::bf16(d, a + 2 * s, b + 2 * s, true);
        }
        wgmma_commit();
        wgmma_wait<0>();
    }
    float sum = 0;
    for (int i = 0; i < PRODUCT_COLUMNS / 2; i++) sum += d[i];
    if (sum == 0.123456789f) *sink = 1;
}

/* Median seconds of a launch; 0 when something failed. */
template <typename Queue> static double seconds(struct cuda_dev *cuda, Queue queue)
{
    cudaEvent_t from, to;
    float ms[REPEATS] = { 0 };
    if (!cuda_worked(cuda, cudaEventCreate(&from), "making an event")) return 0;
    if (!cuda_worked(cuda, cudaEventCreate(&to), "making an event")) return 0;
    queue();
    for (int i = 0; i < REPEATS; i++) {
        cuda_worked(cuda, cudaEventRecord(from, cuda->stream), "timing");
        queue();
        cuda_worked(cuda, cudaEventRecord(to, cuda->stream), "timing");
        cuda_worked(cuda, cudaEventSynchronize(to), "timing");
        cuda_worked(cuda, cudaEventElapsedTime(&ms[i], from, to), "timing");
        for (int k = i; k > 0 && ms[k] < ms[k - 1]; k--) {
            float swap = ms[k];
            ms[k] = ms[k - 1];
            ms[k - 1] = swap;
        }
    }
    (void)cudaEventDestroy(from);
    (void)cudaEventDestroy(to);
    return ms[REPEATS / 2] * 1e-3;
}

template <bool FP8> static double product_rate(struct cuda_dev *cuda, uint32_t *sink)
{
    const size_t shared = 32 * 1024;
    unsigned grid = (unsigned)cuda->sms;
    double s = seconds(cuda, [&] { multiply<FP8><<<grid, 256, shared, cuda->stream>>>(sink); });
    double each = (double)(2ull * 2 * 64 * PRODUCT_COLUMNS * ROUNDS * (FP8 ? 32 : 16));
    return s > 0 ? each * grid / s : 0;
}

extern "C" void cuda_ceilings(struct dev *dev, struct ceilings *ceilings)
{
    struct cuda_dev *cuda = cuda_of(dev);
    uint32_t *data = (uint32_t *)cuda_memory_take(cuda, READ_BYTES);
    *ceilings = (struct ceilings){ 0 };
    if (!data) {
        cuda_worked(cuda, cudaErrorMemoryAllocation, "measuring the card");
        return;
    }
    fill_noise<<<1024, 256, 0, cuda->stream>>>(data, READ_BYTES / 4);
    unsigned grid = (unsigned)cuda->sms * 2;
    size_t count = READ_BYTES / 16, round = (size_t)grid * 1024 * 4;
    double s = seconds(
        cuda, [&] { read_all<<<grid, 1024, 0, cuda->stream>>>((const uint4 *)data, count, data); });
    if (s > 0) ceilings->read = (double)(count / round * round) * 16 / s;
    ceilings->fp8 = product_rate<true>(cuda, data);
    ceilings->bf16 = product_rate<false>(cuda, data);
    cuda_memory_give(cuda, data, READ_BYTES);
}
