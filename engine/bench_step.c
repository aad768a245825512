/* bench_step.c - whole steps, as the daemon runs them: captured, overlapping, sampled.
 *
 * A context is faked: tables, positions and random rows stand as if it had been computed. Where KV
 * memory does not hold the contexts of all sequences, they share blocks, drawn at random from all
 * there are, and the line says so.
 *
 * Bytes are those that the step must read: weights but the routed experts, the experts that its
 * tokens chose (counted), and KV rows. The limit is these bytes at the card's read bandwidth,
 * measured in the same run.
 */
#include "engine/bench.h"
#include <math.h>
#include "cache/kv_pool.h"
#include "config/clock.h"
#include "engine/probe.h"

enum { WARM_STEPS = 4, PAGES = 3 };  // W pages of a sequence, taking turns

struct decode {
    struct bench *b;
    uint32_t seqs, context;
    uint32_t blocks;  // of each sequence
    bool shared;
    uint32_t *g_block;             // [seqs, blocks]
    uint32_t (*w_page)[2];         // [seqs] of the step
    struct sample_row row;         // of every draw
    const struct sample_out *out;  // of the latest step
};

static double seconds_since(uint64_t start_ns)
{
    return (double)(now_ns() - start_ns) / (double)NS_PER_S;
}

/* ---- bytes and operations ------------------------------------------------------------------ */

/* Rows of KV that one sequence's next token reads, in bytes. */
static double kv_bytes(const struct shape *s, double context)
{
    double bytes = 0;
    for (uint32_t l = 0; l < s->layers; l++) {
        bytes += fmin(s->window, context) * ENTRY_BYTES_OFFICIAL;
        if (s->layer[l].ratio == SHAPE_CSA_RATIO)
            bytes += fmin(s->index_topk, floor(context / 4)) * ENTRY_BYTES_OFFICIAL +
                     floor(context / 4) * INDEX_BYTES_OFFICIAL;
        else if (s->layer[l].ratio) bytes += floor(context / 128) * ENTRY_BYTES_OFFICIAL;
    }
    return bytes;
}

struct sizes {
    double dense;   // bytes of weights that every step reads
    double expert;  // of one routed expert
    double flops;   // of one token, attention apart
};

static enum status measure_sizes(struct bench *b, struct sizes *sizes, struct err *err)
{
    struct tensor_list list;
    struct plan plan;
    enum status status = tensor_list_init(&list, &b->shape, err);
    if (status != OK) return status;
    status =
        plan_init(&plan,
                  &(struct plan_options){
                      .shape = &b->shape, .list = &list, .gpus = 1, .streams = 1, .context = 1 },
                  err);
    tensor_list_release(&list);
    if (status != OK) return status;
    sizes->dense = (double)(plan.read_bytes - plan.read[PART_EXPERTS]);
    sizes->expert =
        (double)plan.part[PART_EXPERTS].bytes / ((double)b->shape.layers * b->shape.experts);
    sizes->flops = 2.0 * (double)plan.active_parameters;
    plan_release(&plan);
    return OK;
}

/* Floating point operations of one token's attention and indexer. */
static double attention_flops(const struct shape *s, double context)
{
    double pair = 4.0 * s->heads * s->head_dim, flops = 0;
    for (uint32_t l = 0; l < s->layers; l++) {
        flops += pair * fmin(s->window, context);
        if (s->layer[l].ratio == SHAPE_CSA_RATIO)
            flops += pair * fmin(s->index_topk, context / 4) +
                     2.0 * s->index_heads * s->index_dim * context / 4;
        else if (s->layer[l].ratio) flops += pair * context / 128;
    }
    return flops;
}

/* ---- decode -------------------------------------------------------------------------------- */

static void choose_blocks(struct decode *d)
{
    uint32_t all = d->b->kv.g_blocks - 1, count = d->seqs * d->blocks;
    uint64_t random = 7;
    d->shared = count > all;
    for (uint32_t i = 0; i < count; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        d->g_block[i] = d->shared ? (uint32_t)(random >> 33) % all : i;
    }
}

/* Every sequence's token at context + step, its id from the step before. */
static void fill(struct decode *d, uint32_t step)
{
    struct runner *r = &d->b->runner;
    uint32_t position = d->context + step, first = position / BLOCK_TOKENS;
    uint32_t start = first ? first - 1 : 0, pages = first - start + 1;
    batch_clear(&r->maker);
    for (uint32_t s = 0; s < d->seqs; s++) {
        uint32_t token = (s * 2654435761u >> 8) % d->b->shape.vocab;
        for (uint32_t p = 0; p < pages; p++) d->w_page[s][p] = s * PAGES + (start + p) % PAGES;
        batch_add(&r->maker,
                  &(struct batch_seq){ .g_block = d->g_block + (size_t)s * d->blocks,
                                       .g_blocks = first + 1,
                                       .w_page = d->w_page[s],
                                       .w_pages = pages,
                                       .w_first = start,
                                       .state = s },
                  &token, position, 1);
        batch_want(&r->maker, s);
        if (d->out) batch_feed(&r->maker, s, s);
        r->draws.row[s] = d->row;
        r->draws.row[s].position = position + 1;
        r->draws.row[s].seed = s;
    }
}

/* `steps` steps from `from` on, each queued while the one before it runs. */
static enum status run(struct decode *d, uint32_t from, uint32_t steps, struct err *err)
{
    enum status status = OK;
    for (uint32_t i = 0; i < steps && status == OK; i++) {
        fill(d, from + i);
        status = runner_step(&d->b->runner, &d->out, err);
        if (d->b->beside) d->b->beside(d->b->beside_context);
        if (status == OK && i) status = runner_wait(&d->b->runner, 1, err);
    }
    return status == OK ? runner_wait(&d->b->runner, 0, err) : status;
}

/* Distinct experts that the batch of fill chooses, all layers together. */
static enum status count_experts(struct decode *d, double *distinct, struct err *err)
{
    struct bench *b = d->b;
    struct model *m = &b->model;
    size_t choices = (size_t)d->seqs * b->shape.experts_per_token;
    *distinct = 0;
    d->out = NULL;
    fill(d, WARM_STEPS);
    batch_upload(&b->runner.maker);
    model_embed(m, &b->runner.maker.batch);
    for (uint32_t l = 0; l < b->shape.layers; l++) {
        uint8_t seen[b->shape.experts];
        memset(seen, 0, sizeof seen);
        model_layer(m, l, &b->runner.maker.batch);
        uint32_t *expert = probe_words(b->dev, m->expert, choices, err);
        if (!expert) return DEVICE_FAILED;
        for (size_t i = 0; i < choices; i++) {
            must(expert[i] < b->shape.experts);
            *distinct += !seen[expert[i]];
            seen[expert[i]] = 1;
        }
        free(expert);
    }
    return OK;
}

static void report(const struct decode *d, const struct sizes *sizes, double seconds,
                   double distinct)
{
    const struct bench *b = d->b;
    double context = d->context + WARM_STEPS + b->options->steps / 2.0;
    double kv = d->seqs * kv_bytes(&b->shape, context);
    double bytes = sizes->dense + distinct * sizes->expert + kv;
    printf("%5u %8u %10.3f %10.1f %10.1f %9.3f %9.3f", d->seqs, d->context, seconds * 1e3,
           d->seqs / seconds, distinct / b->shape.layers, bytes / 1e9, bytes / seconds / 1e12);
    if (b->ceiling.read > 0)
        printf(" %7.1f %7.1f", 100 * bytes / seconds / b->ceiling.read,
               100 * bytes / seconds / 4.6e12);
    puts(d->shared ? "  shared blocks" : "");
    (void)fflush(stdout);
}

static struct decode decode_open(struct bench *b, uint32_t seqs, uint32_t context)
{
    struct decode d = { .b = b,
                        .seqs = seqs,
                        .context = context,
                        .blocks = (context + b->options->steps + WARM_STEPS) / BLOCK_TOKENS + 1,
                        .row = { .temperature = 1, .top_p = 1, .repetition = 1 } };
    d.g_block = calloc((size_t)seqs * d.blocks, sizeof *d.g_block);
    d.w_page = calloc(seqs, sizeof *d.w_page);
    must(d.g_block && d.w_page);
    choose_blocks(&d);
    return d;
}

static void decode_close(struct decode *d)
{
    free(d->g_block);
    free(d->w_page);
}

/* Of one step. */
static enum status decode_time(struct decode *d, double *seconds, struct err *err)
{
    uint32_t steps = d->b->options->steps;
    enum status status = run(d, 0, WARM_STEPS, err);
    uint64_t start = now_ns();
    if (status == OK) status = run(d, WARM_STEPS, steps, err);
    *seconds = seconds_since(start) / steps;
    return status;
}

enum status bench_decode(struct bench *b, uint32_t seqs, uint32_t context, double *seconds,
                         struct err *err)
{
    struct decode d = decode_open(b, seqs, context);
    enum status status = decode_time(&d, seconds, err);
    decode_close(&d);
    return status;
}

static enum status decode(struct bench *b, const struct sizes *sizes, uint32_t seqs,
                          uint32_t context, struct err *err)
{
    struct decode d = decode_open(b, seqs, context);
    double distinct = 0, seconds = 0;
    enum status status = decode_time(&d, &seconds, err);
    if (status == OK) status = count_experts(&d, &distinct, err);
    if (status == OK) report(&d, sizes, seconds, distinct);
    decode_close(&d);
    return status;
}

/* ---- prefill ------------------------------------------------------------------------------- */

static enum status chunk(struct bench *b, uint32_t position, uint32_t count, struct err *err)
{
    struct runner *r = &b->runner;
    uint32_t start = position < BLOCK_TOKENS ? 0 : position / BLOCK_TOKENS - 1;
    uint32_t end = (position + count - 1) / BLOCK_TOKENS + 1, pages = end - start;
    uint32_t token[count], page[pages];
    const struct sample_out *out;
    for (uint32_t i = 0; i < count; i++)
        token[i] = ((position + i) * 2654435761u >> 8) % b->shape.vocab;
    for (uint32_t i = 0; i < pages; i++) page[i] = (start + i) % (b->kv.w_pages - 1);
    batch_clear(&r->maker);
    batch_add(&r->maker,
              &(struct batch_seq){ .g_block = b->table,
                                   .g_blocks = end,
                                   .w_page = page,
                                   .w_pages = pages,
                                   .w_first = start,
                                   .state = 0 },
              token, position, count);
    batch_want(&r->maker, count - 1);
    r->draws.row[0] = (struct sample_row){ .temperature = 1, .top_p = 1, .repetition = 1 };
    return runner_step(r, &out, err);
}

static enum status prompt(struct bench *b, const struct sizes *sizes, uint32_t tokens,
                          struct err *err)
{
    double best = 0;
    enum status status = OK;
    uint32_t least = b->options->chunk;
    for (int pass = 0; pass < (tokens > 4 * least ? 1 : 3) && status == OK; pass++) {
        uint64_t start = now_ns();
        for (uint32_t p = 0; p < tokens && status == OK; p += b->options->chunk) {
            uint32_t count = tokens - p < b->options->chunk ? tokens - p : b->options->chunk;
            status = chunk(b, p, count, err);
            if (status == OK && p) status = runner_wait(&b->runner, 1, err);
        }
        if (status == OK) status = runner_wait(&b->runner, 0, err);
        double seconds = seconds_since(start);
        if (pass == 0 || seconds < best) best = seconds;
    }
    if (status != OK) return status;
    double flops = sizes->flops + attention_flops(&b->shape, tokens / 2.0);
    printf("%8u %10.2f %10.0f %10.2f %9.1f", tokens, best * 1e3, tokens / best, flops / 1e9,
           flops * tokens / best / 1e12);
    if (b->ceiling.fp8 > 0) printf(" %7.1f", 100 * flops * tokens / best / b->ceiling.fp8);
    putchar('\n');
    (void)fflush(stdout);
    return OK;
}

/* ---- all ----------------------------------------------------------------------------------- */

/* The factor from these bytes to those of the whole Flash model (43 layers of 256 experts), whose
 * distinct experts are expected ones; nothing for other widths. */
static void print_factor(const struct bench *b, const struct sizes *sizes)
{
    const struct bench_list *batches = &b->options->batches;
    const struct shape *s = &b->shape;
    if (s->hidden != 4096 || s->inter != 2048 || s->experts_per_token != 6) return;
    printf(
        "bytes of the whole Flash model / these, at 8192 tokens of context, expected experts:\n");
    for (uint32_t i = 0; i < batches->count; i++) {
        double n = batches->value[i];
        double whole = 256 * (1 - pow(1 - 6.0 / 256, n));
        double here = s->experts * (1 - pow(1 - 6.0 / s->experts, n));
        double csa = 512 * ENTRY_BYTES_OFFICIAL + 2048 * INDEX_BYTES_OFFICIAL;
        double kv = 43.0 * 128 * ENTRY_BYTES_OFFICIAL + 21 * csa + 20.0 * 64 * ENTRY_BYTES_OFFICIAL;
        double full = 6.7096e9 + 1.0591e9 + 43 * whole * 13.369344e6 + n * kv;
        double mine = sizes->dense + s->layers * here * sizes->expert + n * kv_bytes(s, 8192);
        printf("%5.0f sequences: %.3f\n", n, full / mine);
    }
}

enum status bench_steps(struct bench *b, struct err *err)
{
    const struct bench_options *o = b->options;
    struct sizes sizes;
    enum status status = measure_sizes(b, &sizes, err);
    if (status != OK) return status;
    if (o->batches.count && o->contexts.count)
        printf("\ndecode: %u steps each\n  seqs  context    step ms      tok/s  experts/l        "
               "GB      "
               "TB/s%s\n",
               o->steps, b->ceiling.read > 0 ? "  %limit  %4.6TB" : "");
    for (uint32_t c = 0; c < o->contexts.count; c++)
        for (uint32_t i = 0; i < o->batches.count && status == OK; i++)
            status = decode(b, &sizes, o->batches.value[i], o->contexts.value[c], err);
    if (status == OK) print_factor(b, &sizes);
    if (status == OK && o->prompts.count)
        printf(
            "\nprefill: one prompt, %u tokens a step\n  tokens         ms      tok/s GFLOP/tok   "
            "TFLOP/s%s\n",
            o->chunk, b->ceiling.fp8 > 0 ? "   %fp8" : "");
    for (uint32_t i = 0; i < o->prompts.count && status == OK; i++)
        status = prompt(b, &sizes, o->prompts.value[i], err);
    return status;
}
