/* replay_log.c - a ring of segments, each a list of records in the order written. */
#include "cache/replay_log.h"

#define NONE UINT32_MAX
#define FORWARD_SAVED 2u  // segments, as in store_evict.c

enum status replay_log_init(struct replay_log *log, const struct replay_log_options *options)
{
    uint32_t each = options->segment_blocks, segments = options->blocks / each;
    *log = (struct replay_log){ .tree = options->tree,
                                .segments = segments ? segments : 1,
                                .segment_blocks = each,
                                .forward_each =
                                    (uint32_t)((uint64_t)each * options->forward_percent / 100) };
    /* A dropped record keeps its place in its segment until that goes. */
    log->records = (log->segments + 2) * each;
    log->record = calloc(log->records, sizeof *log->record);
    log->segment = calloc(log->segments + 1, sizeof *log->segment);
    if (!log->record || !log->segment) {
        replay_log_release(log);
        return NO_MEMORY;
    }
    for (uint32_t i = 0; i < log->records; i++)
        log->record[i].next = i + 1 < log->records ? i + 1 : NONE;
    return OK;
}

void replay_log_release(struct replay_log *log)
{
    free(log->segment);
    free(log->record);
    *log = (struct replay_log){ 0 };
}

static struct replay_segment *segment_at(struct replay_log *log, uint32_t at)
{
    return &log->segment[(log->oldest + at) % (log->segments + 1)];
}

static void append(struct replay_log *log, uint32_t slot)
{
    struct replay_segment *head = segment_at(log, log->used - 1);
    log->record[slot].next = NONE;
    if (head->first == NONE) head->first = slot;
    else log->record[head->last].next = slot;
    head->last = slot;
    head->count++;
}

static void reuse(struct replay_log *log, uint32_t slot)
{
    log->record[slot] = (struct replay_record){ .next = log->unused };
    log->unused = slot;
}

static bool is_pinned(const struct replay_log *log, const struct replay_record *record)
{
    struct prefix_block look;
    return prefix_tree_look(log->tree, record->ref, &look) && look.pins[KV_G][KV_DISK];
}

/* Whether it is written again, of the segment that goes. */
static bool stays(struct replay_log *log, const struct replay_record *record)
{
    if (!record->live) return false;
    if (is_pinned(log, record)) return true;
    if (!record->touched || !log->forward_left) return false;
    log->forward_left--;
    return true;
}

/* The oldest segment's records go to the head or out of the tree. The head has room for them: it was
 * empty when this began. */
static void evict(struct replay_log *log)
{
    struct replay_segment *old = segment_at(log, 0);
    log->forward_left += log->forward_each;
    if (log->forward_left > FORWARD_SAVED * log->segment_blocks)
        log->forward_left = FORWARD_SAVED * log->segment_blocks;
    for (uint32_t slot = old->first, next; slot != NONE; slot = next) {
        struct replay_record *record = &log->record[slot];
        next = record->next;
        if (stays(log, record)) {
            record->touched = false;
            append(log, slot);
            log->forwarded++;
            continue;
        }
        if (record->live) {
            prefix_tree_drop(log->tree, record->ref, KV_G, KV_DISK);
            while (prefix_tree_reap(log->tree, 1024)) {
            }
        }
        must(!record->live);
        reuse(log, slot);
    }
    log->oldest = (log->oldest + 1) % (log->segments + 1);
    log->used--;
}

static bool head_is_full(struct replay_log *log)
{
    return log->used == 0 || segment_at(log, log->used - 1)->count >= log->segment_blocks;
}

static void open_segment(struct replay_log *log)
{
    log->used++;
    *segment_at(log, log->used - 1) = (struct replay_segment){ .first = NONE, .last = NONE };
    if (log->used > log->segments) evict(log);
}

uint32_t replay_log_take(struct replay_log *log)
{
    /* A segment all of which is written again makes no room, but what was touched once is then
     * touched no more: the next ring around does. */
    for (uint32_t i = 0; head_is_full(log) && i < 2 * log->segments + 2; i++) open_segment(log);
    uint32_t slot = log->unused;
    if (head_is_full(log) || slot == NONE) return NONE;
    log->unused = log->record[slot].next;
    log->record[slot] = (struct replay_record){ .live = true };
    append(log, slot);
    return slot;
}

void replay_log_written(struct replay_log *log, uint32_t slot, struct prefix_ref ref)
{
    log->record[slot].ref = ref;
    log->written++;
}

void replay_log_touch(struct replay_log *log, uint32_t slot)
{
    log->record[slot].touched = true;
}

void replay_log_freed(struct replay_log *log, uint32_t slot)
{
    log->record[slot].live = false;
}
