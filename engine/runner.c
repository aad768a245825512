/* runner.c - eager steps and captured ones. */
#include "engine/runner.h"
#include "cache/kv_pool.h"

static const uint32_t graph_rows[RUNNER_GRAPHS] = { 1,  2,  4,  8,  12,  16,  24,
                                                    32, 48, 64, 96, 128, 192, 256 };

enum status runner_init(struct runner *runner, struct model *model,
                        const struct batch_limits *limits, struct err *err)
{
    struct dev *dev = model->dev;
    uint32_t pages = limits->tokens / KV_BLOCK_TOKENS + 1;
    *runner = (struct runner){ .model = model,
                               .spare_blocks = limits->blocks > pages ? limits->blocks : pages };
    runner->spare_table = calloc(2 * (size_t)runner->spare_blocks, sizeof *runner->spare_table);
    if (runner->spare_table && batch_init(&runner->maker, dev, limits) == OK &&
        draws_init(&runner->draws, dev, model->most_rows, model->shape->vocab) == OK) {
        runner->device_bytes = runner->maker.words * sizeof(uint32_t) + draws_bytes(&runner->draws);
        return OK;
    }
    runner_release(runner);
    return fail(err, NO_MEMORY, "no memory for the arrays of steps of %u tokens", limits->tokens);
}

void runner_release(struct runner *runner)
{
    for (uint32_t i = 0; i < RUNNER_GRAPHS; i++) {
        struct dev *dev = runner->model->dev;
        if (runner->graph[i].forward) dev->ops->graph_free(dev, runner->graph[i].forward);
        if (runner->graph[i].draw) dev->ops->graph_free(dev, runner->graph[i].draw);
    }
    draws_release(&runner->draws);
    if (runner->maker.dev) batch_release(&runner->maker);
    free(runner->spare_table);
    *runner = (struct runner){ 0 };
}

void runner_spare(struct runner *runner, const struct model_kv *kv)
{
    uint32_t *block = runner->spare_table, *page = block + runner->spare_blocks;
    for (uint32_t i = 0; i < runner->spare_blocks; i++) {
        block[i] = kv->g_blocks - 1;
        page[i] = kv->w_pages - 1;
    }
    runner->spare = (struct batch_seq){
        .g_block = block, .g_blocks = 1, .w_page = page, .w_pages = 1, .state = kv->states - 1
    };
}

/* ---- a step -------------------------------------------------------------------------------- */

static void backbone(struct runner *runner)
{
    struct dev *dev = runner->model->dev;
    struct batch_maker *maker = &runner->maker;
    dev->ops->feed(dev, &(struct feed_args){ .id = maker->device_id,
                                             .from = maker->device_from,
                                             .tokens = maker->tokens,
                                             .out = runner->draws.device_out });
    model_forward(runner->model, &maker->batch);
}

static void head(struct runner *runner, uint32_t from, uint32_t count)
{
    struct model *model = runner->model;
    model_logits(model, runner->maker.device_row + from, count);
    struct mat logits = model->logits;
    logits.rows = count;
    model->dev->ops->sample(model->dev, &(struct sample_args){ .logits = logits,
                                                               .row = runner->draws.device_row,
                                                               .out = runner->draws.device_out });
}

static const struct runner_graph *graph_for(const struct runner *runner)
{
    const struct batch_maker *maker = &runner->maker;
    if (maker->tokens != maker->seqs || maker->rows != maker->seqs) return NULL;
    for (uint32_t i = 0; i < runner->graphs; i++)
        if (runner->graph[i].rows >= maker->rows) return &runner->graph[i];
    return NULL;
}

void runner_forward(struct runner *runner)
{
    struct dev *dev = runner->model->dev;
    runner->running = graph_for(runner);
    if (runner->running) batch_pad(&runner->maker, &runner->spare, runner->running->rows);
    batch_upload(&runner->maker);
    if (runner->running) dev->ops->graph_run(dev, runner->running->forward);
    else backbone(runner);
}

enum status runner_draw(struct runner *runner, uint32_t from, uint32_t count,
                        const struct sample_out **out, struct err *err)
{
    struct dev *dev = runner->model->dev;
    uint32_t padded = runner->running ? runner->running->rows : count;
    *out = NULL;
    if (count) {
        enum status status = draws_upload(&runner->draws, count, padded, err);
        if (status != OK) return status;
        if (runner->running) dev->ops->graph_run(dev, runner->running->draw);
        else head(runner, from, count);
        *out = draws_fetch(&runner->draws, count);
    }
    runner->turn ^= 1;
    dev->ops->mark(dev, runner->turn);
    return OK;
}

enum status runner_step(struct runner *runner, const struct sample_out **out, struct err *err)
{
    uint32_t rows = runner->maker.rows;
    runner_forward(runner);
    return runner_draw(runner, 0, rows, out, err);
}

enum status runner_wait(struct runner *runner, uint32_t later, struct err *err)
{
    must(later < 2);
    return runner->model->dev->ops->wait(runner->model->dev, runner->turn ^ later, err);
}

/* ---- before the first one ------------------------------------------------------------------ */

/* Single tokens at position 0 of the spare block, all of them padding. */
static enum status upload_padding(struct runner *runner, uint32_t rows, struct err *err)
{
    batch_clear(&runner->maker);
    batch_pad(&runner->maker, &runner->spare, rows);
    batch_upload(&runner->maker);
    return draws_upload(&runner->draws, 0, rows, err);
}

/* One prompt of `count` tokens, as wide as the longest context. */
static enum status run_prompt(struct runner *runner, uint32_t count, struct err *err)
{
    struct batch_maker *maker = &runner->maker;
    struct dev *dev = runner->model->dev;
    uint32_t rows = runner->model->most_rows < count ? runner->model->most_rows : count;
    uint32_t *token = calloc(count, sizeof *token);
    struct batch_seq seq = runner->spare;
    if (!token) return fail(err, NO_MEMORY, "no memory for %u tokens", count);
    seq.g_blocks = seq.w_pages = (count - 1) / KV_BLOCK_TOKENS + 1;
    batch_clear(maker);
    batch_add(maker, &seq, token, 0, count);
    for (uint32_t i = 0; i < rows; i++) batch_want(maker, i);
    batch_widen(maker);
    batch_upload(maker);
    enum status status = draws_upload(&runner->draws, 0, rows, err);
    if (status == OK) {
        backbone(runner);
        head(runner, 0, rows);
        status = dev->ops->finish(dev, err);
    }
    free(token);
    return status;
}

enum status runner_warm(struct runner *runner, struct err *err)
{
    const struct batch_limits *limits = &runner->maker.limits;
    struct dev *dev = runner->model->dev;
    enum status status = OK;
    if (!dev->ops->capture_begin) return OK;
    uint32_t most = limits->blocks * KV_BLOCK_TOKENS;
    for (uint32_t tokens = limits->tokens < most ? limits->tokens : most;
         status == OK && tokens >= KV_BLOCK_TOKENS; tokens /= 2)
        status = run_prompt(runner, tokens, err);
    return status;
}

/* One half of a step; NULL: the device said no, and finish tells why. */
static struct graph *capture_half(struct runner *runner, uint32_t rows, bool draw)
{
    struct dev *dev = runner->model->dev;
    dev->ops->capture_begin(dev);
    if (draw) head(runner, 0, rows);
    else backbone(runner);
    return dev->ops->capture_end(dev);
}

static enum status capture(struct runner *runner, uint32_t rows, struct err *err)
{
    struct dev *dev = runner->model->dev;
    enum status status = upload_padding(runner, rows, err);
    if (status != OK) return status;
    backbone(runner);
    head(runner, 0, rows);
    if ((status = dev->ops->finish(dev, err)) != OK) return status;

    struct runner_graph *made = &runner->graph[runner->graphs];
    made->rows = rows;
    made->forward = capture_half(runner, rows, false);
    made->draw = made->forward ? capture_half(runner, rows, true) : NULL;
    runner->graphs += made->draw != NULL;
    return dev->ops->finish(dev, err);
}

enum status runner_capture(struct runner *runner, struct err *err)
{
    uint32_t seqs = runner->maker.limits.seqs, most = runner->model->most_rows;
    enum status status = OK;
    if (!runner->model->dev->ops->capture_begin) return OK;
    if (most > seqs) most = seqs;
    for (uint32_t i = 0; i < RUNNER_GRAPHS && graph_rows[i] <= most && status == OK; i++)
        status = capture(runner, graph_rows[i], err);
    bool whole = runner->graphs && runner->graph[runner->graphs - 1].rows == most;
    if (status == OK && !whole && most < graph_rows[RUNNER_GRAPHS - 1])
        status = capture(runner, most, err);  // the engine's own limit, between two of the list
    return status;
}
