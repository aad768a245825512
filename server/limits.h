/* limits.h - how much of this server each tenant, and each of its users, may have at a time.
 *
 * A request's claim grows as more is known of it, and gives back whatever was not used:
 *
 *     limits_take     the head is there     one request, a place among those running and queued
 *     limits_body     as its body comes     memory
 *     limits_admit    it is tokenized       the prompt's tokens, and all of it once more of its user
 *     limits_run      it may run, or WAITS until one of its tenant's (or user's) ends: limits_next
 *     limits_output   as tokens come        they are charged at once, and may leave a debt
 *     limits_end      the engine is done    its place, for the next
 *     limits_give     whatever happened     what is still held; a rejected request has cost nothing
 *
 * What is counted by the minute stands in a bucket that holds a minute's worth and fills evenly. What is
 * larger than the bucket is let in when the bucket is full, and its debt delays the next; answers, whose
 * length nobody knows, are let in while there is no debt. A budget never fills again.
 *
 * Tenants are kept for good and are found by name through a reload. Users are kept in a bounded table,
 * where a new one takes the place of the one that has been idle for longest; when none is idle, the new
 * one is refused.
 *
 * Thread: the loop thread makes every call; now_ns never goes back.
 */
#ifndef SERVER_LIMITS_H
#define SERVER_LIMITS_H

#include "server/access.h"

struct limits;
struct limits_party;

enum limits_stage {
    CLAIM_NONE,
    CLAIM_TAKEN,
    CLAIM_WAITING,
    CLAIM_READY,
    CLAIM_RUNNING,
    CLAIM_ENDED
};

/* Part of a request, zeros at first. Where it is WAITING or READY it must not move. */
struct limits_claim {
    enum limits_stage stage;
    struct limits *limits;
    struct limits_party *tenant, *user;  // user NULL: none, or no limits of users
    struct limits_claim *prev, *next;    // WAITING: of the tenant; READY: of all
    bool bodies_counted;                 // where nobody is known, all of them are limited alone
    uint64_t body_bytes;
    uint64_t input_tokens;
    uint64_t requests_cost_ns, user_requests_cost_ns;  // as taken; 0: there was no limit
    uint64_t input_cost_ns, user_input_cost_ns;
};

enum limits_cause {
    LIMITS_REQUESTS,  // requests_per_minute
    LIMITS_INPUT,     // input_tokens_per_minute
    LIMITS_OUTPUT,    // output_tokens_per_minute
    LIMITS_PLACES,    // running and queued
    LIMITS_BUDGET,    // budget_tokens
    LIMITS_BODIES,    // memory of bodies
    LIMITS_USERS,     // the table of users is full of busy ones
    LIMITS_MEMORY,    // no memory to count a new tenant
    LIMITS_CAUSES,
};

/* Why not. */
struct limits_refusal {
    enum limits_cause cause;
    bool of_user;      // the user's limit, not the tenant's
    uint64_t limit;    // as the file says it
    uint64_t left;     // LIMITS_BUDGET: tokens
    uint64_t wait_ns;  // until it may go otherwise, if nothing else comes; 0: LIMITS_BUDGET, never
};

CHECKED enum status limits_open(uint32_t users_most, uint64_t bodies_most, struct limits **limits,
                                struct err *err);

/* Every claim was given back. */
void limits_close(struct limits *limits);

/* BUSY: refusal says why, and nothing was taken. Each claim is ended by limits_give. */
CHECKED enum status limits_take(struct limits *limits, const struct caller *caller, uint64_t now_ns,
                                struct limits_claim *claim, struct limits_refusal *refusal);

/* More memory for its body. BUSY. A claim that was not taken has no such limit. */
CHECKED enum status limits_body(struct limits_claim *claim, uint64_t bytes,
                                struct limits_refusal *refusal);
void limits_body_give(struct limits_claim *claim);

/* user 0: nobody in particular. BUSY: nothing more was taken. */
CHECKED enum status limits_admit(struct limits_claim *claim, uint64_t user, uint64_t input_tokens,
                                 uint64_t now_ns, struct limits_refusal *refusal);

/* True: RUNNING. False: WAITING; limits_next brings it in its turn. */
bool limits_run(struct limits_claim *claim);

/* A claim whose turn has come, RUNNING from now on; NULL: none. After limits_end, limits_give. */
struct limits_claim *limits_next(struct limits *limits);

void limits_output(struct limits_claim *claim, uint64_t tokens, uint64_t now_ns);

/* The engine has no more of it, or will get none. */
void limits_end(struct limits_claim *claim, uint64_t now_ns);

struct limits_outcome {
    bool rejected;  // by a limit or a full server: the request itself counts for nothing
    bool started;   // the engine began: the prompt's tokens count
};
void limits_give(struct limits_claim *claim, struct limits_outcome outcome, uint64_t now_ns);

/* ---- to be told ---- */

struct limits_level {
    uint64_t limit;      // a minute; 0: none
    uint64_t remaining;  // now
    uint64_t reset_ns;   // until all of it is there again
};

struct limits_levels {
    struct limits_level requests, input, output;
    uint64_t budget, spent;  // tokens; budget 0: none
    uint32_t running, waiting;
};

/* Of a tenant as it stands in its table. Zeros when nothing of it was ever taken. */
void limits_show(const struct limits *limits, const struct tenant *tenant, uint64_t now_ns,
                 struct limits_levels *levels);

/* Tokens that count to the budget without a claim: those of an earlier run. */
void limits_spend(struct limits *limits, const struct tenant *tenant, uint64_t tokens);

uint32_t limits_users(const struct limits *limits);  // in the table

#endif
