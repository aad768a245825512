/* attention_split.cu - attention where the keys of a unit are many CTAs' work: few tokens.
 *
 * Two kernels that together do what a CTA of attention.cu does, in the same order. The first makes the
 * scores of single blocks and leaves them and the block's unpacked keys in the workspace: an item is a
 * block of a unit, and a CTA takes items blockIdx.x, + gridDim.x, ... of all units' blocks in a row.
 * In the second a CTA has one panel of 64 channels of a unit's output and walks all its blocks; the
 * copy engine brings scores and panels some blocks ahead.
 */
#include "kernels/cuda/attention.cuh"

enum {
    SCORE_THREADS = 2 * WARPGROUP,
    SCORE_BYTES = HEADS * KEYS * 4,          // of an item
    ROWS_EACH = KEYS / (SCORE_THREADS / 8),  // of a thread: eight threads have a row
    PANEL_THREADS = WARPGROUP + 32,
    STAGES = 4,
};

struct split_job {
    struct attention_job job;
    uint32_t blocks;  // items of a unit, at most
    char *image;      // [units * blocks, IMAGE_BYTES]
    float4 *score;    // [units * blocks, 8, WARPGROUP]: a thread's registers of the product
};

/* ---- scores -------------------------------------------------------------------------------- */

struct score_shared {
    char heads[IMAGE_BYTES];
    char keys[IMAGE_BYTES];
    char feed[ROWS_EACH * PARTS * SCORE_THREADS * 8];
    uint32_t first[SPLIT_UNITS + 1];  // item of each unit's block 0
    uint32_t part[SCORE_THREADS / 32];
};

/* Items of the units before each one. */
__device__ __forceinline__ void count_items(const struct attention_job &job, uint32_t units,
                                            struct score_shared *shared)
{
    uint32_t unit = threadIdx.x, lane = unit % 32, warp = unit / 32;
    uint32_t own = unit < units ? keys_of(job, unit / job.groups).blocks : 0, sum = own;

#pragma unroll
    for (uint32_t step = 1; step < 32; step *= 2) {
        uint32_t before = __shfl_up_sync(~0u, sum, step);
        if (lane >= step) sum += before;
    }
    if (lane == 31) shared->part[warp] = sum;
    __syncthreads();
    for (uint32_t i = 0; i < warp; i++) sum += shared->part[i];
    if (unit < units) shared->first[unit + 1] = sum;
    if (unit == 0) shared->first[0] = 0;
    __syncthreads();
}

__device__ __forceinline__ uint32_t unit_of(const struct score_shared *shared, uint32_t units,
                                            uint32_t item)
{
    uint32_t low = 0, high = units;  // first[low] <= item < first[high]
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (shared->first[middle] <= item) low = middle;
        else high = middle;
    }
    return low;
}

__device__ __forceinline__ void score_item(const struct split_job &split,
                                           struct score_shared *shared, uint32_t unit,
                                           uint32_t block, bool fresh)
{
    const struct attention_job &job = split.job;
    uint32_t thread = threadIdx.x, lane = thread % 32,
             slot = shared_address(shared->feed) + thread * 8;
    uint32_t heads = shared_address(shared->heads), keys = shared_address(shared->keys);
    struct key_list list = keys_of(job, unit / job.groups);
    size_t item = (size_t)unit * split.blocks + block;
    const uint32_t slot_bytes = PARTS * SCORE_THREADS * 8;
    uint32_t key[ROWS_EACH], entry[ROWS_EACH];

#pragma unroll
    for (int i = 0; i < ROWS_EACH; i++) {
        key[i] = block * KEYS + i * (SCORE_THREADS / 8) + thread / 8;
        entry[i] = key_entry(job, list, key[i]);
    }
    if (fresh) heads_fetch<SCORE_THREADS>(job, heads, unit / job.groups, unit % job.groups, thread);
#pragma unroll
    for (int i = 0; i < ROWS_EACH; i++) {
        uint32_t in = key_block(job, list, key[i], entry[i]);
        row_fetch<SCORE_THREADS>(slot + i * slot_bytes, key_row(job, list, key[i], entry[i], in),
                                 lane);
    }
    copy_commit();
    copy_wait<0>();
#pragma unroll
    for (int i = 0; i < ROWS_EACH; i++)
        row_unpack<SCORE_THREADS>(keys, split.image + item * IMAGE_BYTES, slot + i * slot_bytes,
                                  key[i] % KEYS, lane);
    shared_written();
    __syncthreads();
    if (thread < WARPGROUP) {
        float score[KEYS / 2];
        wgmma_begin();
#pragma unroll
        for (int step = 0; step < ENTRY_DIM / 16; step++)
            wgmma<KEYS>::bf16(score, along_channels(heads, step), along_channels(keys, step),
                              step > 0);
        wgmma_commit();
        wgmma_wait<0>();
        float4 *out = split.score + item * (SCORE_BYTES / 16) + thread;
#pragma unroll
        for (int i = 0; i < 8; i++)
            out[i * WARPGROUP] =
                make_float4(score[4 * i], score[4 * i + 1], score[4 * i + 2], score[4 * i + 3]);
    }
    __syncthreads();
}

__global__ void __launch_bounds__(SCORE_THREADS, 1)
    attention_scores(const __grid_constant__ struct split_job split)
{
    extern __shared__ __align__(1024) char memory[];
    struct score_shared *shared = (struct score_shared *)memory;
    uint32_t units = split.job.batch.tokens * split.job.groups, had = units;

    grid_launch();
    grid_wait();
    count_items(split.job, units, shared);
    for (uint32_t item = blockIdx.x; item < shared->first[units]; item += gridDim.x) {
        uint32_t unit = unit_of(shared, units, item);
        score_item(split, shared, unit, item - shared->first[unit], unit != had);
        had = unit;
    }
}

/* ---- output -------------------------------------------------------------------------------- */

struct panel_stage {
    char keys[PANEL_BYTES];
    float4 score[8][WARPGROUP];
};

struct panel_shared {
    struct panel_stage stage[STAGES];
    float2 turn[ROPE_DIM / 2];
    mbarrier full[STAGES], empty[STAGES], turned;
};

/* One thread brings every block's scores and panel. */
__device__ __forceinline__ void panel_bring(const struct split_job &split,
                                            struct panel_shared *shared, uint32_t unit,
                                            uint32_t panel, uint32_t from, uint32_t to)
{
    for (uint32_t block = from; block < to; block++) {
        uint32_t at = block % STAGES, pass = block / STAGES;
        struct panel_stage *stage = &shared->stage[at];
        size_t item = (size_t)unit * split.blocks + block;
        if (pass > 0) mbarrier_wait(&shared->empty[at], (pass - 1) & 1);
        mbarrier_expect(&shared->full[at], sizeof *stage);
        bulk_load(stage->score, split.score + item * (SCORE_BYTES / 16), SCORE_BYTES,
                  &shared->full[at]);
        bulk_load(stage->keys, split.image + item * IMAGE_BYTES + panel * PANEL_BYTES, PANEL_BYTES,
                  &shared->full[at]);
    }
}

__device__ __forceinline__ void panel_walk(const struct split_job &split,
                                           struct panel_shared *shared, uint32_t unit,
                                           uint32_t panel, const struct key_list &list)
{
    const struct attention_job &job = split.job;
    uint32_t thread = threadIdx.x, lane = thread % 32, group = unit % job.groups;
    uint32_t head = group * HEADS + thread / 32 * 16 + lane / 4;
    struct softmax softmax;
    float o[32], scale[2], sink[2];

#pragma unroll
    for (int h = 0; h < 2; h++) sink[h] = head + 8 * h < job.heads ? job.sink[head + 8 * h] : 0;
    softmax_init(softmax);
#pragma unroll
    for (int i = 0; i < 32; i++) o[i] = 0;
    for (uint32_t block = 0; block < list.blocks; block++) {
        uint32_t at = block % STAGES, weight[4][4];
        struct panel_stage *stage = &shared->stage[at];
        float score[KEYS / 2], keep[2];

        mbarrier_wait(&shared->full[at], block / STAGES & 1);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float4 four = stage->score[i][thread];
            score[4 * i] = four.x, score[4 * i + 1] = four.y;
            score[4 * i + 2] = four.z, score[4 * i + 3] = four.w;
        }
        softmax_block(softmax, score, list.keys - block * KEYS, weight, keep);
#pragma unroll
        for (int i = 0; i < 32; i++) o[i] = __fmul_rn(o[i], keep[i / 2 % 2]);
        wgmma_begin();
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++)
            wgmma<64>::bf16_regs<1>(o, weight[step], along_keys(shared_address(stage->keys), step),
                                    true);
        wgmma_commit();
        wgmma_wait<0>();
        if (lane == 0) mbarrier_arrive(&shared->empty[at]);
    }
#pragma unroll
    for (int h = 0; h < 2; h++) scale[h] = softmax_finish(softmax, h, sink[h]);
    if (panel == PANELS - 1) mbarrier_wait(&shared->turned, 0);
    output_store<64>(job, unit / job.groups, group, panel * 64, o, scale, shared->turn);
}

__global__ void __launch_bounds__(PANEL_THREADS)
    attention_panels(const __grid_constant__ struct split_job split)
{
    extern __shared__ __align__(1024) char memory[];
    struct panel_shared *shared = (struct panel_shared *)memory;
    uint32_t unit = blockIdx.x / PANELS, panel = blockIdx.x % PANELS;

    grid_launch();
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            mbarrier_init(&shared->full[i], 1);
            mbarrier_init(&shared->empty[i], WARPGROUP / 32);
        }
        mbarrier_init(&shared->turned, 32);
        mbarrier_init_done();
    }
    __syncthreads();
    grid_wait();
    struct key_list list = keys_of(split.job, unit / split.job.groups);
    if (threadIdx.x < WARPGROUP) {
        panel_walk(split, shared, unit, panel, list);
        return;
    }
    uint32_t lane = threadIdx.x % 32, ahead = min(list.blocks, (uint32_t)STAGES);
    if (lane == 0) panel_bring(split, shared, unit, panel, 0, ahead);
    if (panel == PANELS - 1) shared->turn[lane] = rope_turn(split.job.rope, lane, list.position);
    mbarrier_arrive(&shared->turned);
    if (lane == 0) panel_bring(split, shared, unit, panel, ahead, list.blocks);
}

void attention_split(struct cuda_dev *cuda, const struct attention_job &job, uint32_t blocks)
{
    uint32_t units = job.batch.tokens * job.groups, items = units * blocks;
    uint32_t most = (uint32_t)cuda->sms;
    struct split_job split = { .job = job, .blocks = blocks };

    must(units <= SPLIT_UNITS);
    cuda_scratch_begin(cuda);
    split.image = (char *)cuda_take(cuda, (size_t)items * IMAGE_BYTES);
    split.score = (float4 *)cuda_take(cuda, (size_t)items * SCORE_BYTES);
    if (!split.image || !split.score) return;
    launch(cuda, "attention scores", attention_scores, items < most ? items : most, SCORE_THREADS,
           sizeof(struct score_shared), split);
    launch(cuda, "attention panels", attention_panels, units * PANELS, PANEL_THREADS,
           sizeof(struct panel_shared), split);
}
