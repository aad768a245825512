/* nfa.c - three growing arrays. */
#include "engine/grammar/nfa.h"

void nfa_init(struct nfa *nfa)
{
    *nfa = (struct nfa){ 0 };
    nfa_state(nfa);
}

void nfa_release(struct nfa *nfa)
{
    free(nfa->state);
    free(nfa->edge);
    free(nfa->guard);
    names_release(&nfa->names);
    *nfa = (struct nfa){ 0 };
}

/* Makes room for one more element; the array may move. */
static bool grow(struct nfa *nfa, void **array, size_t size, uint32_t count, uint32_t *room,
                 uint32_t most)
{
    if (nfa->status != OK) return false;
    if (count < *room) return true;
    if (count >= most) {
        nfa->status = TOO_LONG;
        return false;
    }
    uint32_t want = *room ? *room * 2 : 256;
    void *bigger = realloc(*array, want * size);
    if (!bigger) {
        nfa->status = NO_MEMORY;
        return false;
    }
    *array = bigger;
    *room = want;
    return true;
}

uint32_t nfa_state(struct nfa *nfa)
{
    if (!grow(nfa, (void **)&nfa->state, sizeof *nfa->state, nfa->states, &nfa->state_room,
              NFA_STATES_MOST))
        return 0;
    nfa->state[nfa->states] = (struct nfa_state){ 0 };
    return nfa->states++;
}

static bool guard_equal(const struct guard *a, const struct guard *b)
{
    return a->kind == b->kind && a->low == b->low && a->high == b->high && a->names == b->names;
}

uint32_t nfa_guarded(struct nfa *nfa, const struct guard *guard)
{
    enum {
        LOOK_BACK = 64
    };  // the same guard mostly comes again soon; twice in the table is no harm
    uint32_t state = nfa_state(nfa), at = nfa->guards;
    if (!state) return 0;
    for (uint32_t back = 1; back <= LOOK_BACK && back <= nfa->guards; back++)
        if (guard_equal(&nfa->guard[nfa->guards - back], guard)) at = nfa->guards - back;
    if (at == nfa->guards) {
        if (!grow(nfa, (void **)&nfa->guard, sizeof *nfa->guard, nfa->guards, &nfa->guard_room,
                  NFA_GUARDS_MOST))
            return 0;
        nfa->guard[nfa->guards++] = *guard;
    }
    nfa->state[state].guard = (uint16_t)(at + 1);
    return state;
}

void nfa_take_names(struct nfa *nfa, uint32_t state, uint32_t list)
{
    if (nfa->status == OK) nfa->status = nfa->names.status;
    if (nfa->status == OK) nfa->state[state].names = (uint16_t)(list + 1);
}

void nfa_flag(struct nfa *nfa, uint32_t state, enum nfa_flag flag)
{
    if (nfa->status == OK) nfa->state[state].flags |= (uint8_t)flag;
}

static void add_edge(struct nfa *nfa, uint32_t from, struct nfa_edge edge)
{
    if (!grow(nfa, (void **)&nfa->edge, sizeof *nfa->edge, nfa->edges, &nfa->edge_room,
              NFA_EDGES_MOST))
        return;
    if (nfa->edges == 0) nfa->edge[nfa->edges++] = (struct nfa_edge){ 0 };  // 0 ends a list
    edge.next = nfa->state[from].edge;
    nfa->edge[nfa->edges] = edge;
    nfa->state[from].edge = nfa->edges++;
}

void nfa_epsilon(struct nfa *nfa, uint32_t from, uint32_t to)
{
    add_edge(nfa, from, (struct nfa_edge){ .kind = EDGE_EPSILON, .to = to });
}

void nfa_step(struct nfa *nfa, uint32_t from, uint16_t low, uint16_t high, uint32_t to)
{
    add_edge(nfa, from, (struct nfa_edge){ .kind = EDGE_STEP, .low = low, .high = high, .to = to });
}

void nfa_call(struct nfa *nfa, uint32_t from, uint16_t symbol, uint32_t callee, uint32_t to)
{
    add_edge(nfa, from,
             (struct nfa_edge){
                 .kind = EDGE_CALL, .low = symbol, .high = symbol, .callee = callee, .to = to });
}

void nfa_return(struct nfa *nfa, uint32_t from, uint16_t symbol)
{
    add_edge(nfa, from, (struct nfa_edge){ .kind = EDGE_RETURN, .low = symbol, .high = symbol });
}

void nfa_act(struct nfa *nfa, uint8_t act)
{
    if (nfa->status == OK) nfa->edge[nfa->edges - 1].act = act;
}

uint32_t nfa_bytes(struct nfa *nfa, uint32_t from, struct slice bytes)
{
    for (size_t i = 0; i < bytes.size; i++) {
        uint32_t to = nfa_state(nfa);
        nfa_step(nfa, from, (uint8_t)bytes.data[i], (uint8_t)bytes.data[i], to);
        from = to;
    }
    return from;
}

void nfa_bytes_to(struct nfa *nfa, uint32_t from, struct slice bytes, uint32_t to)
{
    nfa_epsilon(nfa, nfa_bytes(nfa, from, bytes), to);
}

void nfa_text(struct nfa *nfa, enum text_kind kind, const struct text_rule *rule,
              const struct guard *guard, uint32_t *state)
{
    for (uint16_t k = 0; k < rule->count; k++) {
        state[k] = guard ? nfa_guarded(nfa, guard) : nfa_state(nfa);
        if (nfa->status == OK)
            nfa->state[state[k]].text = (uint16_t)((unsigned)kind << 12 | (k + 1u));
    }
    for (uint16_t k = 0; k < rule->count; k++) {
        for (unsigned low = 0; low < 256;) {
            unsigned high = low;
            uint16_t next = rule->next[k][low];
            while (high < 255 && rule->next[k][high + 1] == next) high++;
            if (next < rule->count)
                nfa_step(nfa, state[k], (uint16_t)low, (uint16_t)high, state[next]);
            low = high + 1;
        }
    }
}

uint32_t nfa_space(struct nfa *nfa)
{
    uint32_t state = nfa_state(nfa);
    nfa_flag(nfa, state, NFA_SPACE);
    nfa_step(nfa, state, '\t', '\n', state);
    nfa_step(nfa, state, '\r', '\r', state);
    nfa_step(nfa, state, ' ', ' ', state);
    return state;
}
