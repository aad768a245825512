/* grammar_run.c - the automaton's step. */
#include "engine/grammar/grammar_run.h"

static bool guard_holds(const struct guard *guard, const struct run *run)
{
    switch (guard->kind) {
    case GUARD_CHARS:
        return run->chars >= guard->low && run->chars <= guard->high;
    case GUARD_UNSEEN:
        return (guard->names & ~run->seen) != 0;
    case GUARD_SEEN:
        return (guard->names & ~run->seen) == 0;
    }
    return false;
}

bool run_holds(const struct program *program, const struct run *run, uint16_t guard)
{
    if (!guard) return true;
    struct program_any any = program->any[guard - 1];
    for (uint32_t i = 0; i < any.count; i++)
        if (guard_holds(&program->guard[program->any_guard[any.guard + i]], run)) return true;
    return false;
}

/* The callers that a POP returns to now. */
static uint64_t callers_of(const struct program *program, const struct run *run,
                           const struct program_edge *edge)
{
    uint64_t callers = 0;
    for (uint32_t i = 0; i < edge->frame; i++) {
        const struct program_return *ret = &program->ret[edge->to + i];
        if (!ret->guard || guard_holds(&program->guard[ret->guard - 1], run))
            callers |= ret->callers;
    }
    return callers;
}

static uint32_t landing_of(const struct program *program, uint32_t frame, uint64_t callers)
{
    const struct program_frame *f = &program->frame[frame];
    for (uint32_t i = 0; i < f->landings; i++)
        if (program->landing[f->landing + i].callers == callers)
            return program->landing[f->landing + i].set;
    return PROGRAM_NONE;
}

/* A byte of a name, which leads on in the same set: *symbol is then none. The quote behind a whole name is the
 * name's symbol, and remembered in *next. False: neither. */
static bool take_name(const struct program *program, struct run *next, unsigned *symbol)
{
    uint32_t list = program->set[next->set].names - 1u;
    if (*symbol != '"') {
        if (!names_step(&program->names, list, next->seen, (uint8_t)*symbol, &next->chars))
            return false;
        *symbol = SYMBOLS;
        return true;
    }
    const struct name *name = names_whole(&program->names, list, next->seen, next->chars);
    if (!name) return false;
    *symbol = SYMBOL_NAME + name->way;
    if (name->mark != NAME_UNMARKED) next->seen |= 1ull << name->mark;
    return true;
}

enum run_step run_take(const struct program *program, struct run *run, struct run_frames *frames,
                       unsigned symbol, struct run_note *note)
{
    const struct program_set *from = &program->set[run->set];
    struct run next = *run;

    note->slot = PROGRAM_NONE;
    if (from->names && symbol <= UINT8_MAX) {
        if (!take_name(program, &next, &symbol)) return RUN_NO;
        if (symbol == SYMBOLS) {
            *run = next;
            return RUN_YES;
        }
    }
    const struct program_edge *edge = program_edge_of(program, run->set, symbol);
    if (!edge || (edge->guard && !run_holds(program, run, edge->guard))) return RUN_NO;
    if (run->depth >= GRAMMAR_DEPTH_FREE && !edge->narrow) return RUN_NO;
    next.chars = from->counted ? run->chars + from->boundary : 0;
    if (edge->act == ACT_FORGET) next.seen = 0;

    if (edge->kind == PROGRAM_POP) {
        uint64_t callers = callers_of(program, run, edge);
        if (!callers) return RUN_NO;
        if (run->depth <= frames->unknown) return RUN_MAYBE;
        next.depth--;
        next.set = landing_of(program, frames->frame[next.depth], callers);
        must(next.set != PROGRAM_NONE);
    } else {
        next.set = edge->to;
        if (edge->kind == PROGRAM_PUSH) {
            must(run->depth < GRAMMAR_FRAMES);
            next.depth++;
        }
    }
    uint16_t alive = program->set[next.set].guard;
    if (alive && !run_holds(program, &next, alive)) return RUN_NO;
    if (edge->kind == PROGRAM_PUSH) {
        *note = (struct run_note){ run->depth, frames->frame[run->depth] };
        frames->frame[run->depth] = edge->frame;
        if (next.depth > frames->deepest) frames->deepest = next.depth;
    }
    *run = next;
    return RUN_YES;
}

unsigned run_choices(const struct program *program, const struct run *run,
                     const struct run_frames *frames, unsigned *symbol)
{
    const struct program_set *set = &program->set[run->set];
    unsigned found = 0;
    if (set->names)
        return names_choices(&program->names, set->names - 1u, run->seen, run->chars, symbol);
    for (uint32_t i = 0; i < set->edges; i++) {
        const struct program_edge *edge = &program->edge[set->edge + i];
        for (unsigned s = edge->low; s <= edge->high; s++) {
            uint32_t copy[GRAMMAR_FRAMES];
            struct run_frames room = { copy, frames->unknown, 0 };
            struct run next = *run;
            struct run_note note;
            memcpy(copy, frames->frame, run->depth * sizeof *copy);
            if (run_take(program, &next, &room, s, &note) == RUN_NO) continue;
            *symbol = s;
            if (++found == 2) return 2;
        }
    }
    return found;
}
