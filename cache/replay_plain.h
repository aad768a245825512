/* replay_plain.h - for tests: what the same policies hit when they are written down plainly.
 *
 * No tree, no planner, no shared code. Evictions: of a trace whose ids stand for whole prefixes, an
 * array with a place for each id; "leaf first" says that what other blocks hang on stays as long as
 * they do. Windows: a dictionary of prefixes.
 */
#ifndef CACHE_REPLAY_PLAIN_H
#define CACHE_REPLAY_PLAIN_H

#include "cache/trace.h"
#include "config/status.h"

#include <stdbool.h>
#include <string.h>

enum plain_policy {
    PLAIN_LRU,       // least recently used, leaf first
    PLAIN_LFU,       // least often used, leaf first, among equals least recently
    PLAIN_SEGMENTS,  // oldest segment first, what was hit since it was written is written again
};

struct plain_id {
    uint32_t parent;    // of the latest request that had it; itself: none
    uint32_t children;  // of those present
    uint32_t request;   // the latest that has it
    uint32_t hits, next, prev;
    bool present, touched;
};

struct plain {
    struct plain_id *id;
    uint32_t ids, room, count, request;
    enum plain_policy policy;
    uint32_t first[256], last[256];  // lists by hits, of LRU the first one alone; 0: none

    /* PLAIN_SEGMENTS: ids in the order written; a segment is so many of them in a row. */
    uint32_t *log;
    uint32_t log_from, log_to, log_room, segment_blocks, in_head, segments, used;
    uint32_t *segment_size;  // of each segment ever opened
    uint32_t opened, gone;
    uint64_t written, forwarded;
};

struct plain_result {
    uint64_t input, hit, written, forwarded;
};

/* ---- lists */

static inline uint32_t plain_list(const struct plain *p, uint32_t id)
{
    if (p->policy != PLAIN_LFU) return 0;
    return p->id[id].hits < 255 ? p->id[id].hits : 255;
}

static inline void plain_unlink(struct plain *p, uint32_t id)
{
    struct plain_id *is = &p->id[id];
    uint32_t list = plain_list(p, id);
    if (is->prev) p->id[is->prev].next = is->next;
    else p->first[list] = is->next;
    if (is->next) p->id[is->next].prev = is->prev;
    else p->last[list] = is->prev;
}

static inline void plain_link(struct plain *p, uint32_t id)
{
    struct plain_id *is = &p->id[id];
    uint32_t list = plain_list(p, id);
    is->prev = p->last[list];
    is->next = 0;
    if (is->prev) p->id[is->prev].next = id;
    else p->first[list] = id;
    p->last[list] = id;
}

static inline void plain_go(struct plain *p, uint32_t id)
{
    p->id[id].present = false;
    if (p->id[id].parent != id) p->id[p->id[id].parent].children--;
}

static inline bool plain_evict_one(struct plain *p)
{
    for (uint32_t list = 0; list < 256; list++)
        for (uint32_t id = p->first[list]; id; id = p->id[id].next) {
            if (p->id[id].request == p->request || p->id[id].children) continue;
            plain_unlink(p, id);
            plain_go(p, id);
            p->count--;
            return true;
        }
    return false;
}

/* ---- segments */

static inline void plain_append(struct plain *p, uint32_t id)
{
    must(p->log_to < p->log_room);
    p->log[p->log_to++] = id;
    p->segment_size[p->opened - 1]++;
}

/* What hangs on a block that is gone is gone. */
static inline void plain_orphans_go(struct plain *p)
{
    for (bool again = true; again;) {
        again = false;
        for (uint32_t id = 1; id < p->ids; id++) {
            struct plain_id *is = &p->id[id];
            if (!is->present || is->parent == id || p->id[is->parent].present) continue;
            plain_go(p, id);
            again = true;
        }
    }
}

static inline void plain_evict_segment(struct plain *p)
{
    uint32_t end = p->log_from + p->segment_size[p->gone++];
    while (p->log_from < end) {
        uint32_t id = p->log[p->log_from++];
        struct plain_id *is = &p->id[id];
        if (!is->present) continue;
        if (is->touched || is->request == p->request) {
            is->touched = false;
            plain_append(p, id);
            p->forwarded++;
        } else {
            plain_go(p, id);
            if (is->children) plain_orphans_go(p);
        }
    }
}

static inline void plain_write(struct plain *p, uint32_t id)
{
    while (p->opened == 0 || p->segment_size[p->opened - 1] >= p->segment_blocks) {
        p->segment_size[p->opened++] = 0;
        if (p->opened - p->gone > p->segments) plain_evict_segment(p);
    }
    plain_append(p, id);
    p->written++;
    p->id[id].present = true;
    p->id[id].touched = false;
}

/* ---- requests */

static inline void plain_add(struct plain *p, uint32_t id, uint32_t parent)
{
    struct plain_id *is = &p->id[id];
    is->parent = parent ? parent : id;
    is->children = 0;
    if (p->policy == PLAIN_SEGMENTS) {
        plain_write(p, id);
        if (parent) p->id[parent].children++;
        return;
    }
    while (p->room && p->count >= p->room)
        if (!plain_evict_one(p)) return;
    is->present = true;
    is->hits = 0;
    p->count++;
    if (parent) p->id[parent].children++;
    plain_link(p, id);
}

static inline uint32_t plain_request(struct plain *p, const uint32_t *ids, uint32_t count)
{
    uint32_t known = 0;
    p->request++;
    while (known < count && p->id[ids[known] + 1].present) known++;
    for (uint32_t i = 0; i < count; i++) p->id[ids[i] + 1].request = p->request;
    for (uint32_t i = 0; i < known; i++) p->id[ids[i] + 1].touched = true;
    for (uint32_t i = known; i < count; i++) {
        plain_add(p, ids[i] + 1, i ? ids[i - 1] + 1 : 0);
        if (!p->id[ids[i] + 1].present) break;
    }
    if (p->policy == PLAIN_SEGMENTS) return known;
    for (uint32_t i = count; i-- > 0;) {  // a parent is younger than its children
        struct plain_id *is = &p->id[ids[i] + 1];
        if (!is->present) continue;
        plain_unlink(p, ids[i] + 1);
        is->hits += i < known;
        plain_link(p, ids[i] + 1);
    }
    return known;
}

/* room: blocks; 0: for all. segment_blocks: of PLAIN_SEGMENTS. */
static inline struct plain_result plain_run(const struct trace *trace, enum plain_policy policy,
                                            uint32_t room, uint32_t segment_blocks)
{
    struct plain p = { .policy = policy, .room = room, .segment_blocks = segment_blocks };
    struct plain_result result = { 0 };
    for (uint32_t i = 0; i < trace->ids; i++)
        if (trace->id[i] + 2 > p.ids) p.ids = trace->id[i] + 2;
    p.id = calloc(p.ids, sizeof *p.id);
    p.log_room = trace->ids * 8 + 1;
    p.log = calloc(p.log_room, sizeof *p.log);
    p.segment_size = calloc(p.log_room, sizeof *p.segment_size);
    must(p.id && p.log && p.segment_size);
    p.segments = segment_blocks ? room / segment_blocks : 0;
    if (!p.segments) p.segments = room ? 1 : UINT32_MAX;
    for (uint32_t i = 0; i < trace->requests; i++) {
        const struct trace_request *r = &trace->request[i];
        uint64_t hit =
            (uint64_t)plain_request(&p, trace->id + r->first_id, r->ids) * trace->id_tokens;
        result.input += r->input_tokens;
        result.hit += hit < r->input_tokens - 1 ? hit : r->input_tokens - 1;
    }
    result.written = p.written;
    result.forwarded = p.forwarded;
    free(p.segment_size);
    free(p.log);
    free(p.id);
    return result;
}

/* ---- windows: prefixes as a dictionary, room for all blocks ---------------------------------- */

struct plain_block {
    uint64_t key;  // of all ids up to its end; 0: empty place
    bool goes_on;
    uint8_t window;  // 0: none, 1: an end, 2: a branch
};

struct plain_windows {  // what is kept, and what came of it
    bool prompt_end, output_end, branch;
    uint32_t ends_kept, interval_blocks;  // 0: all; 0: none
    uint64_t requests, input, hit, kept;
};

struct plain_session {
    struct plain_windows *w;
    struct plain_block *block;  // [room] by key
    uint64_t *key;              // of the request at hand
    uint32_t room;
};

static inline struct plain_block *plain_find(const struct plain_session *s, uint64_t key)
{
    uint64_t at = key % s->room;
    while (s->block[at].key && s->block[at].key != key) at = (at + 1) % s->room;
    return &s->block[at];
}

static inline uint32_t plain_keys(const struct plain_session *s, const struct trace *trace,
                                  const struct trace_request *r)
{
    uint64_t key = 1469598103934665603u;
    for (uint32_t i = 0; i < r->ids / 2; i++) {
        for (uint32_t k = 0; k < 2; k++) {
            key = (key ^ trace->id[r->first_id + 2 * i + k]) * 1099511628211u;
            key ^= key >> 29;
        }
        s->key[i] = key;
    }
    return r->ids / 2;
}

/* The window at the end of the first `blocks` of the path, and the older ones that it replaces. */
static inline void plain_keep(struct plain_session *s, uint32_t blocks, uint8_t window)
{
    struct plain_block *at = plain_find(s, s->key[blocks - 1]);
    s->w->kept += !at->window;
    if (window > at->window) at->window = window;
    uint32_t ends = 0;
    for (uint32_t b = blocks; b && s->w->ends_kept; b--) {
        struct plain_block *before = plain_find(s, s->key[b - 1]);
        if (before->window == 1 && ++ends > s->w->ends_kept) before->window = 0;
    }
}

static inline void plain_learn(const struct plain_session *s, uint32_t blocks)
{
    for (uint32_t b = 0; b < blocks; b++) {
        plain_find(s, s->key[b])->key = s->key[b];
        if (b) plain_find(s, s->key[b - 1])->goes_on = true;
    }
}

/* The path's keys are those of the next request, which shows what the output was. */
static inline void plain_output(struct plain_session *s, const struct trace *trace,
                                const struct trace_request *before, uint32_t blocks)
{
    uint32_t prompt = before->input_tokens / 128, had = before->ids / 2;
    uint32_t end = (before->input_tokens + before->output_tokens) / 128;
    if (prompt > had) prompt = had;
    if (end > blocks) end = blocks;
    if (end < prompt || memcmp(trace->id + before->first_id, trace->id + before[1].first_id,
                               (size_t)prompt * 2 * sizeof(uint32_t)))
        return;
    plain_learn(s, end);
    if (end && s->w->output_end) plain_keep(s, end, 1);
}

static inline void plain_turn(struct plain_session *s, const struct trace_request *r,
                              uint32_t blocks)
{
    uint32_t whole = r->input_tokens / 128, most = (r->input_tokens - 1) / 128, known = 0;
    if (whole > blocks) whole = blocks;
    if (most > whole) most = whole;
    while (known < most && plain_find(s, s->key[known])->key) known++;
    uint32_t from = known;
    while (from && !plain_find(s, s->key[from - 1])->window) from--;
    s->w->requests++;
    s->w->input += r->input_tokens;
    s->w->hit += (uint64_t)from * 128;

    struct plain_block last = { 0 };
    if (known) last = *plain_find(s, s->key[known - 1]);
    plain_learn(s, whole);
    for (uint32_t b = from + 1; b <= whole; b++) {
        bool is_branch = s->w->branch && b == known && last.goes_on && !last.window;
        bool is_end = (s->w->prompt_end && b == whole) ||
                      (s->w->interval_blocks && b % s->w->interval_blocks == 0);
        if (is_branch || is_end) plain_keep(s, b, is_branch ? 2 : 1);
    }
}

/* Adds one session to what it is given. */
static inline void plain_windows_run(const struct trace *trace, struct plain_windows *windows)
{
    struct plain_session s = { .w = windows, .room = trace->ids * 2 + 1 };
    s.block = calloc(s.room, sizeof *s.block);
    s.key = calloc(trace->ids + 1, sizeof *s.key);
    must(s.block && s.key);
    for (uint32_t i = 0; i < trace->requests; i++) {
        const struct trace_request *r = &trace->request[i];
        if (!r->input_tokens) continue;
        uint32_t blocks = plain_keys(&s, trace, r);
        if (i) plain_output(&s, trace, r - 1, blocks);
        plain_turn(&s, r, blocks);
    }
    free(s.key);
    free(s.block);
}

#endif
