/* plan.c - sums, and the table that shows them. */
#include "engine/plan.h"
#include "cache/kv_layout.h"
#include "kernels/ops.h"

enum { HELD_PAGES = 2 };  // the page under way and the one before it: its rows are in the window

/* ---- weights -------------------------------------------------------------------------------- */

static void count_in(struct plan_part *part, const struct tensor_need *need)
{
    part->tensors++;
    part->bytes += tensor_bytes(need);
    if (!need->is_scale && need->part != PART_TID2EID)
        part->parameters += (uint64_t)need->rows * need->cols;
}

/* What one token reads of a tensor: of experts the chosen ones, of tables one row. */
static uint64_t read_of(const struct shape *shape, enum tensor_part part, uint64_t amount,
                        bool table)
{
    if (part == PART_EXPERTS) return amount / shape->experts * shape->experts_per_token;
    return table ? amount / shape->vocab : amount;
}

static void sum_weights(struct plan *plan, const struct plan_options *options)
{
    const struct shape *shape = options->shape;

    for (uint32_t i = 0; i < options->list->count; i++) {
        const struct tensor_need *need = &options->list->need[i];
        count_in(&plan->total, need);
        if (need->owner == OWNER_DRAFTER) {
            count_in(&plan->drafter, need);
            continue;
        }
        count_in(&plan->backbone, need);
        count_in(&plan->part[need->part], need);
        if (need->part == PART_COMPRESSOR && shape->layer[need->block].ratio == SHAPE_CSA_RATIO)
            plan->csa_compressor_bytes += tensor_bytes(need);
    }

    uint64_t experts = 0;  // the drafter's
    for (uint32_t i = 0; i < options->list->count; i++) {
        const struct tensor_need *need = &options->list->need[i];
        if (need->owner == OWNER_DRAFTER && need->part == PART_EXPERTS)
            experts += tensor_bytes(need);
    }
    plan->drafter_read_bytes =
        plan->drafter.bytes - experts + read_of(shape, PART_EXPERTS, experts, false);
    for (int p = 0; p < PART_COUNT; p++) {
        bool table = p == PART_EMBED || p == PART_TID2EID;
        plan->read[p] = read_of(shape, p, plan->part[p].bytes, table);
        plan->read_bytes += plan->read[p];
        if (!table) plan->active_parameters += read_of(shape, p, plan->part[p].parameters, false);
    }
}

/* ---- KV ------------------------------------------------------------------------------------- */

static enum status sum_kv(struct plan *plan, const struct shape *shape, struct err *err)
{
    uint32_t ratio[SHAPE_MOST_LAYERS], count = shape->layers + shape->drafter_blocks;
    struct kv_layout layout;
    uint64_t row = ENTRY_BYTES_OFFICIAL * (uint64_t)shape->window;

    for (uint32_t i = 0; i < count; i++) {
        ratio[i] = shape->layer[i].ratio;
        if (i >= shape->layers) continue;
        if (ratio[i] == 0) plan->sliding++;
        else if (ratio[i] == SHAPE_CSA_RATIO) plan->csa++;
        else plan->hca++;
    }
    struct kv_geometry geometry = {
        .ratio = ratio,
        .layers = shape->layers,
        .drafts = shape->drafter == DRAFTER_MTP ? shape->drafter_blocks : 0,
        .entry_dim = shape->head_dim,
        .index_dim = shape->index_dim,
        .entry_bytes = ENTRY_BYTES_OFFICIAL,
        .index_bytes = INDEX_BYTES_OFFICIAL,
    };
    if (kv_layout_init(&layout, &geometry) != OK)
        return fail(err, NO_MEMORY, "no memory for the layout of KV memory");
    plan->block_bytes = layout.g_bytes;
    plan->page_bytes = layout.w_bytes;
    plan->sequence_state_bytes = layout.state_bytes;
    kv_layout_release(&layout);

    plan->token_bytes =
        plan->csa * (double)(ENTRY_BYTES_OFFICIAL + INDEX_BYTES_OFFICIAL) / SHAPE_CSA_RATIO +
        plan->hca * (double)ENTRY_BYTES_OFFICIAL / SHAPE_HCA_RATIO;
    plan->window_bytes = row * shape->layers;
    plan->drafter_window_bytes = row * geometry.drafts;
    uint64_t csa_floats = 2ull * 8 * 2 * (shape->head_dim + shape->index_dim);
    uint64_t hca_floats = 2ull * SHAPE_HCA_RATIO * shape->head_dim;
    plan->csa_state_bytes = plan->csa * csa_floats * sizeof(float);
    plan->hca_state_bytes = plan->hca * hca_floats * sizeof(float);

    uint64_t blocks = ((uint64_t)plan->context + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    plan->sequence_bytes =
        blocks * plan->block_bytes + HELD_PAGES * plan->page_bytes + plan->sequence_state_bytes;
    return OK;
}

/* Whole experts, as evenly as they divide; the first GPUs take one more. */
static void divide(struct plan *plan, const struct plan_options *options)
{
    uint64_t experts_bytes = 0;
    uint32_t first = 0, experts = options->shape->experts;

    for (uint32_t i = 0; i < options->list->count; i++)
        if (options->list->need[i].part == PART_EXPERTS)
            experts_bytes += tensor_bytes(&options->list->need[i]);
    for (uint32_t g = 0; g < plan->gpus; g++) {
        struct plan_gpu *gpu = &plan->gpu[g];
        gpu->first_expert = first;
        gpu->experts = experts / plan->gpus + (g < experts % plan->gpus);
        first += gpu->experts;
        gpu->weight_bytes =
            plan->total.bytes - experts_bytes + experts_bytes / experts * gpu->experts;
        gpu->streams = plan->streams / plan->gpus + (g < plan->streams % plan->gpus);
        gpu->kv_bytes = gpu->streams * plan->sequence_bytes;
    }
}

enum status plan_init(struct plan *plan, const struct plan_options *options, struct err *err)
{
    must(options->gpus > 0 && options->gpus <= PLAN_MOST_GPUS);
    *plan = (struct plan){ .context = options->context,
                           .streams = options->streams,
                           .gpus = options->gpus };
    plan->gpu = calloc(plan->gpus, sizeof *plan->gpu);
    if (!plan->gpu) return fail(err, NO_MEMORY, "no memory for %u GPUs", plan->gpus);
    sum_weights(plan, options);
    enum status status = sum_kv(plan, options->shape, err);
    if (status == OK) divide(plan, options);
    else plan_release(plan);
    return status;
}

void plan_release(struct plan *plan)
{
    free(plan->gpu);
    *plan = (struct plan){ 0 };
}

/* ---- the table ------------------------------------------------------------------------------ */

static const char *const part_names[PART_COUNT] = {
    [PART_EMBED] = "embedding",
    [PART_HEAD] = "head",
    [PART_ATTENTION] = "attention",
    [PART_COMPRESSOR] = "compressors",
    [PART_INDEXER] = "indexers",
    [PART_HYPER] = "hyper-connections",
    [PART_NORM] = "norms",
    [PART_ROUTER] = "routers",
    [PART_TID2EID] = "experts by token",
    [PART_EXPERTS] = "routed experts",
    [PART_SHARED] = "shared experts",
    [PART_DRAFTER] = "drafter",
};

/* 159609485896 as 159,609,485,896, in a field of 19 */
static void add_number(struct buf *out, uint64_t number)
{
    char digits[24], text[32];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number), at = 0;

    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) text[at++] = ',';
        text[at++] = digits[i];
    }
    buf_addf(out, "%*s%.*s", 19 - at, "", at, text);
}

static void add_bytes(struct buf *out, const char *name, uint64_t bytes)
{
    buf_addf(out, "  %-36s", name);
    add_number(out, bytes);
    buf_addf(out, " %10.3f\n", (double)bytes / (1 << 30));
}

static void add_part(struct buf *out, const char *name, const struct plan_part *part)
{
    if (part->tensors == 0) return;
    buf_addf(out, "  %-22s%14u", name, part->tensors);
    add_number(out, part->bytes);
    buf_addf(out, " %10.3f\n", (double)part->bytes / (1 << 30));
}

static void print_weights(const struct plan *plan, struct buf *out)
{
    buf_addf(out, "weights                        tensors              bytes        GiB\n");
    for (int p = 0; p < PART_COUNT; p++) add_part(out, part_names[p], &plan->part[p]);
    add_part(out, "backbone", &plan->backbone);
    add_part(out, "drafter", &plan->drafter);
    add_part(out, "total", &plan->total);
    buf_addf(out, "  parameters: backbone %.2f B, drafter %.2f B, active for a token %.2f B\n",
             (double)plan->backbone.parameters * 1e-9, (double)plan->drafter.parameters * 1e-9,
             (double)plan->active_parameters * 1e-9);
}

static void print_reads(const struct plan *plan, struct buf *out)
{
    buf_addf(out, "\nread for one token alone                          MB\n");
    for (int p = 0; p < PART_COUNT; p++)
        if (plan->read[p] >= 50000)
            buf_addf(out, "  %-36s%14.1f\n", part_names[p], (double)plan->read[p] * 1e-6);
    buf_addf(out, "  %-36s%14.1f\n", "total", (double)plan->read_bytes * 1e-6);
    if (plan->drafter.tensors)
        buf_addf(out, "  %-36s%14.1f\n", "a draft more, without the head",
                 (double)plan->drafter_read_bytes * 1e-6);
}

static void print_kv(const struct plan *plan, struct buf *out)
{
    buf_addf(out, "\nKV of one sequence                                  bytes        GiB\n");
    buf_addf(out, "  %-36s%19.1f\n", "a token more, bare rows", plan->token_bytes);
    buf_addf(out, "  %-36s%19.1f\n", "a token more, in blocks",
             (double)plan->block_bytes / BLOCK_TOKENS);
    add_bytes(out, "block of 128 tokens", plan->block_bytes);
    add_bytes(out, "window rows, bare", plan->window_bytes);
    if (plan->drafter_window_bytes)
        add_bytes(out, "window rows of the drafter, bare", plan->drafter_window_bytes);
    add_bytes(out, "page of 128 window rows", plan->page_bytes);
    add_bytes(out, "compressor states, ratio 4", plan->csa_state_bytes);
    add_bytes(out, "compressor states, ratio 128", plan->hca_state_bytes);
    char name[64];
    snprintf(name, sizeof name, "bare rows of %u tokens", plan->context);
    add_bytes(out, name, (uint64_t)(plan->token_bytes * plan->context));
    snprintf(name, sizeof name, "one sequence of %u tokens", plan->context);
    add_bytes(out, name, plan->sequence_bytes);
}

static void print_gpus(const struct plan *plan, struct buf *out)
{
    buf_addf(out, "\ndevice   experts  streams            weights                 KV       GiB\n");
    for (uint32_t g = 0; g < plan->gpus; g++) {
        const struct plan_gpu *gpu = &plan->gpu[g];
        buf_addf(out, "  %-6u %4u-%-4u %7u", g, gpu->first_expert,
                 gpu->first_expert + (gpu->experts ? gpu->experts - 1 : 0), gpu->streams);
        add_number(out, gpu->weight_bytes);
        add_number(out, gpu->kv_bytes);
        buf_addf(out, " %9.2f\n", (double)(gpu->weight_bytes + gpu->kv_bytes) / (1 << 30));
    }
}

void plan_print(const struct plan *plan, struct buf *out)
{
    buf_addf(out, "layers: %u sliding, %u with ratio 4 (CSA), %u with ratio 128 (HCA)\n\n",
             plan->sliding, plan->csa, plan->hca);
    print_weights(plan, out);
    print_reads(plan, out);
    print_kv(plan, out);
    print_gpus(plan, out);
}
