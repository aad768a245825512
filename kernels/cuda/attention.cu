/* attention.cu - attention where a CTA walks all keys of a unit.
 *
 * Three warpgroups. The first feeds: it finds rows, copies them STEPS_AHEAD steps ahead into slots of
 * its own threads, unpacks them into one of two images, and brings the heads. The two others each
 * make all scores of a block and half of the output's channels; while one is at its exponentials the
 * other has the matrix unit. A CTA takes units blockIdx.x, + gridDim.x, ...
 */
#include "kernels/cuda/attention.cuh"

enum {
    QUADS = 4,        // steps of a block: a warp of the feeding warpgroup has four keys in each
    STEPS_AHEAD = 3,  // steps whose copies are under way
    FEED_BYTES = STEPS_AHEAD * PARTS * WARPGROUP * 8,
    WALK_THREADS = 3 * WARPGROUP,
    FEED_REGISTERS = 88,
    WALK_REGISTERS = 208,
    HALF = ENTRY_DIM / 2,  // channels of the output that a warpgroup makes
};

struct walk_shared {
    char heads[IMAGE_BYTES];
    char keys[2][IMAGE_BYTES];
    char feed[FEED_BYTES];
    float2 turn[2][ROPE_DIM / 2];  // by parity of the unit
    mbarrier heads_full, heads_empty, keys_full[2], keys_empty[2];
};

/* Where the feeding warpgroup stands. */
struct feed {
    uint32_t thread, lane, warp;
    uint32_t blocks;  // filled since the kernel began
    uint32_t slot;    // address of this thread's first word of step 0
};

/* Rows of the 16 keys of this warp in three consecutive blocks of the list, found step by step. */
struct rows_ahead {
    const char *row;   // lane i < 16: of key i of the block at hand
    uint32_t block;    // of the block after it
    uint32_t entry_1;  // of that
    uint32_t entry_2;  // of the one after
};

__device__ __forceinline__ uint32_t key_number(const struct feed &feed, uint32_t block)
{
    return block * KEYS + feed.warp * 16 + feed.lane % 16;
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

/* Asks for step `step` of the list: four of the warp's keys. One group of copies, perhaps empty. */
__device__ __forceinline__ void step_fetch(const struct attention_job &job,
                                           const struct key_list &list, const struct feed &feed,
                                           uint32_t step, struct rows_ahead &ahead)
{
    uint32_t block = step / QUADS, quad = step % QUADS;
    if (block < list.blocks) {
        if (quad == 0 && block > 0) rows_next(job, list, feed, block, ahead);
        uint64_t row = __shfl_sync(~0u, (uint64_t)ahead.row, quad * 4 + feed.lane / 8);
        row_fetch<WARPGROUP>(feed.slot + step % STEPS_AHEAD * (PARTS * WARPGROUP * 8),
                             (const char *)row, feed.lane);
    }
    copy_commit();
}

__device__ __forceinline__ void feed_unit(const struct attention_job &job,
                                          struct walk_shared *shared, uint32_t unit,
                                          uint32_t number, struct feed &feed)
{
    uint32_t token = unit / job.groups, group = unit % job.groups;
    struct key_list list = keys_of(job, token);
    struct rows_ahead ahead;
    uint32_t steps = list.blocks * QUADS;

    rows_begin(job, list, feed, ahead);
    for (uint32_t step = 0; step < STEPS_AHEAD; step++) step_fetch(job, list, feed, step, ahead);
    if (number > 0) mbarrier_wait(&shared->heads_empty, (number - 1) & 1);
    if (feed.warp == 0)  // those of the unit before the last are done with
        shared->turn[number % 2][feed.lane] = rope_turn(job.rope, feed.lane, list.position);
    heads_fetch<WARPGROUP>(job, shared_address(shared->heads), token, group, feed.thread);
    copy_commit();
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t stage = feed.blocks % 2, pass = feed.blocks / 2;
        if (step % QUADS == 0 && pass > 0)
            mbarrier_wait(&shared->keys_empty[stage], (pass - 1) & 1);
        // The groups asked for after this step's: the heads', until they are needed, and others.
        if (step < STEPS_AHEAD) copy_wait<STEPS_AHEAD>();
        else copy_wait<STEPS_AHEAD - 1>();
        row_unpack<WARPGROUP>(shared_address(shared->keys[stage]), NULL,
                              feed.slot + step % STEPS_AHEAD * (PARTS * WARPGROUP * 8),
                              feed.warp * 16 + step % QUADS * 4 + feed.lane / 8, feed.lane);
        step_fetch(job, list, feed, step + STEPS_AHEAD, ahead);
        if (step % QUADS != QUADS - 1) continue;
        shared_written();
        if (step == QUADS - 1) mbarrier_arrive(&shared->heads_full);
        mbarrier_arrive(&shared->keys_full[stage]);
        feed.blocks++;
    }
    copy_wait<0>();
}

/* One block: scores, weights, output. */
__device__ __forceinline__ void walk_block(struct walk_shared *shared, uint32_t image,
                                           uint32_t here, bool last, struct softmax &softmax,
                                           float (&o)[HALF / 2])
{
    float score[KEYS / 2], keep[2];
    uint32_t weight[4][4], heads = shared_address(shared->heads);
    uint32_t panels = image + (threadIdx.x / WARPGROUP - 1) * (HALF / 64) * PANEL_BYTES;

    wgmma_begin();
#pragma unroll
    for (int step = 0; step < ENTRY_DIM / 16; step++)
        wgmma<KEYS>::bf16(score, along_channels(heads, step), along_channels(image, step),
                          step > 0);
    wgmma_commit();
    wgmma_wait<0>();
    if (last && threadIdx.x % 32 == 0) mbarrier_arrive(&shared->heads_empty);

    score_mask(score, here);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float before = softmax.reference[h];
        softmax.reference[h] = reference_next(before, score_most(score, h));
        keep[h] = exp2_fast(__fsub_rn(before, softmax.reference[h]));
        softmax_add(softmax, h, keep[h], score_weights(score, h, softmax.reference[h], weight));
    }
    output_keep(o, keep);
    wgmma_begin();
#pragma unroll
    for (int step = 0; step < KEYS / 16; step++)
        wgmma<HALF>::bf16_regs<1>(o, weight[step], along_keys(panels, step), true);
    wgmma_commit();
    wgmma_wait<0>();
}

__device__ __forceinline__ void walk_unit(const struct attention_job &job,
                                          struct walk_shared *shared, uint32_t unit,
                                          uint32_t number, uint32_t &blocks)
{
    uint32_t token = unit / job.groups, group = unit % job.groups;
    uint32_t half = threadIdx.x / WARPGROUP - 1, lane = threadIdx.x % 32;
    uint32_t head = group * HEADS + threadIdx.x % WARPGROUP / 32 * 16 + lane / 4;
    struct key_list list = keys_of(job, token);
    struct softmax softmax;
    float o[HALF / 2], scale[2];

    softmax_init(softmax);
#pragma unroll
    for (int i = 0; i < HALF / 2; i++) o[i] = 0;
    mbarrier_wait(&shared->heads_full, number & 1);
    for (uint32_t block = 0; block < list.blocks; block++, blocks++) {
        uint32_t stage = blocks % 2;
        mbarrier_wait(&shared->keys_full[stage], blocks / 2 & 1);
        walk_block(shared, shared_address(shared->keys[stage]), list.keys - block * KEYS,
                   block + 1 == list.blocks, softmax, o);
        if (lane == 0) mbarrier_arrive(&shared->keys_empty[stage]);
    }
#pragma unroll
    for (int h = 0; h < 2; h++)
        scale[h] =
            softmax_finish(softmax, h, head + 8 * h < job.heads ? job.sink[head + 8 * h] : 0);
    output_store<HALF>(job, token, group, half * HALF, o, scale, shared->turn[number % 2]);
}

__global__ void __launch_bounds__(WALK_THREADS, 1)
    attention_walk(const __grid_constant__ struct attention_job job)
{
    extern __shared__ __align__(1024) char memory[];
    struct walk_shared *shared = (struct walk_shared *)memory;
    uint32_t units = job.batch.tokens * job.groups, blocks = 0, number = 0;

    grid_launch();
    if (threadIdx.x == 0) {
        mbarrier_init(&shared->heads_full, WARPGROUP);
        mbarrier_init(&shared->heads_empty, 8);  // warps
        for (int i = 0; i < 2; i++) {
            mbarrier_init(&shared->keys_full[i], WARPGROUP);
            mbarrier_init(&shared->keys_empty[i], 8);
        }
        mbarrier_init_done();
    }
    __syncthreads();
    grid_wait();
    if (threadIdx.x < WARPGROUP) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"((int)FEED_REGISTERS));
        struct feed feed = { .thread = threadIdx.x,
                             .lane = threadIdx.x % 32,
                             .warp = threadIdx.x / 32,
                             .blocks = 0,
                             .slot = shared_address(shared->feed) + threadIdx.x * 8 };
        for (uint32_t unit = blockIdx.x; unit < units; unit += gridDim.x, number++)
            feed_unit(job, shared, unit, number, feed);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"((int)WALK_REGISTERS));
        for (uint32_t unit = blockIdx.x; unit < units; unit += gridDim.x, number++)
            walk_unit(job, shared, unit, number, blocks);
    }
}

static void attention_check(const struct attention_args *args)
{
    must(args->q.cols == args->heads * ENTRY_DIM && args->out.cols == args->q.cols);
    must(args->q.type == DT_BF16 && args->out.type == DT_BF16);
    must(args->q.stride % 8 == 0 && args->out.stride % 8 == 0);
    must(args->sink->rows * args->sink->cols == args->heads && args->rope.dim == ROPE_DIM);
    must(args->window.row_bytes == ENTRY_BYTES_OFFICIAL);
    must(!args->ratio || args->entries.row_bytes == ENTRY_BYTES_OFFICIAL);
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
