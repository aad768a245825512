/* step_plan.c - numbers for the planner, and look-ups in the order that it will admit in. */
#include "engine/step_plan.h"
#include "config/clock.h"

enum {
    HELD_MOST = 16,      // sequences that hold blocks while they wait
    LOOK_AGAIN = 16,     // steps
    FIRST_LENGTH = 256,  // tokens of an answer before any has ended
};

#define FORKS_NS (20 * NS_PER_MS)
#define LATE_NS (20 * NS_PER_MS)
#define LATEST 0.0625  // weight of the latest answer among all

/* Its pending token is the last one whatever it is. */
static bool is_through(const struct stepper *stepper, const struct seq *seq)
{
    return seq->pending &&
           (seq_output(seq) >= seq->job->max_tokens || seq_tokens(seq) >= stepper->context);
}

/* Whether its prompt is that of one before it, close before it as a rule, and is not computed yet. Whose
 * parent has gone is nobody's fork any more. */
static bool waits_for_parent(const struct stepper *stepper, uint32_t index)
{
    struct job *job = stepper->seq[index]->job;
    if (!job->fork_of || stepper->seq[index]->started) return false;
    for (uint32_t i = index; i-- > 0;) {
        const struct seq *parent = stepper->seq[i];
        if (parent->job->id == job->fork_of) return parent->computed < parent->job->prompt_tokens;
    }
    job->fork_of = 0;
    return false;
}

/* Jobs that take its prompt over are about to come; not waited for long, since one may be refused. */
static bool waits_for_forks(const struct stepper *stepper, const struct seq *seq)
{
    uint32_t here = 0;
    if (!seq->job->forks || seq->started || now_ns() - seq->queued_ns > FORKS_NS) return false;
    for (uint32_t i = 0; i < stepper->seqs; i++)
        here += stepper->seq[i]->job->fork_of == seq->job->id;
    return here < seq->job->forks;
}

/* ---- what is told ---------------------------------------------------------------------------- */

void stepper_learn_length(struct stepper *stepper, uint32_t output)
{
    struct reply_length *length = &stepper->reply_length;
    double off = output - length->mean;
    if (!length->known) *length = (struct reply_length){ true, output, output / 2.0 };
    length->mean += LATEST * off;
    length->spread += LATEST * ((off < 0 ? -off : off) - length->spread);
}

/* Tokens that are still to come: those of a usual answer and twice their spread; one that has become
 * longer is taken for half done. */
static uint32_t expected(const struct stepper *stepper, const struct seq *seq)
{
    const struct reply_length *length = &stepper->reply_length;
    uint32_t done = seq_output(seq), most = seq->job->max_tokens;
    double usual = length->known ? length->mean + 2 * length->spread : FIRST_LENGTH;
    double whole = usual > done ? usual : 2.0 * done;
    if (whole > most) whole = most;
    return whole > done ? (uint32_t)whole - done : 0;
}

static bool sleeps(const struct stepper *stepper, uint32_t index)
{
    const struct seq *seq = stepper->seq[index];
    return seq->phase == SEQ_WAITING &&
           (waits_for_parent(stepper, index) || waits_for_forks(stepper, seq));
}

static void tell_planner(struct stepper *stepper)
{
    for (uint32_t i = 0; i < stepper->seqs; i++) {
        const struct seq *seq = stepper->seq[i];
        const struct job *job = seq->job;
        bool through = is_through(stepper, seq);  // then nothing is left to compute
        bool loading = seq->phase == SEQ_LOADING;
        stepper->plan[i] =
            (struct sched_seq){ .running = seq->phase == SEQ_RUNNING,
                                .loading = loading,
                                .asleep = sleeps(stepper, i),
                                .not_yet = seq->phase == SEQ_WAITING,
                                .tokens = through ? seq->tokens : seq_tokens(seq),
                                .computed = seq->computed,
                                .expected = through ? 0 : expected(stepper, seq),
                                .blocks = loading ? seq->plan.known : seq->lease.g_blocks,
                                .preempted = seq->preempted,
                                .steps = (uint32_t)(stepper->stats.steps - seq->admitted_step),
                                .tenant = job->tenant,
                                .user = job->user,
                                .weight = job->weight,
                                .priority = job->priority,
                                .arrived_ns = seq->queued_ns,
                                .beside_ns = seq->beside_ns };
    }
}

/* ---- look-ups -------------------------------------------------------------------------------- */

/* One that holds blocks while others go before it gives them back. */
static bool let_go_one(struct stepper *stepper, const uint32_t *next, uint32_t count)
{
    for (uint32_t i = stepper->seqs; i-- > 0;) {
        bool soon = false;
        for (uint32_t n = 0; n < count; n++) soon |= next[n] == i;
        if (soon || stepper->seq[i]->phase != SEQ_HELD) continue;
        stepper_give_back(stepper, stepper->seq[i], false);
        return true;
    }
    return false;
}

/* Those that wait look up what is known of them, in the order in which they will be admitted and a few
 * at a time: what they then hold is kept from being evicted. One does even when all places are taken,
 * since it may have a right to one. */
static void look_up(struct stepper *stepper, uint64_t now)
{
    uint32_t next[HELD_MOST], running = 0, held = 0, loading = 0;
    for (uint32_t i = 0; i < stepper->seqs; i++) {
        struct seq *seq = stepper->seq[i];
        if (seq->phase == SEQ_LOADING) seq_poll_load(seq, stepper->cache);
        running += seq->phase == SEQ_RUNNING;
        loading += seq->phase == SEQ_LOADING;
        bool is_old = stepper->stats.steps - seq->matched_step >= LOOK_AGAIN;
        if (seq->phase == SEQ_HELD && is_old) stepper_give_back(stepper, seq, false);
        held += seq->phase == SEQ_HELD;
    }
    uint32_t places = stepper->limits.most_seqs - running, most = HELD_MOST;
    if (most > places) most = places;
    most = most > loading + 1 ? most - loading : 1;
    tell_planner(stepper);
    uint32_t count = sched_next(&stepper->sched, stepper->plan, stepper->seqs, now, next, most);
    for (uint32_t n = 0; n < count && loading < HELD_MOST; n++) {
        struct seq *seq = stepper->seq[next[n]];
        if (seq->phase != SEQ_WAITING) continue;
        if (held >= most && !let_go_one(stepper, next, count)) return;
        held = held >= most ? held - 1 : held;
        seq->matched_step = stepper->stats.steps;
        if (!seq_match(seq, stepper->cache)) return;
        held += seq->phase == SEQ_HELD;
        loading += seq->phase == SEQ_LOADING;
    }
}

/* ---- the plan -------------------------------------------------------------------------------- */

static void obey(struct stepper *stepper, uint32_t index)
{
    const struct sched_seq *plan = &stepper->plan[index];
    struct seq *seq = stepper->seq[index];
    bool runs = seq->phase == SEQ_RUNNING;
    if (plan->count && !runs) seq->admitted_step = stepper->stats.steps;
    if (!plan->preempt) return;
    seq->preempted += runs;
    stepper->stats.preempted += runs;
    stepper->stats.preempted_for_share += runs && plan->preempt == SCHED_PLACE;
    stepper_give_back(stepper, seq, true);
}

void stepper_plan(struct stepper *stepper)
{
    struct flight *flight = &stepper->flight[stepper->turn ^ 1];
    uint64_t now = now_ns();
    look_up(stepper, now);
    tell_planner(stepper);
    sched_plan(&stepper->sched, stepper->plan, stepper->seqs,
               prefix_cache_room(stepper->cache, KV_G), now);
    flight->prompt = flight->decodes = 0;
    flight->lost_ns = 0;
    for (uint32_t i = 0; i < stepper->seqs; i++) {
        *(stepper->plan[i].drawn ? &flight->decodes : &flight->prompt) += stepper->plan[i].count;
        obey(stepper, i);
    }
}

void stepper_learn_pace(struct stepper *stepper, const struct flight *flight, uint64_t ns)
{
    uint64_t lost = flight->lost_ns < ns ? flight->lost_ns : ns;
    pace_learn(&stepper->sched.pace, flight->prompt, flight->decodes, ns - lost);
}

void stepper_charge_masks(struct stepper *stepper)
{
    const struct masks *masks = &stepper->masks;
    struct flight *flight = &stepper->flight[stepper->turn];
    double waited = (double)masks->waited_ns, lost = waited;
    if (stepper->runner->model->dev->ops->capture_begin)  // the forward pass runs meanwhile
        lost -= pace_ns(&stepper->sched.pace, flight->prompt, flight->decodes);
    if (lost < 0) lost = 0;
    flight->lost_ns += (uint64_t)lost;
    double shared = 0;
    for (uint32_t i = 0; i < masks->rows; i++) {
        struct seq *seq = masks->row[i].seq;
        const struct job *job = seq->job;
        struct share_key key = { job->tenant, job->user, job->weight, job->priority };
        double ns = (double)masks->row[i].ns;
        double its_lost = waited > 0 ? ns * lost / waited : 0;
        sched_charge(&stepper->sched, &key, ns, its_lost);
        seq->beside_ns = its_lost;
        shared += its_lost;
    }
    sched_lose(&stepper->sched, shared);
}

bool stepper_plans_late(const struct stepper *stepper, const struct flight *flight)
{
    return flight->up && sched_shared(&stepper->sched) &&
           pace_ns(&stepper->sched.pace, flight->prompt, flight->decodes) > LATE_NS;
}

/* ---- counts ---------------------------------------------------------------------------------- */

void stepper_count_jobs(const struct stepper *stepper, struct engine_stats *stats)
{
    const struct shares *shares = &stepper->sched.shares;
    uint32_t most = stepper->limits.step_tokens;
    double step_ns = pace_ns(&stepper->sched.pace, most, 0);
    stats->prefill_tokens_s = step_ns > 0 ? (uint32_t)(most * 1e9 / step_ns) : 0;
    stats->running = stats->waiting = stats->tenants = 0;
    for (uint32_t i = 0; i < shares->tenants && i < ENGINE_TENANTS_MOST; i++) {
        const struct share_tenant *t = &shares->tenant[i];
        stats->tenant[stats->tenants++] =
            (struct engine_tenant){ .tenant = t->id,
                                    .weight = t->weight,
                                    .prompt_tokens = t->prompt_tokens,
                                    .output_tokens = t->output_tokens };
    }
    for (uint32_t i = 0; i < stepper->seqs; i++) {
        const struct seq *seq = stepper->seq[i];
        bool runs = seq->phase == SEQ_RUNNING;
        if (seq->is_check) continue;
        *(runs ? &stats->running : &stats->waiting) += 1;
        for (uint32_t t = 0; t < stats->tenants; t++)
            if (stats->tenant[t].tenant == seq->job->tenant)
                *(runs ? &stats->tenant[t].running : &stats->tenant[t].waiting) += 1;
    }
}
