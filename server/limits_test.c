/* limits_test.c - what is taken is given back, waits are honest, and a long walk agrees with a model that
 * repeats the rules in the open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include "config/clock.h"
#include "server/limits.h"
#include <cmocka.h>  // last: it defines a macro named fail

#define MINUTE (60 * NS_PER_S)
#define START (1000 * NS_PER_S)

static struct tenant tenant_of(uint32_t index, struct access_limits limits)
{
    return (struct tenant){ .name = "t", .index = index, .weight = 1, .limits = limits };
}

static struct limits *open_limits(uint32_t users)
{
    struct limits *limits = NULL;
    struct err err;

    assert_int_equal(limits_open(users, 1000, &limits, &err), OK);
    return limits;
}

static const struct limits_outcome good = { .started = true };
static const struct limits_outcome rejected = { .rejected = true };

/* Takes, admits and runs; the cause, or -1. */
static int begin(struct limits *limits, const struct tenant *tenant, struct limits_claim *claim,
                 uint64_t tokens, uint64_t now)
{
    const struct caller caller = { .tenant = tenant };
    struct limits_refusal refusal;

    *claim = (struct limits_claim){ .stage = CLAIM_NONE };
    if (limits_take(limits, &caller, now, claim, &refusal) != OK) return (int)refusal.cause;
    if (limits_admit(claim, 0, tokens, now, &refusal) != OK) {
        limits_give(claim, rejected, now);
        return (int)refusal.cause;
    }
    assert_true(limits_run(claim));
    return -1;
}

static void a_minute_holds_its_number_and_then_fills_evenly(void **unused)
{
    (void)unused;
    static const uint64_t numbers[] = { 1, 2, 3, 7, 60, 61, 997, 5000 };

    for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++) {
        const struct tenant tenant =
            tenant_of((uint32_t)n, (struct access_limits){ .requests_per_minute = numbers[n] });
        const struct caller caller = { .tenant = &tenant };
        struct limits *limits = open_limits(1);
        struct limits_claim claim = { .stage = CLAIM_NONE };
        struct limits_refusal refusal;

        for (uint64_t i = 0; i < numbers[n]; i++) {
            assert_int_equal(begin(limits, &tenant, &claim, 1, START), -1);
            limits_give(&claim, good, START);
        }
        assert_int_equal(limits_take(limits, &caller, START, &claim, &refusal), BUSY);
        assert_int_equal(refusal.cause, LIMITS_REQUESTS);
        assert_int_equal(refusal.limit, numbers[n]);
        assert_in_range(refusal.wait_ns, MINUTE / numbers[n] - numbers[n], MINUTE / numbers[n]);
        uint64_t then = START + refusal.wait_ns;  // what was told holds, and not a moment less
        assert_int_equal(limits_take(limits, &caller, then - 1, &claim, &refusal), BUSY);
        assert_int_equal(limits_take(limits, &caller, then, &claim, &refusal), OK);
        limits_give(&claim, good, then);
        limits_close(limits);
    }
}

static void what_was_rejected_has_cost_nothing(void **unused)
{
    (void)unused;
    const struct tenant tenant = tenant_of(
        0, (struct access_limits){
               .requests_per_minute = 2, .input_tokens_per_minute = 100, .budget_tokens = 1000 });
    struct limits *limits = open_limits(1);
    struct limits_claim claim;
    struct limits_levels before, after;

    assert_int_equal(begin(limits, &tenant, &claim, 90, START), -1);
    limits_give(&claim, good, START);
    limits_show(limits, &tenant, START, &before);
    assert_int_equal(before.requests.remaining, 1);
    assert_int_equal(before.input.remaining, 10);
    assert_int_equal(before.spent, 90);
    for (int i = 0; i < 10; i++)
        assert_int_equal(begin(limits, &tenant, &claim, 11, START), LIMITS_INPUT);
    for (int i = 0; i < 10; i++) {  // such as a full queue behind it
        assert_int_equal(begin(limits, &tenant, &claim, 5, START), -1);
        limits_give(&claim, rejected, START);
    }
    limits_show(limits, &tenant, START, &after);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(begin(limits, &tenant, &claim, 5, START), -1);
    limits_give(&claim, (struct limits_outcome){ 0 }, START);  // a client that left before it began
    limits_show(limits, &tenant, START, &after);
    assert_int_equal(after.requests.remaining, 0);
    assert_int_equal(after.input.remaining, 10);
    assert_int_equal(after.spent, 90);
    limits_close(limits);
}

static void more_than_a_minutes_worth_goes_when_the_bucket_is_full(void **unused)
{
    (void)unused;
    const struct tenant tenant =
        tenant_of(0, (struct access_limits){ .input_tokens_per_minute = 100 });
    struct limits *limits = open_limits(1);
    struct limits_claim claim;

    assert_int_equal(begin(limits, &tenant, &claim, 1000, START), -1);
    limits_give(&claim, good, START);
    assert_int_equal(begin(limits, &tenant, &claim, 1, START + 9 * MINUTE), LIMITS_INPUT);
    assert_int_equal(begin(limits, &tenant, &claim, 1, START + 9 * MINUTE + NS_PER_S), -1);
    limits_give(&claim, good, START + 9 * MINUTE + NS_PER_S);
    limits_close(limits);
}

static void answers_may_leave_a_debt_that_the_next_one_waits_for(void **unused)
{
    (void)unused;
    const struct tenant tenant =
        tenant_of(0, (struct access_limits){ .output_tokens_per_minute = 60 });
    struct limits *limits = open_limits(1);
    struct limits_claim claim;

    assert_int_equal(begin(limits, &tenant, &claim, 1, START), -1);
    for (int i = 0; i < 120; i++) limits_output(&claim, 1, START);
    limits_give(&claim, good, START);
    assert_int_equal(begin(limits, &tenant, &claim, 1, START + MINUTE), LIMITS_OUTPUT);
    assert_int_equal(begin(limits, &tenant, &claim, 1, START + MINUTE + NS_PER_S), -1);
    limits_give(&claim, good, START + MINUTE + NS_PER_S);
    limits_close(limits);
}

static void a_budget_ends_for_good_and_says_what_is_left(void **unused)
{
    (void)unused;
    const struct tenant tenant = tenant_of(0, (struct access_limits){ .budget_tokens = 100 });
    const struct caller caller = { .tenant = &tenant };
    struct limits *limits = open_limits(1);
    struct limits_claim claim;
    struct limits_refusal refusal;

    limits_spend(limits, &tenant, 20);  // of an earlier run
    assert_int_equal(begin(limits, &tenant, &claim, 30, START), -1);
    limits_output(&claim, 10, START);
    limits_give(&claim, good, START);
    assert_int_equal(limits_take(limits, &caller, START, &claim, &refusal), OK);
    assert_int_equal(limits_admit(&claim, 0, 41, START, &refusal), BUSY);
    assert_int_equal(refusal.cause, LIMITS_BUDGET);
    assert_int_equal(refusal.left, 40);
    assert_int_equal(refusal.wait_ns, 0);
    assert_int_equal(limits_admit(&claim, 0, 40, START, &refusal), OK);
    assert_true(limits_run(&claim));
    limits_give(&claim, good, START);
    assert_int_equal(limits_take(limits, &caller, START + 99 * MINUTE, &claim, &refusal), BUSY);
    assert_int_equal(refusal.cause, LIMITS_BUDGET);
    limits_close(limits);
}

static void bodies_of_one_tenant_leave_room_for_others(void **unused)
{
    (void)unused;
    const struct tenant one = tenant_of(0, (struct access_limits){ 0 });
    const struct tenant two = tenant_of(1, (struct access_limits){ 0 });
    const struct access_key key = { .id = "k" };
    const struct caller callers[] = {
        { NULL, &one, &key }, { NULL, &one, &key }, { NULL, &two, &key }, { NULL, &one, NULL }
    };
    struct limits *limits = open_limits(1);
    struct limits_claim claim[4] = { 0 };
    struct limits_refusal refusal;

    for (int i = 0; i < 4; i++)
        assert_int_equal(limits_take(limits, &callers[i], START, &claim[i], &refusal), OK);
    assert_int_equal(limits_body(&claim[0], 600, &refusal), OK);
    assert_int_equal(limits_body(&claim[1], 401, &refusal), BUSY);
    assert_int_equal(refusal.cause, LIMITS_BODIES);
    assert_int_equal(limits_body(&claim[1], 400, &refusal), OK);
    assert_int_equal(limits_body(&claim[2], 1000, &refusal), OK);
    assert_int_equal(limits_body(&claim[3], 5000, &refusal), OK);  // nobody is known
    limits_body_give(&claim[3]);
    limits_give(&claim[0], good, START);
    assert_int_equal(limits_body(&claim[1], 600, &refusal), OK);
    for (int i = 1; i < 4; i++) limits_give(&claim[i], good, START);
    limits_close(limits);
}

static void a_request_waits_for_its_tenants_turn_and_one_more_is_refused(void **unused)
{
    (void)unused;
    const struct tenant tenant = tenant_of(0, (struct access_limits){ .running = 2, .queued = 1 });
    const struct caller caller = { .tenant = &tenant };
    struct limits *limits = open_limits(1);
    struct limits_claim claim[4] = { 0 };
    struct limits_refusal refusal;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(limits_take(limits, &caller, START, &claim[i], &refusal), OK);
        assert_int_equal(limits_run(&claim[i]), i < 2);
    }
    assert_int_equal(limits_take(limits, &caller, START, &claim[3], &refusal), BUSY);
    assert_int_equal(refusal.cause, LIMITS_PLACES);
    assert_null(limits_next(limits));
    limits_end(&claim[0], START);  // the client still reads, the engine is free
    assert_ptr_equal(limits_next(limits), &claim[2]);
    assert_null(limits_next(limits));
    assert_int_equal(limits_take(limits, &caller, START, &claim[3], &refusal), OK);
    for (int i = 0; i < 4; i++) limits_give(&claim[i], good, START);
    limits_close(limits);
}

/* Requests end every 5 s here, so a client that is told to come back then finds a place. */
static void the_wait_for_a_place_is_how_often_one_ends(void **unused)
{
    (void)unused;
    const struct tenant tenant = tenant_of(0, (struct access_limits){ .running = 1 });
    const struct caller caller = { .tenant = &tenant };
    struct limits *limits = open_limits(1);
    struct limits_claim claim, other = { 0 };
    struct limits_refusal refusal;
    uint64_t now = START;

    for (int i = 0; i < 40; i++) {
        assert_int_equal(begin(limits, &tenant, &claim, 1, now), -1);
        assert_int_equal(limits_take(limits, &caller, now, &other, &refusal), BUSY);
        now += 5 * NS_PER_S;
        limits_give(&claim, good, now);
    }
    assert_int_equal(refusal.wait_ns, 5 * NS_PER_S);
    limits_close(limits);
}

static void users_are_limited_one_by_one_within_their_tenant(void **unused)
{
    (void)unused;
    struct tenant tenant = tenant_of(0, (struct access_limits){ 0 });
    tenant.user_limits = (struct access_limits){ .requests_per_minute = 1 };
    const struct caller caller = { .tenant = &tenant };
    struct limits *limits = open_limits(8);
    struct limits_refusal refusal;
    static const struct {
        uint64_t user;
        enum status status;
    } asked[] = { { 1, OK }, { 1, BUSY }, { 2, OK }, { 0, OK }, { 0, OK }, { 2, BUSY }, { 3, OK } };

    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        struct limits_claim claim = { .stage = CLAIM_NONE };
        assert_int_equal(limits_take(limits, &caller, START, &claim, &refusal), OK);
        assert_int_equal(limits_admit(&claim, asked[i].user, 1, START, &refusal), asked[i].status);
        if (asked[i].status == BUSY) assert_true(refusal.of_user);
        limits_give(&claim, asked[i].status == OK ? good : rejected, START);
    }
    assert_int_equal(limits_users(limits), 3);
    limits_close(limits);
}

static void the_table_of_users_forgets_idle_ones_alone(void **unused)
{
    (void)unused;
    struct tenant tenant = tenant_of(0, (struct access_limits){ 0 });
    tenant.user_limits = (struct access_limits){ .requests_per_minute = 1 };
    const struct caller caller = { .tenant = &tenant };
    struct limits *limits = open_limits(2);
    struct limits_claim claim[3] = { 0 };
    struct limits_refusal refusal;

    for (int i = 0; i < 3; i++)
        assert_int_equal(limits_take(limits, &caller, START, &claim[i], &refusal), OK);
    assert_int_equal(limits_admit(&claim[0], 10, 1, START, &refusal), OK);
    assert_int_equal(limits_admit(&claim[1], 11, 1, START, &refusal), OK);
    assert_int_equal(limits_admit(&claim[2], 12, 1, START, &refusal), BUSY);
    assert_int_equal(refusal.cause, LIMITS_USERS);
    limits_end(&claim[1], START);  // ended, but what it holds may yet come back
    assert_int_equal(limits_admit(&claim[2], 12, 1, START, &refusal), BUSY);
    limits_give(&claim[1], good, START);
    assert_int_equal(limits_admit(&claim[2], 12, 1, START, &refusal), OK);
    assert_int_equal(limits_users(limits), 2);
    limits_give(&claim[0], good, START);
    limits_give(&claim[2], good, START);
    assert_int_equal(limits_take(limits, &caller, START, &claim[0], &refusal), OK);
    assert_int_equal(limits_admit(&claim[0], 10, 1, START, &refusal), BUSY);  // not forgotten
    assert_int_equal(refusal.cause, LIMITS_REQUESTS);
    limits_give(&claim[0], rejected, START);
    limits_close(limits);
}

static void a_new_table_keeps_what_was_taken_and_starts_who_waits(void **unused)
{
    (void)unused;
    struct tenant tenant =
        tenant_of(0, (struct access_limits){ .running = 1, .queued = 5, .requests_per_minute = 6 });
    struct tenant wider = tenant_of(
        0, (struct access_limits){ .running = 3, .queued = 5, .requests_per_minute = 60 });
    const struct caller caller = { .tenant = &tenant }, later = { .tenant = &wider };
    struct limits *limits = open_limits(1);
    struct limits_claim claim[4] = { 0 };
    struct limits_refusal refusal;
    struct limits_levels levels;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(limits_take(limits, &caller, START, &claim[i], &refusal), OK);
        assert_int_equal(limits_run(&claim[i]), i == 0);
    }
    assert_int_equal(limits_take(limits, &later, START, &claim[3], &refusal), OK);
    limits_show(limits, &wider, START, &levels);
    assert_int_equal(levels.requests.remaining, 56);  // three, and one
    assert_ptr_equal(limits_next(limits), &claim[1]);
    assert_ptr_equal(limits_next(limits), &claim[2]);
    for (int i = 0; i < 4; i++) limits_give(&claim[i], rejected, START);
    limits_show(limits, &wider, START, &levels);
    assert_int_equal(levels.requests.remaining, 60);
    limits_close(limits);
}

/* ---- the walk ---- */

enum { TENANTS = 3, USERS = 4, CLAIMS = 24, STEPS = 200000 };

static const struct access_limits tenant_limits[TENANTS] = {
    { .running = 3,
      .queued = 4,
      .requests_per_minute = 600,
      .input_tokens_per_minute = 6000,
      .output_tokens_per_minute = 1000,
      .budget_tokens = 4000000 },
    { .queued = 5, .requests_per_minute = 60, .output_tokens_per_minute = 60000 },
    { .running = 5, .input_tokens_per_minute = 60 },
};
static const struct access_limits user_limits[TENANTS] = {
    { .running = 1, .queued = 2, .requests_per_minute = 60 },
    { .input_tokens_per_minute = 600, .output_tokens_per_minute = 600 },
    { 0 },
};

struct naive_party {
    struct access_limits limits;
    uint64_t debt[3];  // ns of a minute: requests, input, output
    uint64_t open, running, spent;
};

struct naive_claim {
    enum limits_stage stage;  // READY is RUNNING here
    struct naive_party *tenant, *user;
    uint64_t tokens;
    uint64_t queue_number;
};

static struct {
    uint64_t random, now, queue_numbers;
    struct limits *limits;
    struct tenant tenant[TENANTS];
    struct limits_claim claim[CLAIMS];
    struct naive_party tenants[TENANTS], users[TENANTS][USERS];
    struct naive_claim naive[CLAIMS];
} walk;

static uint64_t roll(uint64_t below)
{
    walk.random = walk.random * 6364136223846793005u + 1442695040888963407u;
    return (walk.random >> 33) % below;
}

static uint64_t price(uint64_t count, uint64_t limit)
{
    return limit ? count * (MINUTE / limit) : 0;  // the walk's limits divide a minute
}

static void pass(struct naive_party *party, uint64_t ns)
{
    for (int i = 0; i < 3; i++) party->debt[i] -= ns < party->debt[i] ? ns : party->debt[i];
}

static bool fits(const struct naive_party *party, int bucket, uint64_t count)
{
    const uint64_t limit[3] = { party->limits.requests_per_minute,
                                party->limits.input_tokens_per_minute,
                                party->limits.output_tokens_per_minute };

    if (!limit[bucket] || party->debt[bucket] == 0) return true;
    return party->debt[bucket] + price(count, limit[bucket]) <= MINUTE;
}

static bool naive_may_begin(const struct naive_party *party)
{
    const struct access_limits *limits = &party->limits;
    bool place = true;

    if (limits->running) place = party->open < limits->running + limits->queued;
    else if (limits->queued) place = party->open - party->running < limits->queued;
    return place && fits(party, 0, 1) && fits(party, 2, 1);
}

static bool naive_may_run(const struct naive_party *party)
{
    return !party || !party->limits.running || party->running < party->limits.running;
}

static void naive_start(struct naive_claim *naive)
{
    naive->stage = CLAIM_RUNNING;
    naive->tenant->running++;
    if (naive->user) naive->user->running++;
}

/* Whoever may run is started, the oldest first, and limits_next brings the same ones. */
static void start_waiting(const struct naive_party *tenant)
{
    for (;;) {
        struct naive_claim *oldest = NULL;
        for (int i = 0; i < CLAIMS; i++) {
            struct naive_claim *naive = &walk.naive[i];
            if (naive->stage != CLAIM_WAITING || naive->tenant != tenant) continue;
            if (!naive_may_run(naive->tenant) || !naive_may_run(naive->user)) continue;
            if (!oldest || naive->queue_number < oldest->queue_number) oldest = naive;
        }
        if (!oldest) break;
        naive_start(oldest);
        assert_ptr_equal(limits_next(walk.limits), &walk.claim[oldest - walk.naive]);
    }
    assert_null(limits_next(walk.limits));
}

static void walk_take(int i)
{
    uint32_t t = (uint32_t)roll(TENANTS);
    struct naive_party *tenant = &walk.tenants[t];
    const struct caller caller = { .tenant = &walk.tenant[t] };
    struct limits_refusal refusal;
    bool budget = !tenant->limits.budget_tokens || tenant->spent < tenant->limits.budget_tokens;

    enum status status = limits_take(walk.limits, &caller, walk.now, &walk.claim[i], &refusal);
    assert_int_equal(status, budget && naive_may_begin(tenant) ? OK : BUSY);
    if (status != OK) return assert_true(refusal.wait_ns || refusal.cause == LIMITS_BUDGET);
    walk.naive[i] = (struct naive_claim){ .stage = CLAIM_TAKEN, .tenant = tenant };
    tenant->open++;
    tenant->debt[0] += price(1, tenant->limits.requests_per_minute);
}

static void walk_admit(int i)
{
    struct naive_claim *naive = &walk.naive[i];
    struct naive_party *tenant = naive->tenant;
    uint64_t t = (uint64_t)(tenant - walk.tenants), u = roll(USERS + 1), tokens = 1 + roll(200);
    struct naive_party *user = u && t < 2 ? &walk.users[t][u - 1] : NULL;
    struct limits_refusal refusal;
    bool may = fits(tenant, 1, tokens);

    if (tenant->limits.budget_tokens) may &= tenant->spent + tokens <= tenant->limits.budget_tokens;
    if (user) may &= naive_may_begin(user) && fits(user, 1, tokens);
    enum status status = limits_admit(&walk.claim[i], u, tokens, walk.now, &refusal);
    assert_int_equal(status, may ? OK : BUSY);
    if (!may) return;
    naive->tokens = tokens;
    naive->user = user;
    tenant->spent += tokens;
    tenant->debt[1] += price(tokens, tenant->limits.input_tokens_per_minute);
    if (user) {
        user->open++;
        user->debt[0] += price(1, user->limits.requests_per_minute);
        user->debt[1] += price(tokens, user->limits.input_tokens_per_minute);
    }
    bool runs = limits_run(&walk.claim[i]);
    assert_int_equal(runs, naive_may_run(tenant) && naive_may_run(user));
    if (runs) return naive_start(naive);
    naive->stage = CLAIM_WAITING;
    naive->queue_number = ++walk.queue_numbers;
}

static void walk_output(int i)
{
    struct naive_claim *naive = &walk.naive[i];
    struct naive_party *tenant = naive->tenant, *user = naive->user;
    uint64_t tokens = 1 + roll(30);

    limits_output(&walk.claim[i], tokens, walk.now);
    tenant->spent += tokens;
    tenant->debt[2] += price(tokens, tenant->limits.output_tokens_per_minute);
    if (user) user->debt[2] += price(tokens, user->limits.output_tokens_per_minute);
}

static void naive_end(struct naive_claim *naive)
{
    if (naive->stage == CLAIM_ENDED) return;
    naive->tenant->open--;
    if (naive->user) naive->user->open--;
    if (naive->stage == CLAIM_RUNNING) {
        naive->tenant->running--;
        if (naive->user) naive->user->running--;
    }
    naive->stage = CLAIM_ENDED;
}

static void give_back(struct naive_party *party, int bucket, uint64_t cost)
{
    party->debt[bucket] -= cost < party->debt[bucket] ? cost : party->debt[bucket];
}

static void walk_give(int i)
{
    struct naive_claim *naive = &walk.naive[i];
    struct naive_party *tenant = naive->tenant, *user = naive->user;
    struct limits_outcome outcome = { .rejected = roll(3) == 0, .started = roll(3) > 0 };

    if (naive->tokens == 0) outcome.started = false;
    limits_give(&walk.claim[i], outcome, walk.now);
    naive_end(naive);
    if (outcome.rejected) {
        give_back(tenant, 0, price(1, tenant->limits.requests_per_minute));
        if (user) give_back(user, 0, price(1, user->limits.requests_per_minute));
    }
    if (!outcome.started) {
        give_back(tenant, 1, price(naive->tokens, tenant->limits.input_tokens_per_minute));
        if (user) give_back(user, 1, price(naive->tokens, user->limits.input_tokens_per_minute));
        tenant->spent -= naive->tokens;
    }
    naive->stage = CLAIM_NONE;
    start_waiting(tenant);
}

static void walk_wait(void)
{
    uint64_t ns = roll(4) ? roll(NS_PER_S) : roll(40 * NS_PER_S);

    walk.now += ns;
    for (int t = 0; t < TENANTS; t++) {
        pass(&walk.tenants[t], ns);
        for (int u = 0; u < USERS; u++) pass(&walk.users[t][u], ns);
    }
}

static void compare(void)
{
    for (int t = 0; t < TENANTS; t++) {
        const struct naive_party *naive = &walk.tenants[t];
        struct limits_levels levels;
        limits_show(walk.limits, &walk.tenant[t], walk.now, &levels);
        assert_int_equal(levels.running, naive->running);
        assert_int_equal(levels.waiting, naive->open - naive->running);
        assert_int_equal(levels.spent, naive->spent);
        if (levels.requests.limit) assert_int_equal(levels.requests.reset_ns, naive->debt[0]);
        if (levels.input.limit) assert_int_equal(levels.input.reset_ns, naive->debt[1]);
        if (levels.output.limit) assert_int_equal(levels.output.reset_ns, naive->debt[2]);
    }
}

static void a_raised_limit_shortens_the_debt_of_the_old_one(void **unused)
{
    (void)unused;
    const struct tenant old =
        tenant_of(0, (struct access_limits){ .output_tokens_per_minute = 10 });
    const struct tenant new =
        tenant_of(0, (struct access_limits){ .output_tokens_per_minute = 1000 });
    struct limits *limits = open_limits(1);
    struct limits_claim claim;
    struct limits_levels levels;

    assert_int_equal(begin(limits, &old, &claim, 1, START), -1);
    limits_output(&claim, 500, START);
    limits_give(&claim, good, START);
    assert_int_equal(begin(limits, &old, &claim, 1, START), LIMITS_OUTPUT);
    assert_int_equal(begin(limits, &new, &claim, 1, START), -1);
    limits_show(limits, &new, START, &levels);
    assert_int_equal(levels.output.remaining, 500);
    limits_give(&claim, good, START);
    assert_int_equal(begin(limits, &old, &claim, 1, START), LIMITS_OUTPUT);
    limits_show(limits, &old, START, &levels);
    assert_int_equal(levels.output.reset_ns, 50 * MINUTE);
    limits_close(limits);
}

static void a_long_walk_agrees_with_rules_in_the_open(void **unused)
{
    (void)unused;
    walk.limits = open_limits(TENANTS * USERS);
    walk.now = START;
    walk.random = 7;
    for (uint32_t t = 0; t < TENANTS; t++) {
        walk.tenant[t] = tenant_of(t, tenant_limits[t]);
        walk.tenant[t].user_limits = user_limits[t];
        walk.tenants[t].limits = tenant_limits[t];
        for (int u = 0; u < USERS; u++) walk.users[t][u].limits = user_limits[t];
    }
    for (int step = 0; step < STEPS; step++) {
        int i = (int)roll(CLAIMS);
        struct naive_claim *naive = &walk.naive[i];
        uint64_t what = roll(4);
        if (what == 0) walk_wait();
        else if (naive->stage == CLAIM_NONE) walk_take(i);
        else if (naive->stage == CLAIM_TAKEN && !naive->tokens && what > 1) walk_admit(i);
        else if (naive->stage == CLAIM_RUNNING && what > 1) walk_output(i);
        else if (naive->stage == CLAIM_RUNNING && roll(2)) {
            limits_end(&walk.claim[i], walk.now);
            naive_end(naive);
            start_waiting(naive->tenant);
        } else if (roll(3) == 0) walk_give(i);
        compare();
    }
    for (int i = 0; i < CLAIMS; i++)
        if (walk.naive[i].stage != CLAIM_NONE) walk_give(i);
    assert_true(walk.tenants[0].spent > tenant_limits[0].budget_tokens / 100);
    limits_close(walk.limits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_minute_holds_its_number_and_then_fills_evenly),
        cmocka_unit_test(what_was_rejected_has_cost_nothing),
        cmocka_unit_test(more_than_a_minutes_worth_goes_when_the_bucket_is_full),
        cmocka_unit_test(answers_may_leave_a_debt_that_the_next_one_waits_for),
        cmocka_unit_test(a_budget_ends_for_good_and_says_what_is_left),
        cmocka_unit_test(bodies_of_one_tenant_leave_room_for_others),
        cmocka_unit_test(a_request_waits_for_its_tenants_turn_and_one_more_is_refused),
        cmocka_unit_test(the_wait_for_a_place_is_how_often_one_ends),
        cmocka_unit_test(users_are_limited_one_by_one_within_their_tenant),
        cmocka_unit_test(the_table_of_users_forgets_idle_ones_alone),
        cmocka_unit_test(a_new_table_keeps_what_was_taken_and_starts_who_waits),
        cmocka_unit_test(a_raised_limit_shortens_the_debt_of_the_old_one),
        cmocka_unit_test(a_long_walk_agrees_with_rules_in_the_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
