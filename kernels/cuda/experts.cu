/* experts.cu - the mixture: sort and quantise (experts_gather.cuh), gate and up with SwiGLU and its
 * quantiser, down, and each token's sum in the order of its own choice. The products come in three
 * forms, by the number of tokens: experts_few.cuh, which needs no sorting, experts_stream.cuh, and
 * experts_crowd.cuh.
 *
 * The kernel of gate and up lets the one of down start only when it has itself waited for what came
 * before: so that one may read the plan, or the choices, and fetch weights by them before it waits.
 */
#include "kernels/cuda/experts_crowd.cuh"
#include "kernels/cuda/experts_few.cuh"
#include "kernels/cuda/experts_gather.cuh"
#include "kernels/cuda/experts_stream.cuh"

/* ---- where the experts' weights lie --------------------------------------------------------- */

/* One layer's, as the kernels read it; made when the layer is first seen. */
struct expert_table {
    struct expert_table *next;
    const void *key;  // args->w1
    uint32_t rows;
    struct expert_row *host, *device;
};

static size_t table_bytes(uint32_t rows)
{
    return rows * sizeof(struct expert_row);
}

void cuda_experts_close(struct cuda_dev *cuda)
{
    for (struct expert_table *table = cuda->experts, *next; table; table = next) {
        next = table->next;
        if (table->device) cuda_memory_give(cuda, table->device, table_bytes(table->rows));
        free(table->host);
        free(table);
    }
    cuda->experts = NULL;
}

static struct expert_row row_of(const struct experts_args *args, uint32_t e)
{
    const struct weight *w1 = args->w1[e], *w2 = args->w2[e], *w3 = args->w3[e];
    return { w1->data, w3->data, w2->data, w1->scale, w3->scale, w2->scale };
}

/* True: the table says what the arguments say. Else it is corrected, and must go to the device. */
static bool table_agrees(struct expert_table *table, const struct experts_args *args)
{
    bool agrees = true;
    for (uint32_t e = 0; e < table->rows; e++) {
        struct expert_row row = row_of(args, e);
        if (memcmp(&row, &table->host[e], sizeof row) == 0) continue;
        table->host[e] = row;
        agrees = false;
    }
    return agrees;
}

static struct expert_table *table_make(struct cuda_dev *cuda, const void *key, uint32_t rows)
{
    struct expert_table *table = (struct expert_table *)calloc(1, sizeof *table);
    if (!table) return NULL;
    table->host = (struct expert_row *)calloc(rows, sizeof *table->host);
    table->device = (struct expert_row *)cuda_memory_take(cuda, table_bytes(rows));
    table->key = key;
    table->rows = rows;
    if (table->host && table->device) {
        table->next = cuda->experts;
        cuda->experts = table;
        return table;
    }
    if (table->device) cuda_memory_give(cuda, table->device, table_bytes(rows));
    free(table->host);
    free(table);
    return NULL;
}

/* NULL: no memory, or a layer that is first seen inside a capture; the failure is noted. */
static const struct expert_row *table_rows(struct cuda_dev *cuda, const struct experts_args *args)
{
    uint32_t rows = args->experts + 1;
    struct expert_table *table = cuda->experts;
    while (table && (table->key != args->w1 || table->rows != rows)) table = table->next;
    if (!table) table = table_make(cuda, args->w1, rows);
    if (!table) {
        cuda_worked(cuda, cudaErrorMemoryAllocation, "the table of experts");
        return NULL;
    }
    if (table_agrees(table, args)) return table->device;

    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    cuda_worked(cuda, cudaStreamIsCapturing(cuda->stream, &capture), "the table of experts");
    if (capture != cudaStreamCaptureStatusNone) {
        memset(table->host, 0, table_bytes(rows));
        cuda_worked(cuda, cudaErrorStreamCaptureUnsupported, "experts not seen before a capture");
        return NULL;
    }
    cuda_worked(cuda,
                cudaMemcpyAsync(table->device, table->host, table_bytes(rows),
                                cudaMemcpyHostToDevice, cuda->stream),
                "the table of experts");
    return table->device;
}

/* ---- the sum -------------------------------------------------------------------------------- */

enum { COMBINE_THREADS = 128, COMBINE_COLS = 8 * COMBINE_THREADS };

struct combine_args {
    const bf16 *down;  // [slots, cols]
    const uint32_t *place;
    uint32_t topk, cols;
    bf16 *out;
    size_t stride;
};

static __global__ void __launch_bounds__(COMBINE_THREADS)
    combine(const __grid_constant__ struct combine_args args)
{
    uint32_t token = blockIdx.x, c = blockIdx.y * COMBINE_COLS + threadIdx.x * 8;
    uint32_t place[MOST_TOPK];

    grid_launch();
    grid_wait();
    if (c >= args.cols) return;
#pragma unroll
    for (uint32_t i = 0; i < MOST_TOPK; i++)
        place[i] = i < args.topk ? args.place[token * args.topk + i] : NO_EXPERT;
    *(uint4 *)(args.out + token * args.stride + c) =
        sum_slots(args.down, args.cols, c, place, token);
}

/* ---- the operation -------------------------------------------------------------------------- */

enum { CROWD_FROM = 40 };  // tokens that choose an expert, on average

struct scratch {
    uint32_t slots;  // at most
    struct plan *plan;
    uint32_t *place, *ready;
    float *factor, *scale, *next_scale;
    uint8_t *image, *next_image;
    bf16 *hidden, *down;
};

static bool is_few(const struct experts_args *args)
{
    return args->in.rows <= FEW_TOKENS && args->in.cols / 128 <= FEW_K_TILES;
}

static bool take_scratch(struct cuda_dev *cuda, const struct experts_args *args,
                         struct scratch *scratch)
{
    size_t tokens = args->in.rows, pairs = tokens * args->topk, dim = args->in.cols;
    size_t most = args->experts < pairs ? args->experts : pairs;
    size_t slots = (tokens + 7) / 8 * 8 + (pairs + 7 * most + 7) / 8 * 8, inter = args->inter;

    if (is_few(args)) slots = (1 + pairs) * FEW_SLOTS;
    cuda_scratch_begin(cuda);
    scratch->slots = (uint32_t)slots;
    scratch->plan = (struct plan *)cuda_take(cuda, sizeof *scratch->plan);
    scratch->place = (uint32_t *)cuda_take(cuda, pairs * sizeof *scratch->place);
    scratch->ready = (uint32_t *)cuda_take(cuda, slots / 8 * (inter / 128) * sizeof(uint32_t));
    scratch->factor = (float *)cuda_take(cuda, slots * sizeof(float));
    scratch->scale = (float *)cuda_take(cuda, slots * (dim / 128) * sizeof(float));
    scratch->next_scale = (float *)cuda_take(cuda, slots * (inter / 128) * sizeof(float));
    scratch->image = (uint8_t *)cuda_take(cuda, slots * dim);
    scratch->next_image = (uint8_t *)cuda_take(cuda, slots * inter);
    scratch->hidden = (bf16 *)cuda_take(cuda, slots * inter * sizeof(bf16));
    scratch->down = (bf16 *)cuda_take(cuda, slots * dim * sizeof(bf16));
    return scratch->plan && scratch->place && scratch->ready && scratch->factor && scratch->scale &&
           scratch->next_scale && scratch->image && scratch->next_image && scratch->hidden &&
           scratch->down;
}

static void check_expert(const struct experts_args *args, uint32_t e, enum dtype type)
{
    const struct weight *w1 = args->w1[e], *w2 = args->w2[e], *w3 = args->w3[e];
    uint32_t dim = args->in.cols, inter = args->inter;
    must(w1->cols == dim && w3->cols == dim && w2->cols == inter);
    must(w1->rows == inter && w3->rows == inter && w2->rows == dim);
    must(w1->type == type && w2->type == type && w3->type == type);
}

static void check_args(const struct experts_args *args)
{
    uint32_t dim = args->in.cols, inter = args->inter;
    must(args->in.type == DT_BF16 && args->out.type == DT_BF16 && args->out.cols == dim);
    must(dim % 128 == 0 && inter % 128 == 0 && dim <= 8192 && inter <= 8192);
    must(args->in.stride % 8 == 0 && args->out.stride % 8 == 0);
    must(args->experts >= 1 && args->experts <= MOST_EXPERTS);
    must(args->topk >= 1 && args->topk <= MOST_TOPK);
    enum dtype routed = args->w1[0]->type, shared = args->w1[args->experts]->type;
    must(routed == DT_I8 || routed == DT_F8_E4M3);
    must(shared == DT_I8 || shared == DT_F8_E4M3);
    for (uint32_t e = 0; e <= args->experts; e++)
        check_expert(args, e, e < args->experts ? routed : shared);
}

/* By the mean alone: a kernel is chosen by counts, not contents. */
static bool is_crowd(const struct experts_args *args)
{
    return (uint64_t)args->in.rows * args->topk >= (uint64_t)CROWD_FROM * args->experts;
}

static void sort_slots(struct cuda_dev *cuda, const struct experts_args *args,
                       const struct scratch *scratch)
{
    uint32_t tokens = args->in.rows, most = 4 * (uint32_t)cuda->sms;
    struct gather_args gather = {};
    gather.in = (const bf16 *)args->in.data;
    gather.stride = args->in.stride;
    gather.expert = args->expert;
    gather.weight = args->weight;
    gather.tokens = tokens;
    gather.topk = args->topk;
    gather.experts = args->experts;
    gather.k_tiles = args->in.cols / 128;
    gather.each = (tokens + most - 1) / most;
    gather.routed_wide = args->w1[0]->type == DT_F8_E4M3;
    gather.shared_wide = args->w1[args->experts]->type == DT_F8_E4M3;
    gather.crowd = is_crowd(args);
    gather.slots = scratch->slots;
    gather.plan = scratch->plan;
    gather.place = scratch->place;
    gather.factor = scratch->factor;
    gather.image = scratch->image;
    gather.scale = scratch->scale;
    gather.ready = scratch->ready;
    gather.readies = scratch->slots / 8 * (args->inter / 128);
    must(gather.each * gather.topk <= GATHER_PAIRS);
    launch(cuda, "experts: sorting", gather_slots, (tokens + gather.each - 1) / gather.each,
           GATHER_THREADS, 0, gather);
}

/* The two products' arguments. */
static void fill_products(const struct experts_args *args, const struct scratch *scratch,
                          const struct expert_row *rows, struct product_args *up,
                          struct product_args *down)
{
    *up = {};
    up->row = rows;
    up->plan = scratch->plan;
    up->slots = scratch->slots;
    up->experts = args->experts;
    up->routed_wide = args->w1[0]->type == DT_F8_E4M3;
    up->shared_wide = args->w1[args->experts]->type == DT_F8_E4M3;
    up->crowd = is_crowd(args);
    *down = *up;

    up->k_tiles = args->in.cols / 128;
    up->pairs = args->inter / (up->crowd ? 128 : 64);
    up->image = scratch->image;
    up->scale = scratch->scale;
    up->out = scratch->hidden;
    up->width = args->inter;
    up->factor = scratch->factor;
    up->limit = args->limit;
    up->ready = scratch->ready;
    up->next_image = scratch->next_image;
    up->next_scale = scratch->next_scale;

    down->k_tiles = args->inter / 128;
    down->pairs = args->in.cols / 128;
    down->image = scratch->next_image;
    down->scale = scratch->next_scale;
    down->out = scratch->down;
    down->width = args->in.cols;
}

static void run_many(struct cuda_dev *cuda, const struct experts_args *args,
                     const struct scratch *scratch, const struct product_args *up,
                     const struct product_args *down)
{
    uint32_t sms = (uint32_t)cuda->sms;
    sort_slots(cuda, args, scratch);
    if (up->crowd) {
        launch(cuda, "experts: gate and up", crowd_products<true>, sms, CROWD_THREADS, CROWD_SHARED,
               *up);
        launch(cuda, "experts: down", crowd_products<false>, sms, CROWD_THREADS, CROWD_SHARED,
               *down);
    } else {
        launch(cuda, "experts: gate and up", stream<true>, sms, STREAM_THREADS, STREAM_SHARED, *up);
        launch(cuda, "experts: down", stream<false>, sms, STREAM_THREADS, STREAM_SHARED, *down);
    }
}

static void run_few(struct cuda_dev *cuda, const struct experts_args *args,
                    const struct scratch *scratch, const struct product_args *up,
                    const struct product_args *down)
{
    struct few_args few_up = {};
    few_up.product = *up;
    few_up.product.ready = cuda->tickets;
    few_up.in = (const bf16 *)args->in.data;
    few_up.stride = args->in.stride;
    few_up.expert = args->expert;
    few_up.weight = args->weight;
    few_up.tokens = args->in.rows;
    few_up.topk = args->topk;
    few_up.place = scratch->place;
    struct few_args few_down = few_up;
    few_down.product = *down;
    launch(cuda, "experts: gate and up", few<true>, cuda->sms, STREAM_THREADS, FEW_SHARED, few_up);
    launch(cuda, "experts: down", few<false>, cuda->sms, STREAM_THREADS, FEW_SHARED, few_down);
}

extern "C" void cuda_experts(struct dev *dev, const struct experts_args *args)
{
    struct cuda_dev *cuda = cuda_of(dev);
    struct scratch scratch;

    if (args->in.rows == 0) return;
    check_args(args);
    const struct expert_row *rows = table_rows(cuda, args);
    if (!rows || !take_scratch(cuda, args, &scratch)) return;
    struct product_args up, down;
    fill_products(args, &scratch, rows, &up, &down);
    if (is_few(args)) run_few(cuda, args, &scratch, &up, &down);
    else run_many(cuda, args, &scratch, &up, &down);

    struct combine_args sum = {};
    sum.down = scratch.down;
    sum.place = scratch.place;
    sum.topk = args->topk;
    sum.cols = args->in.cols;
    sum.out = (bf16 *)args->out.data;
    sum.stride = args->out.stride;
    launch(cuda, "experts: the sum", combine,
           dim3(args->in.rows, (args->in.cols + COMBINE_COLS - 1) / COMBINE_COLS), COMBINE_THREADS,
           0, sum);
}
