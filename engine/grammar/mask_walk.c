/* mask_walk.c - down the tree, passing over what is refused. */
#include "engine/grammar/mask_walk.h"

enum {
    ROWS = 256,
    NODES_MANY = 4096,  // in a smaller tree no row would pay
};

#define STEP_NO UINT32_MAX           // no edge
#define STEP_SLOW (UINT32_MAX - 1u)  // not a plain one

struct plain_step {
    uint32_t to;    // a set, or one of the two above
    uint32_t high;  // taken while no more characters than these came before
};

struct row {
    uint32_t set;         // PROGRAM_NONE: none yet
    uint32_t keep, more;  // characters behind a step: (those before & keep) + more
    struct plain_step step[256];
};

/* ---- rows ---- */

/* Up to how many characters do these conditions hold? False: they ask for something else. */
static bool holds_up_to(const struct program *program, uint16_t guard, uint32_t *high)
{
    uint32_t most = 0, beyond = 0;
    bool found = false;
    *high = UINT32_MAX;
    if (!guard) return true;
    struct program_any any = program->any[guard - 1];
    for (uint32_t i = 0; i < any.count; i++) {
        const struct guard *one = &program->guard[program->any_guard[any.guard + i]];
        if (one->kind != GUARD_CHARS) return false;
        uint32_t *end = one->low ? &beyond : &most;
        found = found || !one->low;
        if (one->high > *end) *end = one->high;
    }
    *high = most;
    return found && beyond <= most;
}

static struct plain_step plain_step(const struct program *program, const struct program_set *from,
                                    const struct program_edge *edge)
{
    static const struct plain_step slow = { STEP_SLOW, UINT32_MAX };
    uint16_t alive = edge->kind == PROGRAM_STEP ? program->set[edge->to].guard : 0;
    uint32_t before, after;
    if (edge->kind != PROGRAM_STEP || edge->act) return slow;
    if (!edge->guard && !alive) return (struct plain_step){ edge->to, UINT32_MAX };
    if (!from->counted || !holds_up_to(program, edge->guard, &before) ||
        !holds_up_to(program, alive, &after))
        return slow;
    if (after < UINT32_MAX) {
        if (after < from->boundary) return slow;
        after -= from->boundary;
    }
    return (struct plain_step){ edge->to, before < after ? before : after };
}

static void lay_out(const struct program *program, uint32_t set, struct row *row)
{
    const struct program_set *from = &program->set[set];
    row->set = set;
    row->keep = from->counted ? UINT32_MAX : 0;
    row->more = from->counted && from->boundary;
    unsigned next = 0;
    for (; from->names && next < 256; next++) row->step[next].to = STEP_SLOW;
    for (uint32_t e = from->edge; e < from->edge + from->edges; e++) {
        const struct program_edge *edge = &program->edge[e];
        struct plain_step step = plain_step(program, from, edge);
        for (; next < 256 && next < edge->low; next++) row->step[next].to = STEP_NO;
        for (; next < 256 && next <= edge->high; next++) row->step[next] = step;
    }
    for (; next < 256; next++) row->step[next].to = STEP_NO;
}

static inline const struct row *row_of(struct row *rows, const struct program *program,
                                       uint32_t set)
{
    struct row *row = &rows[set % ROWS];
    if (row->set != set) lay_out(program, set, row);
    return row;
}

/* ---- what was found ---- */

void ids_add(struct ids *ids, uint32_t id)
{
    if (ids->count == ids->room && !ids->failed) {
        uint32_t room = ids->room ? 2 * ids->room : 1024;
        uint32_t *bigger = realloc(ids->id, room * sizeof *bigger);
        if (bigger) {
            ids->id = bigger;
            ids->room = room;
        } else {
            ids->failed = true;
        }
    }
    if (!ids->failed) ids->id[ids->count++] = id;
}

static void walk_found(struct walk *walk, uint32_t id)
{
    if (walk->bits) bit_put(walk->bits, id);
    else ids_add(&walk->sure, id);
}

static void walk_maybe(struct walk *walk, const struct token_tree *tree, uint32_t node)
{
    for (uint32_t i = node; i < tree->end[node]; i++) {
        bool left = walk->bytes_most && tree->depth[i] > walk->bytes_most;
        if (tree->token[i] != VOCAB_NONE && !left) ids_add(&walk->maybe, tree->token[i]);
    }
}

/* ---- walking ---- */

struct path {
    struct run at[TOKEN_BYTES_MOST + 1];     // behind so many bytes
    struct run_note note[TOKEN_BYTES_MOST];  // [notes] what the steps up to there changed
    uint8_t behind[TOKEN_BYTES_MOST];        // [notes] how many bytes
    unsigned notes;
};

/* As run_take, without calls and conditions; false when it is not as simple as that. */
static inline bool step_plainly(struct plain_step plain, uint32_t keep, uint32_t more,
                                const struct run *from, struct run *to, bool *taken)
{
    if (plain.to == STEP_SLOW) return false;
    *taken = plain.to != STEP_NO && from->chars <= plain.high;
    *to = *from;
    to->set = plain.to;
    to->chars = (from->chars & keep) + more;
    return true;
}

static inline bool step_by_row(struct row *rows, const struct program *program,
                               const struct run *from, uint8_t byte, struct run *to, bool *taken)
{
    const struct row *row = row_of(rows, program, from->set);
    return step_plainly(row->step[byte], row->keep, row->more, from, to, taken);
}

static inline bool step_by_edge(const struct program *program, const struct run *from, uint8_t byte,
                                struct run *to, bool *taken)
{
    const struct program_set *set = &program->set[from->set];
    if (set->names) return false;
    const struct program_edge *edge = program_edge_of(program, from->set, byte);
    *taken = edge != NULL;
    if (!edge) return true;
    return step_plainly(plain_step(program, set, edge), set->counted ? UINT32_MAX : 0,
                        set->counted && set->boundary, from, to, taken);
}

static void undo(struct walk *walk, struct path *path, unsigned bytes)
{
    while (path->notes && path->behind[path->notes - 1] >= bytes)
        run_undo(&walk->frames, path->note[--path->notes]);
}

static enum run_step step_slowly(struct walk *walk, struct path *path, unsigned bytes, uint8_t byte)
{
    struct run_note *note = &path->note[path->notes];
    path->at[bytes] = path->at[bytes - 1];
    enum run_step step = run_take(walk->program, &path->at[bytes], &walk->frames, byte, note);
    if (step == RUN_YES && note->slot != PROGRAM_NONE) path->behind[path->notes++] = (uint8_t)bytes;
    return step;
}

static void walk_with(struct walk *walk, const struct token_tree *tree, struct path *path,
                      struct row *rows)
{
    const struct program *program = walk->program;
    const unsigned most = walk->bytes_most ? walk->bytes_most : TOKEN_BYTES_MOST;
    for (uint32_t node = 0; node < tree->count;) {
        unsigned bytes = tree->depth[node];
        if (bytes > most) {
            node = tree->end[node];
            continue;
        }
        if (path->notes) undo(walk, path, bytes);
        const struct run *from = &path->at[bytes - 1];
        struct run *to = &path->at[bytes];
        uint8_t byte = tree->byte[node];
        bool taken = false, free = from->depth < GRAMMAR_DEPTH_FREE;
        bool plain = free && (rows ? step_by_row(rows, program, from, byte, to, &taken)
                                   : step_by_edge(program, from, byte, to, &taken));
        if (!plain) {
            enum run_step step = step_slowly(walk, path, bytes, byte);
            if (step == RUN_MAYBE) walk_maybe(walk, tree, node);
            taken = step == RUN_YES;
        }
        if (taken && tree->token[node] != VOCAB_NONE) walk_found(walk, tree->token[node]);
        node = taken ? node + 1 : tree->end[node];
    }
    undo(walk, path, 0);
}

void walk_tree(struct walk *walk, const struct token_tree *tree, struct run from)
{
    struct path path;
    path.notes = 0;
    path.at[0] = from;
    if (tree->count < NODES_MANY) {
        walk_with(walk, tree, &path, NULL);
        return;
    }
    struct row rows[ROWS];
    for (size_t i = 0; i < ROWS; i++) rows[i].set = PROGRAM_NONE;
    walk_with(walk, tree, &path, rows);
}

void walk_token(struct walk *walk, struct run from, uint32_t token)
{
    struct slice bytes = vocab_bytes(walk->vocab->vocab, token);
    struct run_note note[TOKEN_BYTES_MOST];
    size_t taken = 0;
    enum run_step step = RUN_YES;
    if (bytes.size > (walk->bytes_most ? walk->bytes_most : TOKEN_BYTES_MOST)) return;
    for (; taken < bytes.size; taken++) {
        step =
            run_take(walk->program, &from, &walk->frames, (uint8_t)bytes.data[taken], &note[taken]);
        if (step != RUN_YES) break;
    }
    while (taken > 0) run_undo(&walk->frames, note[--taken]);
    if (step == RUN_YES) walk_found(walk, token);
    if (step == RUN_MAYBE) ids_add(&walk->maybe, token);
}
