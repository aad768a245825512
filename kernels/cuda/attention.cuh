/* attention.cuh - what both forms of attention share: the job, images, a token's key list, softmax.
 *
 * The order that defines the bits. A token's keys are its window by position, then its entries as
 * listed, in blocks of KEYS counted from the list's start. A block's scores are one chain over the 512
 * channels. Weights are exp(score - reference): the reference is the first block's largest score until
 * a block's largest exceeds it by RAISE, and is that from then on; sums and output so far are then
 * multiplied by exp(old - new). A block's weights are summed by lanes of the matrix unit's layout and
 * added to the sum so far; the output goes on in one chain over the keys. The sink joins the sum at the
 * end, then one division.
 *
 * An image is a block as the matrix unit reads it: 64 rows (keys or heads) in panels of 64 channels,
 * in the 128-byte swizzle. One image serves as keys (along its channels) and as values (along its
 * rows).
 */
#ifndef KERNELS_CUDA_ATTENTION_CUH
#define KERNELS_CUDA_ATTENTION_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/bulk.cuh"
#include "kernels/cuda/tile/entry.cuh"
#include "kernels/cuda/tile/grid.cuh"
#include "kernels/cuda/tile/mbarrier.cuh"
#include "kernels/cuda/tile/wgmma.cuh"

enum {
    KEYS = 64,        // of a block
    HEADS = 64,       // of a unit; fewer are padded
    WARPGROUP = 128,  // threads
    PANELS = ENTRY_DIM / 64,
    PANEL_BYTES = 64 * 128,
    IMAGE_BYTES = PANELS * PANEL_BYTES,
};

struct attention_job {
    const bf16 *q;
    bf16 *out;
    size_t q_stride, out_stride;  // elements
    uint32_t heads, groups;       // groups of HEADS heads; a unit is a token and one of them
    const float *sink;
    struct rope rope;
    struct batch batch;
    struct kv_plane window, entries;
    uint32_t ratio, topk;
    uint32_t ratio_bits, rows_bits;    // of ratio, and of the entries in a G block
    const uint32_t *selected, *count;  // NULL: all visible entries
};

/* ---- images -------------------------------------------------------------------------------- */

/* Offset in a panel of the 16-byte piece `piece` of a row. */
__device__ __forceinline__ uint32_t piece_offset(uint32_t row, uint32_t piece)
{
    return row * 128 + ((piece ^ (row & 7)) << 4);
}

/* The low word of a descriptor; the high one is always the same: groups of eight rows 1024 bytes apart,
 * the 128-byte swizzle. Panels lie PANEL_BYTES apart, which counts where an image is read along its
 * rows. Bytes / 16 may be added. */
__device__ __forceinline__ uint32_t image_word(uint32_t address)
{
    return address >> 4 | (uint32_t)(PANEL_BYTES / 16) << 16;
}

/* Step `step` of 16 channels of an image read along its channels. */
__device__ __forceinline__ uint64_t along_channels(uint32_t word, int step)
{
    return (uint64_t)0x40000040 << 32 | (word + step / 4 * (PANEL_BYTES / 16) + 2 * (step % 4));
}

/* Step `step` of 16 keys of one read along its rows, from the word's panel on. */
__device__ __forceinline__ uint64_t along_keys(uint32_t word, int step)
{
    return (uint64_t)0x40000040 << 32 | (word + step * (16 * 128 / 16));
}

/* ---- a token's keys ------------------------------------------------------------------------ */

struct key_list {
    uint32_t seq, position, token;
    uint32_t window, keys;  // keys: window and entries
    uint32_t blocks;
    uint32_t page;  // of position 0 in w_table, if it went that far back
};

__device__ __forceinline__ struct key_list keys_of(const struct attention_job &job, uint32_t token)
{
    struct key_list list = { .seq = job.batch.seq[token],
                             .position = job.batch.position[token],
                             .token = token };
    list.window = min(list.position + 1, (uint32_t)BLOCK_TOKENS);
    list.keys = list.window;
    if (job.selected) list.keys += job.count[token];
    else if (job.ratio) list.keys += (list.position + 1) >> job.ratio_bits;
    list.blocks = (list.keys + KEYS - 1) / KEYS;
    list.page = list.seq * job.batch.w_stride - job.batch.w_first[list.seq];
    return list;
}

/* Key `key` of the list, or its last one past the end: its position or its entry. */
__device__ __forceinline__ uint32_t key_entry(const struct attention_job &job,
                                              const struct key_list &list, uint32_t key)
{
    key = min(key, list.keys - 1);
    if (key < list.window) return list.position + 1 - list.window + key;
    key -= list.window;
    return job.selected ? job.selected[(size_t)list.token * job.topk + key] : key;
}

__device__ __forceinline__ uint32_t key_block(const struct attention_job &job,
                                              const struct key_list &list, uint32_t key,
                                              uint32_t entry)
{
    if (min(key, list.keys - 1) < list.window)
        return job.batch.w_table[list.page + entry / BLOCK_TOKENS];
    return job.batch.g_table[(size_t)list.seq * job.batch.g_stride + (entry >> job.rows_bits)];
}

__device__ __forceinline__ const char *key_row(const struct attention_job &job,
                                               const struct key_list &list, uint32_t key,
                                               uint32_t entry, uint32_t block)
{
    if (min(key, list.keys - 1) < list.window)
        return plane_row(job.window, block, entry % BLOCK_TOKENS);
    return plane_row(job.entries, block, entry & ((1u << job.rows_bits) - 1));
}

/* ---- from rows to an image ----------------------------------------------------------------- */

enum { PARTS = 8 };  // 8-byte words of a row that a thread loads: a piece of 7 groups, the scales

__device__ __forceinline__ void copy8(uint32_t to, const void *from)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to), "l"(from) : "memory");
}

/* 16 bytes, or as many zeros. */
__device__ __forceinline__ void copy16(uint32_t to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(there ? 16 : 0)
                 : "memory");
}

__device__ __forceinline__ void copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most LATER of this thread's groups of copies are under way. */
template <int LATER> __device__ __forceinline__ void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(LATER) : "memory");
}

/* Rows do not change while attention runs. */
__device__ __forceinline__ uint2 load8(const char *from)
{
    uint2 word;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
                 : "=r"(word.x), "=r"(word.y)
                 : "l"(from));
    return word;
}

/* Eight threads share a row: lane i has piece i % 8 of every panel. The codes and scales of its part: */
__device__ __forceinline__ void row_load(uint2 (&word)[PARTS], const char *row, uint32_t lane)
{
#pragma unroll
    for (int p = 0; p < 7; p++) word[p] = load8(row + p * 64 + lane % 8 * 8);
    word[7] = load8(row + ENTRY_SCALES);
}

/* And where its 16 bytes of the last panel are, which need no unpacking. */
__device__ __forceinline__ const char *row_rope(const char *row, uint32_t lane)
{
    return row + ENTRY_CODES + lane % 8 * 16;
}

/* Two neighbouring e4m3 codes (selected bytes of a word) to two bf16: their bits moved into place are
 * the value times 2^-120, made whole by two exact products, since one factor could leave the range. */
__device__ __forceinline__ uint32_t codes_bf16x2(uint32_t codes, uint32_t bytes,
                                                 __nv_bfloat162 scale)
{
    const __nv_bfloat162 up = __float2bfloat162_rn(0x1p60f);
    uint32_t spread = __byte_perm(codes, 0, bytes);  // codes in the high byte of each half
    uint32_t bits = (spread & 0x80008000u) | (spread >> 4 & 0x07f007f0u);
    __nv_bfloat162 value;
    memcpy(&value, &bits, 4);
    value = __hmul2_rn(__hmul2_rn(value, up), scale);
    memcpy(&bits, &value, 4);
    return bits;
}

/* Sixteen bytes of an image, and of its copy in global memory if there is one. */
__device__ __forceinline__ void store16(uint32_t image, char *copy, uint32_t offset, uint4 x)
{
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(image + offset), "r"(x.x),
                 "r"(x.y), "r"(x.z), "r"(x.w)
                 : "memory");
    if (copy) *(uint4 *)(copy + offset) = x;
}

/* A part into row `key` of an image, all panels but the last. */
__device__ __forceinline__ void row_unpack(uint32_t image, char *copy, const uint2 (&word)[PARTS],
                                           uint32_t key, uint32_t lane)
{
    uint32_t to = piece_offset(key, lane % 8);
#pragma unroll
    for (int p = 0; p < 7; p++) {
        // 2^(e - 127) of the group times the other half of 2^120: exponent field e + 60
        uint32_t half = (((p < 4 ? word[7].x : word[7].y) >> (p % 4 * 8) & 0xff) + 60) << 7;
        uint32_t both = half | half << 16;
        __nv_bfloat162 scale;
        memcpy(&scale, &both, 4);
        store16(image, copy, to + p * PANEL_BYTES,
                make_uint4(codes_bf16x2(word[p].x, 0x1404, scale),
                           codes_bf16x2(word[p].x, 0x3424, scale),
                           codes_bf16x2(word[p].y, 0x1404, scale),
                           codes_bf16x2(word[p].y, 0x3424, scale)));
    }
}

/* A unit's heads into an image, by THREADS threads; absent heads are zeros. The copies join the
 * thread's open group. */
template <int THREADS>
__device__ __forceinline__ void heads_fetch(const struct attention_job &job, uint32_t image,
                                            uint32_t token, uint32_t group, uint32_t thread)
{
    uint32_t panel = thread / 8 % PANELS, piece = thread % 8, first = thread / (PANELS * 8);
    uint32_t here = job.heads - group * HEADS;
    const bf16 *q =
        job.q + token * job.q_stride + (size_t)group * HEADS * ENTRY_DIM + panel * 64 + piece * 8;
    image += panel * PANEL_BYTES;
#pragma unroll 1
    for (uint32_t head = first; head < HEADS; head += THREADS / (PANELS * 8))
        copy16(image + piece_offset(head, piece), q + (head < here ? head * ENTRY_DIM : 0),
               head < here);
}

/* ---- scores and weights -------------------------------------------------------------------- */

/* Lane l of a warp w of a warpgroup has heads 16 w + l / 4 and + 8, and of every eight columns 2 (l %
 * 4) and + 1: register 4 j + i is head + 8 (i / 2), column 8 j + 2 (l % 4) + i % 2. */
struct softmax {  // of both heads; scores in powers of two
    float reference[2];
    float sum[2];  // of this lane's columns
};

static constexpr float LOG2E = 1.4426950408889634f;
static constexpr float SCORE_SCALE = 0.04419417382415922f * LOG2E;  // 512^-0.5
static constexpr float RAISE = 8;

__device__ __forceinline__ void softmax_init(struct softmax &softmax)
{
    softmax.reference[0] = softmax.reference[1] = -INFINITY;
    softmax.sum[0] = softmax.sum[1] = 0;
}

__device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Columns from `here` on are no keys. */
template <int REGISTERS>
__device__ __forceinline__ void score_mask(float (&score)[REGISTERS], uint32_t here)
{
    uint32_t column = threadIdx.x % 4 * 2;
    if (here >= REGISTERS * 2) return;
#pragma unroll
    for (int i = 0; i < REGISTERS; i++)
        if (i / 4 * 8 + column + i % 2 >= here) score[i] = -INFINITY;
}

/* The largest score of head h, in all four lanes that share it. */
template <int REGISTERS>
__device__ __forceinline__ float score_most(const float (&score)[REGISTERS], int h)
{
    float most = -INFINITY;
#pragma unroll
    for (int j = 0; j < REGISTERS / 4; j++)
        most = fmaxf(most, fmaxf(score[4 * j + 2 * h], score[4 * j + 2 * h + 1]));
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
    return __fmul_rn(most, SCORE_SCALE);
}

__device__ __forceinline__ float reference_next(float reference, float most)
{
    return most > __fadd_rn(reference, RAISE) ? most : reference;
}

/* Head h's scores of a block to weights as the left side of a product; returns their sum. */
__device__ __forceinline__ float score_weights(const float (&score)[KEYS / 2], int h,
                                               float reference, uint32_t (&weight)[4][4])
{
    float sum[2] = { 0, 0 };
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++) {
        float a = exp2_fast(__fmaf_rn(score[4 * j + 2 * h], SCORE_SCALE, -reference));
        float b = exp2_fast(__fmaf_rn(score[4 * j + 2 * h + 1], SCORE_SCALE, -reference));
        sum[0] = __fadd_rn(sum[0], a);
        sum[1] = __fadd_rn(sum[1], b);
        weight[j / 2][j % 2 * 2 + h] = floats_bf16x2(a, b);
    }
    return __fadd_rn(sum[0], sum[1]);
}

__device__ __forceinline__ void softmax_add(struct softmax &softmax, int h, float keep, float sum)
{
    softmax.sum[h] = __fmaf_rn(softmax.sum[h], keep, sum);
}

/* Multiplies the output so far, where that changes anything. */
template <int REGISTERS>
__device__ __forceinline__ void output_keep(float (&o)[REGISTERS], const float (&keep)[2])
{
    if (__all_sync(~0u, keep[0] == 1.0f && keep[1] == 1.0f)) return;
#pragma unroll
    for (int i = 0; i < REGISTERS; i++) o[i] = __fmul_rn(o[i], keep[i / 2 % 2]);
}

/* What the output is multiplied by at the end. */
__device__ __forceinline__ float softmax_finish(const struct softmax &softmax, int h, float sink)
{
    float sum = softmax.sum[h];
    sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, 1));
    sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, 2));
    sum = __fadd_rn(sum, exp2_fast(__fmaf_rn(sink, LOG2E, -softmax.reference[h])));
    return __frcp_rn(sum);
}

/* ---- output -------------------------------------------------------------------------------- */

/* Lane q of four holds words w[j] of column group j; gives it the four words of group q. */
__device__ __forceinline__ uint4 gather_words(const uint32_t (&w)[4], uint32_t q)
{
    uint32_t a[4] = { w[0], w[1], w[2], w[3] };
    bool high = q & 2, odd = q & 1;
    uint32_t x = __shfl_xor_sync(~0u, high ? a[0] : a[2], 2);
    uint32_t y = __shfl_xor_sync(~0u, high ? a[1] : a[3], 2);
    if (high) a[0] = x, a[1] = y;
    else a[2] = x, a[3] = y;
    x = __shfl_xor_sync(~0u, odd ? a[0] : a[1], 1);
    y = __shfl_xor_sync(~0u, odd ? a[2] : a[3], 1);
    if (odd) a[0] = x, a[2] = y;
    else a[1] = x, a[3] = y;
    return make_uint4(a[0], a[1], a[2], a[3]);
}

/* Writes COLUMNS channels from `channel` on of this lane's two heads. `turn`: rotations of the 32
 * pairs, for the last 64 channels; they are turned back. */
template <int COLUMNS>
__device__ __forceinline__ void
output_store(const struct attention_job &job, uint32_t token, uint32_t group, uint32_t channel,
             const float (&o)[COLUMNS / 2], const float (&scale)[2], const float2 *turn)
{
    uint32_t lane = threadIdx.x % 32, q = lane % 4;
    uint32_t first = group * HEADS + threadIdx.x % WARPGROUP / 32 * 16 + lane / 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        uint32_t head = first + 8 * h;
        bf16 *out = job.out + token * job.out_stride + (size_t)head * ENTRY_DIM + channel;
#pragma unroll
        for (int jj = 0; jj < COLUMNS / 32; jj++) {
            uint32_t word[4];
            bool turned = channel + jj * 32 >= ENTRY_DIM - ROPE_DIM;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int i = 4 * (4 * jj + j) + 2 * h;
                float2 v = make_float2(__fmul_rn(o[i], scale[h]), __fmul_rn(o[i + 1], scale[h]));
                if (turned) {
                    uint32_t pair = (channel + jj * 32 + j * 8 - (ENTRY_DIM - ROPE_DIM)) / 2 + q;
                    v = make_float2(round_to_bf16(v.x), round_to_bf16(v.y));
                    v = rope_apply(v, turn[pair], true);
                }
                word[j] = floats_bf16x2(v.x, v.y);
            }
            uint4 all = gather_words(word, q);
            if (head < job.heads) *(uint4 *)(out + jj * 32 + q * 8) = all;
        }
    }
}

/* ---- the two forms ------------------------------------------------------------------------- */

enum {
    SPLIT_UNITS = 24,     // at most; from about 32 on walking is as fast
    SPLIT_BLOCKS = 2304,  // of all units together, at most; 80 KB of workspace each
};

/* attention_split.cu; blocks: the most that a unit can have. */
void attention_split(struct cuda_dev *cuda, const struct attention_job &job, uint32_t blocks);

#endif
