/* linear.cu - products with one input: which form does them, and in what chunks they add. */
#include "kernels/cuda/linear.cuh"
#include "kernels/cuda/tile/reduce.cuh"

/* ---- fp32 weights: rare ones of other checkpoints ------------------------------------------ */

struct plain_job {
    const bf16 *in;
    const float *weight;  // [groups * rows, cols]
    uint32_t in_stride, rows, cols;
    struct product out;
};

enum { PLAIN_THREADS = 256 };

/* A warp an output. */
__global__ void __launch_bounds__(PLAIN_THREADS) plain_kernel(const struct plain_job job)
{
    grid_launch();
    grid_wait();
    uint32_t row = blockIdx.x * (PLAIN_THREADS / 32) + threadIdx.x / 32, token = blockIdx.y;
    if (row >= job.rows) return;
    uint32_t group = row / job.out.rows;
    const float *weight = job.weight + (size_t)row * job.cols;
    const bf16 *in = job.in + (size_t)token * job.in_stride + (size_t)group * job.cols;
    float sum = 0;

    for (uint32_t i = threadIdx.x % 32; i < job.cols; i += 32)
        sum = fmaf(__bfloat162float(in[i]), weight[i], sum);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) product_store(job.out, token, row, sum);
}

static void linear_plain(struct cuda_dev *cuda, const struct linear_args *args, uint32_t i,
                         uint32_t groups)
{
    const struct linear_part *part = &args->part[i];
    struct plain_job job = { (const bf16 *)args->in.data, (const float *)part->weight->data,
                             args->in.stride, part->weight->rows, part->weight->cols };
    job.out.out = part->out.data;
    job.out.stride = part->out.stride;
    job.out.rows = part->weight->rows / groups;
    job.out.unrounded = part->unrounded;
    uint32_t each = PLAIN_THREADS / 32;
    for (uint32_t first = 0; first < args->in.rows; first += 65535) {  // what a grid's y can be
        uint32_t left = args->in.rows - first;
        launch(cuda, "linear of fp32", plain_kernel,
               dim3((job.rows + each - 1) / each, left < 65535 ? left : 65535), PLAIN_THREADS, 0,
               job);
        job.in += (size_t)65535 * job.in_stride;
        job.out.out =
            (char *)job.out.out + (size_t)65535 * job.out.stride * (job.out.unrounded ? 4 : 2);
    }
}

/* ---- the others ---------------------------------------------------------------------------- */

static void add_product(struct products *products, const struct linear_args *args,
                        const struct linear_part *from)
{
    const struct weight *weight = from->weight;
    uint32_t groups = products->groups, wide = weight->type == DT_BF16 ? 64 : 128;
    struct product *part = &products->part[products->count++];

    must(weight->type == DT_BF16 || weight->type == DT_F8_E4M3);
    must(groups == 1 || weight->rows / groups % TILE_ROWS == 0);
    part->data = weight->data;
    part->scale = weight->scale;
    part->out = from->out.data;
    part->stride = from->out.stride;
    part->rows = weight->rows / groups;
    part->row_tiles = weight->row_tiles / groups;
    part->k_tiles = weight->k_tiles;
    part->chunk = chunk_cols(weight->rows, weight->type == DT_BF16) / wide;
    if (part->chunk > part->k_tiles) part->chunk = part->k_tiles;
    part->chunks = (part->k_tiles + part->chunk - 1) / part->chunk;
    part->kind = weight->type == DT_BF16 ? LINEAR_BF16 : args->raw ? LINEAR_RAW : LINEAR_FP8;
    part->unrounded = from->unrounded;
    uintptr_t out = (uintptr_t)from->out.data;
    part->lines = !from->unrounded && part->stride % 8 == 0 && out % 16 == 0 && part->rows % 8 == 0;
    part->pairs = from->unrounded && part->stride % 2 == 0 && out % 8 == 0 && part->rows % 2 == 0;
}

void cuda_products(struct cuda_dev *cuda, const struct linear_args *args)
{
    struct products products = {};

    if (args->in.rows == 0) return;
    products.groups = args->groups ? args->groups : 1;
    products.tokens = args->in.rows;
    products.group_cols = args->in.cols / products.groups;
    must(args->in.type == DT_BF16 && args->count <= LINEAR_PARTS);
    must(products.group_cols % 128 == 0 && args->in.stride % 8 == 0 &&
         (uintptr_t)args->in.data % 16 == 0);
    uint32_t tickets = 0;
    for (uint32_t i = 0; i < args->count; i++) {
        const struct linear_part *from = &args->part[i];
        must(from->weight->use == WEIGHT_LINEAR && from->weight->cols == products.group_cols);
        must(from->out.rows == args->in.rows && from->out.cols == from->weight->rows);
        must(from->out.type == (from->unrounded ? DT_F32 : DT_BF16));
        if (from->weight->type == DT_F32) {
            linear_plain(cuda, args, i, products.groups);
            continue;
        }
        add_product(&products, args, from);
        struct product *part = &products.part[products.count - 1];
        part->first_ticket = tickets;
        if (part->chunks > 1) tickets += part->row_tiles * products.groups * part->chunks;
    }
    if (products.count == 0) return;
    if (products.tokens <= LINEAR_STREAM_TOKENS) linear_stream(cuda, &products, &args->in);
    else linear_wide(cuda, &products, &args->in);
}

extern "C" void cuda_linear(struct dev *dev, const struct linear_args *args)
{
    cuda_scratch_begin(cuda_of(dev));
    cuda_products(cuda_of(dev), args);
}
