/* tiers.c - operations in a slab; a load is a list of copies to be brought nearer, one tier a poll.
 *
 * A load takes its device slots first, as LOADING copies that it fills itself: NEEDED until its
 * source stands in host memory, MOVING once an operation fills it. Others who want the same copy
 * join it by a pin and are MOVING from the start.
 */
#include "cache/tiers.h"

static const uint32_t NO_OPERATION = UINT32_MAX;

struct tiers_operation {
    struct tiers_move move;
    struct prefix_pin from, to;
    bool leave;     // drops the source at the end
    uint32_t next;  // free
};

enum item_stage { ITEM_NEEDED, ITEM_MOVING, ITEM_READY };

struct tiers_item {
    struct prefix_ref ref;
    uint8_t object, stage;
    struct prefix_pin device;  // while NEEDED, that of the copy which the load must fill or fail
    struct prefix_pin source;  // while NEEDED: on host or disk
};

enum status tiers_init(struct tiers *tiers, const struct tiers_options *options)
{
    must(options->operations && options->operations < NO_OPERATION);
    *tiers = (struct tiers){ .options = *options };
    tiers->operation = calloc(options->operations, sizeof *tiers->operation);
    if (!tiers->operation) return NO_MEMORY;
    for (uint32_t i = 0; i < options->operations; i++)
        tiers->operation[i].next = i + 1 < options->operations ? i + 1 : NO_OPERATION;
    return OK;
}

void tiers_release(struct tiers *tiers)
{
    must(tiers->in_flight == 0);
    free(tiers->operation);
    *tiers = (struct tiers){ 0 };
}

void tiers_freed(struct tiers *tiers, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    kv_pool_drop(tiers->options.pool[object][tier], slot, KV_DISCARD);
}

/* ---- operations ----------------------------------------------------------------------------- */

/* Starts the transfer between two pinned copies; on OK the pins are the operation's. */
static enum status start(struct tiers *tiers, struct prefix_pin *from, struct prefix_pin *to,
                         bool leave)
{
    struct prefix_tree *tree = tiers->options.tree;
    uint32_t i = tiers->free_operation;
    if (i == NO_OPERATION) return BUSY;
    struct tiers_operation *operation = &tiers->operation[i];
    uint32_t next = operation->next;
    *operation = (struct tiers_operation){
        .move = { .object = from->object,
                  .from = from->tier,
                  .to = to->tier,
                  .from_slot = prefix_tree_slot(tree, from),
                  .to_slot = prefix_tree_slot(tree, to),
                  .ref = from->ref },
        .from = *from,
        .to = *to,
        .leave = leave,
        .next = next,
    };
    if (!tiers->options.start(tiers->options.user, i, &operation->move)) return BUSY;
    tiers->free_operation = next;
    tiers->in_flight++;
    *from = *to = (struct prefix_pin){ 0 };
    return OK;
}

void tiers_done(struct tiers *tiers, uint32_t operation, bool ok)
{
    struct prefix_tree *tree = tiers->options.tree;
    struct tiers_operation *done = &tiers->operation[operation];
    const struct tiers_move *move = &done->move;
    must(tiers->in_flight && !prefix_is_none(done->to.ref));
    if (ok) {
        bool landed = prefix_tree_land(tree, &done->to);
        prefix_tree_unpin(tree, &done->to);
        prefix_tree_unpin(tree, &done->from);
        struct prefix_block look;
        if (landed && done->leave && prefix_tree_look(tree, move->ref, &look) &&
            look.pins[move->object][move->from] == 0)
            prefix_tree_drop(tree, move->ref, move->object, move->from);
    } else {
        prefix_tree_fail(tree, &done->to);
        if (move->from == KV_DISK) prefix_tree_drop(tree, move->ref, move->object, KV_DISK);
        prefix_tree_unpin(tree, &done->from);
    }
    done->next = tiers->free_operation;
    tiers->free_operation = operation;
    tiers->in_flight--;
}

/* A slot on a tier, evicting but on disk. */
static enum status take(struct tiers *tiers, enum kv_object object, enum kv_tier tier,
                        uint32_t tenant, uint32_t count, uint32_t *slot)
{
    struct kv_pool *pool = tiers->options.pool[object][tier];
    struct prefix_evict evict = { .object = object, .tier = tier, .tenant = tenant };
    if (!pool) return BUSY;
    bool evicts = tier == KV_DEVICE || (tier == KV_HOST && !tiers->options.host_waits);
    /* A victim's slot is not free yet where a fork has the same page beside the tree. */
    while (evicts && count > pool->free_count &&
           prefix_tree_evict(tiers->options.tree, &evict, count - pool->free_count))
        ;
    return kv_pool_take(pool, count, slot);
}

/* A LOADING copy with a slot of its own. */
static enum status begin(struct tiers *tiers, struct prefix_ref ref, enum kv_object object,
                         enum kv_tier tier, struct prefix_pin *pin)
{
    struct prefix_block look;
    uint32_t slot;
    if (!prefix_tree_look(tiers->options.tree, ref, &look)) return BAD_INPUT;
    enum status status = take(tiers, object, tier, look.tenant, 1, &slot);
    if (status != OK) return status;
    if (prefix_tree_begin(tiers->options.tree, ref, object, tier, slot, pin)) return OK;
    kv_pool_drop(tiers->options.pool[object][tier], slot, KV_DISCARD);
    return BUSY;
}

static enum status copy(struct tiers *tiers, const struct tiers_move *move, bool leave)
{
    struct prefix_tree *tree = tiers->options.tree;
    enum kv_object object = move->object;
    struct prefix_block look;
    struct prefix_pin source, target;
    if (!prefix_tree_look(tree, move->ref, &look)) return BAD_INPUT;
    uint8_t there = look.state[object][move->to];
    if (there == COPY_VALID || there == COPY_LOADING) return OK;
    if (look.state[object][move->from] != COPY_VALID) return BAD_INPUT;
    must(prefix_tree_pin(tree, move->ref, object, move->from, &source) == COPY_VALID);
    if (!prefix_tree_fit(tree, move->ref, object, move->to)) {
        prefix_tree_unpin(tree, &source);
        return BAD_INPUT;
    }
    enum status status = begin(tiers, move->ref, object, move->to, &target);
    if (status == OK) {
        status = start(tiers, &source, &target, leave);
        if (status != OK) prefix_tree_fail(tree, &target);
    }
    prefix_tree_unpin(tree, &source);
    return status;
}

enum status tiers_save(struct tiers *tiers, struct prefix_ref ref, enum kv_object object)
{
    struct tiers_move move = { .object = object, .from = KV_DEVICE, .to = KV_HOST, .ref = ref };
    return copy(tiers, &move, object == KV_W);
}

enum status tiers_spill(struct tiers *tiers, struct prefix_ref ref, enum kv_object object,
                        bool leave)
{
    struct tiers_move move = { .object = object, .from = KV_HOST, .to = KV_DISK, .ref = ref };
    return copy(tiers, &move, leave);
}

enum status tiers_fetch(struct tiers *tiers, struct prefix_ref ref, enum kv_object object)
{
    struct tiers_move move = { .object = object, .from = KV_DISK, .to = KV_HOST, .ref = ref };
    return copy(tiers, &move, false);
}

/* ---- loads ---------------------------------------------------------------------------------- */

void tiers_load_end(struct tiers *tiers, struct tiers_load *load)
{
    struct prefix_tree *tree = tiers->options.tree;
    for (uint32_t i = load->items; i-- > 0;) {
        struct tiers_item *item = &load->item[i];
        prefix_tree_unpin(tree, &item->source);
        if (item->stage == ITEM_NEEDED && !prefix_is_none(item->device.ref))
            prefix_tree_fail(tree, &item->device);
        else prefix_tree_unpin(tree, &item->device);
    }
    free(load->item);
    *load = (struct tiers_load){ 0 };
}

/* Pins the nearest copy; false: there is none. */
static bool pin_nearest(struct tiers *tiers, struct tiers_item *item)
{
    struct prefix_tree *tree = tiers->options.tree;
    enum copy_state state =
        prefix_tree_pin(tree, item->ref, item->object, KV_DEVICE, &item->device);
    if (state == COPY_DOOMED) return false;  // its slot is not free yet
    if (state != COPY_NONE) {
        item->stage = ITEM_MOVING;
        return true;
    }
    for (int tier = KV_HOST; tier < KV_TIERS && prefix_is_none(item->source.ref); tier++)
        prefix_tree_pin(tree, item->ref, item->object, tier, &item->source);
    return !prefix_is_none(item->source.ref);
}

/* Device slots for all items of one object that need one: all or none. */
static enum status take_device(struct tiers *tiers, struct tiers_load *load, enum kv_object object,
                               uint32_t tenant)
{
    struct prefix_tree *tree = tiers->options.tree;
    uint32_t count = 0, used = 0;
    for (uint32_t i = 0; i < load->items; i++)
        count += load->item[i].object == object && load->item[i].stage == ITEM_NEEDED;
    if (!count) return OK;
    uint32_t *slot = malloc(count * sizeof *slot);
    if (!slot) return NO_MEMORY;
    enum status status = take(tiers, object, KV_DEVICE, tenant, count, slot);
    if (status != OK) count = 0;
    for (uint32_t i = 0; status == OK && i < load->items; i++) {
        struct tiers_item *item = &load->item[i];
        if (item->object != object || item->stage != ITEM_NEEDED) continue;
        if (prefix_tree_begin(tree, item->ref, object, KV_DEVICE, slot[used], &item->device))
            used++;
        else status = BUSY;  // its source is only coming
    }
    while (used < count)
        kv_pool_drop(tiers->options.pool[object][KV_DEVICE], slot[used++], KV_DISCARD);
    free(slot);
    return status;
}

enum status tiers_load_begin(struct tiers *tiers, struct tiers_load *load,
                             const struct prefix_ref *path, const struct resume_plan *plan,
                             uint32_t tenant)
{
    bool has_w = plan->mode == RESUME_RESTORE;
    *load = (struct tiers_load){ .item = calloc(plan->known + 1, sizeof *load->item) };
    if (!load->item) return NO_MEMORY;
    if (has_w)  // first: it is needed at once, and the likeliest to fail
        load->item[load->items++] =
            (struct tiers_item){ .ref = path[plan->from - 1], .object = KV_W };
    for (uint32_t i = 0; i < plan->known; i++)
        load->item[load->items++] = (struct tiers_item){ .ref = path[i], .object = KV_G };

    enum status status = OK;
    for (uint32_t i = 0; status == OK && i < load->items; i++)
        if (!pin_nearest(tiers, &load->item[i])) status = BUSY;
    for (int object = KV_OBJECTS; status == OK && object-- > 0;)
        status = take_device(tiers, load, object, tenant);
    if (status == OK) tiers_load_poll(tiers, load);
    else tiers_load_end(tiers, load);
    return status;
}

/* Makes sure that a copy on its way to host memory is the source: joins one, or reads it. */
static enum status read_disk(struct tiers *tiers, struct tiers_item *item)
{
    struct prefix_tree *tree = tiers->options.tree;
    struct prefix_pin host, again;
    enum copy_state state = prefix_tree_pin(tree, item->ref, item->object, KV_HOST, &host);
    if (state == COPY_DOOMED) return BUSY;
    if (state == COPY_NONE) {
        enum status status = begin(tiers, item->ref, item->object, KV_HOST, &host);
        if (status != OK) return status;
        prefix_tree_pin_again(tree, &host, &again);
        status = start(tiers, &item->source, &host, false);
        if (status != OK) {
            prefix_tree_unpin(tree, &again);
            prefix_tree_fail(tree, &host);
            return status;
        }
        host = again;
    }
    prefix_tree_unpin(tree, &item->source);
    item->source = host;
    return OK;
}

static enum status fill_device(struct tiers *tiers, struct tiers_item *item)
{
    struct prefix_tree *tree = tiers->options.tree;
    struct prefix_pin again;
    prefix_tree_pin_again(tree, &item->device, &again);
    enum status status = start(tiers, &item->source, &item->device, false);
    if (status != OK) {
        prefix_tree_unpin(tree, &again);
        return status;
    }
    item->device = again;
    item->stage = ITEM_MOVING;
    return OK;
}

/* One step for one item. */
static enum load_state advance(struct tiers *tiers, struct tiers_item *item)
{
    struct prefix_tree *tree = tiers->options.tree;
    enum copy_state device = prefix_tree_state(tree, &item->device);
    if (device == COPY_DOOMED) return LOAD_FAILED;
    if (device == COPY_VALID) item->stage = ITEM_READY;
    if (item->stage == ITEM_READY) return LOAD_READY;
    if (item->stage == ITEM_MOVING) return LOAD_WAIT;

    enum copy_state source = prefix_tree_state(tree, &item->source);
    if (source == COPY_DOOMED) return LOAD_FAILED;
    enum status status = OK;
    if (source == COPY_VALID)
        status = item->source.tier == KV_DISK ? read_disk(tiers, item) : fill_device(tiers, item);
    return status == BAD_INPUT ? LOAD_FAILED : LOAD_WAIT;  // BUSY: at a later poll
}

enum load_state tiers_load_poll(struct tiers *tiers, struct tiers_load *load)
{
    enum load_state state = LOAD_READY;
    for (uint32_t i = 0; i < load->items; i++) {
        enum load_state one = advance(tiers, &load->item[i]);
        if (one == LOAD_FAILED) return LOAD_FAILED;
        if (one == LOAD_WAIT) state = LOAD_WAIT;
    }
    return state;
}
