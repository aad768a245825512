/* grammar_mask.c - from a state to a bit set. */
#include "engine/grammar/grammar_mask.h"
#include "config/hash.h"

/* ---- one token ---- */

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

static bool space_is_spent(const struct masker *masker, const struct grammar_state *state)
{
    return state->space >= GRAMMAR_SPACE_MOST &&
           (masker->program->set[state->set].flags & NFA_SPACE);
}

static bool try_bytes(const struct masker *masker, struct grammar_state *state, struct slice bytes)
{
    const struct program *program = masker->program;
    struct run_frames frames = { .frame = state->frame };
    struct run run = run_of(state);
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t byte = (uint8_t)bytes.data[i];
        bool spaces = is_space(byte) && (program->set[run.set].flags & NFA_SPACE);
        struct run_note note;
        if (run_take(program, &run, &frames, byte, &note) != RUN_YES) return false;
        state->space = spaces ? (uint16_t)(state->space + 1) : 0;
    }
    state->seen = run.seen;
    state->set = run.set;
    state->chars = run.chars;
    state->depth = run.depth;
    return true;
}

static bool try_symbol(const struct masker *masker, struct grammar_state *state, unsigned symbol)
{
    struct run_frames frames = { .frame = state->frame };
    struct run run = run_of(state);
    struct run_note note;
    if (run_take(masker->program, &run, &frames, symbol, &note) != RUN_YES) return false;
    state->seen = run.seen;
    state->set = run.set;
    state->chars = run.chars;
    state->depth = run.depth;
    state->space = 0;
    return true;
}

static bool can_end(const struct masker *masker, const struct grammar_state *state)
{
    return state->depth == 0 && (masker->program->set[state->set].flags & NFA_FINAL);
}

bool mask_try(const struct masker *masker, const struct grammar_state *state, uint32_t token,
              struct grammar_state *after)
{
    const struct grammar_vocab *vocab = masker->vocab;
    struct grammar_state next = *state;
    struct slice bytes = vocab_bytes(vocab->vocab, token);
    bool yes;
    if (token == vocab->eos) {
        yes = state->ended || can_end(masker, state);
        next.ended = true;
    } else if (state->ended || token >= vocab->vocab->size) {
        yes = false;
    } else if (token == vocab->dsml) {
        yes = try_symbol(masker, &next, SYMBOL_DSML);
    } else if (token == vocab->think_end) {
        yes = try_symbol(masker, &next, SYMBOL_THINK_END);
    } else if (vocab_is_added(vocab->vocab, token)) {
        yes = try_symbol(masker, &next, SYMBOL_ADDED);
    } else {
        bool spent = space_is_spent(masker, state) && bit_get(vocab->spaced, token);
        yes = bytes.size && bytes.size <= TOKEN_BYTES_MOST && !spent &&
              try_bytes(masker, &next, bytes);
    }
    if (yes && after) *after = next;
    return yes;
}

/* ---- the text that most of a mask is made of ---- */

struct liberty {
    enum text_kind kind;
    uint16_t state;
    uint32_t room;  // characters
    bool settled;   // the room is larger than any token's need, and enough was written
};

static bool find_liberty(const struct program *program, const struct run *run, struct liberty *out)
{
    const struct program_set *set = &program->set[run->set];
    if (!set->text) return false;
    *out = (struct liberty){ .kind = set->text >> 12,
                             .state = (uint16_t)((set->text & 0xfffu) - 1),
                             .room = UINT32_MAX };
    if (set->text_guard) {
        const struct guard *guard = &program->guard[set->text_guard - 1];
        if (guard->kind != GUARD_CHARS || run->chars > guard->high) return false;
        out->room = guard->high - run->chars;
    }
    return true;
}

/* Far from all limits of the text, so that nothing depends on how long it is? */
static bool is_settled(const struct program *program, const struct run *run)
{
    const struct program_set *set = &program->set[run->set];
    if (!set->counted) return true;
    const struct program_any *any = set->guard ? &program->any[set->guard - 1] : NULL;
    if (!any) return false;
    for (uint32_t i = 0; i < any->count; i++) {
        const struct guard *guard = &program->guard[program->any_guard[any->guard + i]];
        if (guard->kind != GUARD_CHARS || run->chars < guard->low) return false;
        if (guard->high < run->chars || guard->high - run->chars <= TOKEN_BYTES_MOST) return false;
    }
    return true;
}

/* Takes away the tokens that do not fit into the room. */
static void fit(const struct grammar_vocab *vocab, const struct liberty *liberty, uint32_t *allowed)
{
    const struct token_chars *chars = &vocab->chars[liberty->kind];
    if (liberty->room < TOKEN_CHARS_SHORT) {
        const uint32_t *up_to = chars->up_to + (size_t)liberty->room * vocab->words;
        for (uint32_t w = 0; w < vocab->words; w++) allowed[w] &= up_to[w];
        return;
    }
    for (uint32_t i = 0; i < chars->longers && chars->chars[i] > liberty->room; i++)
        bit_clear(allowed, chars->longer[i]);
}

/* ---- making ---- */

static const uint32_t *stay_of(const struct grammar_vocab *vocab, const struct liberty *liberty)
{
    return vocab->stay[liberty->kind] + (size_t)liberty->state * vocab->words;
}

/* Walks what the text does not answer by itself. */
static void walk_rest(struct walk *walk, const struct run *run, bool by_text,
                      const struct liberty *liberty)
{
    const struct grammar_vocab *vocab = walk->vocab;
    if (!by_text) {
        walk_tree(walk, &vocab->tree, *run);
        return;
    }
    struct id_run leave = vocab->leave[liberty->kind][liberty->state];
    for (uint32_t i = 0; i < leave.count; i++)
        walk_token(walk, *run, vocab->leave_id[leave.from + i]);
}

/* Tokens that do not fit into the room: another reading may have more of it. */
static void walk_beyond(struct walk *walk, const struct run *run, const struct liberty *liberty)
{
    const struct grammar_vocab *vocab = walk->vocab;
    const struct token_chars *chars = &vocab->chars[liberty->kind];
    for (uint32_t i = 0; i < chars->longers && chars->chars[i] > liberty->room; i++) {
        size_t bytes = vocab_bytes(vocab->vocab, chars->longer[i]).size;
        if (bytes <= TOKEN_BYTES_MOST && !vocab_is_added(vocab->vocab, chars->longer[i]))
            walk_token(walk, *run, chars->longer[i]);
    }
}

/* The long tokens, which sets that look alike may tell apart. */
static void put_long(const struct masker *masker, const struct grammar_state *state,
                     uint32_t *allowed)
{
    uint32_t frame[GRAMMAR_FRAMES];
    struct walk walk = { .program = masker->program,
                         .vocab = masker->vocab,
                         .frames = { .frame = frame },
                         .bits = allowed };
    memcpy(frame, state->frame, state->depth * sizeof *frame);
    walk_tree(&walk, &masker->vocab->long_tree, run_of(state));
}

static void put_ids(const struct masker *masker, const struct grammar_state *state,
                    const struct mask_entry *entry, uint32_t *allowed)
{
    if (entry->shared) put_long(masker, state, allowed);
    for (uint32_t i = 0; i < entry->sure; i++) bit_put(allowed, entry->id[i]);
    for (uint32_t i = entry->sure; i < entry->sure + entry->maybe; i++)
        if (mask_try(masker, state, entry->id[i], NULL)) bit_put(allowed, entry->id[i]);
}

static void put_base(const struct masker *masker, const uint32_t *base, uint32_t *allowed)
{
    size_t bytes = masker->vocab->words * sizeof *allowed;
    if (base) memcpy(allowed, base, bytes);
    else memset(allowed, 0, bytes);
}

/* How a mask is made best. */
struct way {
    struct liberty liberty;
    bool by_text;  // most of it is what stays in the text
    bool tight;    // that fits into the room
    bool mixed;    // other readings may have more of it
};

static struct way find_way(const struct masker *masker, const struct run *run)
{
    struct way way = { .mixed = masker->program->set[run->set].mixed };
    way.by_text = find_liberty(masker->program, run, &way.liberty);
    way.tight = way.by_text && way.liberty.room <= TOKEN_BYTES_MOST;
    // Inside a character the number of those that follow is not known ahead.
    // Nor do other readings keep within the room; where much is beyond it, all is walked.
    if (way.tight && ((way.mixed && way.liberty.room < TOKEN_CHARS_SHORT) ||
                      !masker->vocab->text[way.liberty.kind].boundary[way.liberty.state]))
        way.by_text = way.tight = false;
    return way;
}

/* A few hundred tokens are walked, not the vocabulary. */
static bool is_cheap(const struct way *way)
{
    return way->by_text && !(way->tight && way->mixed);
}

/* Into walk->bits. */
static void go(struct walk *walk, const struct run *run, const struct way *way)
{
    const struct grammar_vocab *vocab = walk->vocab;
    if (way->by_text)
        memcpy(walk->bits, stay_of(vocab, &way->liberty), vocab->words * sizeof *walk->bits);
    else memset(walk->bits, 0, vocab->words * sizeof *walk->bits);
    if (way->tight) fit(vocab, &way->liberty, walk->bits);
    if (way->tight && way->mixed) walk_beyond(walk, run, &way->liberty);
    walk_rest(walk, run, way->by_text, &way->liberty);
}

/* A mask that is not kept. */
static void make_here(const struct masker *masker, const struct grammar_state *state,
                      const struct way *way, uint32_t *allowed)
{
    uint32_t frame[GRAMMAR_FRAMES];
    struct run run = run_of(state);
    struct walk walk = { .program = masker->program,
                         .vocab = masker->vocab,
                         .frames = { .frame = frame },
                         .bits = allowed };
    memcpy(frame, state->frame, state->depth * sizeof *frame);
    go(&walk, &run, way);
}

/* ---- keeping ---- */

void mask_cache_init(struct mask_cache *cache)
{
    *cache = (struct mask_cache){ 0 };
    pthread_rwlock_init(&cache->lock, NULL);
}

static void entry_free(struct mask_entry *entry)
{
    if (!entry) return;
    free(entry->id);
    free(entry->own);
    free(entry);
}

static void forget_all(struct mask_cache *cache)
{
    for (uint32_t i = 0; i < MASK_SLOTS; i++) {
        entry_free(cache->slot[i]);
        cache->slot[i] = NULL;
    }
    cache->count = 0;
    cache->bytes = 0;
}

void mask_cache_release(struct mask_cache *cache)
{
    forget_all(cache);
    pthread_rwlock_destroy(&cache->lock);
}

static uint32_t slot_of(const struct mask_cache *cache, const struct mask_key *key)
{
    uint32_t at = (uint32_t)hash64(key, sizeof *key, 0) % MASK_SLOTS;
    while (cache->slot[at] && memcmp(&cache->slot[at]->key, key, sizeof *key) != 0)
        at = (at + 1) % MASK_SLOTS;
    return at;
}

static bool can_keep(const struct masker *masker, const struct grammar_state *state,
                     const struct way *way, struct mask_key *key)
{
    struct run run = run_of(state);
    const struct program_set *set = &masker->program->set[run.set];
    bool settled = is_settled(masker->program, &run);
    if ((!settled && is_cheap(way)) || state->depth >= GRAMMAR_DEPTH_FREE) return false;
    *key = (struct mask_key){ .set = set->alike,
                              .frame = state->depth ? state->frame[state->depth - 1] : PROGRAM_NONE,
                              .seen = state->depth ? 0 : state->seen };
    if (!settled) key->chars = run.chars < set->far ? run.chars : set->far;
    if (set->names) key->chars = run.chars;
    return true;
}

/* With the lock held for reading: fills `allowed` from a kept mask. */
static bool use_kept(const struct masker *masker, const struct grammar_state *state,
                     const struct mask_key *key, uint32_t *allowed)
{
    const struct mask_entry *entry = masker->cache->slot[slot_of(masker->cache, key)];
    if (!entry || state->depth + entry->rise >= GRAMMAR_DEPTH_FREE) return false;
    put_base(masker, entry->base, allowed);
    put_ids(masker, state, entry, allowed);
    return true;
}

static size_t entry_bytes(const struct masker *masker, const struct mask_entry *entry)
{
    return sizeof *entry + (entry->sure + entry->maybe + 1) * sizeof *entry->id +
           (entry->own ? masker->vocab->words * sizeof *entry->own : 0) + 3 * HEAP_BYTES_EACH;
}

/* Where others have all the room, the grammar's own masks make it. False: no room even so. */
static bool pay(struct mask_cache *cache, size_t bytes)
{
    if (grammar_account_take(cache->account, bytes)) return true;
    pthread_rwlock_wrlock(&cache->lock);
    size_t gone = cache->bytes;
    forget_all(cache);
    pthread_rwlock_unlock(&cache->lock);
    grammar_account_give(cache->account, gone);
    return grammar_account_take(cache->account, bytes);
}

static void keep(const struct masker *masker, struct mask_entry *entry)
{
    struct mask_cache *cache = masker->cache;
    size_t bytes = entry_bytes(masker, entry), gone = 0;
    if (!pay(cache, bytes)) {
        entry_free(entry);
        grammar_account_note_unkept(cache->account);
        return;
    }
    pthread_rwlock_wrlock(&cache->lock);
    if (cache->bytes + bytes > MASK_BYTES_MOST || cache->count >= MASKS_MOST) {
        gone = cache->bytes;
        forget_all(cache);
    }
    uint32_t at = slot_of(cache, &entry->key);
    if (cache->slot[at]) {  // another thread was first
        entry_free(entry);
        gone += bytes;
    } else {
        cache->slot[at] = entry;
        cache->count++;
        cache->bytes += bytes;
    }
    pthread_rwlock_unlock(&cache->lock);
    grammar_account_give(cache->account, gone);
}

/* Many ids take less room as bits. */
static void pack(const struct grammar_vocab *vocab, struct mask_entry *entry)
{
    if (entry->sure <= vocab->words) return;
    uint32_t *own = calloc(vocab->words, sizeof *own);
    if (!own) return;
    if (entry->base) memcpy(own, entry->base, vocab->words * sizeof *own);
    for (uint32_t i = 0; i < entry->sure; i++) bit_put(own, entry->id[i]);
    memmove(entry->id, entry->id + entry->sure, entry->maybe * sizeof *entry->id);
    uint32_t *id = realloc(entry->id, (entry->maybe + 1) * sizeof *id);
    if (id) entry->id = id;
    entry->sure = 0;
    entry->base = entry->own = own;
}

/* And few bits as ids: then they are put into walk->sure. */
static void unpack(struct walk *walk)
{
    uint32_t count = 0;
    for (uint32_t w = 0; w < walk->vocab->words; w++)
        count += (uint32_t)__builtin_popcount(walk->bits[w]);
    if (count > walk->vocab->words) return;
    for (uint32_t w = 0; w < walk->vocab->words; w++)
        for (uint32_t bits = walk->bits[w]; bits; bits &= bits - 1)
            ids_add(&walk->sure, 32 * w + (uint32_t)__builtin_ctz(bits));
    free(walk->bits);
    walk->bits = NULL;
}

static void walk_release(struct walk *walk)
{
    free(walk->sure.id);
    free(walk->maybe.id);
    free(walk->bits);
}

/* Takes what the walk found. NULL: no memory, and the walk is as before. */
static struct mask_entry *entry_of(struct walk *walk, const struct mask_entry *like)
{
    struct mask_entry *entry = calloc(1, sizeof *entry);
    size_t count = (size_t)walk->sure.count + walk->maybe.count + 1;
    uint32_t *id =
        walk->sure.failed || walk->maybe.failed ? NULL : realloc(walk->sure.id, count * sizeof *id);
    if (!entry || !id) {
        if (id) walk->sure.id = id;
        free(entry);
        return NULL;
    }
    if (walk->maybe.count)
        memcpy(id + walk->sure.count, walk->maybe.id, walk->maybe.count * sizeof *id);
    *entry = *like;
    entry->id = id;
    entry->sure = walk->sure.count;
    entry->maybe = walk->maybe.count;
    if (walk->bits) entry->base = entry->own = walk->bits;
    free(walk->maybe.id);
    pack(walk->vocab, entry);
    return entry;
}

/* Walks with only the frame of the key known. NULL: no memory, or nesting is too deep for that. */
static struct mask_entry *entry_make(const struct masker *masker, const struct grammar_state *state,
                                     const struct mask_key *key, const struct way *way)
{
    uint32_t frame[GRAMMAR_FRAMES];
    struct run run = run_of(state);
    struct walk walk = { .program = masker->program,
                         .vocab = masker->vocab,
                         .frames = { .frame = frame } };
    struct mask_entry like = { .key = *key };
    walk.frames.unknown = run.depth ? (uint16_t)(run.depth - 1) : 0;
    walk.frames.deepest = run.depth;
    memcpy(frame, state->frame, state->depth * sizeof *frame);

    like.shared = !way->by_text || way->tight;
    if (like.shared) walk.bytes_most = TOKEN_BYTES_LONG;
    if (way->by_text && !way->tight) {
        like.base = stay_of(masker->vocab, &way->liberty);
        walk_rest(&walk, &run, true, &way->liberty);
    } else {
        walk.bits = malloc(masker->vocab->words * sizeof *walk.bits);
        if (!walk.bits) return NULL;
        go(&walk, &run, way);
        unpack(&walk);
    }
    like.rise = (uint16_t)(walk.frames.deepest - run.depth);
    bool deep = walk.frames.deepest >= GRAMMAR_DEPTH_FREE;
    struct mask_entry *entry = deep ? NULL : entry_of(&walk, &like);
    if (!entry) walk_release(&walk);
    return entry;
}

static void put_added(const struct masker *masker, const struct grammar_state *state,
                      uint32_t *allowed)
{
    const struct grammar_vocab *vocab = masker->vocab;
    const uint32_t named[] = { vocab->eos, vocab->dsml, vocab->think_end };
    if (program_edge_of(masker->program, state->set, SYMBOL_ADDED))
        for (uint32_t w = 0; w < vocab->words; w++) allowed[w] |= vocab->added[w];
    for (size_t i = 0; i < 3; i++)
        if (named[i] != VOCAB_NONE && mask_try(masker, state, named[i], NULL))
            bit_put(allowed, named[i]);
}

/* ---- the whole ---- */

struct making {
    struct way way;
    struct mask_key key;
    bool keeps;
};

static struct making making_of(const struct masker *masker, const struct grammar_state *state)
{
    struct run run = run_of(state);
    struct making making = { .way = find_way(masker, &run) };
    making.keeps = can_keep(masker, state, &making.way, &making.key);
    return making;
}

static bool is_kept(const struct masker *masker, const struct grammar_state *state,
                    const struct making *making, uint32_t *allowed)
{
    if (!making->keeps) return false;
    pthread_rwlock_rdlock(&masker->cache->lock);
    bool is = use_kept(masker, state, &making->key, allowed);
    pthread_rwlock_unlock(&masker->cache->lock);
    if (is) atomic_fetch_add(&masker->cache->hits, 1);
    return is;
}

static void make(const struct masker *masker, const struct grammar_state *state,
                 const struct making *making, uint32_t *allowed)
{
    struct mask_entry *entry = NULL;
    if (making->keeps) {
        atomic_fetch_add(&masker->cache->misses, 1);
        entry = entry_make(masker, state, &making->key, &making->way);
    }
    if (entry) {
        put_base(masker, entry->base, allowed);
        put_ids(masker, state, entry, allowed);
        keep(masker, entry);
    } else {
        make_here(masker, state, &making->way, allowed);
    }
}

/* What holds whatever was kept. */
static void finish(const struct masker *masker, const struct grammar_state *state,
                   uint32_t *allowed)
{
    const struct grammar_vocab *vocab = masker->vocab;
    if (space_is_spent(masker, state))
        for (uint32_t w = 0; w < vocab->words; w++) allowed[w] &= ~vocab->spaced[w];
    put_added(masker, state, allowed);
}

static void put_end(const struct masker *masker, uint32_t *allowed)
{
    put_base(masker, NULL, allowed);
    if (masker->vocab->eos != VOCAB_NONE) bit_put(allowed, masker->vocab->eos);
}

void mask_make(const struct masker *masker, const struct grammar_state *state, uint32_t *allowed)
{
    if (state->ended) {
        put_end(masker, allowed);
        return;
    }
    struct making making = making_of(masker, state);
    if (!is_kept(masker, state, &making, allowed)) make(masker, state, &making, allowed);
    finish(masker, state, allowed);
}

bool mask_make_soon(const struct masker *masker, const struct grammar_state *state,
                    uint32_t *allowed, uint64_t *likeness)
{
    *likeness = 0;
    if (state->ended) {
        put_end(masker, allowed);
        return true;
    }
    struct making making = making_of(masker, state);
    if (!is_kept(masker, state, &making, allowed)) {
        if (!is_cheap(&making.way)) {
            if (making.keeps) *likeness = hash64(&making.key, sizeof making.key, 0) | 1;
            return false;
        }
        make(masker, state, &making, allowed);
    }
    finish(masker, state, allowed);
    return true;
}
