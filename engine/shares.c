/* shares.c - two small tables. */
#include "engine/shares.h"
#include <stdlib.h>
#include <string.h>

enum {
    SCALE = 1 << 16,  // virtual time of one unit at weight 1
    KEPT = 64,        // tenants and flows that are kept however long they are idle
};

void shares_release(struct shares *shares)
{
    free(shares->tenant);
    free(shares->flow);
    free(shares->slot);
    free(shares->tenant_slot);
    *shares = (struct shares){ 0 };
}

/* ---- the tables ------------------------------------------------------------------------------ */

static uint32_t hash_of(uint32_t tenant, uint64_t user, int32_t priority)
{
    uint64_t mixed = user ^ (uint64_t)tenant << 32 ^ (uint32_t)priority;
    mixed = (mixed ^ mixed >> 29) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(mixed >> 32);
}

static uint32_t *slot_of(const struct shares *shares, uint32_t tenant, uint64_t user,
                         int32_t priority)
{
    uint32_t at = hash_of(tenant, user, priority) & (shares->slots - 1);
    for (;; at = (at + 1) & (shares->slots - 1)) {
        uint32_t *slot = &shares->slot[at];
        if (!*slot) return slot;
        const struct share_flow *flow = &shares->flow[*slot - 1];
        if (flow->tenant == tenant && flow->user == user && flow->priority == priority) return slot;
    }
}

static uint32_t *slot_of_tenant(const struct shares *shares, uint64_t id)
{
    uint32_t at = hash_of(0, id, 0) & (shares->slots - 1);
    for (;; at = (at + 1) & (shares->slots - 1)) {
        uint32_t *slot = &shares->tenant_slot[at];
        if (!*slot || shares->tenant[*slot - 1].id == id) return slot;
    }
}

static void index_both(struct shares *shares)
{
    memset(shares->slot, 0, shares->slots * sizeof *shares->slot);
    memset(shares->tenant_slot, 0, shares->slots * sizeof *shares->tenant_slot);
    for (uint32_t i = 0; i < shares->tenants; i++)
        *slot_of_tenant(shares, shares->tenant[i].id) = i + 1;
    for (uint32_t i = 0; i < shares->flows; i++) {
        const struct share_flow *flow = &shares->flow[i];
        *slot_of(shares, flow->tenant, flow->user, flow->priority) = i + 1;
    }
}

/* Those that were not in the plan before and are idle for long go; with `all` however long. */
static void forget_idle(struct shares *shares, uint64_t now_ns, bool all)
{
    uint32_t flows = 0, tenants = 0, moved[shares->tenants + 1];
    uint64_t keep_ns = all ? 0 : SHARES_KEEP_NS;
    for (uint32_t i = 0; i < shares->tenants; i++) {
        const struct share_tenant *t = &shares->tenant[i];
        bool goes = t->turn != shares->turn && now_ns - t->seen_ns >= keep_ns;
        moved[i] = goes ? SHARES_NONE : tenants;
        if (!goes) shares->tenant[tenants++] = *t;
    }
    for (uint32_t i = 0; i < shares->flows; i++) {
        struct share_flow flow = shares->flow[i];
        bool goes = flow.turn != shares->turn && now_ns - flow.seen_ns >= keep_ns;
        if (goes || moved[flow.tenant] == SHARES_NONE) continue;
        flow.tenant = moved[flow.tenant];
        shares->flow[flows++] = flow;
    }
    shares->flows = flows;
    shares->tenants = tenants;
    index_both(shares);
}

enum status shares_room(struct shares *shares, uint32_t seqs)
{
    uint32_t room = 4 * seqs + KEPT, slots = KEPT;
    if (room <= shares->room) return OK;
    while (slots < 2 * room) slots *= 2;
    struct share_tenant *tenant = realloc(shares->tenant, room * sizeof *tenant);
    if (!tenant) return NO_MEMORY;
    shares->tenant = tenant;
    struct share_flow *flow = realloc(shares->flow, room * sizeof *flow);
    if (!flow) return NO_MEMORY;
    shares->flow = flow;
    uint32_t *slot = calloc(slots, sizeof *slot), *of_tenants = calloc(slots, sizeof *of_tenants);
    if (!slot || !of_tenants) {
        free(slot);
        free(of_tenants);
        return NO_MEMORY;
    }
    free(shares->slot);
    free(shares->tenant_slot);
    shares->slot = slot;
    shares->tenant_slot = of_tenants;
    shares->slots = slots;
    shares->room = room;
    index_both(shares);
    return OK;
}

static uint64_t lead_of(const struct shares *shares, const struct share_tenant *tenant)
{
    return (uint64_t)shares->lead * SCALE / tenant->weight;
}

bool shares_owed(const struct shares *shares, const struct share_tenant *tenant)
{
    return tenant->time + lead_of(shares, tenant) / 2 <= shares->time;
}

/* ---- a plan ---------------------------------------------------------------------------------- */

static uint32_t find_tenant(struct shares *shares, uint64_t id)
{
    uint32_t *slot = slot_of_tenant(shares, id);
    if (*slot) return *slot - 1;
    must(shares->tenants < shares->room);
    shares->tenant[shares->tenants] = (struct share_tenant){ .id = id };
    *slot = ++shares->tenants;
    return shares->tenants - 1;
}

static uint32_t find_flow(struct shares *shares, uint32_t tenant, const struct share_key *key)
{
    uint32_t *slot = slot_of(shares, tenant, key->user, key->priority);
    if (*slot) return *slot - 1;
    must(shares->flows < shares->room);
    shares->flow[shares->flows] = (struct share_flow){ .user = key->user,
                                                       .priority = key->priority,
                                                       .tenant = tenant,
                                                       .first = SHARES_NONE,
                                                       .last = SHARES_NONE };
    *slot = ++shares->flows;
    return shares->flows - 1;
}

void shares_begin(struct shares *shares, uint64_t now_ns)
{
    uint32_t most = shares->flows > shares->tenants ? shares->flows : shares->tenants;
    if (most > KEPT && most > shares->room / 4)
        forget_idle(shares, now_ns, most > shares->room / 2);
    shares->turn += shares->turn ? 1 : 2;  // 0 is never
    for (uint32_t i = 0; i < shares->tenants; i++) {
        struct share_tenant *t = &shares->tenant[i];
        t->running = t->waiting = t->ready = t->decodes = t->blocks = t->prompt = t->drawn = 0;
        t->beside_ns = 0;
        t->sits_out = t->came = false;
    }
    for (uint32_t i = 0; i < shares->flows; i++) {
        struct share_flow *flow = &shares->flow[i];
        flow->running = 0;
        flow->first = flow->last = SHARES_NONE;
        flow->came = false;
    }
}

uint32_t shares_see(struct shares *shares, const struct share_key *key, uint64_t arrived_ns,
                    uint64_t now_ns)
{
    uint32_t index = find_tenant(shares, key->tenant);
    struct share_tenant *tenant = &shares->tenant[index];
    tenant->weight = key->weight ? key->weight : 1;
    if (tenant->turn != shares->turn) {
        tenant->came = tenant->turn + 1 != shares->turn;
        if (tenant->came && now_ns - tenant->seen_ns >= SHARES_KEEP_NS)
            tenant->time = tenant->flow_time = 0;  // as if it were new
        if (tenant->came)
            tenant->behind_ns = now_ns > arrived_ns ? (double)(now_ns - arrived_ns) : 0;
    }
    tenant->turn = shares->turn;
    tenant->seen_ns = now_ns;

    uint32_t found = find_flow(shares, index, key);
    struct share_flow *flow = &shares->flow[found];
    if (flow->turn != shares->turn) {
        flow->came = flow->turn + 1 != shares->turn;
        if (flow->came) flow->served_ns = now_ns;
        if (flow->came && now_ns - flow->seen_ns >= SHARES_KEEP_NS) flow->time = 0;
    }
    flow->turn = shares->turn;
    flow->seen_ns = now_ns;
    return found;
}

static void see_flows(struct shares *shares)
{
    uint64_t least[shares->tenants + 1], greatest[shares->tenants + 1];
    memset(least, 0xff, sizeof least);
    memset(greatest, 0, sizeof greatest);
    const uint64_t lead = 4ull * shares->lead * SCALE;
    for (uint32_t i = 0; i < shares->flows; i++) {
        const struct share_flow *flow = &shares->flow[i];
        if (flow->turn != shares->turn || flow->came) continue;
        if (flow->time < least[flow->tenant]) least[flow->tenant] = flow->time;
        if (flow->time > greatest[flow->tenant]) greatest[flow->tenant] = flow->time;
    }
    for (uint32_t i = 0; i < shares->tenants; i++)
        if (least[i] != UINT64_MAX && least[i] > shares->tenant[i].flow_time)
            shares->tenant[i].flow_time = least[i];
    for (uint32_t i = 0; i < shares->flows; i++) {
        struct share_flow *flow = &shares->flow[i];
        uint64_t from = shares->tenant[flow->tenant].flow_time;
        if (flow->turn != shares->turn) continue;
        if (flow->came && flow->time < from) flow->time = from;
        flow->time =
            flow->time + lead < greatest[flow->tenant] ? greatest[flow->tenant] - lead : flow->time;
    }
}

void shares_seen(struct shares *shares, uint64_t now_ns)
{
    shares->weights = shares->at_work_weights = 0;
    shares->at_work = shares->owed = 0;
    for (uint32_t i = 0; i < shares->tenants; i++) {
        const struct share_tenant *t = &shares->tenant[i];
        bool at_work = shares_at_work(t, now_ns);
        shares->at_work_weights += at_work ? t->weight : 0;
        shares->at_work += at_work;
        shares->owed += at_work && shares_owed(shares, t);
        if (!shares_here(shares, t)) continue;
        shares->weights += t->weight;
    }
    for (uint32_t i = 0; i < shares->tenants; i++) {
        struct share_tenant *t = &shares->tenant[i];
        if (!t->came) continue;
        if (t->time + lead_of(shares, t) < shares->time)
            t->time = shares->time - lead_of(shares, t);
        t->behind_ns *= shares_part(shares, t);
    }
    see_flows(shares);
}

/* ---- charges --------------------------------------------------------------------------------- */

void shares_charge(struct shares *shares, uint32_t flow, int64_t units)
{
    struct share_flow *f = &shares->flow[flow];
    struct share_tenant *t = &shares->tenant[f->tenant];
    f->time += (uint64_t)(units * SCALE);
    t->time += (uint64_t)(units * SCALE / t->weight);
}

void shares_charge_beside(struct shares *shares, const struct share_key *key, double units,
                          double lost_ns)
{
    uint32_t tenant = shares->slots ? *slot_of_tenant(shares, key->tenant) : 0;
    if (!tenant--) return;
    struct share_tenant *t = &shares->tenant[tenant];
    uint32_t flow = *slot_of(shares, tenant, key->user, key->priority);
    if (flow) shares->flow[flow - 1].time += (uint64_t)(units * SCALE);
    t->time += (uint64_t)(units * SCALE / t->weight);
    t->behind_ns -= lost_ns;
}

void shares_lose(struct shares *shares, double lost_ns)
{
    for (uint32_t i = 0; i < shares->tenants; i++) {
        struct share_tenant *t = &shares->tenant[i];
        if (shares_here(shares, t)) t->behind_ns += shares_part(shares, t) * lost_ns;
    }
}

/* Below the floor by no more than the lead, above it by no more than four times that. */
static uint64_t bound(uint64_t time, uint64_t floor, uint64_t lead)
{
    if (time + lead < floor) return floor - lead;
    return time > floor + 4 * lead ? floor + 4 * lead : time;
}

/* Where work is left over, time stands where the least of those tenants stands; else all had what they
 * wanted, and it stands where the greatest does. */
void shares_settle(struct shares *shares, const bool *backlog)
{
    uint64_t least = UINT64_MAX, greatest = 0;
    for (uint32_t i = 0; i < shares->tenants; i++) {
        const struct share_tenant *t = &shares->tenant[i];
        if (!shares_here(shares, t)) continue;
        if (backlog[i] && t->time < least) least = t->time;
        if (t->time > greatest) greatest = t->time;
    }
    uint64_t floor = least != UINT64_MAX ? least : greatest;
    if (floor > shares->time) shares->time = floor;
    for (uint32_t i = 0; i < shares->tenants; i++) {
        struct share_tenant *t = &shares->tenant[i];
        if (shares_here(shares, t)) t->time = bound(t->time, floor, lead_of(shares, t));
    }
}

int64_t shares_class(const struct share_flow *flow, uint64_t now_ns)
{
    uint64_t up = now_ns > flow->served_ns ? (now_ns - flow->served_ns) / SHARES_AGE_NS : 0;
    return flow->priority - (int64_t)up;
}

double shares_part(const struct shares *shares, const struct share_tenant *tenant)
{
    return shares->weights ? (double)tenant->weight / (double)shares->weights : 1;
}

double shares_part_held(const struct shares *shares, const struct share_tenant *tenant)
{
    return (double)tenant->weight / (double)shares->at_work_weights;
}
