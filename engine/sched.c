/* sched.c - who sits out, who decodes, and whose prompt goes on. */
#include "engine/sched.h"
#include "cache/kv_pool.h"

enum {
    LEAD_LEAST = 8 * KV_BLOCK_TOKENS,
    FORGOTTEN = 256,    // steps that a sequence ran, and its preemptions count no more
    SPARED = 2,         // who was preempted so often is the last to be again
    SETTLED = 8,        // steps before a place is taken from whom it was given to
    SHORT = 32,         // tokens; a rest of so few goes with the decodes
    FIRST_CHUNK = 512,  // of a shared step before any has been timed
};

#define CATCH_UP 0.75  // who is behind gains a quarter of a step's time, or others sit it out
#define USUAL 0.125    // weight of the latest sequence among those of its tenant
#define BESIDE 0.5  // of a shared step: what masks may add while one who is behind has no token yet
#define BEHIND_MOST 4  // shared steps that a tenant can be behind; ahead: one

struct plan {
    struct sched *sched;
    struct sched_seq *seq;
    uint32_t count;
    uint64_t now_ns;
    uint32_t free;      // blocks
    uint32_t budget;    // tokens
    uint32_t blocks;    // all there are, free and held
    uint32_t running;   // places taken
    uint64_t reserved;  // blocks that those running will come to want
    bool closed;        // nobody else is admitted
};

static uint32_t blocks_for(uint32_t tokens)
{
    return (tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

static uint32_t blocks_wanted(const struct sched_seq *seq)
{
    uint32_t want = blocks_for(seq->tokens);
    return want > seq->blocks ? want - seq->blocks : 0;
}

/* Blocks beyond those for its tokens; one at least, for the next of these. */
static uint32_t growth(const struct sched_seq *seq)
{
    uint32_t more = blocks_for(seq->tokens + seq->expected) - blocks_for(seq->tokens);
    return more ? more : 1;
}

static uint32_t left_of(const struct sched_seq *seq)
{
    return seq->tokens - seq->computed;
}

static struct share_flow *flow_of(const struct plan *plan, const struct sched_seq *seq)
{
    return &plan->sched->shares.flow[seq->flow];
}

static struct share_tenant *tenant_of(const struct plan *plan, const struct sched_seq *seq)
{
    return &plan->sched->shares.tenant[flow_of(plan, seq)->tenant];
}

static bool stays(const struct sched_seq *seq)
{
    return seq->running && !seq->preempt;
}

/* ---- what there is ---------------------------------------------------------------------------- */

static void see_one(struct plan *plan, uint32_t i)
{
    struct sched_seq *seq = &plan->seq[i];
    struct shares *shares = &plan->sched->shares;
    struct share_key key = { seq->tenant, seq->user, seq->weight, seq->priority };
    seq->count = seq->more_blocks = 0;
    seq->preempt = SCHED_STAYS;
    seq->next = SHARES_NONE;
    seq->flow = shares_see(shares, &key, seq->arrived_ns, plan->now_ns);
    struct share_flow *flow = &shares->flow[seq->flow];
    struct share_tenant *tenant = &shares->tenant[flow->tenant];
    if (seq->loading || seq->running) {
        plan->running++;
        flow->running++;
        tenant->running++;
        tenant->blocks += seq->blocks;
        plan->reserved += growth(seq);
        if (seq->loading) return;
        tenant->decodes += left_of(seq) == 1;
        tenant->beside_ns += left_of(seq) == 1 ? seq->beside_ns : 0;
    } else {
        tenant->waiting += !seq->asleep;
        tenant->ready += !seq->asleep && !seq->not_yet;
    }
    if (seq->asleep || (seq->running && left_of(seq) <= SHORT)) return;
    if (flow->first == SHARES_NONE) flow->first = i;
    else plan->seq[flow->last].next = i;
    flow->last = i;
}

static void see(struct plan *plan)
{
    struct shares *shares = &plan->sched->shares;
    shares_begin(shares, plan->now_ns);
    for (uint32_t i = 0; i < plan->count; i++) see_one(plan, i);
    shares_seen(shares, plan->now_ns);
    for (uint32_t i = 0; i < shares->flows; i++)
        if (shares->flow[i].first == SHARES_NONE) shares->flow[i].served_ns = plan->now_ns;
}

/* ---- time ------------------------------------------------------------------------------------- */

/* In time, and clearly so in work: among those whose work is always left over virtual time alone
 * decides. */
static bool is_behind(const struct plan *plan, const struct share_tenant *tenant)
{
    const struct shares *shares = &plan->sched->shares;
    return shares_here(shares, tenant) && tenant->behind_ns > 0 && shares_owed(shares, tenant) &&
           (tenant->running || tenant->ready);
}

/* Whether all that decode may, and each that is behind still catches up. */
static bool decodes_fit(const struct plan *plan, uint32_t decodes)
{
    const struct shares *shares = &plan->sched->shares;
    const struct pace *pace = &plan->sched->pace;
    double step = pace_ns(pace, 0, decodes), beside = 0;
    for (uint32_t i = 0; i < shares->tenants; i++)
        if (shares_here(shares, &shares->tenant[i])) beside += shares->tenant[i].beside_ns;
    step += beside;
    for (uint32_t i = 0; i < shares->tenants; i++) {
        const struct share_tenant *t = &shares->tenant[i];
        if (!is_behind(plan, t)) continue;
        if (!t->decodes && beside > BESIDE * (double)plan->sched->limits.shared_ns) return false;
        if (!t->decodes) continue;
        double own = pace_ns(pace, 0, t->decodes) + t->beside_ns;
        if (shares_part(shares, t) * step > CATCH_UP * own) return false;
    }
    return true;
}

/* Marks who sits out. False: nobody. `decodes_too`: also those of theirs that decode. */
static bool sit_out(struct plan *plan, bool *decodes_too)
{
    struct shares *shares = &plan->sched->shares;
    uint32_t decodes = 0, behind = 0, others = 0;
    for (uint32_t i = 0; i < shares->tenants; i++) {
        struct share_tenant *t = &shares->tenant[i];
        if (!shares_here(shares, t)) continue;
        bool is = is_behind(plan, t);
        behind += is;
        others += !is;
        decodes += t->decodes;
    }
    if (!behind || !others || !plan->sched->limits.shared_ns) return false;
    for (uint32_t i = 0; i < shares->tenants; i++) {
        struct share_tenant *t = &shares->tenant[i];
        t->sits_out = shares_here(shares, t) && !is_behind(plan, t);
    }
    *decodes_too = !decodes_fit(plan, decodes);
    return true;
}

/* What each received of the step, and what it was owed. */
static void settle_time(struct plan *plan, bool some_sat_out)
{
    struct sched *sched = plan->sched;
    struct shares *shares = &sched->shares;
    uint32_t prompt = 0, drawn = 0;
    double most = (double)sched->limits.shared_ns;
    for (uint32_t i = 0; i < shares->tenants; i++) {
        prompt += shares->tenant[i].prompt;
        drawn += shares->tenant[i].drawn;
    }
    double step = pace_ns(&sched->pace, prompt, drawn);
    for (uint32_t i = 0; i < shares->tenants; i++) {
        struct share_tenant *t = &shares->tenant[i];
        if (!shares_here(shares, t)) continue;
        t->prompt_tokens += t->prompt;
        t->output_tokens += t->drawn;
        bool waits = !t->prompt && !t->drawn && !t->sits_out;  // for room, not for time
        t->behind_ns += shares_part(shares, t) * step - pace_ns(&sched->pace, t->prompt, t->drawn);
        if (waits && t->behind_ns > 0) t->behind_ns = 0;
        double ahead = (1 - shares_part(shares, t)) * most;  // of one whole shared step
        if (some_sat_out && !t->sits_out) ahead = 0;         // it caught up, no more
        if (t->behind_ns < -ahead) t->behind_ns = -ahead;
        if (t->behind_ns > BEHIND_MOST * most) t->behind_ns = BEHIND_MOST * most;
    }
}

/* ---- counts and charges ----------------------------------------------------------------------- */

static void add_tokens(struct plan *plan, struct sched_seq *seq, uint32_t tokens, bool drawn)
{
    struct share_tenant *t = tenant_of(plan, seq);
    uint32_t weight = plan->sched->limits.decode_weight;
    seq->count += tokens;
    plan->budget -= tokens;
    seq->drawn = drawn;
    *(drawn ? &t->drawn : &t->prompt) += tokens;
    shares_charge(&plan->sched->shares, seq->flow,
                  (int64_t)tokens * (drawn && weight ? weight : 1));
}

static void take_back(struct plan *plan, struct sched_seq *seq)
{
    struct share_tenant *t = tenant_of(plan, seq);
    uint32_t weight = plan->sched->limits.decode_weight;
    *(seq->drawn ? &t->drawn : &t->prompt) -= seq->count;
    shares_charge(&plan->sched->shares, seq->flow,
                  -(int64_t)seq->count * (seq->drawn && weight ? weight : 1));
    plan->budget += seq->count;
    seq->count = 0;
}

/* ---- preemption ------------------------------------------------------------------------------- */

static void preempt(struct plan *plan, struct sched_seq *seq, enum sched_why why)
{
    if (seq->running) {
        struct share_tenant *t = tenant_of(plan, seq);
        take_back(plan, seq);
        plan->running--;
        plan->reserved -= growth(seq);
        flow_of(plan, seq)->running--;
        t->running--;
        t->blocks -= seq->blocks;
    }
    plan->free += seq->blocks + seq->more_blocks;
    seq->more_blocks = 0;
    seq->preempt = why;
}

static bool is_spared(const struct sched_seq *seq)
{
    return seq->preempted >= SPARED && seq->steps < FORGOTTEN;
}

/* a gives its blocks back sooner than b, which came before it. */
static bool ranks_behind(const struct plan *plan, const struct sched_seq *a,
                         const struct sched_seq *b)
{
    if (a->running != b->running) return b->running;
    bool spared_a = is_spared(a), spared_b = is_spared(b);
    if (spared_a != spared_b) return spared_b;
    if (spared_a) return true;
    const struct share_tenant *ta = tenant_of(plan, a), *tb = tenant_of(plan, b);
    uint64_t holds_a = (uint64_t)ta->blocks * tb->weight;
    uint64_t holds_b = (uint64_t)tb->blocks * ta->weight;
    if (ta != tb && holds_a != holds_b) return holds_a > holds_b;
    if (ta == tb && a->priority != b->priority) return a->priority > b->priority;
    return true;
}

/* Who gives its blocks back next, among those that hold some; waiting ones only, if so asked. */
static struct sched_seq *last_in_rank(struct plan *plan, const struct sched_seq *but,
                                      bool waiting_only)
{
    struct sched_seq *last = NULL;
    for (uint32_t i = 0; i < plan->count; i++) {
        struct sched_seq *seq = &plan->seq[i];
        bool holds = seq->running || seq->blocks;
        if (!holds || seq->loading || seq->preempt || seq == but) continue;
        if ((waiting_only && seq->running) || (!seq->running && seq->count)) continue;
        if (!last || ranks_behind(plan, seq, last)) last = seq;
    }
    return last;
}

/* Blocks for every token of a running one. False: it is itself the last and gives its own back. */
static bool make_room(struct plan *plan, struct sched_seq *seq)
{
    uint32_t want = blocks_wanted(seq);
    while (want > plan->free) {
        struct sched_seq *last = last_in_rank(plan, NULL, false);
        must(last);                     // it holds some itself
        plan->closed |= last->running;  // what there is is not enough for those that run
        preempt(plan, last, SCHED_BLOCKS);
        if (last == seq) return false;
    }
    plan->free -= want;
    seq->more_blocks = want;
    return true;
}

/* a, running, gives way to the waiting one, by the first rule that fits. */
static bool gives_way(const struct plan *plan, const struct sched_seq *a,
                      const struct sched_seq *waiting)
{
    const struct shares *shares = &plan->sched->shares;
    const struct share_tenant *ta = tenant_of(plan, a), *tw = tenant_of(plan, waiting);
    if (a->loading || a->preempt || is_spared(a) || a->steps < SETTLED) return false;
    if (ta != tw) {
        double most = plan->sched->limits.most_seqs;
        return ta->running > shares_part_held(shares, ta) * most && ta->running > 1 &&
               tw->running + 1 <= shares_part_held(shares, tw) * most + 0.5;
    }
    if (a->priority != waiting->priority) return a->priority > waiting->priority;
    return flow_of(plan, waiting)->running == 0 && flow_of(plan, a)->running > 1;
}

static double load_of(const struct plan *plan, const struct sched_seq *seq)
{
    const struct share_tenant *t = tenant_of(plan, seq);
    return (double)t->running / t->weight;
}

/* Who gives up its place for the waiting one; NULL: nobody must. */
static struct sched_seq *who_gives_way(struct plan *plan, const struct sched_seq *waiting)
{
    struct sched_seq *found = NULL;
    for (uint32_t i = 0; i < plan->count; i++) {
        struct sched_seq *seq = &plan->seq[i];
        if (!stays(seq) || !gives_way(plan, seq, waiting)) continue;
        if (found && load_of(plan, seq) < load_of(plan, found)) continue;
        bool same = found && tenant_of(plan, seq) == tenant_of(plan, found);
        if (same && seq->priority < found->priority) continue;
        found = seq;
    }
    return found;
}

/* ---- decodes ---------------------------------------------------------------------------------- */

static void plan_decodes(struct plan *plan, bool sit_out)
{
    for (uint32_t i = 0; i < plan->count; i++) {
        struct sched_seq *seq = &plan->seq[i];
        if (!stays(seq) || left_of(seq) != 1) continue;
        if (sit_out && tenant_of(plan, seq)->sits_out) continue;
        if (make_room(plan, seq)) add_tokens(plan, seq, 1, true);
    }
    for (uint32_t i = 0; i < plan->count; i++) {
        struct sched_seq *seq = &plan->seq[i];
        uint32_t left = left_of(seq);
        if (!stays(seq) || left < 2 || left > SHORT || tenant_of(plan, seq)->sits_out) continue;
        if (plan->budget < left) continue;
        if (make_room(plan, seq)) add_tokens(plan, seq, left, false);
    }
}

/* ---- prompts ---------------------------------------------------------------------------------- */

static bool has_work(const struct plan *plan, const struct share_flow *flow)
{
    const struct shares *shares = &plan->sched->shares;
    return flow->first != SHARES_NONE && !shares->tenant[flow->tenant].sits_out;
}

/* a goes before b; each has work. */
static bool goes_before(const struct plan *plan, const struct share_flow *a,
                        const struct share_flow *b)
{
    const struct share_tenant *ta = &plan->sched->shares.tenant[a->tenant];
    const struct share_tenant *tb = &plan->sched->shares.tenant[b->tenant];
    uint64_t load_a = (uint64_t)ta->running * tb->weight;
    uint64_t load_b = (uint64_t)tb->running * ta->weight;
    if (ta != tb && ta->time != tb->time) return ta->time < tb->time;
    if (ta != tb && load_a != load_b) return load_a < load_b;
    if (ta != tb) return a->first < b->first;
    int64_t class_a = shares_class(a, plan->now_ns), class_b = shares_class(b, plan->now_ns);
    if (class_a != class_b) return class_a < class_b;
    return a->time != b->time ? a->time < b->time : a->first < b->first;
}

static struct share_flow *next_flow(const struct plan *plan)
{
    struct shares *shares = &plan->sched->shares;
    struct share_flow *best = NULL;
    for (uint32_t i = 0; i < shares->flows; i++) {
        struct share_flow *flow = &shares->flow[i];
        if (has_work(plan, flow) && (!best || goes_before(plan, flow, best))) best = flow;
    }
    return best;
}

static void drop_first(const struct plan *plan, struct share_flow *flow)
{
    flow->first = plan->seq[flow->first].next;
}

/* Those that are not to be admitted yet stand in nobody's way, and there may be thousands. */
static void drop_not_yet(const struct plan *plan)
{
    const struct shares *shares = &plan->sched->shares;
    for (uint32_t i = 0; i < shares->flows; i++)
        for (uint32_t *at = &shares->flow[i].first; *at != SHARES_NONE;) {
            struct sched_seq *seq = &plan->seq[*at];
            if (seq->not_yet) *at = seq->next;
            else at = &seq->next;
        }
}

/* Tokens up to the next multiple of 128, or to the end; 0: they do not fit. */
static uint32_t quantum(const struct sched_seq *seq, uint32_t budget)
{
    uint32_t at = seq->computed + seq->count;
    uint32_t end = (at / KV_BLOCK_TOKENS + 1) * KV_BLOCK_TOKENS;
    if (end > seq->tokens) end = seq->tokens;
    return end - at <= budget ? end - at : 0;
}

/* What is left belongs to other tenants at work that have less than theirs: as much as they wait for, and a
 * little for who does not wait just now, an eighth of all for these together. */
struct spare {
    double places, blocks;
};

static struct spare spare_for_others(const struct plan *plan, const struct share_tenant *tenant)
{
    const struct shares *shares = &plan->sched->shares;
    double most = plan->sched->limits.most_seqs, places = 0, blocks = 0;
    struct spare spare = { 0 };
    for (uint32_t i = 0; i < shares->tenants; i++) {
        const struct share_tenant *t = &shares->tenant[i];
        double part = shares_part_held(shares, t);
        if (t == tenant || !shares_at_work(t, plan->now_ns)) continue;
        if (t->blocks < part * plan->blocks) blocks += t->usual_blocks;
        if (t->running >= part * most) continue;
        double more = part * most - t->running;
        if (t->waiting) spare.places += t->waiting < more ? t->waiting : more;
        else places++;
    }
    double eighth = most < 8 ? 1 : most / 8;
    spare.places += places < eighth ? places : eighth;
    spare.blocks = blocks < plan->blocks / 8.0 ? blocks : plan->blocks / 8.0;
    return spare;
}

static bool places_are_others(const struct plan *plan, const struct share_tenant *tenant)
{
    double most = plan->sched->limits.most_seqs;
    if (tenant->running < shares_part_held(&plan->sched->shares, tenant) * most) return false;
    double spare = spare_for_others(plan, tenant).places;
    return spare > 0 && plan->running + spare > most - 0.5;
}

/* A place, from whom it belongs to less, if need be. */
static bool make_place(struct plan *plan, const struct sched_seq *seq)
{
    if (plan->running < plan->sched->limits.most_seqs) return true;
    struct sched_seq *gives = who_gives_way(plan, seq);
    if (!gives) return false;
    preempt(plan, gives, SCHED_PLACE);
    return true;
}

/* Blocks that it wants to be free before it is admitted. Where nothing runs nothing can get in its
 * way. */
static uint64_t wanted_free(const struct plan *plan, const struct sched_seq *seq)
{
    const struct share_tenant *tenant = tenant_of(plan, seq);
    uint64_t want = blocks_wanted(seq);
    double part = shares_part_held(&plan->sched->shares, tenant);
    if (!plan->running) return want;
    if (tenant->blocks + want > part * plan->blocks)
        want += (uint64_t)spare_for_others(plan, tenant).blocks;
    return want + growth(seq) + plan->reserved;
}

/* What those have that would give way to it, if there were no end to that. */
static uint64_t could_be_free(const struct plan *plan, const struct sched_seq *waiting)
{
    uint64_t blocks = plan->free;
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct sched_seq *seq = &plan->seq[i];
        if (stays(seq) && gives_way(plan, seq, waiting)) blocks += seq->blocks + growth(seq);
    }
    return blocks;
}

/* Blocks for a waiting one, first from others that wait, then, for a tenant without any, from those
 * that give way. */
static bool make_blocks(struct plan *plan, struct sched_seq *seq)
{
    struct sched_seq *gives;
    while (wanted_free(plan, seq) > plan->free && (gives = last_in_rank(plan, seq, true)))
        preempt(plan, gives, SCHED_BLOCKS);
    if (wanted_free(plan, seq) <= plan->free) return true;
    if (tenant_of(plan, seq)->running || could_be_free(plan, seq) < wanted_free(plan, seq))
        return false;
    while (wanted_free(plan, seq) > plan->free && (gives = who_gives_way(plan, seq)))
        preempt(plan, gives, SCHED_PLACE);
    return wanted_free(plan, seq) <= plan->free;
}

static bool admit(struct plan *plan, struct sched_seq *seq)
{
    if (plan->closed || seq->preempt || !make_place(plan, seq) || !make_blocks(plan, seq)) {
        plan->closed = true;
        return false;
    }
    struct share_tenant *tenant = tenant_of(plan, seq);
    uint32_t want = blocks_wanted(seq), whole = seq->blocks + want + growth(seq);
    plan->free -= want;
    seq->more_blocks = want;
    tenant->usual_blocks += (whole - tenant->usual_blocks) * (tenant->usual_blocks > 0 ? USUAL : 1);
    plan->running++;
    plan->reserved += growth(seq);
    flow_of(plan, seq)->running++;
    tenant->running++;
    return true;
}

/* The next tokens of the flow's first sequence, which may have to be admitted for them. */
static void prompt_turn(struct plan *plan, struct share_flow *flow, uint32_t *budget)
{
    struct sched_seq *seq = &plan->seq[flow->first];
    uint32_t tokens = quantum(seq, *budget);
    bool gone = seq->running && seq->preempt, in = seq->running || seq->count;
    if (gone || (!in && places_are_others(plan, tenant_of(plan, seq)))) tokens = 0;
    else if (!tokens && !in) plan->closed = true;  // it is not overtaken
    bool ready = tokens && (seq->count || (seq->running ? make_room(plan, seq) : admit(plan, seq)));
    if (ready) {
        add_tokens(plan, seq, tokens, false);
        *budget -= tokens;
        flow->served_ns = plan->now_ns;
    }
    if (!ready || seq->computed + seq->count == seq->tokens) drop_first(plan, flow);
}

/* Prompt tokens that the step may have. The first prompt in line may make it twice as long where that
 * ends it and others sit out for it. */
static uint32_t prompt_budget(const struct plan *plan, bool some_sit_out)
{
    const struct sched *sched = plan->sched;
    double most_ns = (double)sched->limits.shared_ns;
    if (!sched->limits.shared_ns || !sched_shared(sched)) return plan->budget;
    uint32_t fit = pace_tokens(&sched->pace, most_ns);
    const struct share_flow *flow = some_sit_out ? next_flow(plan) : NULL;
    uint32_t left = flow ? left_of(&plan->seq[flow->first]) : 0;
    if (left > fit && left <= pace_tokens(&sched->pace, 2 * most_ns)) fit = left;
    if (!fit) fit = FIRST_CHUNK;
    return fit < plan->budget ? fit : plan->budget;
}

/* Nobody else is admitted: only those that run are left in the flows. */
static void drop_waiting(const struct plan *plan)
{
    const struct shares *shares = &plan->sched->shares;
    for (uint32_t i = 0; i < shares->flows; i++) {
        struct share_flow *flow = &shares->flow[i];
        while (flow->first != SHARES_NONE && !plan->seq[flow->first].running &&
               !plan->seq[flow->first].count)
            drop_first(plan, flow);
    }
}

static void plan_prompts(struct plan *plan, uint32_t budget)
{
    struct share_flow *flow;
    while (budget) {
        if (plan->closed) drop_waiting(plan);
        if (!(flow = next_flow(plan))) return;
        prompt_turn(plan, flow, &budget);
    }
}

/* ---- virtual time ----------------------------------------------------------------------------- */

static void settle_shares(struct plan *plan)
{
    struct shares *shares = &plan->sched->shares;
    bool backlog[shares->tenants + 1];
    for (uint32_t i = 0; i < shares->tenants; i++) backlog[i] = false;
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct sched_seq *seq = &plan->seq[i];
        if (!seq->loading && seq->count < left_of(seq)) backlog[flow_of(plan, seq)->tenant] = true;
    }
    shares_settle(shares, backlog);
}

/* ---- the plan --------------------------------------------------------------------------------- */

void sched_init(struct sched *sched, const struct sched_limits *limits)
{
    uint32_t lead = limits->step_tokens;
    *sched = (struct sched){ .limits = *limits };
    sched->shares.lead = lead > LEAD_LEAST ? lead : LEAD_LEAST;
}

void sched_release(struct sched *sched)
{
    shares_release(&sched->shares);
}

enum status sched_room(struct sched *sched, uint32_t seqs)
{
    return shares_room(&sched->shares, seqs);
}

void sched_charge(struct sched *sched, const struct share_key *key, double ns, double lost_ns)
{
    const struct sched_limits *limits = &sched->limits;
    double unit_ns = pace_unit_ns(&sched->pace, limits->step_tokens, limits->decode_weight);
    double units = unit_ns > 0 ? ns / unit_ns : 0;
    shares_charge_beside(&sched->shares, key, units, lost_ns);
}

void sched_lose(struct sched *sched, double lost_ns)
{
    if (lost_ns > 0) shares_lose(&sched->shares, lost_ns);
}

bool sched_shared(const struct sched *sched)
{
    return sched->shares.at_work > 1 && sched->shares.owed > 0;
}

void sched_plan(struct sched *sched, struct sched_seq *seq, uint32_t count, uint32_t free_blocks,
                uint64_t now_ns)
{
    struct plan plan = { .sched = sched,
                         .seq = seq,
                         .count = count,
                         .now_ns = now_ns,
                         .free = free_blocks,
                         .blocks = free_blocks,
                         .budget = sched->limits.step_tokens };
    must(plan.budget >= sched->limits.most_seqs + KV_BLOCK_TOKENS);
    see(&plan);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t want = seq[i].loading ? blocks_wanted(&seq[i]) : 0;
        plan.blocks += seq[i].blocks;
        plan.free -= want < plan.free ? want : plan.free;
    }
    bool decodes_too = false, some = sit_out(&plan, &decodes_too);
    plan_decodes(&plan, decodes_too);
    drop_not_yet(&plan);
    plan_prompts(&plan, prompt_budget(&plan, some));
    settle_time(&plan, some);
    settle_shares(&plan);
}

/* Virtual times as they would run if all went first to last are copied aside and put back. */
uint32_t sched_next(struct sched *sched, struct sched_seq *seq, uint32_t count, uint64_t now_ns,
                    uint32_t *index, uint32_t room)
{
    struct plan plan = { .sched = sched, .seq = seq, .count = count, .now_ns = now_ns };
    struct share_flow *flow;
    uint32_t found = 0;
    see(&plan);
    while (found < room && (flow = next_flow(&plan))) {
        struct sched_seq *first = &seq[flow->first];
        if (!first->running && !first->loading) {
            index[found++] = flow->first;
            shares_charge(&sched->shares, first->flow, left_of(first));
        }
        drop_first(&plan, flow);
    }
    for (uint32_t i = 0; i < found; i++)
        shares_charge(&sched->shares, seq[index[i]].flow, -(int64_t)left_of(&seq[index[i]]));
    return found;
}
