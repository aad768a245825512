/* experts.c - the mixture: tokens sorted by expert, each expert's products over its tokens, and the
 * results summed per token in the order of its own choice, so company changes no bit.
 *
 * A slot is one (token, choice) pair; choice topk is the shared expert. Slots of one expert stand
 * side by side in all scratch below.
 */
#include "kernels/cpu/gemm.h"

struct slot {
    uint32_t token;
    float weight;
};

/* One expert that some token chose. */
struct crew {
    const struct weight *w1, *w2, *w3;
    uint32_t first, slots;
    struct tiles in, hidden;
};

struct item {
    uint32_t crew, group, groups;
};

struct experts_run {
    const struct cpu_dev *cpu;
    const struct experts_args *args;
    struct slot *slot;  // [slots]
    uint32_t *place;    // [tokens, topk + 1] the slots of its choices, NO_EXPERT left out
    uint32_t *crew_of;  // [slots]
    struct crew *crew;
    uint32_t crews, slots;
    float *hidden;  // [slots, inter]
    float *down;    // [slots, d]
    struct item *item;
    uint32_t items;
    const struct product_kernels *kernels;
    float *panels;        // [threads, panel_floats]
    size_t panel_floats;  // PANEL_FLOATS, then two [most slots of a crew, up_columns]
    uint32_t up_columns;
};

enum { ITEM_GROUPS = BAND };  // row groups of an item

static uint32_t choice(const struct experts_args *args, uint32_t token, uint32_t i)
{
    return i < args->topk ? args->expert[(size_t)token * args->topk + i] : args->experts;
}

/* How many of a token's choices count, the shared expert among them. */
static uint32_t choices(const struct experts_args *args, uint32_t token)
{
    uint32_t count = 1;
    for (uint32_t i = 0; i < args->topk; i++) count += choice(args, token, i) != NO_EXPERT;
    return count;
}

/* Counts, then places the slots of each expert: a counting sort that keeps the tokens' order. */
static bool sort_slots(struct cpu_dev *cpu, struct experts_run *run)
{
    const struct experts_args *args = run->args;
    uint32_t each = args->topk + 1, tokens = args->in.rows;
    size_t kinds = (size_t)args->experts + 1;
    uint32_t *next = cpu_take(cpu, kinds * sizeof *next);

    run->slots = 0;
    for (uint32_t t = 0; t < tokens; t++) run->slots += choices(args, t);
    run->slot = cpu_take(cpu, run->slots * sizeof *run->slot);
    run->place = cpu_take(cpu, (size_t)tokens * each * sizeof *run->place);
    run->crew_of = cpu_take(cpu, run->slots * sizeof *run->crew_of);
    run->crew = cpu_take(cpu, (kinds < run->slots ? kinds : run->slots) * sizeof *run->crew);
    if (!next || !run->slot || !run->place || !run->crew_of || !run->crew) return false;

    memset(next, 0, kinds * sizeof *next);
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t i = 0; i < each; i++) {
            if (choice(args, t, i) == NO_EXPERT) continue;
            must(choice(args, t, i) <= args->experts);
            next[choice(args, t, i)]++;
        }
    for (uint32_t e = 0, first = 0; e < kinds; e++) {
        uint32_t count = next[e];
        next[e] = first;
        if (!count) continue;
        run->crew[run->crews] =
            (struct crew){ args->w1[e], args->w2[e], args->w3[e], first, count, { 0 }, { 0 } };
        for (uint32_t s = first; s < first + count; s++) run->crew_of[s] = run->crews;
        run->crews++;
        first += count;
    }
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t i = 0, at = 0; i < each; i++) {
            if (choice(args, t, i) == NO_EXPERT) continue;
            uint32_t s = next[choice(args, t, i)]++;
            float weight = i < args->topk ? args->weight[(size_t)t * args->topk + i] : 1.0f;
            run->slot[s] = (struct slot){ t, weight };
            run->place[(size_t)t * each + at++] = s;
        }
    return true;
}

static bool quantises(const struct cpu_dev *cpu, const struct weight *weight)
{
    return is_official(cpu) && (weight->type == DT_F8_E4M3 || weight->type == DT_I8);
}

static bool take_scratch(struct cpu_dev *cpu, struct experts_run *run)
{
    uint32_t dim = run->args->in.cols, inter = run->args->inter, most = 0;

    for (uint32_t i = 0; i < run->crews; i++) {
        struct crew *crew = &run->crew[i];
        must(crew->w1->cols == dim && crew->w3->cols == dim && crew->w2->cols == inter);
        must(crew->w1->rows == inter && crew->w3->rows == inter && crew->w2->rows == dim);
        if (crew->slots > most) most = crew->slots;
        if (!tiles_take(cpu, crew->slots, dim, quantises(cpu, crew->w1), &crew->in)) return false;
        if (!tiles_take(cpu, crew->slots, inter, quantises(cpu, crew->w2), &crew->hidden))
            return false;
    }
    uint32_t rows = inter > dim ? inter : dim;
    run->up_columns = ITEM_GROUPS * LANES;
    run->panel_floats = PANEL_FLOATS + 2 * (size_t)most * run->up_columns;
    run->panels = cpu_take(cpu, pool_threads(cpu->pool) * run->panel_floats * sizeof(float));
    run->hidden = cpu_take(cpu, (size_t)run->slots * inter * sizeof(float));
    run->down = cpu_take(cpu, (size_t)run->slots * dim * sizeof(float));
    size_t items = (size_t)run->crews * ((rows + LANES - 1) / LANES / ITEM_GROUPS + 1);
    run->item = cpu_take(cpu, items * sizeof *run->item);
    return run->panels && run->hidden && run->down && run->item;
}

/* Items that together do `rows` rows of every crew. */
static void plan_items(struct experts_run *run, uint32_t rows)
{
    uint32_t all = (rows + LANES - 1) / LANES;

    run->items = 0;
    for (uint32_t i = 0; i < run->crews; i++) {
        for (uint32_t group = 0; group < all; group += ITEM_GROUPS)
            run->item[run->items++] =
                (struct item){ i, group, all - group < ITEM_GROUPS ? all - group : ITEM_GROUPS };
    }
}

static void put_input(void *context, uint32_t s, uint32_t thread)
{
    const struct experts_run *run = context;
    const struct crew *crew = &run->crew[run->crew_of[s]];
    (void)thread;
    run->kernels->put(&crew->in, s - crew->first, mat_row(&run->args->in, run->slot[s].token));
}

static void put_hidden(void *context, uint32_t s, uint32_t thread)
{
    const struct experts_run *run = context;
    const struct crew *crew = &run->crew[run->crew_of[s]];
    (void)thread;
    run->kernels->put(&crew->hidden, s - crew->first, run->hidden + (size_t)s * run->args->inter);
}

static void up_item(void *context, uint32_t index, uint32_t thread)
{
    const struct experts_run *run = context;
    struct item item = run->item[index];
    const struct crew *crew = &run->crew[item.crew];
    uint32_t inter = run->args->inter, first = item.group * LANES;
    uint32_t left = inter - first;
    uint32_t rows = left < item.groups * LANES ? left : item.groups * LANES;
    float *panel = run->panels + thread * run->panel_floats;
    float *gate = panel + PANEL_FLOATS, *up = gate + (size_t)crew->slots * run->up_columns;
    struct gemm gemm = { .in = &crew->in,
                         .stride = run->up_columns,
                         .first_group = item.group,
                         .rows = rows,
                         .round = is_official(run->cpu) };

    gemm.weight = crew->w1;
    gemm.out = gate;
    run->kernels->gemm(&gemm, 0, item.groups, panel);
    gemm.weight = crew->w3;
    gemm.out = up;
    run->kernels->gemm(&gemm, 0, item.groups, panel);
    for (uint32_t i = 0; i < crew->slots; i++)
        run->kernels->swiglu(
            &(struct swiglu){ .gate = gate + (size_t)i * run->up_columns,
                              .up = up + (size_t)i * run->up_columns,
                              .out = run->hidden + (size_t)(crew->first + i) * inter + first,
                              .count = rows,
                              .weight = run->slot[crew->first + i].weight,
                              .limit = run->args->limit,
                              .official = is_official(run->cpu) });
}

static void down_item(void *context, uint32_t index, uint32_t thread)
{
    const struct experts_run *run = context;
    struct item item = run->item[index];
    const struct crew *crew = &run->crew[item.crew];
    uint32_t dim = run->args->in.cols;
    struct gemm gemm = { .weight = crew->w2,
                         .in = &crew->hidden,
                         .out = run->down + (size_t)crew->first * dim,
                         .stride = dim,
                         .rows = dim,
                         .round = is_official(run->cpu) };

    run->kernels->gemm(&gemm, item.group, item.groups, run->panels + thread * run->panel_floats);
}

static void combine(void *context, uint32_t token, uint32_t thread)
{
    const struct experts_run *run = context;
    uint32_t each = run->args->topk + 1;
    (void)thread;

    run->kernels->row_sum(&(struct row_sum){ .rows = run->down,
                                             .row = run->place + (size_t)token * each,
                                             .row_count = choices(run->args, token),
                                             .out = mat_row(&run->args->out, token),
                                             .count = run->args->in.cols,
                                             .official = is_official(run->cpu) });
}

/* A few rows are done sooner by the caller than by waking others. */
static void for_rows(const struct experts_run *run, uint32_t rows, pool_work *work)
{
    if (rows < 16)
        for (uint32_t i = 0; i < rows; i++) work((void *)(uintptr_t)run, i, 0);
    else pool_run(run->cpu->pool, rows, work, (void *)(uintptr_t)run);
}

void cpu_experts(struct dev *dev, const struct experts_args *args)
{
    struct cpu_dev *cpu = cpu_of(dev);
    struct experts_run run = { .cpu = cpu, .args = args, .kernels = cpu->products };

    must(args->in.cols % LANES == 0 && args->inter % LANES == 0);
    if (args->in.rows == 0) return;
    cpu_scratch_begin(cpu);
    if (!sort_slots(cpu, &run) || !take_scratch(cpu, &run)) return;
    for_rows(&run, run.slots, put_input);
    plan_items(&run, args->inter);
    pool_run(cpu->pool, run.items, up_item, &run);
    for_rows(&run, run.slots, put_hidden);
    plan_items(&run, args->in.cols);
    pool_run(cpu->pool, run.items, down_item, &run);
    for_rows(&run, args->in.rows, combine);
}
