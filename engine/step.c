/* step.c - plan, compute, sample, apply; what ends is freed within the same step. */
#include "engine/step.h"
#include <string.h>
#include "config/clock.h"
#include "config/metrics.h"
#include "engine/sampling.h"

/* One wanted row of logits. */
struct want {
    struct seq *seq;
    uint32_t position;  // of the token it speaks about
    bool prompt;        // that token is known: only its log-probability is wanted
};

uint32_t stepper_w_pages(const struct sched_limits *limits)
{
    return limits->most_seqs * 3 + limits->step_tokens / KV_BLOCK_TOKENS + 1;
}

enum status stepper_init(struct stepper *stepper, const struct stepper_options *options)
{
    struct model *model = options->model;
    uint32_t seqs = options->limits.most_seqs, tokens = options->limits.step_tokens;
    *stepper = (struct stepper){
        .model = model,
        .limits = options->limits,
        .context = options->context,
        .sink = options->sink,
    };
    stepper->stats.context = options->context;
    stepper->stats.blocks = options->g_blocks;
    stepper->stats.pages = options->w_pages;

    struct batch_limits limits = { .tokens = tokens,
                                   .seqs = seqs,
                                   .blocks = options->context / KV_BLOCK_TOKENS + 1,
                                   .rows = tokens };
    if (kv_pool_init(&stepper->g_pool, options->g_blocks) != OK) goto nothing;
    if (kv_pool_init(&stepper->w_pool, options->w_pages) != OK) goto g_pool;
    if (batch_init(&stepper->maker, model->dev, &limits) != OK) goto w_pool;
    stepper->free_state = calloc(seqs, sizeof *stepper->free_state);
    stepper->want = calloc(tokens, sizeof *stepper->want);
    stepper->row = calloc(model->most_rows, sizeof *stepper->row);
    stepper->out = calloc(model->most_rows, sizeof *stepper->out);
    if (!stepper->free_state || !stepper->want || !stepper->row || !stepper->out) goto arrays;
    while (stepper->free_states < seqs) {
        stepper->free_state[stepper->free_states] = stepper->free_states;
        stepper->free_states++;
    }
    return OK;

arrays:
    free(stepper->free_state);
    free(stepper->want);
    free(stepper->row);
    free(stepper->out);
    batch_release(&stepper->maker);
w_pool:
    kv_pool_release(&stepper->w_pool);
g_pool:
    kv_pool_release(&stepper->g_pool);
nothing:
    *stepper = (struct stepper){ 0 };
    return NO_MEMORY;
}

/* ---- what a sequence holds ----------------------------------------------------------------- */

static void give_back(struct stepper *stepper, struct seq *seq)
{
    for (uint32_t i = 0; i < seq->g_blocks; i++)
        kv_pool_drop(&stepper->g_pool, seq->g_block[i], KV_DISCARD);
    for (uint32_t i = 0; i < seq->w_pages; i++)
        kv_pool_drop(&stepper->w_pool, seq->w_page[i], KV_DISCARD);
    seq->g_blocks = seq->w_pages = seq->w_first = seq->computed = 0;
    if (seq->running) stepper->free_state[stepper->free_states++] = seq->state;
    seq->running = false;
}

/* The pages that no later token's window reaches. */
static void drop_old_pages(struct stepper *stepper, struct seq *seq)
{
    uint32_t first = seq_window_start(seq->computed), gone = first - seq->w_first;
    if (gone > seq->w_pages) gone = seq->w_pages;
    for (uint32_t i = 0; i < gone; i++) kv_pool_drop(&stepper->w_pool, seq->w_page[i], KV_DISCARD);
    memmove(seq->w_page, seq->w_page + gone, (seq->w_pages - gone) * sizeof *seq->w_page);
    seq->w_pages -= gone;
    seq->w_first = first;
}

static enum status take_room(struct stepper *stepper, struct seq *seq, uint32_t count,
                             uint32_t blocks)
{
    if (seq_reserve(seq, count) != OK) return NO_MEMORY;
    if (!seq->running) {
        must(stepper->free_states > 0);
        seq->state = stepper->free_state[--stepper->free_states];
        seq->running = true;
    }
    if (blocks) {
        must(kv_pool_take(&stepper->g_pool, blocks, seq->g_block + seq->g_blocks) == OK);
        seq->g_blocks += blocks;
    }
    uint32_t end = (seq->computed + count - 1) / KV_BLOCK_TOKENS + 1;
    uint32_t pages = end - seq->w_first - seq->w_pages;
    if (pages) {
        must(kv_pool_take(&stepper->w_pool, pages, seq->w_page + seq->w_pages) == OK);
        seq->w_pages += pages;
    }
    return OK;
}

/* ---- events -------------------------------------------------------------------------------- */

static void post(struct stepper *stepper, const struct event *event)
{
    stepper->sink.post(stepper->sink.user, event);
}

/* Takes the sequence out of the list, frees what it holds, and says how it ended. */
static void end(struct stepper *stepper, uint32_t index, enum finish finish, uint32_t stop_token)
{
    struct seq *seq = stepper->seq[index];
    memmove(stepper->seq + index, stepper->seq + index + 1,
            (stepper->seqs - index - 1) * sizeof(struct seq *));
    stepper->seqs--;
    give_back(stepper, seq);
    if (finish == FINISH_CANCELLED) stepper->stats.cancelled++;
    post(stepper, &(struct event){
                      .job = seq->job->id,
                      .kind = EVENT_END,
                      .finish = finish,
                      .stop_token = stop_token,
                      .queued_ns = seq->queued_ns,
                      .started_ns = seq->started_ns,
                      .first_ns = seq->first_ns,
                  });
    seq_close(seq);
}

static uint32_t index_of(const struct stepper *stepper, const struct seq *seq)
{
    uint32_t i = 0;
    while (stepper->seq[i] != seq) i++;
    return i;
}

/* ---- jobs come and go ---------------------------------------------------------------------- */

static bool grow_list(struct stepper *stepper)
{
    if (stepper->seqs < stepper->seq_room) return true;
    uint32_t room = stepper->seq_room ? stepper->seq_room * 2 : 64;
    struct seq **seq = realloc(stepper->seq, room * sizeof(struct seq *));
    if (!seq) return false;
    stepper->seq = seq;
    struct sched_seq *plan = realloc(stepper->plan, room * sizeof *plan);
    if (!plan) return false;
    stepper->plan = plan;
    stepper->seq_room = room;
    return true;
}

void stepper_add(struct stepper *stepper, struct job *job, uint64_t queued_ns)
{
    struct seq *seq;
    if (!grow_list(stepper) || seq_open(&seq, job) != OK) {
        post(stepper, &(struct event){ .job = job->id,
                                       .kind = EVENT_END,
                                       .finish = FINISH_FAILED,
                                       .queued_ns = queued_ns });
        job_free(job);
        return;
    }
    seq->queued_ns = queued_ns;
    stepper->seq[stepper->seqs++] = seq;
}

void stepper_cancel(struct stepper *stepper, uint64_t job)
{
    for (uint32_t i = 0; i < stepper->seqs; i++) {
        if (stepper->seq[i]->job->id != job) continue;
        end(stepper, i, FINISH_CANCELLED, NO_TOKEN);
        return;
    }
}

static void end_late(struct stepper *stepper)
{
    uint64_t now = now_ns();
    for (uint32_t i = stepper->seqs; i-- > 0;) {
        uint64_t deadline = stepper->seq[i]->job->deadline_ns;
        if (deadline && now >= deadline) end(stepper, i, FINISH_DEADLINE, NO_TOKEN);
    }
}

static void end_all(struct stepper *stepper)
{
    while (stepper->seqs) end(stepper, stepper->seqs - 1, FINISH_FAILED, NO_TOKEN);
}

void stepper_release(struct stepper *stepper)
{
    end_all(stepper);
    free(stepper->seq);
    free(stepper->plan);
    free(stepper->free_state);
    free(stepper->want);
    free(stepper->row);
    free(stepper->out);
    batch_release(&stepper->maker);
    kv_pool_release(&stepper->w_pool);
    kv_pool_release(&stepper->g_pool);
    *stepper = (struct stepper){ 0 };
}

/* ---- plan ---------------------------------------------------------------------------------- */

static void plan(struct stepper *stepper)
{
    for (uint32_t i = 0; i < stepper->seqs; i++) {
        const struct seq *seq = stepper->seq[i];
        stepper->plan[i] = (struct sched_seq){ .running = seq->running,
                                               .tokens = seq->tokens,
                                               .computed = seq->computed,
                                               .blocks = seq->g_blocks };
    }
    sched_plan(&stepper->limits, stepper->plan, stepper->seqs, stepper->g_pool.free_count);
    for (uint32_t i = 0; i < stepper->seqs; i++) {
        if (!stepper->plan[i].preempt) continue;
        give_back(stepper, stepper->seq[i]);
        stepper->stats.preempted++;
    }
}

/* Rows whose logits are wanted of tokens [computed, computed + count), standing at `row`. */
static void want_rows(struct stepper *stepper, struct seq *seq, uint32_t count, uint32_t row)
{
    const struct job *job = seq->job;
    uint32_t from = seq->computed, last = from + count;
    for (uint32_t p = from; p < last; p++) {
        bool prompt = p + 1 < job->prompt_tokens;
        bool wanted =
            prompt ? job->prompt_logprobs && p >= seq->prompt_reported : p + 1 == seq->tokens;
        if (!wanted) continue;
        stepper->want[stepper->maker.rows] =
            (struct want){ .seq = seq, .position = p + 1, .prompt = prompt };
        batch_want(&stepper->maker, row + (p - from));
    }
}

static void start(struct stepper *stepper, struct seq *seq)
{
    if (seq->started) return;
    seq->started = true;
    seq->started_ns = now_ns();
    stepper->stats.prompt_tokens += seq->job->prompt_tokens;
    post(stepper, &(struct event){ .job = seq->job->id,
                                   .kind = EVENT_STARTED,
                                   .queued_ns = seq->queued_ns,
                                   .started_ns = seq->started_ns });
}

/* Fills the batch from the plan; false: nothing is to be computed. */
static bool fill(struct stepper *stepper)
{
    batch_clear(&stepper->maker);
    for (uint32_t i = 0; i < stepper->seqs; i++) {
        struct seq *seq = stepper->seq[i];
        const struct sched_seq *p = &stepper->plan[i];
        if (!p->count || take_room(stepper, seq, p->count, p->more_blocks) != OK) continue;
        start(stepper, seq);
        uint32_t row = stepper->maker.tokens;
        batch_add(&stepper->maker,
                  &(struct batch_seq){ .g_block = seq->g_block,
                                       .g_blocks = seq->g_blocks,
                                       .w_page = seq->w_page,
                                       .w_pages = seq->w_pages,
                                       .w_first = seq->w_first,
                                       .state = seq->state },
                  seq->token + seq->computed, seq->computed, p->count);
        want_rows(stepper, seq, p->count, row);
        seq->computed += p->count;
    }
    return stepper->maker.tokens > 0;
}

/* ---- apply --------------------------------------------------------------------------------- */

static struct sample_out *copy_out(const struct sample_out *out)
{
    struct sample_out *copy = malloc(sizeof *copy);
    if (copy) *copy = *out;
    return copy;
}

static bool is_stop(const struct job *job, uint32_t token)
{
    for (uint32_t i = 0; i < job->stop_tokens; i++)
        if (job->stop_token[i] == token) return true;
    return false;
}

static void apply_drawn(struct stepper *stepper, struct seq *seq, const struct sample_out *out)
{
    struct job *job = seq->job;
    if (!seq->first_ns) seq->first_ns = now_ns();
    if (is_stop(job, out->id)) {
        end(stepper, index_of(stepper, seq), FINISH_STOP, out->id);
        return;
    }
    if (seq_accept(seq, out->id) != OK) {
        end(stepper, index_of(stepper, seq), FINISH_FAILED, NO_TOKEN);
        return;
    }
    stepper->stats.output_tokens++;
    post(stepper, &(struct event){ .job = job->id,
                                   .kind = EVENT_TOKENS,
                                   .count = 1,
                                   .token = { out->id },
                                   .logprob = job->sampling.logprobs ? copy_out(out) : NULL });
    if (seq_output(seq) >= job->max_tokens || seq->tokens >= stepper->context)
        end(stepper, index_of(stepper, seq), FINISH_LENGTH, NO_TOKEN);
}

static void apply(struct stepper *stepper, const struct want *want, const struct sample_out *out)
{
    struct seq *seq = want->seq;
    if (!want->prompt) {
        apply_drawn(stepper, seq, out);
        return;
    }
    post(stepper, &(struct event){ .job = seq->job->id,
                                   .kind = EVENT_PROMPT,
                                   .from = want->position - 1,
                                   .count = 1,
                                   .token = { out->id },
                                   .logprob = copy_out(out) });
    seq->prompt_reported = want->position;
}

/* Logits and draws, as many rows at a time as there is room for. */
static enum status sample(struct stepper *stepper, struct err *err)
{
    struct model *model = stepper->model;
    struct batch_maker *maker = &stepper->maker;
    enum status status = OK;
    for (uint32_t from = 0; from < maker->rows && status == OK; from += model->most_rows) {
        uint32_t count = maker->rows - from;
        if (count > model->most_rows) count = model->most_rows;
        for (uint32_t i = 0; i < count; i++) {
            const struct want *want = &stepper->want[from + i];
            sampling_row(want->seq, want->position, &stepper->row[i]);
        }
        model_logits(model, maker->device_row + from, count);
        struct mat logits = model->logits;
        logits.rows = count;
        model->dev->ops->sample(
            model->dev,
            &(struct sample_args){ .logits = logits, .row = stepper->row, .out = stepper->out });
        status = model->dev->ops->finish(model->dev, err);
        for (uint32_t i = 0; i < count && status == OK; i++)
            apply(stepper, &stepper->want[from + i], &stepper->out[i]);
    }
    return status;
}

enum status stepper_step(struct stepper *stepper, struct err *err)
{
    end_late(stepper);
    plan(stepper);
    if (!fill(stepper)) return OK;
    uint64_t from_ns = now_ns();
    batch_upload(&stepper->maker);
    model_forward(stepper->model, &stepper->maker.batch);

    enum status status = stepper->maker.rows
                             ? sample(stepper, err)
                             : stepper->model->dev->ops->finish(stepper->model->dev, err);
    if (status != OK) {
        stepper->stats.failed = true;
        end_all(stepper);
        return status;
    }
    for (uint32_t i = 0; i < stepper->seqs; i++)
        if (stepper->seq[i]->running) drop_old_pages(stepper, stepper->seq[i]);
    stepper->stats.steps++;
    stepper->stats.last_step_ns = now_ns();
    metric_observe(METRIC_step_seconds, stepper->stats.last_step_ns - from_ns);
    metric_add(METRIC_step_tokens, stepper->maker.tokens);
    return OK;
}
