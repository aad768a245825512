/* sample.cu - from logits to a token, with the CPU's formulas and, but for sums in double, its order.
 *
 * A draw is the id at which the running sum of the shares, exp((logit - largest) / temperature), passes
 * a hash of seed and position. Here are the plain rows, the largest logit or a draw from all ids, shared
 * out over many CTAs: sample_peaks finds the largest logit of each slice, sample_sums sums the shares
 * by chunks as the CPU does, and sample_pick, one CTA a row, chooses. Other rows: sample_edges.cu.
 */
#include "kernels/cuda/sample.cuh"
#include "kernels/cuda/tile/grid.cuh"

enum {
    SLICE_CHUNKS = 16,
    SLICE = CHUNK * SLICE_CHUNKS,  // logits of a CTA
    SLICE_THREADS = 256,
    PICK_THREADS = 1024,
    PICK_WARPS = PICK_THREADS / 32,
};

/* ---- the largest ---------------------------------------------------------------------------- */

/* The largest of a row's slices, in every lane of the warp. */
static __device__ __forceinline__ uint64_t row_peak(const struct sample_job &job, uint32_t r)
{
    uint64_t most = 0;
    for (uint32_t i = threadIdx.x % 32; i < job.slices; i += 32) {
        uint64_t peak = job.peak[(size_t)r * job.slices + i];
        most = peak > most ? peak : most;
    }
    return warp_most(most);
}

static __global__ void __launch_bounds__(SLICE_THREADS) sample_peaks(struct sample_job job)
{
    enum { EACH = SLICE / SLICE_THREADS };
    __shared__ uint64_t room[SLICE_THREADS / 32];
    uint32_t r = blockIdx.y, first = blockIdx.x * SLICE + threadIdx.x, best = UINT32_MAX;
    const float *logit = job.logits + r * job.stride;
    float x[EACH], most = -INFINITY;

    grid_launch();
    grid_wait();
    if (!is_plain(job.row[r], job.vocab)) return;
#pragma unroll
    for (int i = 0; i < EACH; i++)
        x[i] = first + i * SLICE_THREADS < job.vocab ? logit[first + i * SLICE_THREADS] : -INFINITY;
#pragma unroll
    for (int i = 0; i < EACH; i++) most = fmaxf(most, x[i]);
#pragma unroll
    for (int i = EACH - 1; i >= 0; i--)
        if (x[i] == most) best = first + i * SLICE_THREADS;
    uint64_t peak = warp_most(best < job.vocab ? peak_of(most, best) : 0);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = peak;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    peak = warp_most(threadIdx.x < SLICE_THREADS / 32 ? room[threadIdx.x] : 0);
    if (threadIdx.x == 0) job.peak[(size_t)r * job.slices + blockIdx.x] = peak;
}

/* ---- shares --------------------------------------------------------------------------------- */

/* The sum of a chunk's shares by sixteen lanes, in the CPU's order; share(id) is asked for ids of the
 * vocabulary alone. All lanes of the warp call it. */
template <typename Share>
static __device__ __forceinline__ float chunk_sum(uint32_t chunk, uint32_t vocab,
                                                  const Share &share)
{
    uint32_t first = chunk * CHUNK, lane = threadIdx.x % 16;
    uint32_t count = first < vocab ? min(vocab - first, CHUNK) : 0;
    float sum = 0;
#pragma unroll
    for (uint32_t i = 0; i < CHUNK / 16; i++)
        if ((i + 1) * 16 <= count) sum = __fadd_rn(sum, share(first + i * 16 + lane));
#pragma unroll
    for (int step = 8; step; step /= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, step));
    for (uint32_t i = count / 16 * 16; i < count; i++) sum = __fadd_rn(sum, share(first + i));
    return sum;
}

static __global__ void __launch_bounds__(SLICE_THREADS) sample_sums(struct sample_job job)
{
    uint32_t r = blockIdx.y, chunk = blockIdx.x * SLICE_CHUNKS + threadIdx.x / 16;
    const float *logit = job.logits + r * job.stride;

    grid_launch();
    grid_wait();
    float temperature = job.row[r].temperature;
    if (!(temperature > 0) || !is_plain(job.row[r], job.vocab)) return;
    float most = peak_logit(row_peak(job, r));
    float sum = chunk_sum(chunk, job.vocab,
                          [&](uint32_t id) { return share_of(logit[id], most, temperature); });
    if (threadIdx.x % 16 == 0 && chunk < job.chunks)
        job.chunk[(size_t)r * job.chunks + chunk] = sum;
}

/* ---- one CTA a row -------------------------------------------------------------------------- */

struct pick_room {  // shared
    double warp[PICK_WARPS];
    uint32_t thread, last, chunk;
    double before;
};

/* The sum before this thread's x, and through it; the one of a thread is the other of the next. */
static __device__ __forceinline__ double cta_before(struct pick_room *room, double x,
                                                    double *through)
{
    uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    double sum = x, before = 0;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        double below = __shfl_up_sync(0xffffffffu, sum, step);
        if (lane >= step) sum += below;
    }
    __syncthreads();
    if (lane == 31) room->warp[warp] = sum;
    __syncthreads();
    for (uint32_t i = 0; i < warp; i++) before += room->warp[i];
    double below = __shfl_up_sync(0xffffffffu, sum, 1);
    *through = before + sum;
    return lane ? before + below : before;
}

static __device__ __forceinline__ double
cta_total(const struct pick_room *room)  // of the last call
{
    double sum = 0;
    for (int i = 0; i < PICK_WARPS; i++) sum += room->warp[i];
    return sum;
}

/* The id in a chunk at which the running sum passes the target, or its last with a share; a warp. */
template <typename Share>
static __device__ __forceinline__ uint32_t pick_inside(uint32_t chunk, uint32_t vocab,
                                                       double before, double target,
                                                       const Share &share)
{
    enum { EACH = CHUNK / 32 };
    uint32_t lane = threadIdx.x % 32, first = chunk * CHUNK + lane * EACH;
    double sum = 0, through, part;
    float p[EACH];
    int here = -1, last = -1;

    for (int i = 0; i < EACH; i++) {
        p[i] = first + i < vocab ? share(first + i) : 0;
        sum += (double)p[i];
    }
    through = sum;
    for (int step = 1; step < 32; step *= 2) {
        double below = __shfl_up_sync(0xffffffffu, through, step);
        if (lane >= step) through += below;
    }
    part = before + (through - sum);
    for (int i = 0; i < EACH; i++) {
        part += (double)p[i];
        if (p[i] > 0) {
            last = i;
            if (here < 0 && part > target) here = i;
        }
    }
    uint32_t passed = __ballot_sync(0xffffffffu, here >= 0);
    uint32_t some = __ballot_sync(0xffffffffu, last >= 0);
    uint32_t from = passed ? __ffs(passed) - 1 : some ? 31 - __clz(some) : 0;
    int at = __shfl_sync(0xffffffffu, passed ? here : last, from);
    return chunk * CHUNK + from * EACH + (at < 0 ? 0 : at);
}

/* The id at which the running sum of the shares passes u of the whole: first the chunk, by its sum in
 * job.chunk, then inside it. Every thread gets it. */
template <typename Share>
static __device__ uint32_t pick(struct pick_room *room, const float *chunk, uint32_t chunks,
                                uint32_t vocab, double u, const Share &share)
{
    uint32_t each = (chunks + PICK_THREADS - 1) / PICK_THREADS, first = threadIdx.x * each;
    double sum = 0, through;

    for (uint32_t i = first; i < min(chunks, first + each); i++) sum += (double)chunk[i];
    double before = cta_before(room, sum, &through), target = u * cta_total(room);
    if (threadIdx.x == 0) room->thread = UINT32_MAX, room->last = room->chunk = 0;
    __syncthreads();
    if (sum > 0) {
        if (through > target) atomicMin(&room->thread, threadIdx.x);
        atomicMax(&room->last, threadIdx.x);
    }
    __syncthreads();
    uint32_t mine = room->thread == UINT32_MAX ? room->last : room->thread;
    if (threadIdx.x == mine) {
        for (uint32_t i = first; i < min(chunks, first + each); i++) {
            if (!(chunk[i] > 0)) continue;
            room->chunk = i;
            room->before = before;
            before += (double)chunk[i];
            if (before > target) break;
        }
    }
    __syncthreads();
    return pick_inside(room->chunk, vocab, room->before, target, share);
}

static __global__ void __launch_bounds__(PICK_THREADS) sample_pick(struct sample_job job)
{
    __shared__ struct pick_room room;
    uint32_t r = blockIdx.x;

    grid_launch();
    grid_wait();
    const struct sample_row &row = job.row[r];
    if (!is_plain(row, job.vocab)) return;
    const float *logit = job.logits + r * job.stride;
    uint64_t peak = row_peak(job, r);
    uint32_t id = peak_id(peak);
    float most = peak_logit(peak), temperature = row.temperature;
    if (temperature > 0 && most > -INFINITY)
        id = pick(&room, job.chunk + (size_t)r * job.chunks, job.chunks, job.vocab,
                  uniform(row.seed, row.position),
                  [&](uint32_t i) { return share_of(logit[i], most, temperature); });
    if (threadIdx.x == 0) {
        job.out[r].id = id;
        job.out[r].wrong = isnan(logit[0]);  // what is wrong before the head is so in all of them
    }
}

extern "C" void cuda_sample(struct dev *dev, const struct sample_args *args)
{
    struct cuda_dev *cuda = cuda_of(dev);
    uint32_t rows = args->logits.rows, vocab = args->logits.cols;

    if (rows == 0) return;
    must(args->logits.type == DT_F32 && vocab > 0);
    struct sample_job job = { .logits = (const float *)args->logits.data,
                              .stride = args->logits.stride,
                              .rows = rows,
                              .vocab = vocab,
                              .slices = (vocab + SLICE - 1) / SLICE,
                              .chunks = (vocab + CHUNK - 1) / CHUNK,
                              .row = args->row,
                              .out = args->out };
    cuda_scratch_begin(cuda);
    job.peak = (uint64_t *)cuda_take(cuda, (size_t)rows * job.slices * sizeof(uint64_t));
    job.chunk = (float *)cuda_take(cuda, (size_t)rows * job.chunks * sizeof(float));
    if (!job.peak || !job.chunk) return;
    launch(cuda, "sample peaks", sample_peaks, dim3(job.slices, rows), SLICE_THREADS, 0, job);
    launch(cuda, "sample sums", sample_sums, dim3(job.slices, rows), SLICE_THREADS, 0, job);
    launch(cuda, "sample pick", sample_pick, dim3(rows), PICK_THREADS, 0, job);
    sample_edges(cuda, &job);
}
