/* route.c - which experts a token goes to, and their weights (model.md 4.7); fp32 throughout. */
#include "kernels/cpu/gemm.h"

struct route_run {
    const struct route_args *args;
    const struct product_kernels *kernels;
    float *score;  // [tokens, experts]
    uint32_t experts;
    _Atomic bool wrong;  // the table names an expert that there is not
};

/* The `topk` largest of score + bias, falling; the smaller number on a tie. */
static void choose_best(const struct route_run *run, const float *score, uint32_t *expert)
{
    const float *bias = run->args->bias ? weight_floats(run->args->bias) : NULL;
    uint32_t topk = run->args->topk;
    float best[64];

    for (uint32_t e = 0, held = 0; e < run->experts; e++) {
        float value = bias ? score[e] + bias[e] : score[e];
        if (held == topk && value <= best[topk - 1]) continue;
        uint32_t at = held < topk ? held++ : topk - 1;
        for (; at > 0 && best[at - 1] < value; at--) {
            best[at] = best[at - 1];
            expert[at] = expert[at - 1];
        }
        best[at] = value;
        expert[at] = e;
    }
}

static void choose_from_table(struct route_run *run, uint32_t id, uint32_t *expert)
{
    const struct weight *table = run->args->table;

    must(id < table->rows && table->cols == run->args->topk && table->type == DT_I64);
    for (uint32_t i = 0; i < run->args->topk; i++) {
        int64_t found;
        memcpy(&found, (const char *)table->data + ((size_t)id * table->cols + i) * 8, 8);
        if (found < 0 || found >= run->experts) {
            run->wrong = true;
            found = 0;
        }
        expert[i] = (uint32_t)found;
    }
}

static void route_token(void *context, uint32_t t, uint32_t thread)
{
    struct route_run *run = context;
    const struct route_args *args = run->args;
    float *score = run->score + (size_t)t * run->experts, sum = 0;
    uint32_t *expert = args->expert + (size_t)t * args->topk;
    float *weight = args->weight + (size_t)t * args->topk;
    (void)thread;

    if (args->live && t >= *args->live) {
        for (uint32_t i = 0; i < args->topk; i++) expert[i] = NO_EXPERT, weight[i] = 0;
        return;
    }
    run->kernels->scores(score, run->experts);
    if (args->table) choose_from_table(run, args->id[t], expert);
    else choose_best(run, score, expert);
    for (uint32_t i = 0; i < args->topk; i++) sum += score[expert[i]];
    for (uint32_t i = 0; i < args->topk; i++) weight[i] = score[expert[i]] / sum * args->scaling;
}

void cpu_route(struct dev *dev, const struct route_args *args)
{
    struct cpu_dev *cpu = cpu_of(dev);
    uint32_t tokens = args->in.rows, experts = args->gate->rows;
    struct route_run run = { .args = args, .kernels = cpu->products, .experts = experts };

    must(args->topk > 0 && args->topk <= experts && args->topk <= 64);
    if (tokens == 0) return;
    run.score = dev->ops->alloc(dev, (size_t)tokens * experts * sizeof(float));
    if (!run.score) {
        cpu_fail(cpu, NO_MEMORY, "no memory is left for the router");
        return;
    }
    dev->ops->linear(dev, &(struct linear_args){
                              .in = args->in,
                              .count = 1,
                              .part = { { .weight = args->gate,
                                          .out = mat_of(run.score, DT_F32, tokens, experts),
                                          .unrounded = true } },
                              .raw = true,
                          });
    if ((uint64_t)tokens * experts < 2048)
        for (uint32_t t = 0; t < tokens; t++) route_token(&run, t, 0);
    else pool_run(cpu->pool, tokens, route_token, &run);
    if (run.wrong) cpu_fail(cpu, BAD_INPUT, "tid2eid names an expert that there is not");
    dev->ops->free(dev, run.score, (size_t)tokens * experts * sizeof(float));
}
