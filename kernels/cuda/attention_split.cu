/* attention_split.cu - attention where the keys of a unit are many CTAs' work: few tokens.
 *
 * Two kernels that together do what a CTA of attention.cu does, in the same order. The first makes the
 * scores of half blocks and leaves them in the workspace, with their largest and with the unpacked
 * keys: an item is half a block of a unit, and a CTA takes items blockIdx.x, + gridDim.x, ... of all
 * units' blocks in a row. In the second a CTA has one panel of 64 channels of a unit's output: one
 * thread has the copy engine bring blocks some stages ahead, MAKERS warpgroups turn scores into
 * weights in place, and one multiplies, block by block.
 */
#include "kernels/cuda/attention.cuh"

enum {
    HALF_KEYS = KEYS / 2,                // of an item
    SCORE_THREADS = 8 * (int)HALF_KEYS,  // eight have a row
    MAKERS = 3,                          // warpgroups that make weights
    PANEL_THREADS = (1 + MAKERS) * (int)WARPGROUP + 32,
};

/* A block of a unit in the workspace: what both halves leave. */
struct block_scores {
    float4 score[8]
                [WARPGROUP];  // a thread's registers of the product, 64 columns; absent: -infinity
};

struct block_most {
    float most[2][HEADS];  // largest score of each half
};

struct split_job {
    struct attention_job job;
    uint32_t blocks;              // of a unit, at most
    uint32_t stages;              // of the second kernel's ring, a power of two
    char *image;                  // [units * blocks, IMAGE_BYTES]
    struct block_scores *scores;  // [units * blocks]
    struct block_most *most;      // [units * blocks]
};

/* ---- scores -------------------------------------------------------------------------------- */

struct score_shared {
    char heads[IMAGE_BYTES];
    char keys[IMAGE_BYTES];           // rows 0 .. HALF_KEYS - 1 of each panel
    uint32_t first[SPLIT_UNITS + 1];  // item of each unit's block 0
    uint32_t part[SCORE_THREADS / 32];
};

/* Items of the units before each one. */
__device__ __forceinline__ void count_items(const struct attention_job &job, uint32_t units,
                                            struct score_shared *shared)
{
    uint32_t unit = threadIdx.x, lane = unit % 32, warp = unit / 32;
    uint32_t sum = unit < units ? 2 * keys_of(job, unit / job.groups).blocks : 0;

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

/* A warpgroup's product of heads and keys, and what the workspace takes of it. */
__device__ __forceinline__ void score_half(const struct split_job &split, uint32_t heads,
                                           uint32_t keys, size_t at, uint32_t half, uint32_t here)
{
    float score[HALF_KEYS / 2];
    uint32_t heads_word = image_word(heads), keys_word = image_word(keys);
    uint32_t thread = threadIdx.x, head = thread / 32 * 16 + thread % 32 / 4;

    wgmma_begin();
#pragma unroll
    for (int step = 0; step < ENTRY_DIM / 16; step++)
        wgmma<HALF_KEYS>::bf16(score, along_channels(heads_word, step),
                               along_channels(keys_word, step), step > 0);
    wgmma_commit();
    wgmma_wait<0>();
    score_mask(score, here);
#pragma unroll
    for (int i = 0; i < 4; i++)
        split.scores[at].score[4 * half + i][thread] =
            make_float4(score[4 * i], score[4 * i + 1], score[4 * i + 2], score[4 * i + 3]);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float most = score_most(score, h);
        if (thread % 4 == 0) split.most[at].most[half][head + 8 * h] = most;
    }
}

__device__ __forceinline__ void score_item(const struct split_job &split,
                                           struct score_shared *shared, uint32_t unit,
                                           uint32_t item, bool fresh)
{
    const struct attention_job &job = split.job;
    uint32_t thread = threadIdx.x;
    uint32_t heads = shared_address(shared->heads), keys = shared_address(shared->keys);
    uint32_t key = item * HALF_KEYS + thread / 8, half = item % 2;
    size_t at = (size_t)unit * split.blocks + item / 2;
    char *image = split.image + at * IMAGE_BYTES + half * (HALF_KEYS * 128);
    struct key_list list = keys_of(job, unit / job.groups);

    uint32_t entry = key_entry(job, list, key);
    if (fresh) heads_fetch<SCORE_THREADS>(job, heads, unit / job.groups, unit % job.groups, thread);
    const char *row = key_row(job, list, key, entry, key_block(job, list, key, entry));
    uint2 word[PARTS];
    row_load(word, row, thread % 32);
    uint2 low = load8(row_rope(row, thread % 32)), high = load8(row_rope(row, thread % 32) + 8);
    row_unpack(keys, image, word, thread / 8, thread % 32);
    store16(keys, image, piece_offset(thread / 8, thread % 8) + (PANELS - 1) * PANEL_BYTES,
            make_uint4(low.x, low.y, high.x, high.y));
    copy_commit();  // the heads
    copy_wait<0>();
    shared_written();
    __syncthreads();
    if (thread < WARPGROUP) {
        uint32_t before = item * HALF_KEYS;
        score_half(split, heads, keys, at, half, list.keys > before ? list.keys - before : 0);
    }
    __syncthreads();
}

__global__ void __launch_bounds__(SCORE_THREADS, 1)
    attention_scores(const __grid_constant__ struct split_job split)
{
    extern __shared__ __align__(1024) char memory[];
    struct score_shared *shared = (struct score_shared *)memory;
    uint32_t units = split.job.batch.tokens * split.job.groups, had = units;

    // In this order: the second kernel may then read the batch before this one has ended.
    grid_wait();
    grid_launch();
    count_items(split.job, units, shared);
    for (uint32_t item = blockIdx.x; item < shared->first[units]; item += gridDim.x) {
        uint32_t unit = unit_of(shared, units, item);
        score_item(split, shared, unit, item - shared->first[unit], unit != had);
        had = unit;
    }
}

/* ---- output -------------------------------------------------------------------------------- */

struct __align__(1024) panel_stage
{
    char keys[PANEL_BYTES];
    struct block_scores scores;      // becomes, thread by thread: weights [4], sums and keeps
    struct block_most most[MAKERS];  // of the blocks before and, the last one, of this
};

enum { STAGES = 8 };

struct panel_shared {
    struct panel_stage stage[STAGES];
    float2 turn[ROPE_DIM / 2];
    mbarrier full[STAGES], made[STAGES], empty[STAGES], turned;
};

struct panel {  // what a CTA has
    uint32_t unit, panel, blocks;
};

/* One thread brings blocks from .. to - 1. */
__device__ __forceinline__ void panel_bring(const struct split_job &split,
                                            struct panel_shared *shared, const struct panel &panel,
                                            uint32_t from, uint32_t to)
{
    for (uint32_t block = from; block < to; block++) {
        uint32_t at = block % STAGES, pass = block / STAGES;
        uint32_t most = min(block + 1, (uint32_t)MAKERS);  // blocks whose largest scores come
        struct panel_stage *stage = &shared->stage[at];
        mbarrier *full = &shared->full[at];
        size_t from_at = (size_t)panel.unit * split.blocks + block;
        uint32_t most_bytes = most * (uint32_t)sizeof(struct block_most);

        if (pass > 0) {
            mbarrier_wait(&shared->empty[at], (pass - 1) & 1);
            shared_written();  // the makers' weights, before the copy engine writes there
        }
        mbarrier_expect(full, sizeof stage->scores + PANEL_BYTES + most_bytes);
        bulk_load(&stage->most[MAKERS - most], &split.most[from_at + 1 - most], most_bytes, full);
        bulk_load(&stage->scores, &split.scores[from_at], sizeof stage->scores, full);
        bulk_load(stage->keys, split.image + from_at * IMAGE_BYTES + panel.panel * PANEL_BYTES,
                  PANEL_BYTES, full);
    }
}

/* A maker takes every MAKERS-th block. */
__device__ __forceinline__ void weights_make(struct panel_shared *shared, const struct panel &panel,
                                             uint32_t maker)
{
    uint32_t thread = threadIdx.x % WARPGROUP, head = thread / 32 * 16 + thread % 32 / 4;
    float reference[2] = { -INFINITY, -INFINITY };

    for (uint32_t block = maker; block < panel.blocks; block += MAKERS) {
        uint32_t at = block % STAGES, weight[4][4];
        struct panel_stage *stage = &shared->stage[at];
        float score[KEYS / 2], keep[2], sum[2];

        mbarrier_wait(&shared->full[at], block / STAGES & 1);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float4 four = stage->scores.score[i][thread];
            score[4 * i] = four.x, score[4 * i + 1] = four.y;
            score[4 * i + 2] = four.z, score[4 * i + 3] = four.w;
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float before = reference[h];
#pragma unroll
            for (int i = 0; i < MAKERS; i++) {
                if (block + i < MAKERS - 1) continue;  // there is no such block
                const struct block_most *most = &stage->most[i];
                before = reference[h];
                reference[h] = reference_next(
                    before, fmaxf(most->most[0][head + 8 * h], most->most[1][head + 8 * h]));
            }
            keep[h] = exp2_fast(__fsub_rn(before, reference[h]));
            sum[h] = score_weights(score, h, reference[h], weight);
        }
        uint4 *made = (uint4 *)&stage->scores;
#pragma unroll
        for (int i = 0; i < 4; i++)
            made[i * WARPGROUP + thread] =
                make_uint4(weight[i][0], weight[i][1], weight[i][2], weight[i][3]);
        stage->scores.score[4][thread] = make_float4(sum[0], sum[1], keep[0], keep[1]);
        // What an output's last division needs: the reference after this block.
        stage->scores.score[5][thread] = make_float4(reference[0], reference[1], 0, 0);
        __syncwarp();
        if (thread % 32 == 0) mbarrier_arrive(&shared->made[at]);
    }
}

struct block_weights {
    uint32_t weight[4][4];
    float keep[2];
};

__device__ __forceinline__ void weights_read(struct panel_shared *shared, uint32_t block,
                                             struct softmax &softmax, struct block_weights &read)
{
    uint32_t thread = threadIdx.x, at = block % STAGES, parity = block / STAGES & 1;
    const struct panel_stage *stage = &shared->stage[at];
    const uint4 *made = (const uint4 *)&stage->scores;

    mbarrier_wait(&shared->full[at], parity);
    mbarrier_wait(&shared->made[at], parity);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint4 w = made[i * WARPGROUP + thread];
        read.weight[i][0] = w.x, read.weight[i][1] = w.y;
        read.weight[i][2] = w.z, read.weight[i][3] = w.w;
    }
    float4 sums = stage->scores.score[4][thread], reference = stage->scores.score[5][thread];
    softmax_add(softmax, 0, sums.z, sums.x);
    softmax_add(softmax, 1, sums.w, sums.y);
    softmax.reference[0] = reference.x, softmax.reference[1] = reference.y;
    read.keep[0] = sums.z, read.keep[1] = sums.w;
}

/* Adds one block's values and meanwhile reads the next one's weights. */
__device__ __forceinline__ void panel_block(struct panel_shared *shared, const struct panel &panel,
                                            uint32_t block, const struct block_weights &now,
                                            struct block_weights &next, struct softmax &softmax,
                                            float (&o)[32])
{
    uint32_t at = block % STAGES, keys = image_word(shared_address(shared->stage[at].keys));

    output_keep(o, now.keep);
    wgmma_begin();
#pragma unroll
    for (int step = 0; step < KEYS / 16; step++)
        wgmma<64>::bf16_regs<1>(o, now.weight[step], along_keys(keys, step), true);
    wgmma_commit();
    if (block + 1 < panel.blocks) weights_read(shared, block + 1, softmax, next);
    wgmma_wait<0>();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(&shared->empty[at]);
}

__device__ __forceinline__ void panel_multiply(const struct split_job &split,
                                               struct panel_shared *shared,
                                               const struct panel &panel)
{
    const struct attention_job &job = split.job;
    uint32_t thread = threadIdx.x, group = panel.unit % job.groups;
    uint32_t head = group * HEADS + thread / 32 * 16 + thread % 32 / 4;
    struct softmax softmax;
    struct block_weights even, odd;
    float o[32], scale[2], sink[2];

#pragma unroll
    for (int h = 0; h < 2; h++) sink[h] = head + 8 * h < job.heads ? job.sink[head + 8 * h] : 0;
    softmax_init(softmax);
#pragma unroll
    for (int i = 0; i < 32; i++) o[i] = 0;
    weights_read(shared, 0, softmax, even);
    for (uint32_t block = 0; block < panel.blocks; block += 2) {
        panel_block(shared, panel, block, even, odd, softmax, o);
        if (block + 1 < panel.blocks) panel_block(shared, panel, block + 1, odd, even, softmax, o);
    }
#pragma unroll
    for (int h = 0; h < 2; h++) scale[h] = softmax_finish(softmax, h, sink[h]);
    if (panel.panel == PANELS - 1) mbarrier_wait(&shared->turned, 0);
    output_store<64>(job, panel.unit / job.groups, group, panel.panel * 64, o, scale, shared->turn);
}

__global__ void __launch_bounds__(PANEL_THREADS, 1)
    attention_panels(const __grid_constant__ struct split_job split)
{
    extern __shared__ __align__(1024) char memory[];
    struct panel_shared *shared = (struct panel_shared *)memory;
    uint32_t warpgroup = threadIdx.x / WARPGROUP, lane = threadIdx.x % 32;
    struct panel panel = { blockIdx.x / PANELS, blockIdx.x % PANELS, 0 };

    grid_launch();
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            mbarrier_init(&shared->full[i], 1);
            mbarrier_init(&shared->made[i], WARPGROUP / 32);
            mbarrier_init(&shared->empty[i], WARPGROUP / 32);
        }
        mbarrier_init(&shared->turned, 32);
        mbarrier_init_done();
    }
    struct key_list list = keys_of(split.job, panel.unit / split.job.groups);
    panel.blocks = list.blocks;
    __syncthreads();
    grid_wait();
    if (warpgroup == 0) {
        panel_multiply(split, shared, panel);
    } else if (warpgroup <= MAKERS) {
        weights_make(shared, panel, warpgroup - 1);
    } else {
        uint32_t ahead = min(panel.blocks, (uint32_t)STAGES);
        if (lane == 0) panel_bring(split, shared, panel, 0, ahead);
        if (panel.panel == PANELS - 1)
            shared->turn[lane] = rope_turn(split.job.rope, lane, list.position);
        mbarrier_arrive(&shared->turned);
        if (lane == 0) panel_bring(split, shared, panel, ahead, panel.blocks);
    }
}

void attention_split(struct cuda_dev *cuda, const struct attention_job &job, uint32_t blocks)
{
    uint32_t units = job.batch.tokens * job.groups, most = (uint32_t)cuda->sms;
    size_t all = (size_t)units * blocks;
    struct split_job split = { .job = job, .blocks = blocks };

    must(units <= SPLIT_UNITS);
    cuda_scratch_begin(cuda);
    split.image = (char *)cuda_take(cuda, all * IMAGE_BYTES);
    split.scores = (struct block_scores *)cuda_take(cuda, all * sizeof *split.scores);
    split.most = (struct block_most *)cuda_take(cuda, all * sizeof *split.most);
    if (!split.image || !split.scores || !split.most) return;
    launch(cuda, "attention scores", attention_scores, 2 * all < most ? 2 * (uint32_t)all : most,
           SCORE_THREADS, sizeof(struct score_shared), split);
    launch(cuda, "attention panels", attention_panels, units * PANELS, PANEL_THREADS,
           sizeof(struct panel_shared), split);
}
