/* rows.cuh - where a token's rows lie in KV memory, and the rotation of a pair of channels. */
#ifndef KERNELS_CUDA_TILE_ROWS_CUH
#define KERNELS_CUDA_TILE_ROWS_CUH

#include "kernels/cuda/cuda.h"

__device__ __forceinline__ char *plane_row(const struct kv_plane &plane, uint32_t block,
                                           uint32_t row)
{
    return (char *)plane.base + (size_t)block * plane.block_stride + (size_t)row * plane.row_bytes;
}

/* Row of a position's window entry; the position is one that w_table covers. */
__device__ __forceinline__ char *window_row(const struct kv_plane &window,
                                            const struct batch &batch, uint32_t seq,
                                            uint32_t position)
{
    uint32_t column = position / BLOCK_TOKENS - batch.w_first[seq];
    uint32_t page = batch.w_table[(size_t)seq * batch.w_stride + column];
    return plane_row(window, page, position % BLOCK_TOKENS);
}

/* Row of compressed entry `entry` of a sequence. */
__device__ __forceinline__ char *entry_row(const struct kv_plane &entries,
                                           const struct batch &batch, uint32_t seq, uint32_t ratio,
                                           uint32_t entry)
{
    uint32_t rows = BLOCK_TOKENS / ratio;
    uint32_t block = batch.g_table[(size_t)seq * batch.g_stride + entry / rows];
    return plane_row(entries, block, entry % rows);
}

/* Cosine and sine of pair `pair` at a position; arguments reach 1e6, so the accurate ones. */
__device__ __forceinline__ float2 rope_turn(const struct rope &rope, uint32_t pair,
                                            uint32_t position)
{
    float2 turn;
    sincosf(__fmul_rn((float)position, rope.frequency[pair]), &turn.y, &turn.x);
    return turn;
}

/* The pair times e^(i angle); `back`: by the opposite angle. */
__device__ __forceinline__ float2 rope_apply(float2 pair, float2 turn, bool back)
{
    float sine = back ? -turn.y : turn.y;
    return make_float2(__fsub_rn(__fmul_rn(pair.x, turn.x), __fmul_rn(pair.y, sine)),
                       __fadd_rn(__fmul_rn(pair.x, sine), __fmul_rn(pair.y, turn.x)));
}

#endif
