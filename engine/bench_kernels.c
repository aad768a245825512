/* bench_kernels.c - where a step's time goes: each operation of a forward pass, at the shapes and with
 * the weights of every layer that has it, one behind the other as in a graph.
 *
 * Calls of one kind form a line: the same operation with the same shapes. They run in the order of
 * their layers, so each finds other weights than the one before. Bytes are those of the weights, and
 * for experts of those that some token chose; of attention and what moves rows only the time is said.
 */
#include <stdlib.h>
#include <string.h>
#include "config/clock.h"
#include "engine/bench.h"
#include "engine/probe.h"
#include "engine/tape.h"

enum { MOST_KINDS = 64, RUNS = 5 };
#define LEAST_NS (4 * (uint64_t)NS_PER_MS)  // how long one run of a line lasts

struct kind {
    enum op_id op;
    char what[48];
    uint32_t first, calls;  // on the tape
    double bytes, flops;    // of all calls
};

struct lines {
    struct bench *b;
    struct tape tape;
    uint32_t *kind_of;  // [tape.calls]
    struct kind kind[MOST_KINDS];
    uint32_t kinds;
    uint32_t tokens;
    double distinct;  // experts chosen in the last layer
    double step_us;   // of all lines
};

/* ---- what a call is ------------------------------------------------------------------------ */

static void describe_linear(const struct bench *b, const struct linear_args *args,
                            struct kind *kind)
{
    size_t at = 0;
    double groups = args->groups ? args->groups : 1;
    for (uint32_t i = 0; i < args->count; i++) {
        uint32_t rows = args->part[i].out.cols;
        double cols = args->in.cols / groups;
        double bytes = (double)b->dev->ops->weight_bytes(args->part[i].weight);
        kind->bytes += bytes > 0 ? bytes : rows * cols * 2;
        kind->flops += 2.0 * args->in.rows * rows * cols;
        if (at < sizeof kind->what)
            at += (size_t)snprintf(kind->what + at, sizeof kind->what - at, "%s%u", i ? "+" : "",
                                   rows);
    }
    if (at < sizeof kind->what)
        snprintf(kind->what + at, sizeof kind->what - at, " x %.0f", args->in.cols / groups);
}

static void describe_experts(const struct lines *l, const struct experts_args *args,
                             struct kind *kind)
{
    const struct ops *ops = l->b->dev->ops;
    double one = 0, shared = 0;
    const struct weight *const *const *w[3] = { &args->w1, &args->w2, &args->w3 };
    for (int i = 0; i < 3; i++) {
        one += (double)ops->weight_bytes((*w[i])[0]);
        shared += (double)ops->weight_bytes((*w[i])[args->experts]);
    }
    kind->bytes = l->distinct * one + shared;
    kind->flops = 6.0 * args->in.rows * (args->topk + 1) * args->in.cols * args->inter;
    snprintf(kind->what, sizeof kind->what, "%.0f of %u + 1, %u x %u", l->distinct, args->experts,
             args->in.cols, args->inter);
}

static void describe(const struct lines *l, const struct tape_call *call, struct kind *kind)
{
    *kind = (struct kind){ .op = call->op };
    switch (call->op) {
    case OP_linear:
        describe_linear(l->b, call->args, kind);
        break;
    case OP_experts:
        describe_experts(l, call->args, kind);
        break;
    case OP_attention: {
        const struct attention_args *args = call->args;
        snprintf(kind->what, sizeof kind->what, "%u heads, ratio %u", args->heads, args->ratio);
        break;
    }
    case OP_compress: {
        const struct compress_args *args = call->args;
        snprintf(kind->what, sizeof kind->what, "%s, ratio %u", args->index ? "keys" : "entries",
                 args->ratio);
        break;
    }
    case OP_route: {
        const struct route_args *args = call->args;
        snprintf(kind->what, sizeof kind->what, "%s", args->table ? "by token" : "by score");
        break;
    }
    default:
        break;
    }
}

static void sort_calls(struct lines *l)
{
    for (uint32_t i = 0; i < l->tape.calls; i++) {
        struct kind kind;
        uint32_t k = 0;
        describe(l, &l->tape.call[i], &kind);
        while (k < l->kinds &&
               (l->kind[k].op != kind.op || strcmp(l->kind[k].what, kind.what) != 0))
            k++;
        must(k < MOST_KINDS);
        if (k == l->kinds) {
            l->kind[l->kinds++] = kind;
            l->kind[k].bytes = l->kind[k].flops = 0;
        }
        l->kind[k].calls++;
        l->kind[k].bytes += kind.bytes;
        l->kind[k].flops += kind.flops;
        l->kind_of[i] = k;
    }
}

/* ---- time ---------------------------------------------------------------------------------- */

static void run_calls(const struct lines *l, uint32_t kind, uint32_t repeats)
{
    for (uint32_t r = 0; r < repeats; r++)
        for (uint32_t i = 0; i < l->tape.calls; i++)
            if (l->kind_of[i] == kind) tape_run(&l->tape.call[i], l->b->dev);
}

static enum status time_once(struct lines *l, uint32_t kind, uint32_t repeats, struct graph *graph,
                             uint64_t *ns, struct err *err)
{
    const struct ops *ops = l->b->dev->ops;
    uint64_t start = now_ns();
    if (graph) ops->graph_run(l->b->dev, graph);
    else run_calls(l, kind, repeats);
    enum status status = ops->finish(l->b->dev, err);
    *ns = now_ns() - start;
    return status;
}

/* The best of some runs of all calls of a kind, in seconds a pass over the layers. */
static enum status time_kind(struct lines *l, uint32_t kind, double *seconds, struct err *err)
{
    const struct ops *ops = l->b->dev->ops;
    struct graph *graph = NULL;
    uint64_t ns = 0, best = UINT64_MAX;
    enum status status = time_once(l, kind, 1, NULL, &ns, err);
    if (status == OK) status = time_once(l, kind, 1, NULL, &ns, err);
    if (status != OK) return status;
    uint32_t repeats = ns < LEAST_NS ? (uint32_t)(LEAST_NS / ns) + 1 : 1;
    if (repeats * l->kind[kind].calls > 2000) repeats = 2000 / l->kind[kind].calls + 1;
    if (ops->capture_begin) {
        ops->capture_begin(l->b->dev);
        run_calls(l, kind, repeats);
        graph = ops->capture_end(l->b->dev);
        status = ops->finish(l->b->dev, err);
        if (status == OK) status = time_once(l, kind, repeats, graph, &ns, err);
    }
    for (int i = 0; i < RUNS && status == OK; i++) {
        status = time_once(l, kind, repeats, graph, &ns, err);
        if (ns < best) best = ns;
    }
    if (ops->capture_begin) ops->graph_free(l->b->dev, graph);
    *seconds = (double)best / (double)NS_PER_S / repeats;
    return status;
}

static void report(struct lines *l, const struct kind *kind, double seconds)
{
    const struct ceilings *c = &l->b->ceiling;
    double rate = kind->bytes / seconds, work = kind->flops / seconds;
    l->step_us += seconds * 1e6;
    printf("%6u  %-12s %-34s %4u %10.2f %10.1f", l->tokens, tape_name(kind->op), kind->what,
           kind->calls, seconds * 1e6 / kind->calls, seconds * 1e6);
    if (kind->bytes > 0) printf(" %9.1f %8.2f", rate / 1e9, work / 1e12);
    if (kind->bytes > 0 && c->read > 0)
        printf(" %6.1f %6.1f", 100 * rate / c->read, c->fp8 > 0 ? 100 * work / c->fp8 : 0);
    putchar('\n');
    (void)fflush(stdout);
}

/* ---- a batch ------------------------------------------------------------------------------- */

/* One token of each of `seqs` sequences, or a prompt's chunk of `tokens`, at the end of the context. */
static void fill(struct bench *b, uint32_t seqs, uint32_t tokens, uint32_t context,
                 uint32_t (*page)[3])
{
    struct runner *r = &b->runner;
    static const uint32_t id = 1;
    batch_clear(&r->maker);
    if (tokens) {
        uint32_t *token = calloc(tokens, sizeof *token), pages = (tokens - 1) / BLOCK_TOKENS + 1;
        uint32_t *w_page = calloc(pages, sizeof *w_page);
        must(token && w_page);
        for (uint32_t i = 0; i < tokens; i++) token[i] = (i * 2654435761u >> 8) % b->shape.vocab;
        for (uint32_t i = 0; i < pages; i++) w_page[i] = i;
        batch_add(&r->maker,
                  &(struct batch_seq){
                      .g_block = b->table, .g_blocks = pages, .w_page = w_page, .w_pages = pages },
                  token, 0, tokens);
        batch_want(&r->maker, tokens - 1);
        batch_upload(&r->maker);
        free(token);
        free(w_page);
        return;
    }
    uint32_t last = context / BLOCK_TOKENS, start = last ? last - 1 : 0;
    for (uint32_t s = 0; s < seqs; s++) {
        for (uint32_t i = 0; i < 2; i++) page[s][i] = 3 * s + i;
        uint32_t token = (s * 2654435761u >> 8) % b->shape.vocab;
        batch_add(&r->maker,
                  &(struct batch_seq){ .g_block = b->table,
                                       .g_blocks = last + 1,
                                       .w_page = page[s],
                                       .w_pages = last - start + 1,
                                       .w_first = start,
                                       .state = s },
                  seqs ? &token : &id, context, 1);
        batch_want(&r->maker, s);
    }
    batch_upload(&r->maker);
}

static enum status forward(struct lines *l, struct err *err)
{
    struct bench *b = l->b;
    uint32_t rows = b->runner.maker.rows;
    model_forward(&b->model, &b->runner.maker.batch);
    model_logits(&b->model, b->runner.maker.device_row, rows);
    struct mat logits = b->model.logits;
    logits.rows = rows;
    b->dev->ops->sample(b->dev, &(struct sample_args){ .logits = logits,
                                                       .row = b->runner.draws.device_row,
                                                       .out = b->runner.draws.device_out });
    return err ? b->dev->ops->finish(b->dev, err) : OK;
}

static enum status count_experts(struct lines *l, struct err *err)
{
    uint32_t topk = l->b->shape.experts_per_token;
    uint8_t seen[l->b->shape.experts];
    memset(seen, 0, sizeof seen);
    size_t choices = (size_t)l->tokens * topk;
    uint32_t *expert = probe_words(l->b->dev, l->b->model.expert, choices, err);
    if (!expert) return DEVICE_FAILED;
    l->distinct = 0;
    for (size_t i = 0; i < choices; i++) {
        must(expert[i] < l->b->shape.experts);
        l->distinct += !seen[expert[i]];
        seen[expert[i]] = 1;
    }
    free(expert);
    return OK;
}

static enum status measure(struct bench *b, struct err *err)
{
    struct lines l = { .b = b, .tokens = b->runner.maker.tokens };
    uint32_t rows = b->runner.maker.rows;
    for (uint32_t i = 0; i < rows; i++)
        b->runner.draws.row[i] = (struct sample_row){
            .temperature = 1, .top_p = 1, .repetition = 1, .seed = i, .position = 1
        };
    enum status status = draws_upload(&b->runner.draws, rows, rows, err);
    if (status == OK) status = forward(&l, err);
    if (status == OK) status = count_experts(&l, err);
    if (status != OK) return status;
    tape_start(&l.tape, b->dev);
    (void)!forward(&l, NULL);
    tape_stop(&l.tape, b->dev);
    l.kind_of = calloc(l.tape.calls, sizeof *l.kind_of);
    must(l.kind_of);
    sort_calls(&l);
    for (uint32_t k = 0; k < l.kinds && status == OK; k++) {
        double seconds = 0;
        status = time_kind(&l, k, &seconds, err);
        if (status == OK) report(&l, &l.kind[k], seconds);
        if (status == OK) status = forward(&l, err);  // what ran in place alone is put right
    }
    if (status == OK) printf("%6u  all %65.1f us\n\n", l.tokens, l.step_us);
    tape_release(&l.tape);
    free(l.kind_of);
    return status;
}

enum status bench_kernels(struct bench *b, struct err *err)
{
    const struct bench_options *o = b->options;
    uint32_t(*page)[3] = calloc(b->most_seqs, sizeof *page);
    uint32_t context = o->contexts.count ? o->contexts.value[0] : BLOCK_TOKENS;
    enum status status = OK;
    must(page);
    printf(
        "\ndecode at %u tokens of context, prompts of %u tokens\n"
        "tokens  operation    shape                             calls    us each      us all      "
        "GB/s  TFLOP/s%s\n",
        context, o->chunk, b->ceiling.read > 0 ? "  %read   %fp8" : "");
    for (uint32_t i = 0; i < o->batches.count && status == OK; i++) {
        fill(b, o->batches.value[i], 0, context, page);
        status = measure(b, err);
    }
    if (status == OK && o->prompts.count) {
        fill(b, 0, o->chunk, 0, page);
        status = measure(b, err);
    }
    free(page);
    return status;
}
