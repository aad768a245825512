/* program_alike.c - which sets no token can tell apart.
 *
 * A counted repetition has a set for each count, and far from its end they all allow the same
 * tokens. Two sets look alike over n + 1 bytes if their edges are alike and lead to sets that look
 * alike over n. Sets with a text of their own are left out, since their masks are cheap; but not where
 * other readings stand beside a text with a limit. Sets that take names differ by their names.
 */
#include "engine/grammar/grammar_program.h"

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9fb21c651e98df25u;
    return hash ^ hash >> 29;
}

/* The same conditions may stand in several places. */
static uint64_t mix_any(const struct program *p, uint64_t hash, uint16_t guard)
{
    if (!guard) return mix(hash, 0);
    struct program_any any = p->any[guard - 1];
    for (uint32_t i = 0; i < any.count; i++) {
        const struct guard *one = &p->guard[p->any_guard[any.guard + i]];
        hash = mix(hash, (uint64_t)one->kind + 1);
        hash = mix(mix(hash, (uint64_t)one->high << 32 | one->low), one->names);
    }
    return hash;
}

/* What a set is, apart from where its edges lead. */
static uint64_t look_of(const struct program *p, uint32_t set, uint64_t seed)
{
    const struct program_set *s = &p->set[set];
    uint64_t hash = mix_any(p, seed, s->guard);
    hash = mix(mix(hash, s->flags), s->far);
    hash = mix(hash, (uint64_t)s->counted << 1 | s->boundary);
    if (s->text && s->counted && s->mixed) hash = mix(mix(hash, s->text), s->text_guard);
    else if (s->text || s->names) hash = mix(hash, set + 1ull);
    for (uint32_t e = s->edge; e < s->edge + s->edges; e++) {
        const struct program_edge *edge = &p->edge[e];
        hash = mix_any(p, mix(hash, (uint64_t)edge->low << 16 | edge->high), edge->guard);
        hash = mix(hash, (uint64_t)edge->kind << 8 | edge->act);
        if (edge->kind == PROGRAM_PUSH) hash = mix(hash, (uint64_t)edge->to << 32 | edge->frame);
        if (edge->kind != PROGRAM_POP) continue;
        for (uint32_t r = edge->to; r < edge->to + edge->frame; r++)
            hash = mix(mix(hash, p->ret[r].callers), p->ret[r].guard);
    }
    return hash;
}

static uint64_t look_further(const struct program *p, uint32_t set, uint64_t look,
                             const uint64_t *before)
{
    const struct program_set *s = &p->set[set];
    for (uint32_t e = s->edge; e < s->edge + s->edges; e++)
        if (p->edge[e].kind == PROGRAM_STEP) look = mix(look, before[p->edge[e].to]);
    return look;
}

/* Gives each look the number of the first set that has it. */
static void number_looks(struct program *p, const uint64_t *look, uint32_t *slot, uint32_t slots)
{
    for (uint32_t set = 0; set < p->sets; set++) {
        uint32_t at = (uint32_t)look[set] & (slots - 1);
        while (slot[at] && look[slot[at] - 1] != look[set]) at = (at + 1) & (slots - 1);
        if (!slot[at]) slot[at] = set + 1;
        p->set[set].alike = slot[at] - 1;
    }
}

void program_find_alike(struct program *program, uint64_t seed)
{
    uint32_t sets = program->sets, slots = 1024;
    while (slots < 2 * sets) slots *= 2;
    for (uint32_t set = 0; set < sets; set++) program->set[set].alike = set;
    if ((uint64_t)program->edges * ALIKE_BYTES > ALIKE_WORK_MOST) return;
    uint64_t *look = malloc(3 * (size_t)sets * sizeof *look);
    uint32_t *slot = calloc(slots, sizeof *slot);
    if (look && slot) {
        uint64_t *first = look, *now = look + sets, *next = look + 2 * (size_t)sets;
        for (uint32_t set = 0; set < sets; set++)
            first[set] = now[set] = look_of(program, set, seed);
        for (int round = 0; round < ALIKE_BYTES; round++) {
            for (uint32_t set = 0; set < sets; set++)
                next[set] = look_further(program, set, first[set], now);
            uint64_t *spare = now;
            now = next;
            next = spare;
        }
        number_looks(program, now, slot, slots);
    }
    free(look);
    free(slot);
}
