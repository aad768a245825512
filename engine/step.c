/* step.c - plan, compute, sample, apply; what ends is freed within the same step. */
#include "engine/step.h"
#include <string.h>
#include "config/clock.h"
#include "config/log.h"
#include "config/metrics.h"
#include "engine/sampling.h"
#include "engine/step_plan.h"

/* One wanted row of logits. */
struct want {
    struct seq *seq;    // NULL: it has ended meanwhile
    uint32_t position;  // of the token it speaks about
    bool prompt;        // that token is known: only its log-probability is wanted
};

#define STUCK_NS (100 * NS_PER_MS)

uint32_t stepper_w_pages(const struct sched_limits *limits)
{
    return limits->most_seqs * 3 + limits->step_tokens / KV_BLOCK_TOKENS + 1;
}

enum status stepper_init(struct stepper *stepper, const struct stepper_options *options)
{
    uint32_t seqs = options->limits.most_seqs, tokens = options->limits.step_tokens;
    *stepper = (struct stepper){
        .runner = options->runner,
        .cache = options->cache,
        .overlap = options->overlap,
        .limits = options->limits,
        .context = options->context,
        .sink = options->sink,
        .zero_page = options->zero_page,
    };
    sched_init(&stepper->sched, &options->limits);
    stepper->stats.context = options->context;
    stepper->stats.blocks = options->cache->options.g_blocks;
    stepper->stats.pages = options->cache->options.w_pages;
    stepper->w_table = calloc(stepper_w_pages(&options->limits), sizeof *stepper->w_table);
    stepper->free_state = calloc(seqs, sizeof *stepper->free_state);
    stepper->fork = calloc(seqs, sizeof *stepper->fork);
    for (int i = 0; i < 2; i++)
        stepper->flight[i].want = calloc(tokens, sizeof *stepper->flight[i].want);
    if (!stepper->w_table || !stepper->free_state || !stepper->fork || !stepper->flight[0].want ||
        !stepper->flight[1].want) {
        stepper_release(stepper);
        return NO_MEMORY;
    }
    if (forcer_init(&stepper->forcer, options->tokenizer) != OK) {
        stepper_release(stepper);
        return NO_MEMORY;
    }
    if (masks_init(&stepper->masks, options->mask_threads, seqs) != OK) {
        stepper_release(stepper);
        return NO_MEMORY;
    }
    if (cache_check_init(&stepper->check, options->cache) != OK) {
        stepper_release(stepper);
        return NO_MEMORY;
    }
    while (stepper->free_states < seqs) {
        stepper->free_state[stepper->free_states] = stepper->free_states;
        stepper->free_states++;
    }
    return OK;
}

/* ---- what a sequence holds ----------------------------------------------------------------- */

void stepper_give_back(struct stepper *stepper, struct seq *seq, bool keep)
{
    if (seq->phase == SEQ_RUNNING) stepper->free_state[stepper->free_states++] = seq->state;
    seq_give_back(seq, stepper->cache, keep);
}

/* Room for the next `count` tokens, and a place among those that run. */
static enum status take_room(struct stepper *stepper, struct seq *seq, uint32_t count)
{
    enum status status = seq_reserve(seq, count);
    if (status != OK || seq->phase == SEQ_RUNNING) return status;
    must(stepper->free_states > 0);
    seq->state = stepper->free_state[--stepper->free_states];
    seq->phase = SEQ_RUNNING;
    return OK;
}

/* ---- events -------------------------------------------------------------------------------- */

static void post(struct stepper *stepper, const struct event *event)
{
    stepper->sink.post(stepper->sink.user, event);
}

/* For whoever waits for the sequence. */
static void tell(struct stepper *stepper, const struct seq *seq, const struct event *event)
{
    if (!seq->is_check) post(stepper, event);
    else free(event->logprob);
}

/* The steps under way lose sight of it. Its blocks may be given to others all the same: what still
 * runs was queued before anything that will use them. */
static void forget(struct stepper *stepper, const struct seq *seq)
{
    for (int f = 0; f < 2; f++)
        for (uint32_t i = 0; stepper->flight[f].up && i < stepper->flight[f].rows; i++)
            if (stepper->flight[f].want[i].seq == seq) stepper->flight[f].want[i].seq = NULL;
}

static void take_out(struct stepper *stepper, uint32_t index)
{
    memmove(stepper->seq + index, stepper->seq + index + 1,
            (stepper->seqs - index - 1) * sizeof(struct seq *));
    stepper->seqs--;
}

/* What an answered sequence is still good for. */
static void look_back(struct stepper *stepper, const struct seq *seq)
{
    struct err err;
    if (!seq->is_check) cache_check_offer(&stepper->check, seq);
    else if (cache_check_compare(&stepper->check, stepper->cache, seq, &err) != OK)
        log_say(OPT_LOG_LEVEL_ERROR, "cache_check", "%s", err.text);
}

/* Takes the sequence out of the list, frees what it holds, and says how it ended. */
static void end(struct stepper *stepper, uint32_t index, enum finish finish, uint32_t stop_token)
{
    struct seq *seq = stepper->seq[index];
    take_out(stepper, index);
    if (finish == FINISH_STOP || finish == FINISH_LENGTH) {
        look_back(stepper, seq);
        stepper_learn_length(stepper, seq_output(seq));
    }
    if (seq == stepper->checking) stepper->checking = NULL;
    stepper_give_back(stepper, seq, finish != FINISH_FAILED);
    seq_leave(seq, stepper->cache);
    forget(stepper, seq);
    if (finish == FINISH_CANCELLED) stepper->stats.cancelled++;
    tell(stepper, seq,
         &(struct event){
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
    if (sched_room(&stepper->sched, room) != OK) return false;
    stepper->seq_room = room;
    return true;
}

/* Takes the job over on OK. */
static enum status put_in(struct stepper *stepper, struct job *job, struct seq **seq)
{
    if (!grow_list(stepper) || seq_open(seq, job, stepper->runner->model->shape->vocab) != OK)
        return NO_MEMORY;
    seq_enter(*seq, stepper->cache);
    stepper->seq[stepper->seqs++] = *seq;
    return OK;
}

void stepper_add(struct stepper *stepper, struct job *job, uint64_t queued_ns)
{
    struct seq *seq;
    if (put_in(stepper, job, &seq) != OK) {
        post(stepper, &(struct event){ .job = job->id,
                                       .kind = EVENT_END,
                                       .finish = FINISH_FAILED,
                                       .queued_ns = queued_ns });
        job_free(job);
        return;
    }
    seq->queued_ns = queued_ns;
    if (stepper->seqs > stepper->limits.most_seqs) seq_fetch(seq, stepper->cache);
}

void stepper_cancel(struct stepper *stepper, uint64_t job)
{
    for (uint32_t i = 0; i < stepper->seqs; i++) {
        if (stepper->seq[i]->job->id != job || stepper->seq[i]->is_check) continue;
        end(stepper, i, FINISH_CANCELLED, NO_TOKEN);
        return;
    }
}

/* A hit is checked while there is no job, and from the start again after one came. */
static void tend_check(struct stepper *stepper)
{
    struct seq *seq = stepper->checking;
    struct job *job;
    if (seq && stepper->seqs > 1) {
        take_out(stepper, index_of(stepper, seq));
        stepper->checking = NULL;
        stepper_give_back(stepper, seq, false);
        seq_leave(seq, stepper->cache);
        forget(stepper, seq);
        cache_check_again(&stepper->check, seq->job);
        seq->job = NULL;
        seq_close(seq);
    } else if (!stepper->seqs && (job = cache_check_next(&stepper->check))) {
        if (put_in(stepper, job, &stepper->checking) == OK) stepper->checking->is_check = true;
        else job_free(job);
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
    cache_check_release(&stepper->check);
    forcer_release(&stepper->forcer);
    masks_release(&stepper->masks);
    free(stepper->seq);
    free(stepper->plan);
    sched_release(&stepper->sched);
    free(stepper->free_state);
    free(stepper->fork);
    free(stepper->w_table);
    for (int i = 0; i < 2; i++) free(stepper->flight[i].want);
    *stepper = (struct stepper){ 0 };
}

/* ---- fill ---------------------------------------------------------------------------------- */

/* Rows whose logits are wanted of tokens [computed, computed + count), standing at `row`. */
static void want_rows(struct stepper *stepper, struct seq *seq, uint32_t count, uint32_t row)
{
    const struct job *job = seq->job;
    struct want *want = stepper->flight[stepper->turn].want;
    struct batch_maker *maker = &stepper->runner->maker;
    uint32_t from = seq->computed, last = from + count;
    for (uint32_t p = from; p < last; p++) {
        bool prompt = p + 1 < job->prompt_tokens;
        bool wanted =
            prompt ? job->prompt_logprobs && p >= seq->prompt_reported : p + 1 == seq_tokens(seq);
        if (!wanted) continue;
        want[maker->rows] = (struct want){ .seq = seq, .position = p + 1, .prompt = prompt };
        batch_want(maker, row + (p - from));
    }
}

static void count_start(struct stepper *stepper, const struct seq *seq)
{
    struct cache_stats *cache = &stepper->stats.cache;
    uint32_t known = seq->plan.known * KV_BLOCK_TOKENS, hit = seq->outcome.hit_tokens;
    stepper->stats.prompt_tokens += seq->job->prompt_tokens;
    stepper->stats.cached_tokens += hit;
    cache->jobs++;
    for (int tier = 0; tier < KV_TIERS; tier++)
        cache->hit_tokens[tier] += (uint64_t)seq->tier_blocks[tier] * KV_BLOCK_TOKENS;
    cache->replayed_tokens += known > hit ? known - hit : 0;
    cache->cold_tokens += seq->job->prompt_tokens - (known > hit ? known : hit);
    cache->plans[seq->plan.mode]++;
    cache->miss[seq->outcome.miss]++;
}

static void start(struct stepper *stepper, struct seq *seq)
{
    if (seq->started) return;
    seq->started = true;
    seq->started_ns = now_ns();
    seq->hit_blocks = seq->plan.known;
    if (!seq->is_check) count_start(stepper, seq);
    tell(stepper, seq,
         &(struct event){ .job = seq->job->id,
                          .kind = EVENT_STARTED,
                          .cache = seq->outcome,
                          .queued_ns = seq->queued_ns,
                          .started_ns = seq->started_ns });
}

/* The pages of the next `count` tokens and of the window before them; pages from before where the
 * sequence went on without a window are zeros. */
static const uint32_t *window_table(struct stepper *stepper, const struct seq *seq, uint32_t count,
                                    uint32_t *pages)
{
    uint32_t *table = stepper->w_table + stepper->w_tables;
    uint32_t from = seq_window_start(seq->computed);
    uint32_t end = (seq->computed + count - 1) / KV_BLOCK_TOKENS + 1;
    const struct lease *lease = &seq->lease;
    for (uint32_t i = from; i < end; i++)
        table[i - from] =
            i < lease->w_first ? stepper->zero_page : lease->w_page[i - lease->w_first];
    *pages = end - from;
    stepper->w_tables += *pages;
    return table;
}

/* The sequence's next `count` tokens into the batch. */
static void add(struct stepper *stepper, struct seq *seq, uint32_t count)
{
    static const uint32_t not_known = 0;
    struct batch_maker *maker = &stepper->runner->maker;
    uint32_t row = maker->tokens, pages;
    seq->last_row = row + count - 1;
    bool fed = seq->computed >= seq->tokens;
    const uint32_t *w_page = window_table(stepper, seq, count, &pages);
    batch_add(maker,
              &(struct batch_seq){ .g_block = seq->lease.g_block,
                                   .g_blocks = seq->lease.g_blocks,
                                   .w_page = w_page,
                                   .w_pages = pages,
                                   .w_first = seq_window_start(seq->computed),
                                   .state = seq->state,
                                   .g_from = seq->plan.known * KV_BLOCK_TOKENS },
              fed ? &not_known : seq->token + seq->computed, seq->computed, count);
    if (fed) batch_feed(maker, row, seq->drawn_at);
    want_rows(stepper, seq, count, row);
    seq->computed += count;
}

/* The latest comer behind `index` that holds anything gives it back; false: there is none. */
static bool preempt_behind(struct stepper *stepper, uint32_t index)
{
    for (uint32_t i = stepper->seqs; i-- > index + 1;) {
        struct seq *seq = stepper->seq[i];
        if (seq->phase != SEQ_RUNNING && seq->phase != SEQ_HELD) continue;
        stepper->stats.preempted += seq->phase == SEQ_RUNNING;
        stepper_give_back(stepper, seq, true);
        stepper->plan[i].count = 0;
        return true;
    }
    return false;
}

static void fork_child(struct stepper *stepper, struct seq *parent, struct seq *child)
{
    struct batch_maker *maker = &stepper->runner->maker;
    struct fork *made = &stepper->fork[stepper->forks];
    if (!seq_fork(parent, child, made->copy, &made->copies)) return;
    child->state = stepper->free_state[--stepper->free_states];
    child->phase = SEQ_RUNNING;
    child->admitted_step = stepper->stats.steps;
    stepper->stats.cache.forked++;
    made->from_state = parent->state;
    made->to_state = child->state;
    stepper->forks++;
    start(stepper, child);
    stepper->flight[stepper->turn].want[maker->rows] =
        (struct want){ .seq = child, .position = child->tokens };
    batch_want(maker, parent->last_row);
}

/* Where the batch ends a prompt, those that wait for it draw their first token from the same logits. */
static void fork_prompts(struct stepper *stepper)
{
    const struct batch_maker *maker = &stepper->runner->maker;
    stepper->forks = 0;
    for (uint32_t p = 0; p < stepper->seqs; p++) {
        struct seq *parent = stepper->seq[p];
        bool ends = stepper->plan[p].count && parent->phase == SEQ_RUNNING && !parent->pending &&
                    parent->computed == parent->job->prompt_tokens &&
                    parent->tokens == parent->computed && !parent->job->prompt_logprobs;
        for (uint32_t c = p + 1; ends && c < stepper->seqs; c++) {
            struct seq *child = stepper->seq[c];
            bool is_fork = child->job->fork_of == parent->job->id && child->phase == SEQ_WAITING &&
                           !child->started;
            bool room = stepper->free_states && maker->rows < maker->limits.rows;
            if (is_fork && room) fork_child(stepper, parent, child);
        }
    }
}

/* The private part of what was forked, behind the step that completes it. */
static void copy_forks(struct stepper *stepper)
{
    const struct model *model = stepper->runner->model;
    const struct kv_layout *layout = &model->layout;
    struct dev *dev = model->dev;
    for (uint32_t i = 0; i < stepper->forks; i++) {
        const struct fork *fork = &stepper->fork[i];
        for (uint32_t c = 0; c < fork->copies; c++) {
            const struct lease_copy *copy = &fork->copy[c];
            bool is_g = copy->object == KV_G;
            size_t bytes = is_g ? layout->g_bytes : layout->w_bytes;
            char *base = is_g ? model->g : model->w;
            dev->ops->copy_across(dev, base + copy->to * bytes, base + copy->from * bytes, bytes);
        }
        dev->ops->copy_across(dev, model->state + fork->to_state * layout->state_bytes,
                              model->state + fork->from_state * layout->state_bytes,
                              layout->state_bytes);
    }
    stepper->forks = 0;
}

/* Fills the batch from the plan; false: nothing is to be computed. The plan counts blocks alone, and
 * some of those it counts on may be pinned by what they have after them, so room may be lacking. */
static bool fill(struct stepper *stepper)
{
    batch_clear(&stepper->runner->maker);
    stepper->w_tables = 0;
    for (uint32_t i = 0; i < stepper->seqs; i++) {
        struct seq *seq = stepper->seq[i];
        uint32_t count = stepper->plan[i].count;
        if (!count) continue;
        enum status status = take_room(stepper, seq, count);
        while (status == BUSY && preempt_behind(stepper, i))
            status = take_room(stepper, seq, count);
        if (status != OK) {
            stepper_give_back(stepper, seq, true);
            continue;
        }
        start(stepper, seq);
        add(stepper, seq, count);
    }
    fork_prompts(stepper);
    return stepper->runner->maker.tokens > 0;
}

/* ---- apply --------------------------------------------------------------------------------- */

static struct sample_out *copy_out(const struct sample_out *out)
{
    struct sample_out *copy = malloc(sizeof *copy);
    if (copy) *copy = *out;
    return copy;
}

/* Logits that are no numbers. A resumed prompt may have brought them along: before it has said anything
 * it is computed once more, from its start. */
static void apply_wrong(struct stepper *stepper, struct seq *seq)
{
    bool again = seq->plan.known > 0 && seq->tokens == seq->job->prompt_tokens && !seq->retried;
    log_say(OPT_LOG_LEVEL_ERROR, "wrong_logits", "%u tokens, %u of them from the cache: %s",
            seq->tokens, seq->outcome.hit_tokens,
            again ? "what was found is dropped, and all is computed again" : "the job has failed");
    seq_poison(seq, stepper->cache);
    if (!again) {
        end(stepper, index_of(stepper, seq), FINISH_FAILED, NO_TOKEN);
        return;
    }
    stepper_give_back(stepper, seq, false);
    forget(stepper, seq);
    seq->pending = 0;
    seq->retried = true;
    seq->scope.reads = false;
}

static void tell_tokens(struct stepper *stepper, const struct seq *seq, const uint32_t *token,
                        uint32_t count, const struct sample_out *out)
{
    stepper->stats.output_tokens += seq->is_check ? 0 : count;
    for (uint32_t from = 0; from < count; from += EVENT_TOKENS_MOST) {
        struct event event = { .job = seq->job->id, .kind = EVENT_TOKENS };
        event.count = count - from < EVENT_TOKENS_MOST ? count - from : EVENT_TOKENS_MOST;
        memcpy(event.token, token + from, event.count * sizeof *token);
        if (seq->job->sampling.logprobs) event.logprob = copy_out(out);
        tell(stepper, seq, &event);
    }
}

/* What must follow the token just drawn. What the step under way draws behind it is of no use then. */
static enum status take_forced(struct stepper *stepper, struct seq *seq)
{
    uint32_t count = forcer_run(&stepper->forcer, seq, stepper->context);
    const uint32_t *token = stepper->forcer.ids.id;
    if (!count) return OK;
    forget(stepper, seq);
    for (uint32_t i = 0; i < count; i++) {
        enum status status = seq_accept(seq, token[i]);
        if (status != OK) return status;
    }
    tell_tokens(stepper, seq, token, count, NULL);
    stepper->stats.forced_tokens += count;
    return OK;
}

static void apply_drawn(struct stepper *stepper, struct seq *seq, const struct sample_out *out)
{
    struct job *job = seq->job;
    if (out->wrong) {
        apply_wrong(stepper, seq);
        return;
    }
    if (!seq->first_ns) seq->first_ns = now_ns();
    if (job_stops_at(job, out->id)) {
        end(stepper, index_of(stepper, seq), FINISH_STOP, out->id);
        return;
    }
    enum status status = seq_accept(seq, out->id);
    if (status == OK) {
        tell_tokens(stepper, seq, &out->id, 1, out);
        status = take_forced(stepper, seq);
    }
    if (status == BAD_INPUT)
        log_say(OPT_LOG_LEVEL_ERROR, "grammar", "token %u was drawn and is not allowed", out->id);
    if (status != OK) end(stepper, index_of(stepper, seq), FINISH_FAILED, NO_TOKEN);
    else if (seq->tokens - job->prompt_tokens >= job->max_tokens || seq->tokens >= stepper->context)
        end(stepper, index_of(stepper, seq), FINISH_LENGTH, NO_TOKEN);
}

static void apply(struct stepper *stepper, const struct want *want, const struct sample_out *out)
{
    struct seq *seq = want->seq;
    if (!want->prompt) {
        apply_drawn(stepper, seq, out);
        return;
    }
    tell(stepper, seq,
         &(struct event){ .job = seq->job->id,
                          .kind = EVENT_PROMPT,
                          .from = want->position - 1,
                          .count = 1,
                          .token = { out->id },
                          .logprob = copy_out(out) });
    seq->prompt_reported = want->position;
}

/* ---- the device ------------------------------------------------------------------------------ */

static enum status failed(struct stepper *stepper, enum status status)
{
    stepper->stats.failed = true;
    stepper->flight[0].up = stepper->flight[1].up = false;
    end_all(stepper);
    return status;
}

static void count_step(struct stepper *stepper, const struct flight *flight)
{
    uint64_t now = now_ns(), from = flight->from_ns;
    if (from < stepper->settled_ns) from = stepper->settled_ns;  // it had to wait for another
    stepper->settled_ns = stepper->stats.last_step_ns = now;
    stepper->stats.steps++;
    metric_observe(METRIC_step_seconds, now - from);
    stepper_learn_pace(stepper, flight, now - from);
    prefix_cache_computed(stepper->cache, flight->tokens, now - from);
}

/* Waits for a step and applies what it drew; `later`: steps queued behind it. */
static enum status settle(struct stepper *stepper, struct flight *flight, uint32_t later,
                          struct err *err)
{
    if (!flight->up) return OK;
    enum status status = runner_wait(stepper->runner, later, err);
    if (status != OK) return failed(stepper, status);
    count_step(stepper, flight);
    for (uint32_t i = 0; i < flight->rows; i++) {
        struct want *want = &flight->want[i];
        if (!want->seq) continue;
        if (!want->prompt) want->seq->pending--;
        apply(stepper, want, &flight->out[i]);
    }
    flight->up = false;
    return OK;
}

static void make_masks(struct stepper *stepper, const struct want *want, uint32_t count)
{
    struct masks *masks = &stepper->masks;
    masks_begin(masks);
    for (uint32_t i = 0; i < count; i++)
        if (want[i].seq && sampling_needs_mask(want[i].seq, want[i].position))
            masks_add(masks, want[i].seq);
    if (!masks->rows) return;
    masks_make(masks);
    stepper_charge_masks(stepper);
}

/* Sampling parameters of wanted rows [from, from + count). */
static void set_rows(struct stepper *stepper, uint32_t from, uint32_t count)
{
    const struct want *want = stepper->flight[stepper->turn].want + from;
    make_masks(stepper, want, count);
    for (uint32_t i = 0; i < count; i++) {
        struct sample_row *row = &stepper->runner->draws.row[i];
        if (want[i].seq) sampling_row(want[i].seq, want[i].position, row);
        else *row = (struct sample_row){ .top_p = 1, .repetition = 1, .forced = true };
    }
}

/* More rows than there is room for, those of a prompt whose log-probabilities are wanted: no overlap. */
static enum status step_in_parts(struct stepper *stepper, struct flight *before, struct err *err)
{
    struct flight *flight = &stepper->flight[stepper->turn];
    uint32_t rows = stepper->runner->maker.rows, most = stepper->runner->model->most_rows;
    flight->up = true;
    flight->rows = rows;
    flight->tokens = stepper->runner->maker.tokens;
    enum status status = settle(stepper, before, 0, err);
    if (status != OK) return status;
    runner_forward(stepper->runner);
    copy_forks(stepper);
    for (uint32_t from = 0; from < rows && status == OK; from += most) {
        const struct sample_out *out;
        uint32_t count = rows - from < most ? rows - from : most;
        set_rows(stepper, from, count);
        status = runner_draw(stepper->runner, from, count, &out, err);
        if (status == OK) status = runner_wait(stepper->runner, 0, err);
        for (uint32_t i = 0; i < count && status == OK; i++)
            if (flight->want[from + i].seq) apply(stepper, &flight->want[from + i], &out[i]);
    }
    flight->up = false;
    if (status != OK) return failed(stepper, status);
    count_step(stepper, flight);
    return OK;
}

static bool must_know(const struct stepper *stepper)
{
    for (uint32_t i = 0; i < stepper->seqs; i++)
        if (seq_must_know(stepper->seq[i])) return true;
    return false;
}

static enum status queue(struct stepper *stepper, struct flight *before, struct err *err)
{
    struct flight *flight = &stepper->flight[stepper->turn];
    enum status status = OK;
    flight->up = true;
    flight->rows = stepper->runner->maker.rows;
    flight->tokens = stepper->runner->maker.tokens;
    runner_forward(stepper->runner);
    copy_forks(stepper);
    if (must_know(stepper)) status = settle(stepper, before, 0, err);
    if (status != OK) return status;
    set_rows(stepper, 0, flight->rows);
    status = runner_draw(stepper->runner, 0, flight->rows, &flight->out, err);
    if (status != OK) return failed(stepper, status);
    for (uint32_t i = 0; i < flight->rows; i++) {
        struct want *want = &flight->want[i];
        if (want->prompt || !want->seq) continue;
        want->seq->pending++;
        want->seq->drawn_at = i;
    }
    return OK;
}

bool stepper_idle(const struct stepper *stepper)
{
    if (stepper->stats.failed) return true;
    if (!stepper->seqs && stepper->check.count) return false;
    if (stepper->flight[0].up || stepper->flight[1].up) return false;
    for (uint32_t i = 0; i < stepper->seqs; i++)
        if (stepper->seq[i]->phase != SEQ_LOADING) return false;
    return true;
}

/* Nothing could be computed, and nothing has been under way for a while that might change that: what the
 * cache keeps on the device for itself alone stands in the way. */
static void free_the_device(struct stepper *stepper)
{
    bool stuck = stepper->seqs > 0 && stepper->cache->tiers.in_flight == 0;
    uint64_t now = now_ns();
    if (!stuck) stepper->stuck_ns = 0;
    else if (!stepper->stuck_ns) stepper->stuck_ns = now;
    if (!stuck || now - stepper->stuck_ns < STUCK_NS) return;
    for (uint32_t i = 0; i < stepper->seqs; i++) stepper_give_back(stepper, stepper->seq[i], false);
    prefix_tree_flush(&stepper->cache->tree, KV_DEVICE);
    stepper->stuck_ns = 0;
}

enum status stepper_step(struct stepper *stepper, struct err *err)
{
    struct flight *before = &stepper->flight[stepper->turn];
    enum status status = OK;
    if (stepper_plans_late(stepper, before)) return settle(stepper, before, 0, err);
    end_late(stepper);
    tend_check(stepper);
    stepper_plan(stepper);
    stepper->turn ^= 1;
    if (!fill(stepper)) {
        if (before->up) return settle(stepper, before, 0, err);
        free_the_device(stepper);
        status = runner_wait(stepper->runner, 0, err);  // copies alone do not tell of a lost device
        return status == OK ? OK : failed(stepper, status);
    }

    stepper->stuck_ns = 0;
    struct flight *flight = &stepper->flight[stepper->turn];
    bool parts = stepper->runner->maker.rows > stepper->runner->model->most_rows;
    flight->from_ns = now_ns();
    metric_add(METRIC_step_tokens, stepper->runner->maker.tokens);
    if (parts) {
        status = step_in_parts(stepper, before, err);
    } else {
        status = queue(stepper, before, err);
        if (status == OK) status = settle(stepper, before, 1, err);
        if (status == OK && !stepper->overlap) status = settle(stepper, flight, 0, err);
    }
    if (status != OK) return status;
    for (uint32_t i = 0; i < stepper->seqs; i++)
        if (stepper->seq[i]->phase == SEQ_RUNNING) seq_commit(stepper->seq[i]);
    return OK;
}
