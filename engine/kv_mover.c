/* kv_mover.c - two lanes, each a queue of copies; the disk's operations come back in any order. */
#include "engine/kv_mover.h"
#include "config/clock.h"

static const uint32_t NO_OPERATION = UINT32_MAX;
static const uint64_t WINDOW_NS = 50 * NS_PER_MS;

enum { SAMPLE_BYTES = 64 << 10, SAMPLE_LOOKS = 3, SAMPLE_PARTS = 8 };

enum way { WAY_NONE, WAY_OUT, WAY_IN, WAY_DISK };

struct kv_mover_op {
    uint8_t way;  // enum way; NONE: it rests
    bool given_up, erases;
    struct tiers_move move;
    uint64_t place;  // of its lane, once marked
    uint64_t since_ns;
    uint32_t next;  // on its lane
    struct disk_op disk;
};

struct kv_purge {
    struct disk_op op;
    struct kv_purge *next;
};

/* ---- how fast a way is ---------------------------------------------------------------------- */

static void gauge_begin(struct kv_gauge *gauge, uint64_t now)
{
    if (gauge->busy++ == 0) gauge->since_ns = now;
}

static void gauge_end(struct kv_gauge *gauge, size_t bytes, uint64_t at_ns)
{
    must(gauge->busy > 0);
    gauge->busy--;
    gauge->bytes += bytes;
    if (at_ns > gauge->end_ns) gauge->end_ns = at_ns;
}

/* A copy is seen to be done when somebody looks, which may be long after, so that only a way that was
 * seen busy says how fast it is; unless the calls themselves took the time. `exact`: the ends are. */
static void gauge_look(struct kv_gauge *gauge, uint64_t now, bool exact)
{
    gauge->looks++;
    if (!gauge->bytes || (gauge->busy && now - gauge->since_ns < WINDOW_NS)) return;
    uint64_t took = gauge->end_ns > gauge->since_ns ? gauge->end_ns - gauge->since_ns : 1;
    bool by_calls = gauge->call_ns * 2 > took;
    if (exact || by_calls || gauge->looks >= SAMPLE_LOOKS) {
        gauge->sum_bytes += gauge->bytes;
        gauge->sum_ns += by_calls ? gauge->call_ns : took;
    }
    gauge->bytes = gauge->call_ns = 0;
    gauge->looks = 0;
    gauge->since_ns = now;
    if (gauge->sum_bytes < SAMPLE_BYTES) return;
    double bytes_s = (double)gauge->sum_bytes * 1e9 / (double)gauge->sum_ns;
    gauge->bytes_s += (bytes_s - gauge->bytes_s) / (gauge->bytes_s > 0 ? SAMPLE_PARTS : 1);
    gauge->sum_bytes = gauge->sum_ns = 0;
}

/* ---- lanes ---------------------------------------------------------------------------------- */

static void lane_append(struct kv_mover *mover, enum dev_lane which, uint32_t operation)
{
    struct kv_lane *lane = &mover->lane[which];
    mover->op[operation].next = NO_OPERATION;
    if (lane->first == NO_OPERATION) lane->first = operation;
    else mover->op[lane->last].next = operation;
    lane->last = operation;
}

/* One place behind all copies since the last one. */
static void lane_mark(struct kv_mover *mover, enum dev_lane which)
{
    struct kv_lane *lane = &mover->lane[which];
    if (lane->first == NO_OPERATION || lane->marked == lane->last) return;
    struct dev *dev = mover->options.dev;
    uint64_t place = dev->ops->lane_mark(dev, which);
    uint32_t i = lane->marked == NO_OPERATION ? lane->first : mover->op[lane->marked].next;
    for (; i != NO_OPERATION; i = mover->op[i].next) mover->op[i].place = place;
    lane->marked = lane->last;
}

static void end_operation(struct kv_mover *mover, uint32_t operation, bool ok)
{
    struct kv_mover_op *op = &mover->op[operation];
    must(op->way != WAY_NONE);
    op->way = WAY_NONE;
    if (ok)
        mover->moved_bytes[op->move.from][op->move.to] +=
            mover->options.image_bytes[op->move.object];
    tiers_done(mover->options.tiers, operation, ok);
}

static bool lane_take(struct kv_mover *mover, enum dev_lane which, uint64_t now)
{
    struct kv_lane *lane = &mover->lane[which];
    struct dev *dev = mover->options.dev;
    const struct kv_mover_op *before = NULL;
    while (lane->first != NO_OPERATION) {
        uint32_t i = lane->first;
        const struct kv_mover_op *op = &mover->op[i];
        bool same_place = before && before->place == op->place;
        if (!same_place && !dev->ops->lane_done(dev, which, op->place)) break;
        before = op;
        if (lane->marked == i) lane->marked = NO_OPERATION;
        lane->first = op->next;
        if (which == LANE_IN)
            gauge_end(&mover->in, mover->options.image_bytes[op->move.object], now);
        end_operation(mover, i, true);
    }
    return before;
}

bool kv_mover_copies(const struct kv_mover *mover)
{
    return mover->lane[LANE_OUT].first != NO_OPERATION ||
           mover->lane[LANE_IN].first != NO_OPERATION;
}

/* ---- transfers ------------------------------------------------------------------------------ */

uint32_t kv_mover_disk_slot(const struct kv_mover *mover, enum kv_object object, uint32_t slot)
{
    return disk_first_slot(mover->options.disk, object) + slot;
}

static bool start_copy(struct kv_mover *mover, uint32_t operation, const struct tiers_move *move)
{
    const struct kv_mover_options *options = &mover->options;
    struct dev *dev = options->dev;
    bool in = move->to == KV_DEVICE;
    size_t bytes = options->image_bytes[move->object];
    uint32_t device_slot = in ? move->to_slot : move->from_slot;
    uint32_t host_slot = in ? move->from_slot : move->to_slot;
    char *device = options->device[move->object] + device_slot * options->stride[move->object];
    void *host = host_arena_image(options->arena, move->object, host_slot);
    if (in) {
        bool idle = mover->lane[LANE_IN].first == NO_OPERATION;
        if (mover->in_left < bytes && !idle) return false;
        mover->in_left -= mover->in_left < bytes ? mover->in_left : bytes;
        uint64_t start_ns = now_ns();
        gauge_begin(&mover->in, start_ns);
        dev->ops->lane_in(dev, device, host, bytes);
        mover->in.call_ns += now_ns() - start_ns;
    } else {
        dev->ops->lane_out(dev, host, device, bytes);
    }
    mover->op[operation].way = in ? WAY_IN : WAY_OUT;
    lane_append(mover, in ? LANE_IN : LANE_OUT, operation);
    return true;
}

static bool start_disk(struct kv_mover *mover, uint32_t operation, const struct tiers_move *move)
{
    const struct kv_mover_options *options = &mover->options;
    struct kv_mover_op *op = &mover->op[operation];
    struct prefix_block block;
    bool reads = move->from == KV_DISK;
    if (!options->disk) return false;
    if (!prefix_tree_look(options->tiers->options.tree, move->ref, &block)) return false;
    uint32_t disk_slot = reads ? move->from_slot : move->to_slot;
    uint32_t host_slot = reads ? move->to_slot : move->from_slot;
    op->disk =
        (struct disk_op){ .kind = reads ? DISK_READ : DISK_WRITE,
                          .id = { .key = block.key, .depth = block.depth, .object = move->object },
                          .slot = kv_mover_disk_slot(mover, move->object, disk_slot),
                          .memory = host_arena_slot(options->arena, move->object, host_slot),
                          .owner = kv_mover_owner(move->ref),
                          .user = op };
    options->name(options->user, &block, &op->disk.id);
    op->way = WAY_DISK;
    if (reads) gauge_begin(&mover->up, op->since_ns);
    if (reads) mover->reading++;
    else mover->writing[move->object]++;
    disk_submit(options->disk, &op->disk);
    return true;
}

bool kv_mover_start(void *user, uint32_t operation, const struct tiers_move *move)
{
    struct kv_mover *mover = user;
    struct kv_mover_op *op = &mover->op[operation];
    must(operation < mover->options.operations && op->way == WAY_NONE);
    *op = (struct kv_mover_op){ .move = *move, .since_ns = now_ns() };
    return move->from == KV_DISK || move->to == KV_DISK ? start_disk(mover, operation, move)
                                                        : start_copy(mover, operation, move);
}

static void end_disk(struct kv_mover *mover, struct kv_mover_op *op, bool ok)
{
    if (op->move.from == KV_DISK) {
        size_t bytes = mover->options.image_bytes[op->move.object];
        gauge_end(&mover->up, ok ? bytes : 0, op->since_ns + op->disk.took_ns);
        mover->reading--;
    } else {
        if (ok && op->erases) disk_erase(mover->options.disk, op->disk.slot);
        mover->writing[op->move.object]--;
    }
    end_operation(mover, (uint32_t)(op - mover->op), ok);
}

static void end_purge(struct kv_mover *mover, const struct disk_op *op)
{
    for (struct kv_purge **at = &mover->purge; *at; at = &(*at)->next) {
        struct kv_purge *purge = *at;
        if (&purge->op != op) continue;
        mover->purges_failed += purge->op.status != OK;
        *at = purge->next;
        free(purge);
        return;
    }
}

static bool disk_step(struct kv_mover *mover)
{
    struct disk_op *done[32];
    uint32_t got, all = 0;
    if (!mover->options.disk) return false;
    while ((got = disk_take(mover->options.disk, done, 32))) {
        for (uint32_t i = 0; i < got; i++) {
            if (done[i]->kind == DISK_PURGE) end_purge(mover, done[i]);
            else end_disk(mover, done[i]->user, done[i]->status == OK);
        }
        all += got;
    }
    return all > 0;
}

bool kv_mover_step(struct kv_mover *mover)
{
    uint64_t now = now_ns();
    bool any = false;
    for (enum dev_lane lane = 0; lane < DEV_LANES; lane++) {
        lane_mark(mover, lane);
        any |= lane_take(mover, lane, now);
    }
    any |= disk_step(mover);
    gauge_look(&mover->in, now, false);
    gauge_look(&mover->up, now, true);
    return any;
}

void kv_mover_allow(struct kv_mover *mover, uint64_t bytes)
{
    mover->in_left = bytes;
}

uint32_t kv_mover_give_up(struct kv_mover *mover, uint64_t patience_ns)
{
    struct prefix_tree *tree = mover->options.tiers->options.tree;
    uint64_t now = now_ns();
    uint32_t count = 0;
    for (uint32_t i = 0; mover->reading && i < mover->options.operations; i++) {
        struct kv_mover_op *op = &mover->op[i];
        if (op->way != WAY_DISK || op->move.from != KV_DISK || op->given_up) continue;
        if (now - op->since_ns < patience_ns) continue;
        op->given_up = true;
        prefix_tree_drop(tree, op->move.ref, op->move.object, KV_HOST);
        prefix_tree_drop(tree, op->move.ref, op->move.object, KV_DISK);
        count++;
    }
    return count;
}

enum status kv_mover_purge(struct kv_mover *mover, const uint8_t *scope, uint32_t bytes)
{
    struct kv_purge *purge = calloc(1, sizeof *purge);
    if (!purge) return NO_MEMORY;
    purge->op.kind = DISK_PURGE;
    purge->op.scope_bytes = bytes;
    memcpy(purge->op.id.scope, scope, bytes);
    purge->next = mover->purge;
    mover->purge = purge;
    disk_submit(mover->options.disk, &purge->op);
    return OK;
}

void kv_mover_erase(struct kv_mover *mover, struct prefix_ref ref, enum kv_object object)
{
    for (uint32_t i = 0; kv_mover_writes(mover) && i < mover->options.operations; i++) {
        struct kv_mover_op *op = &mover->op[i];
        bool is_it = op->way == WAY_DISK && op->move.to == KV_DISK && op->move.object == object &&
                     kv_mover_owner(op->move.ref) == kv_mover_owner(ref);
        if (is_it) op->erases = true;
    }
}

void kv_mover_end_copies(struct kv_mover *mover)
{
    for (int which = 0; which < DEV_LANES; which++) {
        struct kv_lane *lane = &mover->lane[which];
        while (lane->first != NO_OPERATION) {
            uint32_t i = lane->first;
            lane->first = mover->op[i].next;
            if (which == LANE_IN) gauge_end(&mover->in, 0, 0);
            end_operation(mover, i, false);
        }
        lane->marked = NO_OPERATION;
    }
}

void kv_mover_end_disk(struct kv_mover *mover)
{
    while (mover->purge) end_purge(mover, &mover->purge->op);
    for (uint32_t i = 0; i < mover->options.operations; i++)
        if (mover->op[i].way == WAY_DISK) end_disk(mover, &mover->op[i], false);
    mover->options.disk = NULL;
}

enum status kv_mover_init(struct kv_mover *mover, const struct kv_mover_options *options)
{
    *mover = (struct kv_mover){ .options = *options, .in_left = UINT64_MAX };
    mover->op = calloc(options->operations, sizeof *mover->op);
    if (!mover->op) return NO_MEMORY;
    for (int lane = 0; lane < DEV_LANES; lane++)
        mover->lane[lane] = (struct kv_lane){ NO_OPERATION, NO_OPERATION, NO_OPERATION };
    return OK;
}

void kv_mover_release(struct kv_mover *mover)
{
    must(!kv_mover_copies(mover) && !mover->reading && !kv_mover_writes(mover));
    free(mover->op);
    *mover = (struct kv_mover){ 0 };
}
