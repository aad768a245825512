/* rows.cu - operations that move whole rows: embed, gather_rows, mtp_join. One CTA a row of the
 * result, 16 bytes a thread and step: bound by memory in prefill, by the launch in decode. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tile/grid.cuh"
#include "kernels/cuda/tile/number.cuh"

enum { ROW_THREADS = 256, PIECE = 16 };  // bytes

/* Pieces of a row, which its address and stride must allow. */
static uint32_t row_pieces(const struct mat *mat, uint32_t cols)
{
    size_t size = dtype_size(mat->type);
    must(cols * size % PIECE == 0 && mat->stride * size % PIECE == 0);
    must((uintptr_t)mat->data % PIECE == 0);
    return (uint32_t)(cols * size / PIECE);
}

struct row_copy {
    uint4 *out;
    const uint4 *in;
    const uint32_t *row;             // which row of `in` stands in each row of `out`
    uint32_t out_stride, in_stride;  // pieces
    uint32_t pieces, copies;         // of one row, and how often it stands side by side
};

static __global__ void __launch_bounds__(ROW_THREADS) copy_rows(struct row_copy job)
{
    grid_launch();
    grid_wait();
    const uint4 *in = job.in + (size_t)job.row[blockIdx.x] * job.in_stride;
    uint4 *out = job.out + (size_t)blockIdx.x * job.out_stride;
    for (uint32_t i = threadIdx.x; i < job.pieces; i += ROW_THREADS) {
        uint4 piece = in[i];
        for (uint32_t copy = 0; copy < job.copies; copy++) out[copy * job.pieces + i] = piece;
    }
}

extern "C" void cuda_embed(struct dev *dev, const struct embed_args *args)
{
    const struct weight *table = args->table;
    if (args->out.rows == 0) return;
    must(table->use == WEIGHT_TABLE && table->type == DT_BF16 && args->out.type == DT_BF16);
    must(args->out.cols == args->copies * table->cols && table->cols * 2 % PIECE == 0);
    row_pieces(&args->out, args->out.cols);
    struct row_copy job = { .out = (uint4 *)args->out.data,
                            .in = (const uint4 *)table->data,
                            .row = args->id,
                            .out_stride = args->out.stride * 2 / PIECE,
                            .in_stride = table->cols * 2 / PIECE,
                            .pieces = table->cols * 2 / PIECE,
                            .copies = args->copies };
    launch(cuda_of(dev), "embed", copy_rows, dim3(args->out.rows), ROW_THREADS, 0, job);
}

extern "C" void cuda_gather_rows(struct dev *dev, const struct gather_rows_args *args)
{
    uint32_t size = (uint32_t)dtype_size(args->out.type);
    if (args->out.rows == 0) return;
    must(args->in.type == args->out.type && args->in.cols == args->out.cols);
    row_pieces(&args->in, args->in.cols);
    struct row_copy job = { .out = (uint4 *)args->out.data,
                            .in = (const uint4 *)args->in.data,
                            .row = args->row,
                            .out_stride = args->out.stride * size / PIECE,
                            .in_stride = args->in.stride * size / PIECE,
                            .pieces = row_pieces(&args->out, args->out.cols),
                            .copies = 1 };
    launch(cuda_of(dev), "gather_rows", copy_rows, dim3(args->out.rows), ROW_THREADS, 0, job);
}

static __device__ __forceinline__ uint32_t add_pair(uint32_t a, uint32_t b)
{
    float2 x = bf16x2_floats(a), y = bf16x2_floats(b);
    return floats_bf16x2(x.x + y.x, x.y + y.y);
}

struct join {
    uint4 *out;
    const uint4 *e, *h;
    uint32_t out_stride, e_stride, h_stride;  // pieces
    uint32_t pieces, copies;
};

static __global__ void __launch_bounds__(ROW_THREADS) join_rows(struct join job)
{
    grid_launch();
    grid_wait();
    const uint4 *e = job.e + (size_t)blockIdx.x * job.e_stride;
    const uint4 *h = job.h + (size_t)blockIdx.x * job.h_stride;
    uint4 *out = job.out + (size_t)blockIdx.x * job.out_stride;
    for (uint32_t i = threadIdx.x; i < job.pieces; i += ROW_THREADS) {
        uint4 a = e[i];
        for (uint32_t copy = 0; copy < job.copies; copy++) {
            uint4 b = h[copy * job.pieces + i];
            out[copy * job.pieces + i] = make_uint4(add_pair(a.x, b.x), add_pair(a.y, b.y),
                                                    add_pair(a.z, b.z), add_pair(a.w, b.w));
        }
    }
}

extern "C" void cuda_mtp_join(struct dev *dev, const struct mtp_join_args *args)
{
    if (args->out.rows == 0) return;
    must(args->out.cols == args->copies * args->e.cols && args->h.cols == args->out.cols);
    must(args->out.type == DT_BF16 && args->e.type == DT_BF16 && args->h.type == DT_BF16);
    row_pieces(&args->out, args->out.cols);
    row_pieces(&args->h, args->h.cols);
    struct join job = { .out = (uint4 *)args->out.data,
                        .e = (const uint4 *)args->e.data,
                        .h = (const uint4 *)args->h.data,
                        .out_stride = args->out.stride * 2 / PIECE,
                        .e_stride = args->e.stride * 2 / PIECE,
                        .h_stride = args->h.stride * 2 / PIECE,
                        .pieces = row_pieces(&args->e, args->e.cols),
                        .copies = args->copies };
    launch(cuda_of(dev), "mtp_join", join_rows, dim3(args->out.rows), ROW_THREADS, 0, job);
}
