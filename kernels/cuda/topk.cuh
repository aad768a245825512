/* topk.cuh - the largest of many 16-bit keys, exactly, by one CTA: their indices ascending; of equal
 * keys at the edge the smaller indices.
 *
 * Two counts, of the upper 11 bits and then of the lower 5 where the upper ones are the edge's, find
 * the last key that is taken; a pass in order takes.
 */
#ifndef KERNELS_CUDA_TOPK_CUH
#define KERNELS_CUDA_TOPK_CUH

#include <stdint.h>

enum {
    TOPK_LOW = 5,  // bits of the second count
    TOPK_BINS = 1 << (16 - TOPK_LOW),
    TOPK_PIECE = 8,  // keys of a thread and step: 16 bytes
};

struct topk_room {  // shared
    uint32_t bin[TOPK_BINS];
    uint32_t low[1 << TOPK_LOW];
    uint32_t warp[32];
    uint32_t edge, rest;
};

/* Unsigned order is the order of the floats. */
__device__ __forceinline__ uint16_t topk_key(uint16_t bf16_bits)
{
    return bf16_bits ^ (bf16_bits & 0x8000 ? 0xffff : 0x8000);
}

__device__ __forceinline__ uint32_t piece_key(const uint4 &piece, int i)
{
    uint32_t word = i / 2 == 0 ? piece.x : i / 2 == 1 ? piece.y : i / 2 == 2 ? piece.z : piece.w;
    return i % 2 ? word >> 16 : word & 0xffff;
}

__device__ __forceinline__ uint32_t warp_prefix(uint32_t x)  // the sum through this lane
{
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        uint32_t below = __shfl_up_sync(0xffffffffu, x, step);
        if (threadIdx.x % 32 >= step) x += below;
    }
    return x;
}

/* The sum over the threads before this one, and over all. Ends with every thread past the barrier that
 * follows the last read of room->warp but one; call __syncthreads before the next use. */
template <int THREADS>
__device__ __forceinline__ uint32_t cta_prefix(uint32_t x, uint32_t *warp, uint32_t *all)
{
    uint32_t through = warp_prefix(x), before = 0, sum = 0;
    if (threadIdx.x % 32 == 31) warp[threadIdx.x / 32] = through;
    __syncthreads();
#pragma unroll
    for (uint32_t i = 0; i < THREADS / 32; i++) {
        if (i < threadIdx.x / 32) before += warp[i];
        sum += warp[i];
    }
    *all = sum;
    return before + through - x;
}

/* The bin in which the count from the top reaches `want`, and how many of it are wanted. */
template <int THREADS>
__device__ __forceinline__ void find_edge(struct topk_room *room, uint32_t want)
{
    enum { EACH = TOPK_BINS / THREADS };
    uint32_t first = TOPK_BINS - 1 - threadIdx.x * EACH, count = 0, all;
#pragma unroll
    for (int i = 0; i < EACH; i++) count += room->bin[first - i];
    uint32_t above = cta_prefix<THREADS>(count, room->warp, &all);
    if (above < want && above + count >= want) {
        uint32_t bin = first;
        while (above + room->bin[bin] < want) above += room->bin[bin--];
        room->edge = bin;
        room->rest = want - above;
    }
    __syncthreads();
}

/* key: [n], 16-byte aligned, with room up to the next multiple of eight; want < n. */
template <int THREADS>
__device__ void topk_select(struct topk_room *room, const uint16_t *key, uint32_t n, uint32_t want,
                            uint32_t *selected)
{
    uint32_t pieces = (n + TOPK_PIECE - 1) / TOPK_PIECE;

    for (uint32_t i = threadIdx.x; i < TOPK_BINS; i += THREADS) room->bin[i] = 0;
    if (threadIdx.x < 1 << TOPK_LOW) room->low[threadIdx.x] = 0;
    __syncthreads();
    for (uint32_t p = threadIdx.x; p < pieces; p += THREADS) {
        uint4 piece = ((const uint4 *)key)[p];
#pragma unroll
        for (int i = 0; i < TOPK_PIECE; i++)
            if (p * TOPK_PIECE + i < n) atomicAdd(&room->bin[piece_key(piece, i) >> TOPK_LOW], 1);
    }
    __syncthreads();
    find_edge<THREADS>(room, want);
    uint32_t edge = room->edge;
    for (uint32_t p = threadIdx.x; p < pieces; p += THREADS) {
        uint4 piece = ((const uint4 *)key)[p];
#pragma unroll
        for (int i = 0; i < TOPK_PIECE; i++) {
            uint32_t k = piece_key(piece, i);
            if (p * TOPK_PIECE + i < n && k >> TOPK_LOW == edge)
                atomicAdd(&room->low[k % (1 << TOPK_LOW)], 1);
        }
    }
    __syncthreads();
    if (threadIdx.x < 32) {
        uint32_t count = room->low[31 - threadIdx.x], rest = room->rest;
        uint32_t through = warp_prefix(count);
        if (through >= rest && through - count < rest) {
            room->edge = edge << TOPK_LOW | (31 - threadIdx.x);
            room->rest = rest - (through - count);
        }
    }
    __syncthreads();

    uint32_t last = room->edge, equals = room->rest, above = 0, equal = 0;
    for (uint32_t base = 0; base < pieces; base += THREADS) {
        uint32_t p = base + threadIdx.x, more = 0, same = 0, all;
        uint4 piece = p < pieces ? ((const uint4 *)key)[p] : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int i = 0; i < TOPK_PIECE; i++) {
            bool held = p * TOPK_PIECE + i < n;
            uint32_t k = piece_key(piece, i);
            more += held && k > last;
            same += held && k == last;
        }
        uint32_t before = cta_prefix<THREADS>(same << 16 | more, room->warp, &all);
        uint32_t mores = above + (before & 0xffff), sames = equal + (before >> 16);
        above += all & 0xffff, equal += all >> 16;
        if (more || same) {
#pragma unroll
            for (int i = 0; i < TOPK_PIECE; i++) {
                uint32_t at = p * TOPK_PIECE + i, k = piece_key(piece, i);
                if (at >= n || k < last) continue;
                if (k > last || sames < equals) selected[mores + min(sames, equals)] = at;
                if (k > last) mores++;
                else sames++;
            }
        }
        __syncthreads();
    }
}

#endif
