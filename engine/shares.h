/* shares.h - who has had how much: virtual times of tenants and of the users inside them.
 *
 * A tenant's virtual time grows by the work done for it divided by its weight, and whoever has the
 * least goes first; the same again between the flows of a tenant, a flow being one user's jobs of
 * one priority. Work is counted in prompt tokens, of which a decoded token weighs several (sched.h).
 * Whoever comes back from idling starts no lower than the least of those at work: nothing is
 * banked; what it had too much stays for a while (SHARES_KEEP_NS).
 *
 * Beside that stands how far a tenant is behind in time. A tenant whose part of a step would have
 * taken T alone has received T, and was owed its share of what the step took. While somebody is
 * behind, the others sit out (sched.h).
 *
 * Plain data without a clock. Thread: the engine thread.
 */
#ifndef ENGINE_SHARES_H
#define ENGINE_SHARES_H

#include <stdbool.h>
#include <stdint.h>
#include "config/status.h"

#define SHARES_KEEP_NS 10000000000ull  // how long idle ones are remembered
#define SHARES_AGE_NS 5000000000ull    // unserved for so long, a flow goes up by one priority
#define SHARES_NONE UINT32_MAX

struct share_tenant {
    uint64_t id;
    uint32_t weight;
    uint64_t time, flow_time;  // virtual; flow_time: the least of its flows at work
    double behind_ns;          // below 0: ahead
    double usual_blocks;       // that one of its sequences wanted as it was admitted; 0: none yet
    uint64_t turn, seen_ns;    // the latest plan with a sequence of it, and when that was

    /* Of the plan being made: */
    bool came;                  // was not in the plan before
    uint32_t running, waiting;  // sequences
    uint32_t ready;             // of those waiting: may be admitted
    uint32_t decodes;           // of those running: want one token each
    double beside_ns;           // that everybody will wait for these besides
    uint32_t blocks;            // held by those running
    uint32_t prompt, drawn;     // tokens in the step
    bool sits_out;

    uint64_t prompt_tokens, output_tokens;  // planned since it was first seen
};

struct share_flow {
    uint64_t user;
    int32_t priority;
    uint32_t tenant;     // index
    uint64_t time;       // virtual, among the tenant's flows
    uint64_t served_ns;  // when it was last given prompt tokens, or came
    uint64_t turn, seen_ns;
    bool came;

    /* Of the plan being made: */
    uint32_t running;
    uint32_t first, last;  // its sequences that want prompt tokens, by arrival; SHARES_NONE: none
};

struct shares {
    uint32_t lead;  // units that one of weight 1 may have had less than others, and still be owed
    struct share_tenant *tenant;  // [tenants]
    uint32_t tenants;
    struct share_flow *flow;  // [flows]
    uint32_t flows, room;     // room: of both
    uint32_t *slot;           // [slots] open addressing: flow + 1
    uint32_t *tenant_slot;    // [slots] likewise: tenant + 1
    uint32_t slots;
    uint64_t turn;     // number of the plan
    uint64_t time;     // the least virtual time of those at work, as it last was
    uint64_t weights;  // of the tenants in this plan
    uint64_t at_work_weights;
    uint32_t at_work;  // tenants seen within SHARES_KEEP_NS
    uint32_t owed;     // of these, shares_owed
};

struct share_key {
    uint64_t tenant, user;
    uint32_t weight;  // 0: 1
    int32_t priority;
};

void shares_release(struct shares *shares);

/* Room for so many sequences of as many tenants. NO_MEMORY: as before. */
CHECKED enum status shares_room(struct shares *shares, uint32_t seqs);

/* A plan begins: nobody has been seen yet, and who has been away for long may be forgotten. */
void shares_begin(struct shares *shares, uint64_t now_ns);

/* One of the plan's sequences; returns its flow. `arrived_ns`: a tenant that comes back is owed its
 * share of the time since then. */
uint32_t shares_see(struct shares *shares, const struct share_key *key, uint64_t arrived_ns,
                    uint64_t now_ns);

/* All have been seen: those that came back start among the others. */
void shares_seen(struct shares *shares, uint64_t now_ns);

static inline bool shares_here(const struct shares *shares, const struct share_tenant *tenant)
{
    return tenant->turn == shares->turn;
}

/* Work was planned for the flow, or, below 0, taken out of the plan again. */
void shares_charge(struct shares *shares, uint32_t flow, int64_t units);

/* Who was in the latest plan took so much besides, and has received so much time that all waited. */
void shares_charge_beside(struct shares *shares, const struct share_key *key, double units,
                          double lost_ns);

/* All in the latest plan waited so long: each was owed its part of it. */
void shares_lose(struct shares *shares, double lost_ns);

/* The plan is made: backlog[tenants] tells whose work was left over. The others are owed no more than
 * a little of what they did not use. */
void shares_settle(struct shares *shares, const bool *backlog);

/* It has had so much less than those whose work is left over that at least half of what it may be owed is
 * due. */
bool shares_owed(const struct shares *shares, const struct share_tenant *tenant);

/* The priority as it counts now: lower first. */
int64_t shares_class(const struct share_flow *flow, uint64_t now_ns);

/* A tenant's part of the machine while these are here. */
double shares_part(const struct shares *shares, const struct share_tenant *tenant);

/* And of what is held for longer than a step, places and blocks: among all that are at work. */
double shares_part_held(const struct shares *shares, const struct share_tenant *tenant);

static inline bool shares_at_work(const struct share_tenant *tenant, uint64_t now_ns)
{
    return now_ns - tenant->seen_ns < SHARES_KEEP_NS;
}

#endif
