/* query.c - the two ends of attention's input: heads of the query, and window rows of keys. */
#include "kernels/cpu/vectors.h"
#include "kernels/cpu/share.h"

/* ---- query --------------------------------------------------------------------------------------- */

/* The release computes this norm on bf16 tensors: square, mean, sum with eps, root and product are
 * each rounded (model.md 5.11). */
INLINE void head_norm(float *x, uint32_t count, float eps, bool official)
{
    vf sum = vf_all(0), scale;
    float mean;

    for (uint32_t i = 0; i < count; i += VF_LANES) {
        vf v = vf_load(x + i);
        sum = vf_add(sum, vf_round(vf_mul(v, v), official));
    }
    mean = round_to(vf_sum(sum) / (float)count, official);
    scale = vf_all(round_to(1.0f / sqrtf(round_to(mean + eps, official)), official));
    for (uint32_t i = 0; i < count; i += VF_LANES)
        vf_store(x + i, vf_round(vf_mul(vf_load(x + i), scale), official));
}

struct query_job {
    const struct query_args *args;
    bool official;
};

static void query_rows(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct query_job *job = context;
    const struct query_args *args = job->args;
    uint32_t dim = args->q.cols / args->heads;
    (void)thread;

    for (uint32_t t = from; t < to; t++) {
        float *q = mat_row(&args->q, t);
        struct turn turn;

        turn_init(&turn, &args->rope, args->batch->position[t], false);
        for (uint32_t h = 0; h < args->heads; h++) {
            head_norm(q + (size_t)h * dim, dim, args->eps, job->official);
            row_turn(q + (size_t)h * dim, dim, &turn, job->official);
        }
    }
}

void ISA(query)(struct cpu_dev *cpu, const struct query_args *args)
{
    struct query_job job = { args, is_official(cpu) };
    uint32_t dim = args->q.cols / args->heads;

    must(dim * args->heads == args->q.cols && dim % VF_LANES == 0);
    must(args->rope.dim % VF_LANES == 0 && args->rope.dim <= ROPE_MOST && args->rope.dim <= dim);
    share_rows(cpu, args->q.rows, 1 + 16384 / args->q.cols, query_rows, &job);
}

OPERATION(query)

/* ---- window_store -------------------------------------------------------------------------------- */

struct window_job {
    const struct window_store_args *args;
    bool official;
};

static void window_rows(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct window_job *job = context;
    const struct window_store_args *args = job->args;
    const struct batch *batch = args->batch;
    const float *norm = weight_floats(args->norm);
    uint32_t dim = args->in.cols;
    (void)thread;

    for (uint32_t t = from; t < to; t++) {
        uint32_t position = batch->position[t], seq = batch->seq[t];
        uint32_t page = batch->w_table[(size_t)seq * batch->w_stride + position / BLOCK_TOKENS -
                                       batch->w_first[seq]];
        float x[ENTRY_DIM];
        struct turn turn;

        row_norm(x, mat_row(&args->in, t), norm, dim, args->eps, job->official);
        turn_init(&turn, &args->rope, position, false);
        row_turn(x, dim, &turn, job->official);
        entry_write(plane_row(&args->window, page, position % BLOCK_TOKENS), x, dim, job->official);
    }
}

void ISA(window_store)(struct cpu_dev *cpu, const struct window_store_args *args)
{
    struct window_job job = { args, is_official(cpu) };
    uint32_t dim = args->in.cols;

    must(dim % VF_LANES == 0 && dim <= ENTRY_DIM && args->norm->cols == dim);
    must(args->window.row_bytes == (job.official ? ENTRY_BYTES_OFFICIAL : dim * sizeof(float)));
    must(!job.official || dim == ENTRY_DIM);
    must(args->rope.dim % VF_LANES == 0 && args->rope.dim <= ROPE_MOST && args->rope.dim <= dim);
    share_rows(cpu, args->in.rows, 16, window_rows, &job);
}

OPERATION(window_store)
