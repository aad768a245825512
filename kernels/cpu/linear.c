/* linear.c - products with one input: the input is cut into tiles once, then every part's rows are
 * shared out among the threads. */
#include "kernels/cpu/gemm.h"

enum { MAX_PRODUCTS = 64 };  // parts times groups

/* Below this many multiply-adds, other threads would cost more than they bring. */
#define ALONE_WORK 48000u

struct linear_run {
    const struct cpu_dev *cpu;
    const struct linear_args *args;
    struct tiles quantised[MAX_PRODUCTS], raw[MAX_PRODUCTS];  // [groups]
    uint32_t groups, group_cols;
    struct gemm gemm[MAX_PRODUCTS];
    uint32_t first_item[MAX_PRODUCTS + 1];  // items of product i: first_item[i] ..
    uint32_t chunk[MAX_PRODUCTS];           // row groups an item of it does
    uint32_t count;
    const struct product_kernels *kernels;
    float *panels;
};

static void put_token(void *context, uint32_t token, uint32_t thread)
{
    const struct linear_run *run = context;
    const float *in = mat_row(&run->args->in, token);
    (void)thread;

    for (uint32_t group = 0; group < run->groups; group++) {
        const float *part = in + (size_t)group * run->group_cols;
        if (run->quantised[group].value) run->kernels->put(&run->quantised[group], token, part);
        if (run->raw[group].value) run->kernels->put(&run->raw[group], token, part);
    }
}

static void do_item(void *context, uint32_t item, uint32_t thread)
{
    const struct linear_run *run = context;
    uint32_t i = 0;

    while (item >= run->first_item[i + 1]) i++;
    const struct gemm *gemm = &run->gemm[i];
    uint32_t first = (item - run->first_item[i]) * run->chunk[i];
    uint32_t left = gemm_groups(gemm) - first;
    run->kernels->gemm(gemm, first, left < run->chunk[i] ? left : run->chunk[i],
                       run->panels + (size_t)thread * PANEL_FLOATS);
}

static bool wants_quantised(const struct linear_run *run, const struct weight *weight)
{
    return is_official(run->cpu) && !run->args->raw &&
           (weight->type == DT_F8_E4M3 || weight->type == DT_I8);
}

/* Which forms of the input the parts want, and scratch for them. */
static bool take_inputs(struct cpu_dev *cpu, struct linear_run *run)
{
    bool quantised = false, raw = false;

    for (uint32_t i = 0; i < run->args->count; i++) {
        bool wants = wants_quantised(run, run->args->part[i].weight);
        quantised |= wants;
        raw |= !wants;
    }
    for (uint32_t group = 0; group < run->groups; group++) {
        uint32_t tokens = run->args->in.rows, cols = run->group_cols;
        if (quantised && !tiles_take(cpu, tokens, cols, true, &run->quantised[group])) return false;
        if (raw && !tiles_take(cpu, tokens, cols, false, &run->raw[group])) return false;
    }
    return true;
}

static void add_products(struct linear_run *run, const struct linear_part *part)
{
    const struct weight *weight = part->weight;
    uint32_t rows = weight->rows / run->groups;

    must(weight->use == WEIGHT_LINEAR && weight->cols == run->group_cols);
    must(run->groups == 1 || rows % LANES == 0);
    must(part->out.rows == run->args->in.rows && part->out.cols == weight->rows);
    for (uint32_t group = 0; group < run->groups; group++) {
        must(run->count < MAX_PRODUCTS);
        run->gemm[run->count++] = (struct gemm){
            .weight = weight,
            .in = wants_quantised(run, weight) ? &run->quantised[group] : &run->raw[group],
            .out = (float *)part->out.data + (size_t)group * rows,
            .stride = part->out.stride,
            .first_group = group * rows / LANES,
            .rows = rows,
            .round = is_official(run->cpu) && !part->unrounded,
        };
    }
}

/* Cuts the products into items of about equal work, a few for each thread. */
static uint32_t plan_items(struct linear_run *run)
{
    uint32_t threads = pool_threads(run->cpu->pool), items = 0;
    uint64_t work = 0;

    for (uint32_t i = 0; i < run->count; i++)
        work += gemm_group_work(&run->gemm[i]) * gemm_groups(&run->gemm[i]);
    uint64_t per_item = work < ALONE_WORK ? work : work / (threads * 4) + 1;
    for (uint32_t i = 0; i < run->count; i++) {
        const struct gemm *gemm = &run->gemm[i];
        uint32_t groups = gemm_groups(gemm);
        uint64_t chunk = per_item / (gemm_group_work(gemm) + 1) + 1;
        chunk = (chunk + 7) / 8 * 8;  // kernels like 8 row groups for one token
        run->chunk[i] = chunk < groups ? (uint32_t)chunk : groups;
        run->first_item[i] = items;
        items += (groups + run->chunk[i] - 1) / run->chunk[i];
    }
    run->first_item[run->count] = items;
    return work < ALONE_WORK ? 0 : items;
}

void cpu_linear(struct dev *dev, const struct linear_args *args)
{
    struct cpu_dev *cpu = cpu_of(dev);
    struct linear_run run = { .cpu = cpu, .args = args, .kernels = cpu->products };
    uint32_t tokens = args->in.rows;

    if (tokens == 0) return;
    run.groups = args->groups ? args->groups : 1;
    run.group_cols = args->in.cols / run.groups;
    cpu_scratch_begin(cpu);
    run.panels = cpu_take(cpu, (size_t)pool_threads(cpu->pool) * PANEL_FLOATS * sizeof(float));
    if (!run.panels || !take_inputs(cpu, &run)) return;
    for (uint32_t i = 0; i < args->count; i++) add_products(&run, &args->part[i]);

    if (tokens < 4)
        for (uint32_t t = 0; t < tokens; t++) put_token(&run, t, 0);
    else pool_run(cpu->pool, tokens, put_token, &run);
    uint32_t items = plan_items(&run);
    if (items) pool_run(cpu->pool, items, do_item, &run);
    else
        for (uint32_t i = 0; i < run.first_item[run.count]; i++) do_item(&run, i, 0);
}
