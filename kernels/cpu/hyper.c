/* hyper.c - hyper-connections: four residual streams, mixed into one before a sub-layer and spread
 * again after it (model.md 4.2).
 *
 * A row's products with fn are sums of 16 lanes over the channels in order, and then the lanes' tree;
 * several rows of fn, and several tokens, go side by side.
 */
#include "kernels/cpu/vectors.h"
#include "kernels/cpu/share.h"

enum {
    COPIES = 4,  // streams; every release has four
    MIXES = 2 * COPIES + COPIES * COPIES,
    FN_ROWS = 4,  // rows of fn that share a pass over the streams,
#if defined __AVX512F__
    TOKENS = 4,  // and tokens that share one over fn
#else
    TOKENS = 1,
#endif
};

/* mix[r] = fn[r] . x / rms(x) for rows of fn, a multiple of FN_ROWS, and for `tokens` rows of x, 1 or
 * TOKENS and a constant after inlining. */
INLINE void mix_tokens(float (*mix)[MIXES], const float *const *x, const float *fn, uint32_t rows,
                       uint32_t count, float eps, uint32_t tokens)
{
    float scale[TOKENS] = { 0 };

    for (uint32_t t = 0; t < tokens; t++) scale[t] = row_rms(x[t], count, eps);
    for (uint32_t r = 0; r < rows; r += FN_ROWS) {
        const float *w = fn + (size_t)r * count;
        vf sum[TOKENS][FN_ROWS];

        for (uint32_t i = 0; i < TOKENS * FN_ROWS; i++) sum[i / FN_ROWS][i % FN_ROWS] = vf_all(0);
        for (uint32_t i = 0; i < count; i += VF_LANES) {
            vf v[FN_ROWS];
            for (uint32_t k = 0; k < FN_ROWS; k++) v[k] = vf_load(w + (size_t)k * count + i);
            for (uint32_t t = 0; t < tokens; t++) {
                vf in = vf_load(x[t] + i);
                for (uint32_t k = 0; k < FN_ROWS; k++) sum[t][k] = vf_fma(in, v[k], sum[t][k]);
            }
        }
        for (uint32_t t = 0; t < tokens; t++)
            for (uint32_t k = 0; k < FN_ROWS; k++) mix[t][r + k] = vf_sum(sum[t][k]) * scale[t];
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

/* The 4 x 4 matrix [source][destination] of each token in one vector: softmax of each row, then
 * columns and rows normalised in turn, columns first and last. Every step waits for the one before,
 * so several tokens go side by side. */
INLINE void sinkhorn(vf *c, uint32_t iterations, float eps, uint32_t tokens)
{
    vf e = vf_all(eps);

    for (uint32_t t = 0; t < tokens; t++) {
        vf peak = vf_max(c[t], vf_swap2(c[t]));
        peak = vf_max(peak, vf_swap1(peak));
        c[t] = vf_exp(vf_sub(c[t], peak));
        c[t] = vf_add(vf_div(c[t], sum_row(c[t])), e);
        c[t] = vf_div(c[t], vf_add(sum_column(c[t]), e));
    }
    for (uint32_t i = 1; i < iterations; i++) {
        for (uint32_t t = 0; t < tokens; t++) c[t] = vf_div(c[t], vf_add(sum_row(c[t]), e));
        for (uint32_t t = 0; t < tokens; t++) c[t] = vf_div(c[t], vf_add(sum_column(c[t]), e));
    }
}

/* x[k] = post[k] * y + sum over j of comb[j][k] * x[j] */
INLINE void advance_row(float *x, const float *y, const float *post, const float *comb,
                        uint32_t dim, bool official)
{
    for (uint32_t i = 0; i < dim; i += VF_LANES) {
        vf in = vf_load(y + i), old[COPIES];
        for (uint32_t j = 0; j < COPIES; j++) old[j] = vf_load(x + (size_t)j * dim + i);
        for (uint32_t k = 0; k < COPIES; k++) {
            vf sum = vf_mul(vf_all(comb[k]), old[0]);
            for (uint32_t j = 1; j < COPIES; j++)
                sum = vf_fma(vf_all(comb[COPIES * j + k]), old[j], sum);
            sum = vf_fma(vf_all(post[k]), in, sum);
            vf_store(x + (size_t)k * dim + i, vf_round(sum, official));
        }
    }
}

/* ---- hyper_pre ----------------------------------------------------------------------------------- */

struct pre_job {
    const struct hyper_pre_args *args;
    bool official;
};

INLINE void pre_tokens(const struct pre_job *job, uint32_t first, uint32_t tokens)
{
    const struct hyper_pre_args *args = job->args;
    const float *base = weight_floats(args->base), *scale = weight_floats(args->scale);
    uint32_t dim = args->out.cols;
    const float *x[TOKENS];
    float mix[TOKENS][MIXES], pre[COPIES];
    vf comb[TOKENS];

    for (uint32_t t = 0; t < tokens; t++) {
        float *row = mat_row(&args->streams, first + t);
        if (args->after.data)
            advance_row(row, mat_row(&args->after, first + t), mat_row(&args->post, first + t),
                        mat_row(&args->comb, first + t), dim, job->official);
        x[t] = row;
    }
    mix_tokens(mix, x, weight_floats(args->fn), MIXES, COPIES * dim, args->norm_eps, tokens);
    for (uint32_t t = 0; t < tokens; t++)
        comb[t] = vf_add(vf_mul(vf_load(mix[t] + 2 * COPIES), vf_all(scale[2])),
                         vf_load(base + 2 * COPIES));
    sinkhorn(comb, args->iterations, args->hyper_eps, tokens);
    for (uint32_t t = 0; t < tokens; t++) {
        float *post = mat_row(&args->post, first + t);
        for (uint32_t k = 0; k < COPIES; k++) {
            pre[k] = sigmoid_f32(mix[t][k] * scale[0] + base[k]) + args->hyper_eps;
            post[k] = 2.0f * sigmoid_f32(mix[t][COPIES + k] * scale[1] + base[COPIES + k]);
        }
        vf_store(mat_row(&args->comb, first + t), comb[t]);
        blend_row(mat_row(&args->out, first + t), x[t], pre, weight_floats(args->norm), dim,
                  args->norm_eps, job->official);
    }
}

static void pre_rows(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct pre_job *job = context;
    (void)thread;

    for (; TOKENS > 1 && from + TOKENS <= to; from += TOKENS) pre_tokens(job, from, TOKENS);
    for (; from < to; from++) pre_tokens(job, from, 1);
}

void ISA(hyper_pre)(struct cpu_dev *cpu, const struct hyper_pre_args *args)
{
    struct pre_job job = { args, is_official(cpu) };

    must(args->copies == COPIES && args->out.cols % VF_LANES == 0);
    must(args->streams.cols == COPIES * args->out.cols);
    must(!args->after.data || args->after.cols == args->out.cols);
    must(args->fn->rows == MIXES && args->fn->cols == args->streams.cols);
    share_rows(cpu, args->streams.rows, TOKENS * (1 + 1024 / args->out.cols), pre_rows, &job);
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
    (void)thread;

    for (uint32_t t = from; t < to; t++)
        advance_row(mat_row(&args->streams, t), mat_row(&args->in, t), mat_row(&args->post, t),
                    mat_row(&args->comb, t), args->in.cols, job->official);
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
        float mix[1][MIXES], pre[COPIES];

        mix_tokens(mix, &x, weight_floats(args->fn), COPIES, COPIES * dim, args->norm_eps, 1);
        for (uint32_t k = 0; k < COPIES; k++)
            pre[k] = sigmoid_f32(mix[0][k] * scale[0] + base[k]) + args->hyper_eps;
        blend_row(mat_row(&args->out, t), x, pre, weight_floats(args->norm), dim, args->norm_eps,
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
