/* program_edges.c - the edges of one set: what all its readings do at each symbol. */
#include "engine/grammar/program_maker.h"

/* ---- closure ---- */

static void reach(struct maker *m, uint32_t state, uint64_t callers)
{
    if (!m->live[state] || (m->reached[state] | callers) == m->reached[state]) return;
    if (!m->reached[state]) {
        if (!ARRAY_ROOM(m->closure, m->closures, m->closure_room, NFA_STATES_MOST, &m->status))
            return;
        m->closure[m->closures++] = (struct reading){ .state = state };
    }
    if (!ARRAY_ROOM(m->pending, m->pendings, m->pending_room, NFA_EDGES_MOST, &m->status)) return;
    m->pending[m->pendings++] = state;
    m->reached[state] |= callers;
}

void maker_enter(struct maker *m, uint32_t state, uint64_t callers)
{
    const struct nfa *nfa = m->nfa;
    reach(m, state, callers);
    while (m->pendings && m->status == OK) {
        uint32_t at = m->pending[--m->pendings];
        for (uint32_t e = nfa->state[at].edge; e; e = nfa->edge[e].next)
            if (nfa->edge[e].kind == EDGE_EPSILON) reach(m, nfa->edge[e].to, m->reached[at]);
    }
}

/* Does a state do anything but lead on by epsilon edges? */
static bool does_something(const struct nfa *nfa, uint32_t state)
{
    if (nfa->state[state].flags & NFA_FINAL) return true;
    for (uint32_t e = nfa->state[state].edge; e; e = nfa->edge[e].next)
        if (nfa->edge[e].kind != EDGE_EPSILON) return true;
    return false;
}

uint32_t maker_close(struct maker *m)
{
    uint32_t kept = 0;
    bool fresh;
    for (uint32_t i = 0; i < m->closures; i++) {
        uint32_t state = m->closure[i].state;
        uint64_t callers = m->reached[state];
        m->reached[state] = 0;
        if (does_something(m->nfa, state))
            m->closure[kept++] = (struct reading){ .state = state, .callers = callers };
    }
    m->closures = m->pendings = 0;
    if (m->status != OK) return 0;
    kept = readings_settle(m->closure, kept);
    uint32_t set = set_table_put(&m->sets, m->closure, kept, &fresh);
    if (m->sets.status != OK) {
        m->status = m->sets.status;
        m->limit = "many automaton states";
    }
    return set;
}

/* ---- conditions ---- */

/* One of these guards: index + 1 into program->any; 0 when the list is empty or cannot be made. */
static uint16_t any_of(struct maker *m, const uint16_t *guard, uint32_t count)
{
    struct program *p = m->program;
    if (count == 0 || m->status != OK) return 0;
    if (p->anys) {  // mostly the same as the one before
        struct program_any last = p->any[p->anys - 1];
        if (last.count == count &&
            memcmp(p->any_guard + last.guard, guard, count * sizeof *guard) == 0)
            return (uint16_t)p->anys;
    }
    if (!ARRAY_ROOM(p->any, p->anys, m->any_room, UINT16_MAX - 1, &m->status)) return 0;
    p->any[p->anys] = (struct program_any){ p->any_guards, count };
    for (uint32_t i = 0; i < count; i++) {
        if (!ARRAY_ROOM(p->any_guard, p->any_guards, m->any_guard_room, PROGRAM_EDGES_MOST,
                        &m->status))
            return 0;
        p->any_guard[p->any_guards++] = guard[i];
    }
    return (uint16_t)++p->anys;
}

struct guard_list {
    uint16_t guard[256];
    uint32_t count;
    bool open;  // something is unguarded, so all is
};

static void guard_list_add(struct guard_list *list, uint16_t guard_plus_1)
{
    if (!guard_plus_1) list->open = true;
    if (list->open) return;
    uint16_t guard = (uint16_t)(guard_plus_1 - 1);
    for (uint32_t i = 0; i < list->count; i++)
        if (list->guard[i] == guard) return;
    if (list->count < 256) list->guard[list->count++] = guard;
    else list->open = true;  // not reached: names are SEEN_MOST, other guards few
}

static uint16_t guard_list_put(struct maker *m, const struct guard_list *list)
{
    return list->open ? 0 : any_of(m, list->guard, list->count);
}

/* ---- edges ---- */

static void gather(struct maker *m, uint32_t set)
{
    const struct nfa *nfa = m->nfa;
    uint32_t count;
    const struct reading *reading = set_table_readings(&m->sets, set, &count);

    m->crossings = 0;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t e = nfa->state[reading[i].state].edge; e; e = nfa->edge[e].next) {
            const struct nfa_edge *edge = &nfa->edge[e];
            if (edge->kind == EDGE_EPSILON) continue;
            if (edge->kind != EDGE_RETURN && !m->live[edge->to]) continue;
            if (edge->kind == EDGE_CALL && !m->live[edge->callee]) continue;
            if (!ARRAY_ROOM(m->crossing, m->crossings, m->crossing_room, NFA_EDGES_MOST,
                            &m->status))
                return;
            m->crossing[m->crossings++] =
                (struct crossing){ reading[i].callers, e, reading[i].state };
        }
}

/* cut[s]: some edge begins at symbol s or ends before it. */
static void find_cuts(const struct maker *m, bool cut[SYMBOLS + 1])
{
    memset(cut, 0, (SYMBOLS + 1) * sizeof *cut);
    for (uint32_t i = 0; i < m->crossings; i++) {
        cut[m->nfa->edge[m->crossing[i].edge].low] = true;
        cut[m->nfa->edge[m->crossing[i].edge].high + 1] = true;
    }
}

static bool covers(const struct maker *m, uint32_t crossing, unsigned symbol)
{
    const struct nfa_edge *edge = &m->nfa->edge[m->crossing[crossing].edge];
    return edge->low <= symbol && symbol <= edge->high;
}

/* The frame of all callers at a symbol, then the set of all they call. */
static void make_push(struct maker *m, unsigned symbol, struct program_edge *out)
{
    bool fresh;
    m->nexts = 0;
    for (uint32_t i = 0; i < m->crossings; i++) {
        if (!covers(m, i, symbol)) continue;
        if (!ARRAY_ROOM(m->next, m->nexts, m->next_room, NFA_EDGES_MOST, &m->status)) return;
        m->next[m->nexts++] = (struct reading){ .state = m->nfa->edge[m->crossing[i].edge].to,
                                                .callers = m->crossing[i].callers };
    }
    uint32_t count = readings_settle(m->next, m->nexts);
    if (count > FRAME_READINGS) {
        m->status = TOO_LONG;
        m->limit = "many alternatives open at once";
        return;
    }
    for (uint32_t i = 0; i < m->crossings; i++) {
        const struct nfa_edge *edge = &m->nfa->edge[m->crossing[i].edge];
        if (!covers(m, i, symbol)) continue;
        uint32_t at = 0;
        while (m->next[at].state != edge->to) at++;
        maker_enter(m, edge->callee, 1ull << at);
    }
    out->frame = set_table_put(&m->frames, m->next, count, &fresh);
    if (m->frames.status != OK) {
        m->status = m->frames.status;
        m->limit = "many automaton frames";
    }
    out->to = maker_close(m);
}

static void make_step(struct maker *m, unsigned symbol, struct program_edge *out)
{
    for (uint32_t i = 0; i < m->crossings; i++)
        if (covers(m, i, symbol))
            maker_enter(m, m->nfa->edge[m->crossing[i].edge].to, m->crossing[i].callers);
    out->to = maker_close(m);
}

static void make_pop(struct maker *m, unsigned symbol, struct program_edge *out)
{
    struct program *p = m->program;
    uint32_t guarded = 0;
    out->to = p->rets;
    for (uint32_t i = 0; i < m->crossings; i++) {
        if (!covers(m, i, symbol)) continue;
        uint16_t guard = m->nfa->state[m->crossing[i].state].guard;
        uint32_t at = out->to;
        while (at < p->rets && p->ret[at].guard != guard) at++;
        if (at < p->rets) {
            p->ret[at].callers |= m->crossing[i].callers;
            continue;
        }
        if (!ARRAY_ROOM(p->ret, p->rets, m->ret_room, PROGRAM_RETURNS_MOST, &m->status)) return;
        p->ret[p->rets++] = (struct program_return){ m->crossing[i].callers, guard };
        if (guard && ++guarded > GUARDED_RETURNS) {
            m->status = TOO_LONG;
            m->limit = "many alternatives with limits of their own";
            return;
        }
    }
    out->frame = p->rets - out->to;
}

/* Everything at one symbol (and at the others up to the next cut). */
static bool make_edge(struct maker *m, unsigned symbol, struct program_edge *out)
{
    static const uint8_t kinds[] = {
        [EDGE_STEP] = PROGRAM_STEP, [EDGE_CALL] = PROGRAM_PUSH, [EDGE_RETURN] = PROGRAM_POP
    };
    struct guard_list guards = { .count = 0 };
    int kind = -1;
    uint8_t act = ACT_NONE;
    for (uint32_t i = 0; i < m->crossings; i++) {
        if (!covers(m, i, symbol)) continue;
        const struct nfa_edge *edge = &m->nfa->edge[m->crossing[i].edge];
        if ((kind >= 0 && edge->kind != kind) || (act && edge->act && edge->act != act)) {
            m->status = TOO_LONG;
            m->limit = "many readings that differ in kind";
            return false;
        }
        kind = edge->kind;
        if (edge->act) act = edge->act;
        guard_list_add(&guards, m->nfa->state[m->crossing[i].state].guard);
    }
    if (kind < 0) return false;
    *out = (struct program_edge){ .kind = kinds[kind], .act = act };
    if (kind == EDGE_STEP) make_step(m, symbol, out);
    else if (kind == EDGE_CALL) make_push(m, symbol, out);
    else make_pop(m, symbol, out);
    if (kind != EDGE_RETURN) out->guard = guard_list_put(m, &guards);
    return m->status == OK;
}

static bool same_edge(const struct program_edge *a, const struct program_edge *b)
{
    return a->kind == b->kind && a->act == b->act && a->to == b->to && a->frame == b->frame &&
           a->guard == b->guard && a->kind != PROGRAM_POP;
}

void maker_edges(struct maker *m, uint32_t set)
{
    struct program *p = m->program;
    bool cut[SYMBOLS + 1];
    uint32_t first = p->edges;

    gather(m, set);
    find_cuts(m, cut);
    for (unsigned low = 0; low < SYMBOLS && m->status == OK;) {
        unsigned end = low + 1;
        struct program_edge edge;
        while (end < SYMBOLS && !cut[end]) end++;
        if (make_edge(m, low, &edge)) {
            edge.low = (uint16_t)low;
            edge.high = (uint16_t)(end - 1);
            struct program_edge *last = p->edges > first ? &p->edge[p->edges - 1] : NULL;
            if (last && last->high + 1u == low && same_edge(last, &edge)) {
                last->high = edge.high;
            } else {
                if (!ARRAY_ROOM(p->edge, p->edges, m->edge_room, PROGRAM_EDGES_MOST, &m->status)) {
                    m->limit = "many automaton edges";
                    return;
                }
                p->edge[p->edges++] = edge;
            }
        }
        low = end;
    }
    p->set[set].edge = first;
    p->set[set].edges = (uint16_t)(p->edges - first);
}
