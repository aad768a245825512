/* attention.cu - attention where a CTA walks all keys of a unit.
 *
 * Four warpgroups. Two feed: they find rows, load them a block ahead, unpack them into one of two
 * images, and bring the heads. The two others have half of the output's channels each, and take turns
 * at a block's scores and weights, which the other then reads. A CTA takes units blockIdx.x, + gridDim.x, ...
 */
#include "kernels/cuda/attention.cuh"

enum {
    FEED_THREADS = 2 * (int)WARPGROUP,
    STEP_KEYS = FEED_THREADS / 8,               // eight threads have a row
    STEPS = (int)KEYS / STEP_KEYS,              // of a block
    WARP_KEYS = (int)KEYS * 32 / FEED_THREADS,  // of a feeding warp in a block
    WALK_THREADS = FEED_THREADS + 2 * (int)WARPGROUP,
    FEED_REGISTERS = 64,
    WALK_REGISTERS = 192,
    HEADS_MOST = 128,
    HALF = (int)ENTRY_DIM / 2,  // channels of the output that a warpgroup makes
};

/* What the warpgroup that made a block's weights tells the other, thread by thread. */
struct weights_made {
    uint4 weight[4][WARPGROUP];
    float4 softmax[WARPGROUP];
};

struct walk_shared {
    char heads[IMAGE_BYTES];
    char keys[2][IMAGE_BYTES];
    struct weights_made made;
    float2 turn[3][ROPE_DIM / 2];  // of three units in turn
    float sink[HEADS_MOST];
    mbarrier heads_full, heads_empty, keys_full[2], keys_empty[2];
    mbarrier made_full[4];  // by warp; phases count blocks
};

/* ---- feeding ------------------------------------------------------------------------------- */

struct feed {  // where a feeding warp stands
    uint32_t thread, lane, warp;
    uint32_t blocks;  // filled since the kernel began
};

/* Rows of a warp's WARP_KEYS keys in three consecutive blocks of the list, found step by step. */
struct rows_ahead {
    const char *row;   // lane i % WARP_KEYS: of key i of the block at hand
    uint32_t block;    // of the block after it
    uint32_t entry_1;  // of that
    uint32_t entry_2;  // of the one after
};

/* The warp's keys of a step are four in a row. */
__device__ __forceinline__ uint32_t key_number(const struct feed &feed, uint32_t block)
{
    uint32_t i = feed.lane % WARP_KEYS;
    return block * KEYS + i / 4 * STEP_KEYS + feed.warp * 4 + i % 4;
}

__device__ __forceinline__ void rows_begin(const struct attention_job &job,
                                           const struct key_list &list, const struct feed &feed,
                                           struct rows_ahead &ahead)
{
    uint32_t key = key_number(feed, 0);
    uint32_t entry = key_entry(job, list, key);
    ahead.entry_1 = key_entry(job, list, key + KEYS);
    ahead.entry_2 = key_entry(job, list, key + 2 * KEYS);
    uint32_t block = key_block(job, list, key, entry);
    ahead.block = key_block(job, list, key + KEYS, ahead.entry_1);
    ahead.row = key_row(job, list, key, entry, block);
}

/* On to block `block`, whose row is known; asks for what the next two need. */
__device__ __forceinline__ void rows_next(const struct attention_job &job,
                                          const struct key_list &list, const struct feed &feed,
                                          uint32_t block, struct rows_ahead &ahead)
{
    uint32_t key = key_number(feed, block);
    ahead.row = key_row(job, list, key, ahead.entry_1, ahead.block);
    ahead.entry_1 = ahead.entry_2;
    ahead.block = key_block(job, list, key + KEYS, ahead.entry_1);
    ahead.entry_2 = key_entry(job, list, key + 2 * KEYS);
}

/* The row of the block at hand that a thread has a part of in a step. */
__device__ __forceinline__ const char *step_row(const struct feed &feed,
                                                const struct rows_ahead &ahead, int step)
{
    return (const char *)__shfl_sync(~0u, (uint64_t)ahead.row, step * 4 + feed.lane / 8);
}

__device__ __forceinline__ uint32_t step_key(const struct feed &feed, int step)
{
    return step * STEP_KEYS + feed.warp * 4 + feed.lane / 8;
}

__device__ __forceinline__ void feed_unit(const struct attention_job &job,
                                          struct walk_shared *shared, uint32_t unit,
                                          uint32_t number, struct feed &feed)
{
    uint32_t token = unit / job.groups, group = unit % job.groups;
    struct key_list list = keys_of(job, token);
    struct rows_ahead ahead;
    uint2 word[STEPS][PARTS];  // a block of rows under way

    if (feed.warp == 0)  // the two units before may still need theirs
        shared->turn[number % 3][feed.lane] = rope_turn(job.rope, feed.lane, list.position);
    rows_begin(job, list, feed, ahead);
#pragma unroll
    for (int step = 0; step < STEPS; step++)
        row_load(word[step], step_row(feed, ahead, step), feed.lane);
    mbarrier_wait(&shared->heads_empty, (number & 1) ^ 1);  // a new barrier has passed parity 1
    heads_fetch<FEED_THREADS>(job, shared_address(shared->heads), token, group, feed.thread);
    for (uint32_t block = 0; block < list.blocks; block++, feed.blocks++) {
        uint32_t stage = feed.blocks % 2;
        uint32_t image = shared_address(shared->keys[stage]);
        bool more = block + 1 < list.blocks;
        mbarrier_wait(&shared->keys_empty[stage], (feed.blocks / 2 & 1) ^ 1);
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            const char *from = row_rope(step_row(feed, ahead, step), feed.lane);
            uint32_t to = image + (PANELS - 1) * PANEL_BYTES +
                          piece_offset(step_key(feed, step), feed.lane % 8);
            copy8(to, from);
            copy8(to + 8, from + 8);
        }
        copy_commit();
        if (more) rows_next(job, list, feed, block + 1, ahead);
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            row_unpack(image, NULL, word[step], step_key(feed, step), feed.lane);
            if (more) row_load(word[step], step_row(feed, ahead, step), feed.lane);
        }
        copy_wait<0>();
        shared_written();
        if (block == 0) mbarrier_arrive(&shared->heads_full);
        mbarrier_arrive(&shared->keys_full[stage]);
    }
}

/* ---- walking ------------------------------------------------------------------------------- */

struct walk {  // where a walking warpgroup stands in a unit
    struct walk_shared *shared;
    uint32_t me, thread, warp, lane;
    uint32_t blocks;  // of the units before this one
    uint32_t panels;  // offset in an image of this half's first
    struct key_list list;
    struct softmax softmax;
};

__device__ __forceinline__ uint32_t stage_wait(const struct walk &walk, uint32_t block)
{
    uint32_t number = walk.blocks + block, stage = number % 2;
    mbarrier_wait(&walk.shared->keys_full[stage], number / 2 & 1);
    return shared_address(walk.shared->keys[stage]);
}

__device__ __forceinline__ void stage_leave(const struct walk &walk, uint32_t block)
{
    if (walk.lane == 0) mbarrier_arrive(&walk.shared->keys_empty[(walk.blocks + block) % 2]);
}

__device__ __forceinline__ void heads_leave(const struct walk &walk)
{
    if (walk.lane == 0) mbarrier_arrive(&walk.shared->heads_empty);
}

__device__ __forceinline__ void block_scores(const struct walk &walk, uint32_t block,
                                             float (&score)[KEYS / 2])
{
    uint32_t image = image_word(stage_wait(walk, block));
    uint32_t heads = image_word(shared_address(walk.shared->heads));
    wgmma_begin();
#pragma unroll
    for (int step = 0; step < ENTRY_DIM / 16; step++)
        wgmma<KEYS>::bf16(score, along_channels(heads, step), along_channels(image, step),
                          step > 0);
    wgmma_commit();
    wgmma_wait<0>();
    if (block + 2 >= walk.list.blocks) heads_leave(walk);
}

/* Scores to weights, for both warpgroups. */
__device__ __forceinline__ void weights_make(struct walk &walk, uint32_t block,
                                             float (&score)[KEYS / 2], uint32_t (&weight)[4][4],
                                             float (&keep)[2])
{
    struct weights_made *made = &walk.shared->made;
    struct softmax &softmax = walk.softmax;

    score_mask(score, walk.list.keys - block * KEYS);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float before = softmax.reference[h];
        softmax.reference[h] = reference_next(before, score_most(score, h));
        keep[h] = exp2_fast(__fsub_rn(before, softmax.reference[h]));
        softmax_add(softmax, h, keep[h], score_weights(score, h, softmax.reference[h], weight));
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        made->weight[i][walk.thread] =
            make_uint4(weight[i][0], weight[i][1], weight[i][2], weight[i][3]);
    made->softmax[walk.thread] =
        make_float4(softmax.reference[0], softmax.reference[1], softmax.sum[0], softmax.sum[1]);
    __syncwarp();
    if (walk.lane == 0) mbarrier_arrive(&walk.shared->made_full[walk.warp]);
}

/* The other's. It makes no more before this warpgroup has made its own. */
__device__ __forceinline__ void weights_read(struct walk &walk, uint32_t block,
                                             uint32_t (&weight)[4][4], float (&keep)[2])
{
    const struct weights_made *made = &walk.shared->made;
    struct softmax &softmax = walk.softmax;

    mbarrier_wait(&walk.shared->made_full[walk.warp], (walk.blocks + block) & 1);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint4 w = made->weight[i][walk.thread];
        weight[i][0] = w.x, weight[i][1] = w.y, weight[i][2] = w.z, weight[i][3] = w.w;
    }
    float4 now = made->softmax[walk.thread];
    keep[0] = exp2_fast(__fsub_rn(softmax.reference[0], now.x));
    keep[1] = exp2_fast(__fsub_rn(softmax.reference[1], now.y));
    softmax.reference[0] = now.x, softmax.reference[1] = now.y;
    softmax.sum[0] = now.z, softmax.sum[1] = now.w;
}

/* Begins to add a block's weighted values. */
__device__ __forceinline__ void block_values(const struct walk &walk, uint32_t block,
                                             const uint32_t (&weight)[4][4], const float (&keep)[2],
                                             float (&o)[2][HALF / 4])
{
    uint32_t panels = image_word(stage_wait(walk, block) + walk.panels);
    output_keep(o[0], keep);
    output_keep(o[1], keep);
    wgmma_begin();
#pragma unroll
    for (int step = 0; step < KEYS / 16; step++)
#pragma unroll
        for (int i = 0; i < 2; i++)
            wgmma<HALF / 2>::bf16_regs<1>(
                o[i], weight[step], along_keys(panels + i * 2 * (PANEL_BYTES / 16), step), true);
    wgmma_commit();
}

/* Two blocks, or a last one alone; the first one's weights are mine to make. */
__device__ __forceinline__ void walk_leading(struct walk &walk, uint32_t block,
                                             float (&o)[2][HALF / 4])
{
    float keep[2];
    uint32_t weight[4][4];
    {
        float score[KEYS / 2];
        block_scores(walk, block, score);
        weights_make(walk, block, score, weight, keep);
    }
    block_values(walk, block, weight, keep, o);
    wgmma_wait<0>();
    stage_leave(walk, block);
    if (block + 1 == walk.list.blocks) return;
    weights_read(walk, block + 1, weight, keep);
    block_values(walk, block + 1, weight, keep, o);
    wgmma_wait<0>();
    stage_leave(walk, block + 1);
}

/* Two blocks, or a last one alone; the second one's weights are mine to make. */
__device__ __forceinline__ void walk_following(struct walk &walk, uint32_t block,
                                               float (&o)[2][HALF / 4])
{
    float keep[2];
    uint32_t weight[4][4];

    weights_read(walk, block, weight, keep);
    block_values(walk, block, weight, keep, o);
    wgmma_wait<0>();
    stage_leave(walk, block);
    if (block + 1 == walk.list.blocks) return;
    {
        float score[KEYS / 2];
        block_scores(walk, block + 1, score);
        weights_make(walk, block + 1, score, weight, keep);
    }
    block_values(walk, block + 1, weight, keep, o);
    wgmma_wait<0>();
    stage_leave(walk, block + 1);
}

__device__ __forceinline__ void walk_unit(const struct attention_job &job, struct walk &walk,
                                          uint32_t unit, uint32_t number)
{
    uint32_t token = unit / job.groups, group = unit % job.groups, block = 0;
    uint32_t head = group * HEADS + walk.warp * 16 + walk.lane / 4;
    float o[2][HALF / 4], scale[2];  // 128 channels each

    walk.list = keys_of(job, token);
    softmax_init(walk.softmax);
#pragma unroll
    for (int i = 0; i < HALF / 4; i++) o[0][i] = o[1][i] = 0;
    mbarrier_wait(&walk.shared->heads_full, number & 1);
    if (walk.me == walk.blocks % 2) {
        for (; block < walk.list.blocks; block += 2) walk_leading(walk, block, o);
    } else {
        if (walk.list.blocks == 1) heads_leave(walk);
        for (; block < walk.list.blocks; block += 2) walk_following(walk, block, o);
    }
    walk.blocks += walk.list.blocks;
#pragma unroll
    for (int h = 0; h < 2; h++)
        scale[h] = softmax_finish(walk.softmax, h, walk.shared->sink[head + 8 * h]);
#pragma unroll
    for (int i = 0; i < 2; i++)
        output_store<HALF / 2>(job, token, group, walk.me * HALF + i * (HALF / 2), o[i], scale,
                               walk.shared->turn[number % 3]);
}

__global__ void __launch_bounds__(WALK_THREADS, 1)
    attention_walk(const __grid_constant__ struct attention_job job)
{
    extern __shared__ __align__(1024) char memory[];
    struct walk_shared *shared = (struct walk_shared *)memory;
    uint32_t units = job.batch.tokens * job.groups, number = 0, lane = threadIdx.x % 32;

    grid_launch();
    if (threadIdx.x == 0) {
        mbarrier_init(&shared->heads_full, FEED_THREADS);
        mbarrier_init(&shared->heads_empty, 8);  // warps
        for (int i = 0; i < 2; i++) {
            mbarrier_init(&shared->keys_full[i], FEED_THREADS);
            mbarrier_init(&shared->keys_empty[i], 8);
        }
        for (int i = 0; i < 4; i++) mbarrier_init(&shared->made_full[i], 1);
        mbarrier_init_done();
    }
    if (threadIdx.x < HEADS_MOST)
        shared->sink[threadIdx.x] = threadIdx.x < job.heads ? job.sink[threadIdx.x] : 0;
    __syncthreads();
    grid_wait();
    if (threadIdx.x < FEED_THREADS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"((int)FEED_REGISTERS));
        struct feed feed = {
            .thread = threadIdx.x, .lane = lane, .warp = threadIdx.x / 32, .blocks = 0
        };
        for (uint32_t unit = blockIdx.x; unit < units; unit += gridDim.x, number++)
            feed_unit(job, shared, unit, number, feed);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"((int)WALK_REGISTERS));
        uint32_t me = threadIdx.x / WARPGROUP - FEED_THREADS / WARPGROUP;
        struct walk walk = { .shared = shared,
                             .me = me,
                             .thread = threadIdx.x % WARPGROUP,
                             .warp = threadIdx.x % WARPGROUP / 32,
                             .lane = lane,
                             .blocks = 0,
                             .panels = me * (HALF / 64) * PANEL_BYTES };
        for (uint32_t unit = blockIdx.x; unit < units; unit += gridDim.x, number++)
            walk_unit(job, walk, unit, number);
    }
}

static void attention_check(const struct attention_args *args)
{
    must(args->q.cols == args->heads * ENTRY_DIM && args->out.cols == args->q.cols);
    must(args->heads <= HEADS_MOST && args->q.type == DT_BF16 && args->out.type == DT_BF16);
    must(args->q.stride % 8 == 0 && args->out.stride % 8 == 0);
    must(args->sink->rows * args->sink->cols == args->heads && args->rope.dim == ROPE_DIM);
    must(args->window.row_bytes == ENTRY_BYTES_OFFICIAL);
    must(!args->ratio || args->entries.row_bytes == ENTRY_BYTES_OFFICIAL);
    must(args->ratio == 0 || args->ratio == 4 || args->ratio == BLOCK_TOKENS);
    must(!args->selected == !args->count && (!args->selected || args->ratio));
}

extern "C" void cuda_attention(struct dev *dev, const struct attention_args *args)
{
    struct cuda_dev *cuda = cuda_of(dev);
    attention_check(args);
    if (args->batch->tokens == 0) return;
    struct attention_job job = {
        .q = (const bf16 *)args->q.data,
        .out = (bf16 *)args->out.data,
        .q_stride = args->q.stride,
        .out_stride = args->out.stride,
        .heads = args->heads,
        .groups = (args->heads + HEADS - 1) / HEADS,
        .sink = weight_floats(args->sink),
        .rope = args->rope,
        .batch = *args->batch,
        .window = args->window,
        .entries = args->entries,
        .ratio = args->ratio,
        .topk = args->topk,
        .ratio_bits = args->ratio == 4 ? 2u : 7u,
        .rows_bits = args->ratio == 4 ? 5u : 0u,
        .selected = args->selected,
        .count = args->count,
    };
    uint32_t units = job.batch.tokens * job.groups, most = (uint32_t)cuda->sms;
    uint32_t entries = job.selected ? job.topk
                       : job.ratio  ? job.batch.g_stride * (BLOCK_TOKENS / job.ratio)
                                    : 0;
    uint64_t blocks = (BLOCK_TOKENS + (uint64_t)entries + KEYS - 1) / KEYS;
    if (units <= SPLIT_UNITS && units * blocks <= SPLIT_BLOCKS)
        attention_split(cuda, job, (uint32_t)blocks);
    else
        launch(cuda, "attention", attention_walk, units < most ? units : most, WALK_THREADS,
               sizeof(struct walk_shared), job);
}
