/* nfa_live.c - which states a reading can still come to an end from: backwards from the ends. */
#include "engine/grammar/grammar_program.h"

struct arrival {
    uint32_t from, edge, next;
};

struct backwards {
    const struct nfa *nfa;
    bool *live;
    struct arrival *arrival;  // [arrivals]
    uint32_t *first;          // [states] into arrival; 0: none
    uint32_t *queue;          // [states]
    uint32_t arrivals, queued;
};

static void note(struct backwards *b, uint32_t at, uint32_t from, uint32_t edge)
{
    b->arrival[b->arrivals] = (struct arrival){ from, edge, b->first[at] };
    b->first[at] = b->arrivals++;
}

static void enliven(struct backwards *b, uint32_t state)
{
    if (b->live[state]) return;
    b->live[state] = true;
    b->queue[b->queued++] = state;
}

static void collect(struct backwards *b)
{
    const struct nfa *nfa = b->nfa;
    b->arrivals = 1;
    for (uint32_t from = 1; from < nfa->states; from++) {
        if (nfa->state[from].flags & NFA_FINAL) enliven(b, from);
        for (uint32_t e = nfa->state[from].edge; e; e = nfa->edge[e].next) {
            const struct nfa_edge *edge = &nfa->edge[e];
            if (edge->kind == EDGE_RETURN) enliven(b, from);
            else note(b, edge->to, from, e);
            if (edge->kind == EDGE_CALL) note(b, edge->callee, from, e);
        }
    }
}

bool *nfa_live(const struct nfa *nfa)
{
    struct backwards b = { .nfa = nfa };
    b.live = calloc(nfa->states, sizeof *b.live);
    b.first = calloc(nfa->states, sizeof *b.first);
    b.queue = calloc(nfa->states, sizeof *b.queue);
    b.arrival = calloc(2 * (size_t)nfa->edges + 1, sizeof *b.arrival);
    if (b.live && b.first && b.queue && b.arrival) {
        collect(&b);
        for (uint32_t done = 0; done < b.queued; done++)
            for (uint32_t a = b.first[b.queue[done]]; a; a = b.arrival[a].next) {
                const struct nfa_edge *edge = &nfa->edge[b.arrival[a].edge];
                bool whole = edge->kind != EDGE_CALL || (b.live[edge->to] && b.live[edge->callee]);
                if (whole) enliven(&b, b.arrival[a].from);
            }
    } else {
        free(b.live);
        b.live = NULL;
    }
    free(b.first);
    free(b.queue);
    free(b.arrival);
    return b.live;
}
