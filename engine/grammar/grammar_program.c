/* grammar_program.c - finds every set that can be reached.
 *
 * A set is reached in calls: (set, call) where the call is named by the set it begins with. A return
 * in a call lands in the sets that pushed it, so each call keeps its callers and its exits, and
 * whichever is new is combined with all of the other.
 */
#include "config/hash.h"
#include "engine/grammar/program_maker.h"

struct pair {
    uint32_t set, call, next;  // next: the set's next pair
};

struct caller {
    uint32_t set, frame, next;
};

struct exit_mask {
    uint64_t callers;
    uint32_t next;
};

struct explorer {
    struct maker *m;
    uint64_t until_ns;
    struct pair *pair;        // the queue, and the calls of each set; [0] ends lists
    struct caller *caller;    // [0] ends lists
    struct exit_mask *exits;  // [0] ends lists
    uint32_t *slot;           // [slots] pair + 1 by hash
    uint32_t *pairs_of, *callers_of, *exits_of;  // [PROGRAM_SETS_MOST] first of each
    bool *made;                                  // [PROGRAM_SETS_MOST] has its edges
    uint32_t pairs, pair_room, callers, caller_room, exit_count, exit_room, slots;
};

/* ---- what a set is, apart from its edges ---- */

enum { CLOSER_CHARS = 3 };  // beyond a text's own limit, those of its closer end

static void see_limit(struct program_set *out, const struct guard *guard)
{
    if (guard->kind != GUARD_CHARS || guard->high >= UINT32_MAX - CLOSER_CHARS) return;
    if (guard->high + CLOSER_CHARS > out->far) out->far = guard->high + CLOSER_CHARS;
}

static void see_text(struct program_set *out, const struct maker *m, const struct nfa_state *state)
{
    unsigned kind = state->text >> 12, k = (state->text & 0xfffu) - 1;
    bool counted = state->guard && m->nfa->guard[state->guard - 1].kind == GUARD_CHARS;
    bool wider = !out->text || (out->text_guard &&
                                (!state->guard || m->nfa->guard[state->guard - 1].high >
                                                      m->nfa->guard[out->text_guard - 1].high));
    if (counted) {
        out->counted = true;
        out->boundary = m->text[kind].boundary[k];
    }
    if (!wider) return;
    out->text = state->text;
    out->text_guard = state->guard;
}

static void describe(struct maker *m, uint32_t set)
{
    struct program *p = m->program;
    uint32_t count;
    const struct reading *reading = set_table_readings(&m->sets, set, &count);
    struct program_set out = { .height = UINT8_MAX };
    uint16_t guard[SEEN_MOST];
    uint32_t guards = 0;
    bool open = count == 0;

    for (uint32_t i = 0; i < count; i++) {
        const struct nfa_state *state = &m->nfa->state[reading[i].state];
        out.flags |= state->flags;
        if (state->names) out.names = state->names;
        if (state->text) see_text(&out, m, state);
        else if (!(state->flags & NFA_CLOSER)) out.mixed = true;
        uint16_t one = state->guard;
        if (one) see_limit(&out, &m->nfa->guard[one - 1]);
        bool known = !one;
        for (uint32_t g = 0; g < guards; g++) known = known || guard[g] == one - 1;
        if (!one || (!known && guards == SEEN_MOST)) open = true;
        else if (!known) guard[guards++] = (uint16_t)(one - 1);
    }
    p->set[set] = out;
    if (out.names && count > 1) {
        m->status = TOO_LONG;
        m->limit = "many readings that differ in kind";
    }
    if (open || guards == 0) return;
    if (!ARRAY_ROOM(p->any, p->anys, m->any_room, UINT16_MAX - 1, &m->status)) return;
    p->any[p->anys] = (struct program_any){ p->any_guards, guards };
    for (uint32_t g = 0; g < guards; g++) {
        if (!ARRAY_ROOM(p->any_guard, p->any_guards, m->any_guard_room, PROGRAM_EDGES_MOST,
                        &m->status))
            return;
        p->any_guard[p->any_guards++] = guard[g];
    }
    p->set[set].guard = (uint16_t)++p->anys;
}

/* ---- reaching ---- */

static void widen_pairs(struct explorer *x)
{
    if (2 * (x->pairs + 1) < x->slots || x->m->status != OK) return;
    uint32_t slots = x->slots ? 2 * x->slots : 1024;
    uint32_t *slot = calloc(slots, sizeof *slot);
    if (!slot) {
        x->m->status = NO_MEMORY;
        return;
    }
    free(x->slot);
    x->slot = slot;
    x->slots = slots;
    for (uint32_t i = 1; i < x->pairs; i++) {
        uint32_t key[2] = { x->pair[i].set, x->pair[i].call };
        uint32_t at = (uint32_t)hash64(key, sizeof key, 0) & (slots - 1);
        while (slot[at]) at = (at + 1) & (slots - 1);
        slot[at] = i;
    }
}

static void reach_pair(struct explorer *x, uint32_t set, uint32_t call)
{
    struct maker *m = x->m;
    widen_pairs(x);
    if (m->status != OK) return;
    uint32_t key[2] = { set, call };
    uint32_t at = (uint32_t)hash64(key, sizeof key, 0) & (x->slots - 1);
    for (; x->slot[at]; at = (at + 1) & (x->slots - 1)) {
        const struct pair *old = &x->pair[x->slot[at]];
        if (old->set == set && old->call == call) return;
    }
    if (!ARRAY_ROOM(x->pair, x->pairs, x->pair_room, PROGRAM_PAIRS_MOST, &m->status)) {
        m->limit = "many automaton states times calls";
        return;
    }
    x->slot[at] = x->pairs;
    x->pair[x->pairs] = (struct pair){ set, call, x->pairs_of[set] };
    x->pairs_of[set] = x->pairs++;
}

static void reach_all(struct explorer *x, uint32_t landing, uint32_t of_set)
{
    for (uint32_t i = x->pairs_of[of_set]; i; i = x->pair[i].next)
        reach_pair(x, landing, x->pair[i].call);
}

uint32_t maker_land(struct maker *m, uint32_t frame, uint64_t callers)
{
    while (m->landing_first_room <= frame && m->status == OK) {
        uint32_t had = m->landing_first_room;
        if (!ARRAY_ROOM(m->landing_first, had, m->landing_first_room, PROGRAM_FRAMES_MOST,
                        &m->status))
            return 0;
        memset(m->landing_first + had, 0, (m->landing_first_room - had) * sizeof *m->landing_first);
    }
    if (m->status != OK) return 0;
    for (uint32_t l = m->landing_first[frame]; l; l = m->landing[l].next)
        if (m->landing[l].callers == callers) return m->landing[l].set;

    uint32_t count;
    const struct reading *reading = set_table_readings(&m->frames, frame, &count);
    for (uint32_t i = 0; i < count; i++)
        if (callers >> i & 1) maker_enter(m, reading[i].state, reading[i].callers);
    uint32_t set = maker_close(m);
    if (!ARRAY_ROOM(m->landing, m->landings, m->landing_room, PROGRAM_RETURNS_MOST, &m->status))
        return 0;
    m->landing[m->landings] = (struct landing){ callers, set, m->landing_first[frame] };
    m->landing_first[frame] = m->landings++;
    return set;
}

static void note_exit(struct explorer *x, uint32_t call, uint64_t callers)
{
    struct maker *m = x->m;
    for (uint32_t i = x->exits_of[call]; i; i = x->exits[i].next)
        if (x->exits[i].callers == callers) return;
    if (!ARRAY_ROOM(x->exits, x->exit_count, x->exit_room, PROGRAM_RETURNS_MOST, &m->status))
        return;
    x->exits[x->exit_count] = (struct exit_mask){ callers, x->exits_of[call] };
    x->exits_of[call] = x->exit_count++;
    for (uint32_t i = x->callers_of[call]; i && m->status == OK; i = x->caller[i].next) {
        uint32_t landing = maker_land(m, x->caller[i].frame, callers);
        reach_all(x, landing, x->caller[i].set);
    }
}

/* Every mask that the readings of a POP edge may return with, as guards hold or not. */
static void note_exits(struct explorer *x, const struct program_edge *edge, uint32_t call)
{
    struct program_return guarded[GUARDED_RETURNS];
    uint64_t always = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < edge->frame; i++) {
        struct program_return one = x->m->program->ret[edge->to + i];
        if (one.guard) guarded[count++] = one;
        else always |= one.callers;
    }
    for (uint32_t chosen = 0; chosen < 1u << count; chosen++) {
        uint64_t callers = always;
        for (uint32_t i = 0; i < count; i++)
            if (chosen >> i & 1) callers |= guarded[i].callers;
        if (callers) note_exit(x, call, callers);
    }
}

static void note_push(struct explorer *x, const struct program_edge *edge, uint32_t set, bool first)
{
    struct maker *m = x->m;
    if (first) {
        if (!ARRAY_ROOM(x->caller, x->callers, x->caller_room, PROGRAM_PAIRS_MOST, &m->status))
            return;
        x->caller[x->callers] = (struct caller){ set, edge->frame, x->callers_of[edge->to] };
        x->callers_of[edge->to] = x->callers++;
    }
    reach_pair(x, edge->to, edge->to);
    for (uint32_t i = x->exits_of[edge->to]; i && m->status == OK; i = x->exits[i].next) {
        uint32_t landing = maker_land(m, edge->frame, x->exits[i].callers);
        reach_all(x, landing, set);
    }
}

static void explore_pair(struct explorer *x, struct pair pair)
{
    struct maker *m = x->m;
    struct program *p = m->program;
    bool first = !x->made[pair.set];
    if (first) {
        x->made[pair.set] = true;
        describe(m, pair.set);
        if (m->status == OK) maker_edges(m, pair.set);
        if (m->status != OK) return;
    }
    struct program_set set = p->set[pair.set];
    for (uint32_t i = 0; i < set.edges && m->status == OK; i++) {
        struct program_edge edge = p->edge[set.edge + i];
        if (edge.kind == PROGRAM_STEP) reach_pair(x, edge.to, pair.call);
        else if (edge.kind == PROGRAM_PUSH) note_push(x, &edge, pair.set, first);
        else note_exits(x, &edge, pair.call);
    }
}

static void explore(struct explorer *x, uint32_t start)
{
    enum { LOOK_AT_CLOCK = 16, MANY_CROSSINGS = 256 };
    struct maker *m = x->m;
    x->pairs = x->callers = x->exit_count = 1;
    if (!ARRAY_ROOM(x->pair, 0, x->pair_room, 1, &m->status) ||
        !ARRAY_ROOM(x->caller, 0, x->caller_room, 1, &m->status) ||
        !ARRAY_ROOM(x->exits, 0, x->exit_room, 1, &m->status) ||
        !ARRAY_ROOM(m->landing, 0, m->landing_room, 1, &m->status))
        return;
    m->landings = 1;
    maker_enter(m, start, 1);
    m->program->start = maker_close(m);
    reach_pair(x, m->program->start, m->program->start);
    for (uint32_t done = 1; done < x->pairs && m->status == OK; done++) {
        bool look = done % LOOK_AT_CLOCK == 0 || m->crossings > MANY_CROSSINGS;
        if (look && thread_ns() > x->until_ns) {
            m->status = TOO_LONG;
            m->limit = "much time to compile";
            return;
        }
        explore_pair(x, x->pair[done]);
    }
}

/* ---- the shortest way out ---- */

static uint32_t edge_height(const struct program *p, const struct program_edge *edge)
{
    if (edge->kind == PROGRAM_POP) return 0;
    uint32_t height = p->set[edge->to].height;
    if (edge->kind == PROGRAM_STEP || height == UINT8_MAX) return height;
    height++;
    const struct program_frame *frame = &p->frame[edge->frame];
    for (uint32_t i = 0; i < frame->landings; i++) {
        uint32_t after = p->set[p->landing[frame->landing + i].set].height;
        if (after > height) height = after;
    }
    return height > UINT8_MAX ? UINT8_MAX : height;
}

static bool lower(struct program *p, uint32_t set)
{
    struct program_set *s = &p->set[set];
    uint32_t least = s->flags & NFA_FINAL ? 0 : UINT8_MAX;
    for (uint32_t i = 0; i < s->edges; i++) {
        uint32_t height = edge_height(p, &p->edge[s->edge + i]);
        if (height < least) least = height;
    }
    if (least >= s->height) return false;
    s->height = (uint8_t)least;
    return true;
}

static void find_heights(struct maker *m, uint64_t until_ns)
{
    struct program *p = m->program;
    for (bool again = true; again;) {
        again = false;
        for (uint32_t set = p->sets; set-- > 0;) again = lower(p, set) || again;
        if (thread_ns() > until_ns) {
            m->status = TOO_LONG;
            m->limit = "much time to compile";
            return;
        }
    }
    for (uint32_t set = 0; set < p->sets; set++) {
        struct program_set *s = &p->set[set];
        if (s->height > PROGRAM_HEIGHT_MOST) {
            m->status = TOO_LONG;
            m->limit = "many levels of nesting that every value needs";
            return;
        }
        for (uint32_t i = 0; i < s->edges; i++)
            p->edge[s->edge + i].narrow = edge_height(p, &p->edge[s->edge + i]) <= s->height;
    }
}

/* ---- the whole ---- */

static void lay_out_landings(struct maker *m)
{
    struct program *p = m->program;
    p->frames = m->frames.sets;
    p->frame = calloc(p->frames + 1, sizeof *p->frame);
    p->landing = calloc(m->landings, sizeof *p->landing);
    if (!p->frame || !p->landing) {
        m->status = NO_MEMORY;
        return;
    }
    for (uint32_t f = 0; f < p->frames; f++) {
        p->frame[f].landing = p->landings;
        for (uint32_t l = f < m->landing_first_room ? m->landing_first[f] : 0; l;
             l = m->landing[l].next)
            p->landing[p->landings++] =
                (struct program_landing){ m->landing[l].callers, m->landing[l].set };
        p->frame[f].landings = p->landings - p->frame[f].landing;
    }
}

static void copy_guards(struct maker *m)
{
    struct program *p = m->program;
    p->guards = m->nfa->guards;
    p->guard = calloc(p->guards + 1, sizeof *p->guard);
    if (!p->guard) {
        m->status = NO_MEMORY;
        return;
    }
    if (p->guards) memcpy(p->guard, m->nfa->guard, p->guards * sizeof *p->guard);
    uint32_t least = 0;
    for (uint32_t g = 0; g < p->guards; g++) {
        if (p->guard[g].kind != GUARD_CHARS) p->remembers = true;
        else if (p->guard[g].low > least) least = p->guard[g].low;
    }
    for (uint32_t s = 0; s < p->sets;
         s++)  // a text's least number is not known from every state of it
        if (p->set[s].far < least) p->set[s].far = least;
}

static void make(struct maker *m, uint32_t start, uint64_t until_ns)
{
    struct explorer x = { .m = m, .until_ns = until_ns };
    x.pairs_of = calloc(PROGRAM_SETS_MOST, sizeof *x.pairs_of);
    x.callers_of = calloc(PROGRAM_SETS_MOST, sizeof *x.callers_of);
    x.exits_of = calloc(PROGRAM_SETS_MOST, sizeof *x.exits_of);
    x.made = calloc(PROGRAM_SETS_MOST, sizeof *x.made);
    m->program->set = calloc(PROGRAM_SETS_MOST, sizeof *m->program->set);
    if (!x.pairs_of || !x.callers_of || !x.exits_of || !x.made || !m->program->set)
        m->status = NO_MEMORY;
    if (m->status == OK) explore(&x, start);
    m->program->sets = m->sets.sets;
    if (m->status == OK) lay_out_landings(m);
    if (m->status == OK) copy_guards(m);
    if (m->status == OK) find_heights(m, until_ns);
    free(x.pair);
    free(x.caller);
    free(x.exits);
    free(x.slot);
    free(x.pairs_of);
    free(x.callers_of);
    free(x.exits_of);
    free(x.made);
}

/* Every array has one element more than it needs: none is ever empty. */
static void *trimmed(void *array, uint32_t count, size_t size)
{
    void *smaller = realloc(array, (count + 1) * size);
    return smaller ? smaller : array;
}
#define TRIM(array, count) (array) = trimmed(array, count, sizeof *(array))

/* Gives back what growing left over. */
static void trim(struct program *p)
{
    TRIM(p->set, p->sets);
    TRIM(p->edge, p->edges);
    TRIM(p->ret, p->rets);
    TRIM(p->landing, p->landings);
    TRIM(p->any, p->anys);
    TRIM(p->any_guard, p->any_guards);
}

enum status program_init(struct program *program, struct nfa *nfa, uint32_t start,
                         const struct text_rule *text, uint64_t until_ns, struct err *err)
{
    *program = (struct program){ 0 };
    struct maker m = { .program = program, .nfa = nfa, .text = text, .status = nfa->status };
    if (m.status == TOO_LONG) m.limit = "many automaton states before they are joined";
    bool *live = m.status == OK ? nfa_live(nfa) : NULL;
    if (m.status == OK && !live) m.status = NO_MEMORY;
    if (m.status == OK && !live[start]) {
        free(live);
        return fail(err, BAD_INPUT, "nothing satisfies it");
    }
    m.live = live;
    m.reached = calloc(nfa->states + 1, sizeof *m.reached);
    enum status sets = set_table_init(&m.sets, PROGRAM_SETS_MOST, PROGRAM_READINGS_MOST);
    enum status frames = set_table_init(&m.frames, PROGRAM_FRAMES_MOST, PROGRAM_READINGS_MOST);
    if (m.status == OK && (!m.reached || sets != OK || frames != OK)) m.status = NO_MEMORY;
    if (m.status == OK) make(&m, start, until_ns);

    set_table_release(&m.sets);
    set_table_release(&m.frames);
    free(live);
    free(m.reached);
    free(m.pending);
    free(m.closure);
    free(m.crossing);
    free(m.next);
    free(m.landing);
    free(m.landing_first);
    if (m.status == OK) {
        program->names = nfa->names;
        nfa->names = (struct names){ 0 };
        names_trim(&program->names);
        trim(program);
        program_find_alike(program, now_ns());
        return OK;
    }
    program_release(program);
    if (m.status == NO_MEMORY) return fail(err, NO_MEMORY, "no memory to compile it");
    return fail(err, m.status, "too big: it takes too %s",
                m.limit ? m.limit : "many automaton states");
}

void program_release(struct program *program)
{
    free(program->set);
    free(program->edge);
    free(program->ret);
    free(program->frame);
    free(program->landing);
    free(program->guard);
    free(program->any);
    free(program->any_guard);
    names_release(&program->names);
    *program = (struct program){ 0 };
}

size_t program_bytes(const struct program *p)
{
    return (p->sets + 1) * sizeof *p->set + (p->edges + 1) * sizeof *p->edge +
           (p->rets + 1) * sizeof *p->ret + (p->frames + 1) * sizeof *p->frame +
           (p->landings + 1) * sizeof *p->landing + (p->guards + 1) * sizeof *p->guard +
           (p->anys + 1) * sizeof *p->any + (p->any_guards + 1) * sizeof *p->any_guard +
           names_bytes(&p->names) + 11 * HEAP_BYTES_EACH;
}
