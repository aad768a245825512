/* shadow_seq.c - what a sequence does between its first match and its end, and what it looks at. */
#include <string.h>
#include "cache/shadow.h"

enum { WRONG_TOKEN = 777777 };

void shadow_seq_init(struct shadow *shadow, struct shadow_seq *seq, uint32_t tenant,
                     uint32_t adapter)
{
    *seq = (struct shadow_seq){ .store = true, .tenant = tenant, .adapter = adapter };
    seq->root = shadow_root(shadow, tenant, adapter);
    seq->root_past = seq->past[0] = shadow_root_past(shadow, tenant, adapter);
}

void shadow_append(struct shadow_seq *seq, uint32_t way, uint32_t count)
{
    for (; count && seq->tokens < SHADOW_TOKENS; count--) {
        uint32_t block = seq->tokens / KV_BLOCK_TOKENS, place = seq->tokens % KV_BLOCK_TOKENS;
        if (place == 0) seq->way[block] = way;
        uint32_t token = shadow_token(seq->way[block], place);
        seq->token[seq->tokens] = token;
        seq->past[seq->tokens + 1] = shadow_past(seq->past[seq->tokens], token);
        seq->tokens++;
    }
}

/* ---- starting */

/* I11: never more than was sealed in this namespace, and all of it where nothing was dropped. */
static void check_match(struct shadow *shadow, const struct shadow_seq *seq)
{
    struct prefix_key key = seq->root;
    uint32_t cap = prefix_cap(seq->tokens), most = 0;
    for (; most < cap; most++) {
        key = prefix_key_next(&key, SLICE(""), seq->token + (size_t)most * KV_BLOCK_TOKENS);
        const struct shadow_known *known = shadow_find(shadow, &key);
        if (!known || !known->live[KV_G]) break;
        must(known->past == seq->past[most * KV_BLOCK_TOKENS] && known->tenant == seq->tenant);
    }
    must(seq->matched <= most && seq->matched * KV_BLOCK_TOKENS < seq->tokens);
    if (shadow->lossless) must(seq->matched == most);
}

static void run_from(struct shadow *shadow, struct shadow_seq *seq)
{
    struct prefix_block last = { 0 };
    bool known =
        seq->matched && prefix_tree_look(&shadow->tree, seq->path[seq->matched - 1], &last);
    lease_init(&seq->lease, &shadow->place,
               &(struct lease_start){ seq->root, seq->tenant, seq->store });
    seq->lease.hints = (struct w_hints){ .prompt_tokens = seq->tokens,
                                         .stable_tokens = seq->tokens,
                                         .pinned_end = &seq->pinned_end,
                                         .pinned_ends = seq->pinned_end > 0,
                                         .known = seq->matched,
                                         .known_has_w = last.w_class != W_NONE,
                                         .known_goes_on = known && !last.is_leaf };
    shadow_scarce = 1;
    enum status status = lease_resume(&seq->lease, seq->path, &seq->plan);
    shadow_scarce = 0;
    if (status == NO_MEMORY) {
        seq->plan = (struct resume_plan){ .mode = RESUME_COLD };
        status = lease_resume(&seq->lease, seq->path, &seq->plan);
    }
    must(status == OK);  // the load holds all that is resumed from
    seq->state = SEQ_RUNNING;
    seq->computed = seq->plan.from * KV_BLOCK_TOKENS;
    seq->loaded = seq->plan.known;
    shadow->resumed += seq->computed;
    shadow->replays += seq->plan.mode == RESUME_REPLAY;
    shadow->restores += seq->plan.mode == RESUME_RESTORE;
}

static void match_and_plan(struct shadow *shadow, struct shadow_seq *seq)
{
    struct resume_block block[SHADOW_BLOCKS];
    uint64_t submitted = shadow->sim.submitted;
    seq->matched = prefix_tree_match(&shadow->tree, &seq->root, seq->token, seq->tokens, seq->path);
    must(shadow->sim.submitted == submitted);  // I13
    check_match(shadow, seq);
    struct resume_ask ask = { .block = block,
                              .blocks =
                                  resume_blocks(&shadow->tree, seq->path, seq->matched, block),
                              .tokens = seq->tokens,
                              .layers = shadow->shape.layers,
                              .may_replay = shadow->options.may_replay,
                              .g_bytes = 4 * shadow->shape.g_words,
                              .w_bytes = 4 * shadow->shape.w_words,
                              .rates = { 1e4, 1e9, 1e9, 1e-5, 1e-4, 0 } };
    seq->plan = resume_plan(&ask);
}

void shadow_begin(struct shadow *shadow, struct shadow_seq *seq)
{
    must(seq->state == SEQ_UNUSED && seq->tokens);
    match_and_plan(shadow, seq);
    enum status status = BUSY;
    uint64_t pins = shadow->tree.pins;
    shadow_scarce = 1;
    if (seq->plan.mode != RESUME_COLD)
        status = tiers_load_begin(&shadow->tiers, &seq->load, seq->path, &seq->plan, seq->tenant);
    shadow_scarce = 0;
    if (status == OK) {
        seq->state = SEQ_LOADING;
        return;
    }
    must(shadow->tree.pins == pins);  // never half an allocation
    seq->plan = (struct resume_plan){ .mode = RESUME_COLD };
    run_from(shadow, seq);
}

void shadow_poll(struct shadow *shadow, struct shadow_seq *seq)
{
    must(seq->state == SEQ_LOADING);
    shadow_scarce = 1;
    enum load_state state = tiers_load_poll(&shadow->tiers, &seq->load);
    shadow_scarce = 0;
    if (state == LOAD_WAIT) return;
    if (state == LOAD_READY) run_from(shadow, seq);
    tiers_load_end(&shadow->tiers, &seq->load);
    if (state == LOAD_READY) return;
    seq->state = SEQ_UNUSED;
    if (++seq->attempts < 4) {
        shadow_begin(shadow, seq);
        return;
    }
    seq->plan = (struct resume_plan){ .mode = RESUME_COLD };
    run_from(shadow, seq);
}

void shadow_start(struct shadow *shadow, struct shadow_seq *seq)
{
    shadow_begin(shadow, seq);
    while (seq->state == SEQ_LOADING) {
        shadow_poll(shadow, seq);
        shadow_pump(shadow, SHADOW_OPERATIONS);
        if (shadow->store) store_wait(shadow->store, 1);
    }
}

/* ---- computing */

static uint32_t *g_of(struct shadow *shadow, const struct shadow_seq *seq, uint32_t block)
{
    must(block < seq->lease.g_blocks);
    return shadow_device_image(shadow, KV_G, seq->lease.g_block[block]);
}

/* The page of a block, or NULL: a window that was cut off. */
static uint32_t *w_of(struct shadow *shadow, const struct shadow_seq *seq, uint32_t block)
{
    uint32_t at = block - seq->lease.w_first;
    if (block < seq->lease.w_first || at >= seq->lease.w_pages) return NULL;
    return shadow_device_image(shadow, KV_W, seq->lease.w_page[at]);
}

/* All G that a token at `t` may see: by its position, however many blocks the table holds. */
static void look_at_g(struct shadow *shadow, const struct shadow_seq *seq, uint32_t t)
{
    const struct shadow_shape *shape = &shadow->shape;
    for (uint32_t at = 0; at < t; at += KV_BLOCK_TOKENS) {
        const uint32_t *g = g_of(shadow, seq, at / KV_BLOCK_TOKENS);
        uint32_t tokens = t - at < KV_BLOCK_TOKENS ? t - at : KV_BLOCK_TOKENS;
        for (uint32_t l = 0; l < shape->layers; l++) {
            uint32_t ratio = shape->ratio[l];
            for (uint32_t i = 0; ratio && i < tokens / ratio; i++) {
                uint64_t past = seq->past[at + (i + 1) * ratio];
                must(g[shape->entry[l] + i] == shadow_word(past, l, PLANE_ENTRY));
                if (ratio == 4) must(g[shape->key[l] + i] == shadow_word(past, l, PLANE_KEY));
            }
        }
    }
}

/* Of each layer, one past the last position within the window whose row is not exact; 0: none. */
static void look_at_window(struct shadow *shadow, const struct shadow_seq *seq, uint32_t t,
                           uint32_t inexact[SHADOW_LAYERS])
{
    uint32_t first = t < KV_BLOCK_TOKENS ? 0 : t - KV_BLOCK_TOKENS + 1;
    memset(inexact, 0, SHADOW_LAYERS * sizeof *inexact);
    for (uint32_t at = first; at < t; at++) {
        const uint32_t *w = w_of(shadow, seq, at / KV_BLOCK_TOKENS);
        for (uint32_t l = 0; l < shadow->shape.layers; l++) {
            uint32_t row = l * KV_BLOCK_TOKENS + at % KV_BLOCK_TOKENS;
            if (!w || w[row] != shadow_word(seq->past[at + 1], l, PLANE_ROW)) inexact[l] = at + 1;
        }
    }
}

/* Where a step writes: its own slots, and nobody else's (I5, I10). */
struct pen {
    uint32_t *g, *w;  // g NULL: stores are masked
    bool drafts;
};

static struct pen pen_at(struct shadow *shadow, struct shadow_seq *seq, uint32_t block)
{
    uint32_t page = block - seq->lease.w_first;
    struct pen pen = { .w = w_of(shadow, seq, block) };
    must(pen.w && prefix_is_none(seq->lease.w_pin[page].ref));
    if (block < seq->loaded) return pen;
    must(prefix_is_none(seq->lease.g_pin[block].ref) && block >= seq->lease.sealed);
    pen.g = g_of(shadow, seq, block);
    return pen;
}

/* The compressor's rows of the last eight positions are as they were computed. */
static bool tails_are_right(struct shadow *shadow, const struct shadow_seq *seq, uint32_t t,
                            uint32_t l, const uint64_t *past)
{
    for (uint32_t at = t < 7 ? 0 : t - 7; at <= t; at++) {
        const uint32_t *w = w_of(shadow, seq, at / KV_BLOCK_TOKENS);
        uint32_t row = shadow->shape.tail[l] + at % SHADOW_RING;
        if (!w || w[row] != shadow_word(past[at + 1], l, PLANE_TAIL)) return false;
    }
    return true;
}

/* One token; past[t + 1] is what it makes of the sequence. */
static void compute(struct shadow *shadow, struct shadow_seq *seq, uint32_t t, const uint64_t *past,
                    uint32_t inexact[SHADOW_LAYERS])
{
    const struct shadow_shape *shape = &shadow->shape;
    uint32_t place = t % KV_BLOCK_TOKENS;
    struct pen pen = pen_at(shadow, seq, t / KV_BLOCK_TOKENS);
    uint64_t now = past[t + 1];
    bool exact = true;  // what comes into the layer

    for (uint32_t l = 0; l < shape->layers; l++) {
        uint32_t spoil = exact ? 0 : 0x5a5a5a5au, ratio = shape->ratio[l];
        pen.w[l * KV_BLOCK_TOKENS + place] = shadow_word(now, l, PLANE_ROW) ^ spoil;
        if (ratio == 4)
            pen.w[shape->tail[l] + t % SHADOW_RING] = shadow_word(now, l, PLANE_TAIL) ^ spoil;
        if (pen.g && ratio && (t + 1) % ratio == 0) {
            must(exact && (ratio != 4 || tails_are_right(shadow, seq, t, l, past)));
            pen.g[shape->entry[l] + place / ratio] = shadow_word(now, l, PLANE_ENTRY);
            if (ratio == 4) pen.g[shape->key[l] + place / 4] = shadow_word(now, l, PLANE_KEY);
        }
        if (!exact) inexact[l] = t + 1;
        if (inexact[l] + KV_BLOCK_TOKENS > t + 1 && inexact[l]) exact = false;
    }
    must(exact || t < seq->loaded * KV_BLOCK_TOKENS);  // I6: it has washed out where it counts
}

/* Tokens that will not be accepted: they leave their marks in slots, and nowhere else (I9). */
static void compute_drafts(struct shadow *shadow, struct shadow_seq *seq, uint32_t drafts)
{
    uint64_t past[SHADOW_TOKENS + SHADOW_DRAFTS + 1];
    uint32_t inexact[SHADOW_LAYERS], t = seq->computed;
    memcpy(past, seq->past, (t + 1) * sizeof *past);
    look_at_window(shadow, seq, t, inexact);
    for (uint32_t i = 0; i < drafts; i++) past[t + i + 1] = shadow_past(past[t + i], WRONG_TOKEN);
    for (uint32_t i = 0; i < drafts; i++) compute(shadow, seq, t + i, past, inexact);
}

enum status shadow_step(struct shadow *shadow, struct shadow_seq *seq, uint32_t count,
                        uint32_t drafts)
{
    uint32_t inexact[SHADOW_LAYERS], end = seq->computed + count;
    must(seq->state == SEQ_RUNNING && end <= seq->tokens && drafts <= SHADOW_DRAFTS);
    if (end < seq->loaded * KV_BLOCK_TOKENS) drafts = 0;  // a replay drafts nothing
    uint32_t soon = end + drafts, all = soon < seq->tokens && shadow_below(shadow, 2)
                                            ? seq->tokens  // blocks for the whole prompt at once
                                            : soon;
    shadow_scarce = 1;
    enum status status = lease_reserve(&seq->lease, all, soon);
    shadow_scarce = 0;
    if (status != OK) {
        shadow->busy++;
        return status;
    }
    look_at_g(shadow, seq, seq->computed);
    look_at_window(shadow, seq, seq->computed, inexact);
    for (; seq->computed < end; seq->computed++)
        compute(shadow, seq, seq->computed, seq->past, inexact);
    compute_drafts(shadow, seq, drafts);
    shadow->computed += count;
    shadow->sealing = seq;
    shadow_scarce = 1;
    lease_commit(&seq->lease, seq->token, seq->computed);
    shadow_scarce = 0;
    shadow->sealing = NULL;
    return OK;
}

enum status shadow_run(struct shadow *shadow, struct shadow_seq *seq)
{
    while (seq->computed < seq->tokens) {
        uint32_t end = (seq->computed / (2 * KV_BLOCK_TOKENS) + 1) * 2 * KV_BLOCK_TOKENS;
        if (end > seq->tokens) end = seq->tokens;
        enum status status = shadow_step(shadow, seq, end - seq->computed, 0);
        if (status != OK) return status;
    }
    return OK;
}

enum status shadow_fork(struct shadow *shadow, const struct shadow_seq *parent,
                        struct shadow_seq *child)
{
    struct lease_copy copy[KV_OBJECTS];
    struct lease lease;
    uint32_t copies;
    uint64_t pins = shadow->tree.pins;
    must(parent->state == SEQ_RUNNING && child->state == SEQ_UNUSED);
    shadow_scarce = 1;
    enum status status = lease_fork(&parent->lease, parent->computed, &lease, copy, &copies);
    shadow_scarce = 0;
    if (status != OK) {
        must(shadow->tree.pins == pins);  // I19
        return status;
    }
    *child = *parent;
    child->lease = lease;
    child->lease.hints.pinned_end = &child->pinned_end;
    for (uint32_t i = 0; i < copies; i++)
        memcpy(shadow_device_image(shadow, copy[i].object, copy[i].to),
               shadow_device_image(shadow, copy[i].object, copy[i].from),
               4 * (copy[i].object == KV_G ? shadow->shape.g_words : shadow->shape.w_words));
    shadow->forks++;
    return OK;
}

void shadow_stop(struct shadow *shadow, struct shadow_seq *seq, bool complete)
{
    if (seq->state == SEQ_LOADING) {
        tiers_load_end(&shadow->tiers, &seq->load);
    } else if (seq->state == SEQ_RUNNING) {
        shadow->sealing = seq;
        shadow_scarce = 1;
        if (complete) lease_end(&seq->lease, seq->computed);
        shadow_scarce = 0;
        shadow->sealing = NULL;
        lease_release(&seq->lease);
    }
    seq->state = SEQ_UNUSED;
    seq->attempts = seq->computed = seq->loaded = 0;
}
