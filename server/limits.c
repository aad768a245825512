/* limits.c - buckets as one number each, places counted, and two lists of those that wait.
 *
 * A bucket is the time at which it would be full again: what is taken from it moves that time away by
 * what it costs, a minute divided by the limit for each. So nothing has to be filled as time passes, and
 * the wait that a client is told is a subtraction.
 */
#include "server/limits.h"
#include "config/clock.h"
#include "config/hash.h"
#include "config/metrics.h"

#define MINUTE_NS (60 * NS_PER_S)
#define WAIT_UNKNOWN_NS NS_PER_S  // until the first request of a tenant has ended
#define WAIT_LEAST_NS (100 * (uint64_t)NS_PER_MS)
#define WAIT_MOST_NS (60 * NS_PER_S)

/* A tenant or a user. */
struct limits_party {
    struct access_limits limits;
    struct access_limits of_users;                    // tenants: what its users have
    uint64_t requests_full, input_full, output_full;  // ns: when each bucket is full again
    uint32_t open, running;                           // claims not ended, and those in the engine
    uint64_t spent;                                   // tokens; tenants
    uint64_t body_bytes;                              // tenants
    uint64_t last_end_ns, end_gap_ns;   // how often one of its requests ends; 0: unknown
    struct limits_claim *first, *last;  // tenants: those that WAIT
    uint32_t waiting;                   // of them
    /* Users. */
    uint64_t hash;
    uint32_t tenant;                     // index; of tenants too
    uint32_t held;                       // claims not given back; 0: idle
    struct limits_party *chain;          // of one hash bucket
    struct limits_party *older, *newer;  // idle ones, by when they were used last
};

struct limits {
    struct limits_party *tenant[ACCESS_TENANTS_MOST];  // by index; NULL: never seen
    uint64_t bodies_most;
    struct limits_claim *ready_first, *ready_last;
    struct limits_party *user;   // [users_most]
    struct limits_party **hash;  // [hash_mask + 1]
    uint32_t users, users_most, hash_mask;
    struct limits_party *idle_oldest, *idle_newest;
};

/* ---- buckets ---- */

static uint64_t cost_of(uint64_t count, uint64_t limit)
{
    if (!limit) return 0;
    unsigned __int128 cost = (unsigned __int128)count * MINUTE_NS / limit;
    return cost > UINT64_MAX / 4 ? UINT64_MAX / 4 : (uint64_t)cost;
}

static uint64_t used_ns(uint64_t full_at, uint64_t now_ns)
{
    return full_at > now_ns ? full_at - now_ns : 0;
}

/* 0: it may be taken now. */
static uint64_t wait_of(uint64_t full_at, uint64_t cost, uint64_t now_ns)
{
    uint64_t used = used_ns(full_at, now_ns);

    if (used == 0) return 0;
    if (cost >= MINUTE_NS) return used;  // more than the bucket: when it is full
    return used + cost > MINUTE_NS ? used + cost - MINUTE_NS : 0;
}

static void take(uint64_t *full_at, uint64_t cost, uint64_t now_ns)
{
    if (*full_at < now_ns) *full_at = now_ns;
    *full_at += cost;
}

static void give(uint64_t *full_at, uint64_t cost)
{
    *full_at -= cost < *full_at ? cost : *full_at;
}

/* What was taken stays taken, as part of another number. */
static void rescale(uint64_t *full_at, uint64_t before, uint64_t limit, uint64_t now_ns)
{
    uint64_t used = used_ns(*full_at, now_ns);

    if (before == limit || !before || !limit || !used) return;
    unsigned __int128 scaled = (unsigned __int128)used * before / limit;
    *full_at = now_ns + (scaled < UINT64_MAX / 4 ? (uint64_t)scaled : UINT64_MAX / 4);
}

/* Those of a newer table. */
static void set_limits(struct limits_party *party, const struct access_limits *limits,
                       uint64_t now_ns)
{
    const struct access_limits *before = &party->limits;

    rescale(&party->requests_full, before->requests_per_minute, limits->requests_per_minute,
            now_ns);
    rescale(&party->input_full, before->input_tokens_per_minute, limits->input_tokens_per_minute,
            now_ns);
    rescale(&party->output_full, before->output_tokens_per_minute, limits->output_tokens_per_minute,
            now_ns);
    party->limits = *limits;
}

/* Of a claim, by the limit of now; nothing was taken for it where there was none. */
static uint64_t cost_now(uint64_t taken_ns, uint64_t count, uint64_t limit)
{
    return taken_ns ? cost_of(count, limit) : 0;
}

/* While there is no debt, an answer may begin. */
static uint64_t debt_wait(uint64_t full_at, uint64_t limit, uint64_t now_ns)
{
    return limit ? wait_of(full_at, cost_of(1, limit), now_ns) : 0;
}

/* ---- what is asked of a party ---- */

static uint64_t place_wait(const struct limits_party *party)
{
    uint64_t wait = party->end_gap_ns ? party->end_gap_ns : WAIT_UNKNOWN_NS;

    if (wait < WAIT_LEAST_NS) return WAIT_LEAST_NS;
    return wait < WAIT_MOST_NS ? wait : WAIT_MOST_NS;
}

/* Those that run and those that wait are limited together: a request waits for its turn only in a queue
 * that has room. A queue alone is limited by those that wait. */
static bool has_place(const struct limits_party *party)
{
    const struct access_limits *limits = &party->limits;

    if (limits->running) return party->open < limits->running + limits->queued;
    return !limits->queued || party->open - party->running < limits->queued;
}

static enum status refuse(struct limits_refusal *refusal, struct limits_refusal why)
{
    *refusal = why;
    return BUSY;
}

/* One more request of it: rate, place and debt. */
static enum status check_request(const struct limits_party *party, bool of_user, uint64_t now_ns,
                                 struct limits_refusal *refusal)
{
    const struct access_limits *limits = &party->limits;
    uint64_t wait = wait_of(party->requests_full, cost_of(1, limits->requests_per_minute), now_ns);

    if (limits->requests_per_minute && wait)
        return refuse(refusal, (struct limits_refusal){ .cause = LIMITS_REQUESTS,
                                                        .of_user = of_user,
                                                        .limit = limits->requests_per_minute,
                                                        .wait_ns = wait });
    if (!has_place(party))
        return refuse(refusal, (struct limits_refusal){ .cause = LIMITS_PLACES,
                                                        .of_user = of_user,
                                                        .limit = limits->running ? limits->running
                                                                                 : limits->queued,
                                                        .wait_ns = place_wait(party) });
    wait = debt_wait(party->output_full, limits->output_tokens_per_minute, now_ns);
    if (wait)
        return refuse(refusal, (struct limits_refusal){ .cause = LIMITS_OUTPUT,
                                                        .of_user = of_user,
                                                        .limit = limits->output_tokens_per_minute,
                                                        .wait_ns = wait });
    return OK;
}

static enum status check_input(const struct limits_party *party, bool of_user, uint64_t tokens,
                               uint64_t now_ns, struct limits_refusal *refusal)
{
    uint64_t limit = party->limits.input_tokens_per_minute;
    uint64_t wait = limit ? wait_of(party->input_full, cost_of(tokens, limit), now_ns) : 0;

    if (!wait) return OK;
    return refuse(refusal,
                  (struct limits_refusal){
                      .cause = LIMITS_INPUT, .of_user = of_user, .limit = limit, .wait_ns = wait });
}

static enum status check_budget(const struct limits_party *party, uint64_t tokens,
                                struct limits_refusal *refusal)
{
    uint64_t budget = party->limits.budget_tokens;
    uint64_t left = budget > party->spent ? budget - party->spent : 0;

    if (!budget || tokens <= left) return OK;
    return refuse(refusal,
                  (struct limits_refusal){ .cause = LIMITS_BUDGET, .limit = budget, .left = left });
}

/* ---- users ---- */

static bool has_limits(const struct access_limits *limits)
{
    return limits->running || limits->queued || limits->requests_per_minute ||
           limits->input_tokens_per_minute || limits->output_tokens_per_minute;
}

static struct limits_party **chain_of(struct limits *limits, uint32_t tenant, uint64_t hash)
{
    return &limits->hash[hash64(&hash, sizeof hash, tenant) & limits->hash_mask];
}

static void idle_remove(struct limits *limits, struct limits_party *user)
{
    if (user->older) user->older->newer = user->newer;
    else limits->idle_oldest = user->newer;
    if (user->newer) user->newer->older = user->older;
    else limits->idle_newest = user->older;
    user->older = user->newer = NULL;
}

static void idle_append(struct limits *limits, struct limits_party *user)
{
    user->older = limits->idle_newest;
    user->newer = NULL;
    if (user->older) user->older->newer = user;
    else limits->idle_oldest = user;
    limits->idle_newest = user;
}

static void forget_user(struct limits *limits, struct limits_party *user)
{
    struct limits_party **link = chain_of(limits, user->tenant, user->hash);

    while (*link != user) link = &(*link)->chain;
    *link = user->chain;
    idle_remove(limits, user);
}

/* Idle until somebody opens a claim on it. NULL: the table is full of busy ones. */
static struct limits_party *find_user(struct limits *limits, const struct limits_party *tenant,
                                      uint64_t hash, uint64_t now_ns)
{
    uint32_t index = tenant->tenant;

    struct limits_party **chain = chain_of(limits, index, hash), *user = *chain;

    while (user && (user->hash != hash || user->tenant != index)) user = user->chain;
    if (!user) {
        if (limits->users < limits->users_most) user = &limits->user[limits->users++];
        else if ((user = limits->idle_oldest)) forget_user(limits, user);
        else return NULL;
        *user = (struct limits_party){ .hash = hash, .tenant = index, .chain = *chain };
        *chain = user;
        idle_append(limits, user);
        metric_set(METRIC_limit_users, limits->users);
    }
    set_limits(user, &tenant->of_users, now_ns);
    return user;
}

/* ---- tenants ---- */

/* Its limits are those of the newest table that anybody came by. NULL: no memory. */
static struct limits_party *find_tenant(struct limits *limits, const struct tenant *tenant,
                                        uint64_t now_ns)
{
    struct limits_party **slot = &limits->tenant[tenant->index];

    if (!*slot && !(*slot = calloc(1, sizeof **slot))) return NULL;
    set_limits(*slot, &tenant->limits, now_ns);
    (*slot)->of_users = tenant->user_limits;
    (*slot)->tenant = tenant->index;
    return *slot;
}

/* ---- waiting ---- */

static bool may_run(const struct limits_claim *claim)
{
    const struct limits_party *tenant = claim->tenant, *user = claim->user;

    if (tenant->limits.running && tenant->running >= tenant->limits.running) return false;
    return !user || !user->limits.running || user->running < user->limits.running;
}

static void start(struct limits_claim *claim, enum limits_stage stage)
{
    claim->stage = stage;
    claim->tenant->running++;
    if (claim->user) claim->user->running++;
}

static void unlink_claim(struct limits_claim **first, struct limits_claim **last,
                         struct limits_claim *claim)
{
    if (claim->prev) claim->prev->next = claim->next;
    else *first = claim->next;
    if (claim->next) claim->next->prev = claim->prev;
    else *last = claim->prev;
    claim->prev = claim->next = NULL;
}

static void append_claim(struct limits_claim **first, struct limits_claim **last,
                         struct limits_claim *claim)
{
    claim->prev = *last;
    claim->next = NULL;
    if (*last) (*last)->next = claim;
    else *first = claim;
    *last = claim;
}

/* In the order in which they came, but nobody waits for another user's limit. */
static void wake_waiting(struct limits *limits, struct limits_party *tenant)
{
    struct limits_claim *claim = tenant->first;

    while (claim) {
        struct limits_claim *next = claim->next;
        if (tenant->limits.running && tenant->running >= tenant->limits.running) return;
        if (may_run(claim)) {
            unlink_claim(&tenant->first, &tenant->last, claim);
            tenant->waiting--;
            start(claim, CLAIM_READY);
            append_claim(&limits->ready_first, &limits->ready_last, claim);
        }
        claim = next;
    }
}

/* ---- a claim ---- */

static void hold_user(struct limits *limits, struct limits_party *user)
{
    if (user->held++ == 0) idle_remove(limits, user);
    user->open++;
}

static void drop_user(struct limits *limits, struct limits_party *user)
{
    must(user->held > user->open);
    if (--user->held == 0) idle_append(limits, user);
}

static void close_place(struct limits_party *party, uint64_t now_ns)
{
    must(party->open > 0);
    party->open--;
    uint64_t gap = now_ns - party->last_end_ns;
    if (party->last_end_ns)
        party->end_gap_ns = party->end_gap_ns ? (3 * party->end_gap_ns + gap) / 4 : gap;
    party->last_end_ns = now_ns;
}

enum status limits_take(struct limits *limits, const struct caller *caller, uint64_t now_ns,
                        struct limits_claim *claim, struct limits_refusal *refusal)
{
    struct limits_party *tenant = find_tenant(limits, caller->tenant, now_ns);

    must(claim->stage == CLAIM_NONE);
    if (!tenant)
        return refuse(
            refusal, (struct limits_refusal){ .cause = LIMITS_MEMORY, .wait_ns = WAIT_UNKNOWN_NS });
    wake_waiting(limits, tenant);  // the table may be a new one
    enum status status = check_budget(tenant, 1, refusal);
    if (status == OK) status = check_request(tenant, false, now_ns, refusal);
    if (status != OK) return status;
    *claim = (struct limits_claim){ .stage = CLAIM_TAKEN, .limits = limits, .tenant = tenant };
    claim->bodies_counted = caller->key != NULL;
    claim->requests_cost_ns = cost_of(1, tenant->limits.requests_per_minute);
    take(&tenant->requests_full, claim->requests_cost_ns, now_ns);
    tenant->open++;
    return OK;
}

enum status limits_body(struct limits_claim *claim, uint64_t bytes, struct limits_refusal *refusal)
{
    if (claim->stage == CLAIM_NONE) return OK;
    struct limits_party *tenant = claim->tenant;
    uint64_t most = claim->bodies_counted ? claim->limits->bodies_most : 0;

    if (most && bytes > most - (tenant->body_bytes < most ? tenant->body_bytes : most))
        return refuse(refusal, (struct limits_refusal){ .cause = LIMITS_BODIES,
                                                        .limit = most,
                                                        .wait_ns = WAIT_UNKNOWN_NS });
    tenant->body_bytes += bytes;
    claim->body_bytes += bytes;
    return OK;
}

void limits_body_give(struct limits_claim *claim)
{
    if (claim->stage == CLAIM_NONE) return;
    must(claim->tenant->body_bytes >= claim->body_bytes);
    claim->tenant->body_bytes -= claim->body_bytes;
    claim->body_bytes = 0;
}

static enum status check_user(const struct limits_party *user, uint64_t tokens, uint64_t now_ns,
                              struct limits_refusal *refusal)
{
    enum status status = check_request(user, true, now_ns, refusal);

    return status == OK ? check_input(user, true, tokens, now_ns, refusal) : status;
}

enum status limits_admit(struct limits_claim *claim, uint64_t user_hash, uint64_t input_tokens,
                         uint64_t now_ns, struct limits_refusal *refusal)
{
    if (claim->stage == CLAIM_NONE) return OK;
    struct limits *limits = claim->limits;
    struct limits_party *tenant = claim->tenant, *user = NULL;

    must(claim->stage == CLAIM_TAKEN && !claim->user && !claim->input_tokens);
    enum status status = check_budget(tenant, input_tokens, refusal);
    if (status == OK) status = check_input(tenant, false, input_tokens, now_ns, refusal);
    if (status != OK) return status;
    if (user_hash && has_limits(&tenant->of_users)) {
        user = find_user(limits, tenant, user_hash, now_ns);
        if (!user)
            return refuse(refusal, (struct limits_refusal){ .cause = LIMITS_USERS,
                                                            .limit = limits->users_most,
                                                            .wait_ns = WAIT_UNKNOWN_NS });
        if ((status = check_user(user, input_tokens, now_ns, refusal)) != OK) return status;
    }
    claim->input_tokens = input_tokens;
    claim->input_cost_ns = cost_of(input_tokens, tenant->limits.input_tokens_per_minute);
    take(&tenant->input_full, claim->input_cost_ns, now_ns);
    tenant->spent += input_tokens;
    if (!user) return OK;
    claim->user = user;
    claim->user_requests_cost_ns = cost_of(1, user->limits.requests_per_minute);
    claim->user_input_cost_ns = cost_of(input_tokens, user->limits.input_tokens_per_minute);
    take(&user->requests_full, claim->user_requests_cost_ns, now_ns);
    take(&user->input_full, claim->user_input_cost_ns, now_ns);
    hold_user(limits, user);
    return OK;
}

bool limits_run(struct limits_claim *claim)
{
    if (claim->stage == CLAIM_NONE) return true;
    struct limits_party *tenant = claim->tenant;

    must(claim->stage == CLAIM_TAKEN);
    if (may_run(claim)) {
        start(claim, CLAIM_RUNNING);
        return true;
    }
    claim->stage = CLAIM_WAITING;
    append_claim(&tenant->first, &tenant->last, claim);
    tenant->waiting++;
    return false;
}

struct limits_claim *limits_next(struct limits *limits)
{
    struct limits_claim *claim = limits->ready_first;

    if (!claim) return NULL;
    unlink_claim(&limits->ready_first, &limits->ready_last, claim);
    claim->stage = CLAIM_RUNNING;
    return claim;
}

void limits_output(struct limits_claim *claim, uint64_t tokens, uint64_t now_ns)
{
    if (claim->stage == CLAIM_NONE) return;
    struct limits_party *tenant = claim->tenant, *user = claim->user;

    tenant->spent += tokens;
    take(&tenant->output_full, cost_of(tokens, tenant->limits.output_tokens_per_minute), now_ns);
    if (user)
        take(&user->output_full, cost_of(tokens, user->limits.output_tokens_per_minute), now_ns);
}

void limits_end(struct limits_claim *claim, uint64_t now_ns)
{
    struct limits_party *tenant = claim->tenant, *user = claim->user;
    struct limits *limits = claim->limits;

    if (claim->stage == CLAIM_NONE || claim->stage == CLAIM_ENDED) return;
    if (claim->stage == CLAIM_WAITING) {
        unlink_claim(&tenant->first, &tenant->last, claim);
        tenant->waiting--;
    }
    if (claim->stage == CLAIM_READY) unlink_claim(&limits->ready_first, &limits->ready_last, claim);
    if (claim->stage == CLAIM_READY || claim->stage == CLAIM_RUNNING) {
        tenant->running--;
        if (user) user->running--;
    }
    claim->stage = CLAIM_ENDED;
    close_place(tenant, now_ns);
    if (user) close_place(user, now_ns);
    wake_waiting(limits, tenant);
}

void limits_give(struct limits_claim *claim, struct limits_outcome outcome, uint64_t now_ns)
{
    struct limits_party *tenant = claim->tenant, *user = claim->user;

    if (claim->stage == CLAIM_NONE) return;
    limits_end(claim, now_ns);
    limits_body_give(claim);
    const struct access_limits *of = &tenant->limits, *of_user = user ? &user->limits : of;
    uint64_t tokens = claim->input_tokens;
    if (outcome.rejected) {
        give(&tenant->requests_full, cost_now(claim->requests_cost_ns, 1, of->requests_per_minute));
        if (user)
            give(&user->requests_full,
                 cost_now(claim->user_requests_cost_ns, 1, of_user->requests_per_minute));
    }
    if (!outcome.started) {
        give(&tenant->input_full,
             cost_now(claim->input_cost_ns, tokens, of->input_tokens_per_minute));
        if (user)
            give(&user->input_full,
                 cost_now(claim->user_input_cost_ns, tokens, of_user->input_tokens_per_minute));
        must(tenant->spent >= claim->input_tokens);
        tenant->spent -= claim->input_tokens;
    }
    if (user) drop_user(claim->limits, user);
    *claim = (struct limits_claim){ .stage = CLAIM_NONE };
}

/* ---- to be told ---- */

static struct limits_level level_of(uint64_t limit, uint64_t full_at, uint64_t now_ns)
{
    uint64_t used = used_ns(full_at, now_ns), left = used < MINUTE_NS ? MINUTE_NS - used : 0;
    unsigned __int128 remaining = (unsigned __int128)left * limit / MINUTE_NS;

    if (!limit) return (struct limits_level){ 0 };
    return (struct limits_level){ limit, (uint64_t)remaining, used };
}

void limits_show(const struct limits *limits, const struct tenant *tenant, uint64_t now_ns,
                 struct limits_levels *levels)
{
    static const struct limits_party unseen;
    const struct limits_party *seen = limits->tenant[tenant->index];
    const struct limits_party *party = seen ? seen : &unseen;
    const struct access_limits *of = &tenant->limits;

    *levels = (struct limits_levels){
        .requests = level_of(of->requests_per_minute, party->requests_full, now_ns),
        .input = level_of(of->input_tokens_per_minute, party->input_full, now_ns),
        .output = level_of(of->output_tokens_per_minute, party->output_full, now_ns),
        .budget = of->budget_tokens,
        .spent = party->spent,
        .running = party->running,
        .waiting = party->open - party->running,
    };
}

void limits_spend(struct limits *limits, const struct tenant *tenant, uint64_t tokens)
{
    struct limits_party *party = find_tenant(limits, tenant, 0);

    if (party) party->spent += tokens;
}

uint32_t limits_users(const struct limits *limits)
{
    return limits->users;
}

/* ---- open and close ---- */

enum status limits_open(uint32_t users_most, uint64_t bodies_most, struct limits **limits,
                        struct err *err)
{
    struct limits *made = calloc(1, sizeof *made);
    uint32_t chains = 16;

    must(users_most > 0);
    while (chains < users_most) chains *= 2;
    if (made) {
        made->users_most = users_most;
        made->bodies_most = bodies_most;
        made->hash_mask = chains - 1;
        made->user = calloc(users_most, sizeof *made->user);
        made->hash = calloc(chains, sizeof(struct limits_party *));
    }
    if (!made || !made->user || !made->hash) {
        limits_close(made);
        return fail(err, NO_MEMORY, "limits: no memory for %u users", users_most);
    }
    *limits = made;
    return OK;
}

void limits_close(struct limits *limits)
{
    if (!limits) return;
    for (uint32_t i = 0; i < ACCESS_TENANTS_MOST; i++) {
        must(!limits->tenant[i] || limits->tenant[i]->open == 0);
        free(limits->tenant[i]);
    }
    free(limits->user);
    free(limits->hash);
    free(limits);
}
