/* masks.c - first those at hand, then the dear ones side by side, then those that became cheap. */
#include "engine/masks.h"
#include <sched.h>
#include "config/clock.h"
#include "config/metrics.h"
#include "kernels/cpu/pool.h"

static uint32_t threads_by_itself(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count < MASK_THREADS_MOST ? (uint32_t)count : MASK_THREADS_MOST;
}

enum status masks_init(struct masks *masks, uint32_t threads, uint32_t room)
{
    *masks = (struct masks){ .room = room };
    masks->row = calloc(room, sizeof *masks->row);
    masks->dear = calloc(room, sizeof *masks->dear);
    enum status status = pool_open(threads ? threads : threads_by_itself(), &masks->pool);
    if (masks->row && masks->dear && status == OK) return OK;
    masks_release(masks);
    return NO_MEMORY;
}

void masks_release(struct masks *masks)
{
    pool_close(masks->pool);
    free(masks->row);
    free(masks->dear);
    *masks = (struct masks){ 0 };
}

void masks_begin(struct masks *masks)
{
    masks->rows = 0;
    masks->waited_ns = 0;
}

void masks_add(struct masks *masks, struct seq *seq)
{
    must(masks->rows < masks->room && seq->job->grammar && seq->allowed);
    masks->row[masks->rows++] = (struct mask_row){ .seq = seq };
}

static void make_one(struct mask_row *row)
{
    const struct seq *seq = row->seq;
    uint64_t start = thread_ns();  // others may have the core meanwhile
    grammar_mask(seq->job->grammar, &seq->follows, seq->allowed);
    row->ns += thread_ns() - start;
}

static void make_dear(void *context, uint32_t item, uint32_t thread)
{
    struct masks *masks = context;
    (void)thread;
    make_one(&masks->row[masks->dear[item]]);
}

static bool make_soon(struct mask_row *row)
{
    const struct seq *seq = row->seq;
    uint64_t start = now_ns();
    bool made = grammar_mask_soon(seq->job->grammar, &seq->follows, seq->allowed, &row->likeness);
    row->ns = now_ns() - start;
    return made;
}

/* Will one of the first `count` dear ones bring this one's mask along? */
static bool comes_along(const struct masks *masks, const struct mask_row *row, uint32_t count)
{
    for (uint32_t i = 0; i < count && row->likeness; i++) {
        const struct mask_row *other = &masks->row[masks->dear[i]];
        if (other->likeness == row->likeness && other->seq->job->grammar == row->seq->job->grammar)
            return true;
    }
    return false;
}

/* What was made side by side costs each its part of the time that it took. */
static void share_time(struct masks *masks)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < masks->rows; i++) sum += masks->row[i].ns;
    for (uint32_t i = 0; i < masks->rows; i++) {
        struct mask_row *row = &masks->row[i];
        metric_observe(METRIC_mask_seconds, row->ns);
        if (sum > masks->waited_ns)
            row->ns = (uint64_t)((double)row->ns * (double)masks->waited_ns / (double)sum);
    }
}

void masks_make(struct masks *masks)
{
    uint32_t dear = 0, along = 0;
    uint64_t start = now_ns();
    for (uint32_t i = 0; i < masks->rows; i++) {
        struct mask_row *row = &masks->row[i];
        if (make_soon(row)) continue;
        // those that come along are noted from the end on
        if (comes_along(masks, row, dear)) masks->dear[masks->room - ++along] = i;
        else masks->dear[dear++] = i;
    }
    pool_run(masks->pool, dear, make_dear, masks);
    while (along) make_one(&masks->row[masks->dear[masks->room - along--]]);
    masks->waited_ns = now_ns() - start;
    metric_observe(METRIC_step_masks, masks->waited_ns);
    share_time(masks);
}
