/* hyper.c - hyper-connections: four residual streams, mixed into one before a sub-layer and spread
 * again after it (model.md 4.2).
 *
 * A row's products with fn are sums of 16 lanes over the channels in order; those of eight rows of fn
 * run side by side.
 */
#include "kernels/cpu/vectors.h"
#include "kernels/cpu/share.h"

enum {
    COPIES = 4,  // streams; every release has four
    MIXES = 2 * COPIES + COPIES * COPIES,
    FN_ROWS = 4,  // rows of fn that share a pass over the streams
};

/* mix[r] = fn[r] . x / rms(x) for rows of fn, a multiple of FN_ROWS */
INLINE void mix_row(float *mix, const float *x, const float *fn, uint32_t rows, uint32_t count,
                    float eps)
{
    float scale = row_rms(x, count, eps);

    for (uint32_t r = 0; r < rows; r += FN_ROWS) {
        const float *w = fn + (size_t)r * count;
        vf sum[FN_ROWS] = { vf_all(0), vf_all(0), vf_all(0), vf_all(0) };

        for (uint32_t i = 0; i < count; i += VF_LANES) {
            vf v = vf_load(x + i);
            for (uint32_t k = 0; k < FN_ROWS; k++)
                sum[k] = vf_fma(v, vf_load(w + (size_t)k * count + i), sum[k]);
        }
        for (uint32_t k = 0; k < FN_ROWS; k++) mix[r + k] = vf_sum(sum[k]) * scale;
    }
}

/* out = RMSNorm(sum over k of pre[k] * x[k]) */
INLINE void blend_row(float *out, const float *x, const float *pre, const float *norm, uint32_t dim,
                      float eps, bool official)
{
    for (uint32_t i = 0; i < dim; i += VF_LANES) {
        vf sum = vf_mul(vf_all(pre[0]), vf_load(x + i));
        for (uint32_t k = 1; k < COPIES; k++)
            sum = vf_fma(vf_all(pre[k]), vf_load(x + (size_t)k * dim + i), sum);
        vf_store(out + i, vf_round(sum, official));
    }
    row_norm(out, out, norm, dim, eps, official);
}

/* Sums over the four lanes of a row of the matrix, and over the four rows. */
INLINE vf sum_row(vf c)
{
    c = vf_add(c, vf_swap2(c));
    return vf_add(c, vf_swap1(c));
}

INLINE vf sum_column(vf c)
{
    c = vf_add(c, vf_swap8(c));
    return vf_add(c, vf_swap4(c));
}

/* The 4 x 4 matrix [source][destination] in one vector: softmax of each row, then columns and rows
 * normalised in turn, columns first and last. */
INLINE vf sinkhorn(vf c, uint32_t iterations, float eps)
{
    vf e = vf_all(eps), peak = vf_max(c, vf_swap2(c));

    peak = vf_max(peak, vf_swap1(peak));
    c = vf_exp(vf_sub(c, peak));
    c = vf_add(vf_div(c, sum_row(c)), e);
    c = vf_div(c, vf_add(sum_column(c), e));
    for (uint32_t i = 1; i < iterations; i++) {
        c = vf_div(c, vf_add(sum_row(c), e));
        c = vf_div(c, vf_add(sum_column(c), e));
    }
    return c;
}

/* ---- hyper_pre ----------------------------------------------------------------------------------- */

struct pre_job {
    const struct hyper_pre_args *args;
    bool official;
};

static void pre_rows(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct pre_job *job = context;
    const struct hyper_pre_args *args = job->args;
    const float *fn = weight_floats(args->fn), *base = weight_floats(args->base);
    const float *scale = weight_floats(args->scale), *norm = weight_floats(args->norm);
    uint32_t dim = args->out.cols;
    (void)thread;

    for (uint32_t t = from; t < to; t++) {
        const float *x = mat_row(&args->streams, t);
        float mix[MIXES], pre[COPIES], *post = mat_row(&args->post, t);
        vf comb;

        mix_row(mix, x, fn, MIXES, COPIES * dim, args->norm_eps);
        for (uint32_t k = 0; k < COPIES; k++) {
            pre[k] = sigmoid_f32(mix[k] * scale[0] + base[k]) + args->hyper_eps;
            post[k] = 2.0f * sigmoid_f32(mix[COPIES + k] * scale[1] + base[COPIES + k]);
        }
        comb =
            vf_add(vf_mul(vf_load(mix + 2 * COPIES), vf_all(scale[2])), vf_load(base + 2 * COPIES));
        vf_store(mat_row(&args->comb, t), sinkhorn(comb, args->iterations, args->hyper_eps));
        blend_row(mat_row(&args->out, t), x, pre, norm, dim, args->norm_eps, job->official);
    }
}

void ISA(hyper_pre)(struct cpu_dev *cpu, const struct hyper_pre_args *args)
{
    struct pre_job job = { args, is_official(cpu) };

    must(args->copies == COPIES && args->out.cols % VF_LANES == 0);
    must(args->streams.cols == COPIES * args->out.cols);
    must(args->fn->rows == MIXES && args->fn->cols == args->streams.cols);
    share_rows(cpu, args->streams.rows, 1 + 4096 / args->out.cols, pre_rows, &job);
}

OPERATION(hyper_pre)

/* ---- hyper_post ---------------------------------------------------------------------------------- */

struct post_job {
    const struct hyper_post_args *args;
    bool official;
};

static void post_rows(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct post_job *job = context;
    const struct hyper_post_args *args = job->args;
    uint32_t dim = args->in.cols;
    (void)thread;

    for (uint32_t t = from; t < to; t++) {
        float *x = mat_row(&args->streams, t);
        const float *y = mat_row(&args->in, t);
        const float *post = mat_row(&args->post, t), *comb = mat_row(&args->comb, t);

        for (uint32_t i = 0; i < dim; i += VF_LANES) {
            vf in = vf_load(y + i), old[COPIES];
            for (uint32_t j = 0; j < COPIES; j++) old[j] = vf_load(x + (size_t)j * dim + i);
            for (uint32_t k = 0; k < COPIES; k++) {
                vf sum = vf_mul(vf_all(comb[k]), old[0]);
                for (uint32_t j = 1; j < COPIES; j++)
                    sum = vf_fma(vf_all(comb[COPIES * j + k]), old[j], sum);
                sum = vf_fma(vf_all(post[k]), in, sum);
                vf_store(x + (size_t)k * dim + i, vf_round(sum, job->official));
            }
        }
    }
}

void ISA(hyper_post)(struct cpu_dev *cpu, const struct hyper_post_args *args)
{
    struct post_job job = { args, is_official(cpu) };

    must(args->copies == COPIES && args->in.cols % VF_LANES == 0);
    must(args->streams.cols == COPIES * args->in.cols);
    share_rows(cpu, args->streams.rows, 1 + 16384 / args->in.cols, post_rows, &job);
}

OPERATION(hyper_post)

/* ---- hyper_head ---------------------------------------------------------------------------------- */

struct head_job {
    const struct hyper_head_args *args;
    bool official;
};

static void head_rows(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct head_job *job = context;
    const struct hyper_head_args *args = job->args;
    const float *base = weight_floats(args->base), *scale = weight_floats(args->scale);
    uint32_t dim = args->out.cols;
    (void)thread;

    for (uint32_t t = from; t < to; t++) {
        const float *x = mat_row(&args->streams, t);
        float mix[COPIES];

        mix_row(mix, x, weight_floats(args->fn), COPIES, COPIES * dim, args->norm_eps);
        for (uint32_t k = 0; k < COPIES; k++)
            mix[k] = sigmoid_f32(mix[k] * scale[0] + base[k]) + args->hyper_eps;
        blend_row(mat_row(&args->out, t), x, mix, weight_floats(args->norm), dim, args->norm_eps,
                  job->official);
    }
}

void ISA(hyper_head)(struct cpu_dev *cpu, const struct hyper_head_args *args)
{
    struct head_job job = { args, is_official(cpu) };

    must(args->copies == COPIES && args->out.cols % VF_LANES == 0);
    must(args->streams.cols == COPIES * args->out.cols);
    must(args->fn->rows == COPIES && args->fn->cols == args->streams.cols);
    share_rows(cpu, args->streams.rows, 1 + 16384 / args->out.cols, head_rows, &job);
}

OPERATION(hyper_head)
