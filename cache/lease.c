/* lease.c - each slot is given back the way it was got: by its pin, or to its pool. */
#include "cache/lease.h"

void lease_freed(const struct lease_place *place, enum kv_object object, uint32_t slot)
{
    kv_pool_drop(object == KV_G ? place->g_pool : place->w_pool, slot, KV_DISCARD);
}

void lease_init(struct lease *lease, const struct lease_place *place,
                const struct lease_start *start)
{
    *lease = (struct lease){ .place = place,
                             .tenant = start->tenant,
                             .store = start->store,
                             .key = start->root,
                             .last = PREFIX_ROOT };
}

static void give(struct lease *lease, struct kv_pool *pool, uint32_t slot, struct prefix_pin *pin)
{
    if (prefix_is_none(pin->ref)) kv_pool_drop(pool, slot, KV_DISCARD);
    else prefix_tree_unpin(lease->place->tree, pin);
}

static void give_pages(struct lease *lease, uint32_t count)
{
    if (!count) return;
    for (uint32_t i = 0; i < count; i++)
        give(lease, lease->place->w_pool, lease->w_page[i], &lease->w_pin[i]);
    lease->w_pages -= count;
    lease->w_first += count;
    memmove(lease->w_page, lease->w_page + count, lease->w_pages * sizeof *lease->w_page);
    memmove(lease->w_pin, lease->w_pin + count, lease->w_pages * sizeof *lease->w_pin);
}

void lease_release(struct lease *lease)
{
    give_pages(lease, lease->w_pages);
    while (lease->g_blocks) {
        uint32_t i = --lease->g_blocks;
        give(lease, lease->place->g_pool, lease->g_block[i], &lease->g_pin[i]);
    }
    free(lease->g_block);
    free(lease->g_pin);
    free(lease->w_page);
    free(lease->w_pin);
    *lease = (struct lease){ 0 };
}

/* ---- room ----------------------------------------------------------------------------------- */

static bool grow(void **array, size_t room, size_t size)
{
    void *grown = realloc(*array, room * size);
    if (grown) *array = grown;
    return grown;
}

static enum status make_room(struct lease *lease, uint32_t blocks)
{
    if (blocks <= lease->room) return OK;
    uint32_t room = blocks + blocks / 2 + 4;
    if (!grow((void **)&lease->g_block, room, sizeof *lease->g_block) ||
        !grow((void **)&lease->g_pin, room, sizeof *lease->g_pin) ||
        !grow((void **)&lease->w_page, room, sizeof *lease->w_page) ||
        !grow((void **)&lease->w_pin, room, sizeof *lease->w_pin))
        return NO_MEMORY;
    lease->room = room;
    return OK;
}

static enum status take(struct lease *lease, enum kv_object object, uint32_t count, uint32_t *slot)
{
    struct kv_pool *pool = object == KV_G ? lease->place->g_pool : lease->place->w_pool;
    struct prefix_evict evict = { .object = object, .tier = KV_DEVICE, .tenant = lease->tenant };
    /* A victim's slot is not free yet where a fork has the same page beside the tree. */
    while (count > pool->free_count &&
           prefix_tree_evict(lease->place->tree, &evict, count - pool->free_count))
        ;
    return kv_pool_take(pool, count, slot);
}

enum status lease_reserve(struct lease *lease, uint32_t tokens, uint32_t soon)
{
    uint32_t end = (tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    uint32_t w_end = (soon + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    uint32_t blocks = end > lease->g_blocks ? end - lease->g_blocks : 0;
    uint32_t have = lease->w_first + lease->w_pages, pages = w_end > have ? w_end - have : 0;
    must(soon <= tokens);
    enum status status = make_room(lease, end);
    if (status == OK) status = take(lease, KV_G, blocks, lease->g_block + lease->g_blocks);
    if (status != OK) return status;
    status = take(lease, KV_W, pages, lease->w_page + lease->w_pages);
    if (status != OK) {
        for (uint32_t i = 0; i < blocks; i++)
            kv_pool_drop(lease->place->g_pool, lease->g_block[lease->g_blocks + i], KV_DISCARD);
        return status;
    }
    while (blocks--) lease->g_pin[lease->g_blocks++] = (struct prefix_pin){ 0 };
    while (pages--) lease->w_pin[lease->w_pages++] = (struct prefix_pin){ 0 };
    return OK;
}

enum status lease_resume(struct lease *lease, const struct prefix_ref *path,
                         const struct resume_plan *plan)
{
    struct prefix_tree *tree = lease->place->tree;
    struct prefix_block last;
    struct prefix_pin w = { 0 };
    must(lease->g_blocks == 0 && lease->sealed == 0);
    if (plan->mode == RESUME_COLD) return OK;
    if (make_room(lease, plan->known) != OK) return NO_MEMORY;

    for (; lease->g_blocks < plan->known; lease->g_blocks++) {
        struct prefix_pin *pin = &lease->g_pin[lease->g_blocks];
        enum copy_state state = prefix_tree_pin(tree, path[lease->g_blocks], KV_G, KV_DEVICE, pin);
        if (state != COPY_VALID) {
            prefix_tree_unpin(tree, pin);
            goto gone;
        }
        lease->g_block[lease->g_blocks] = prefix_tree_slot(tree, pin);
    }
    lease->w_first = plan->from;
    if (plan->mode == RESUME_RESTORE) {
        enum copy_state state = prefix_tree_pin(tree, path[plan->from - 1], KV_W, KV_DEVICE, &w);
        if (state != COPY_VALID) goto gone;
        lease->w_first--;
        lease->w_page[0] = prefix_tree_slot(tree, &w);
        lease->w_pin[0] = w;
        lease->w_pages = 1;
        prefix_tree_touch_w(tree, path[plan->from - 1]);
    }
    must(prefix_tree_look(tree, path[plan->known - 1], &last));
    lease->key = last.key;
    lease->last = path[plan->known - 1];
    lease->sealed = plan->known;
    lease->replays = plan->mode == RESUME_REPLAY;
    prefix_tree_touch(tree, path, plan->known, true);
    return OK;

gone:
    prefix_tree_unpin(tree, &w);
    while (lease->g_blocks) prefix_tree_unpin(tree, &lease->g_pin[--lease->g_blocks]);
    lease->w_first = 0;
    return BUSY;
}

/* ---- sealing -------------------------------------------------------------------------------- */

static void tell(const struct lease *lease, enum kv_object object)
{
    const struct lease_place *place = lease->place;
    if (place->sealed) place->sealed(place->user, lease->last, object);
}

/* Of the last sealed block, whose page is held. */
static void keep_window(struct lease *lease, enum w_class w_class)
{
    uint32_t page = lease->sealed - 1 - lease->w_first;
    struct prefix_keep keep = {
        .ref = lease->last, .w_class = w_class, .tier = KV_DEVICE, .slot = lease->w_page[page]
    };
    struct prefix_pin pin;
    enum prefix_added added = prefix_tree_keep(lease->place->tree, &keep, &pin);
    if (added == PREFIX_ADOPTED) {
        lease->w_pin[page] = pin;
        tell(lease, KV_W);
    } else {
        prefix_tree_unpin(lease->place->tree, &pin);  // another page has the same bytes
    }
}

static void seal(struct lease *lease, const uint32_t *token)
{
    uint32_t i = lease->sealed++;
    lease->key = prefix_key_next(&lease->key, SLICE(""), token);
    if (!lease->store || prefix_is_none(lease->last)) return;
    struct prefix_add add = { .before = lease->last,
                              .key = lease->key,
                              .tenant = lease->tenant,
                              .tier = KV_DEVICE,
                              .slot = lease->g_block[i] };
    enum prefix_added added =
        prefix_tree_add(lease->place->tree, &add, &lease->last, &lease->g_pin[i]);
    if (added == PREFIX_KNOWN) {
        kv_pool_drop(lease->place->g_pool, lease->g_block[i], KV_DISCARD);
        lease->g_block[i] = prefix_tree_slot(lease->place->tree, &lease->g_pin[i]);
    } else if (added == PREFIX_ADOPTED) {
        tell(lease, KV_G);
    }
    enum w_class w_class = w_class_at(&lease->hints, lease->sealed);
    if (w_class != W_NONE && !prefix_is_none(lease->last)) keep_window(lease, w_class);
}

/* A replay has come to where its prompt leaves what was known: all of the window there is exact. */
static void end_replay(struct lease *lease)
{
    enum w_class w_class = w_class_at(&lease->hints, lease->sealed);
    lease->replays = false;
    if (lease->store && w_class != W_NONE) keep_window(lease, w_class);
}

void lease_commit(struct lease *lease, const uint32_t *token, uint32_t computed)
{
    if (lease->replays && computed >= lease->sealed * KV_BLOCK_TOKENS) end_replay(lease);
    while ((uint64_t)(lease->sealed + 1) * KV_BLOCK_TOKENS <= computed)
        seal(lease, token + (size_t)lease->sealed * KV_BLOCK_TOKENS);

    /* The next token's window, and the last sealed page in case the sequence ends here. */
    uint32_t first = computed < KV_BLOCK_TOKENS ? 0 : computed / KV_BLOCK_TOKENS - 1;
    if (first <= lease->w_first) return;
    uint32_t gone = first - lease->w_first;
    give_pages(lease, gone < lease->w_pages ? gone : lease->w_pages);
}

void lease_end(struct lease *lease, uint32_t computed)
{
    uint32_t boundary = w_end_boundary(computed);
    bool is_held = boundary && boundary == lease->sealed && boundary > lease->w_first &&
                   boundary <= lease->w_first + lease->w_pages;
    if (lease->store && is_held && !prefix_is_none(lease->last)) keep_window(lease, W_END);
    for (uint32_t i = 0; i < lease->g_blocks; i++)
        prefix_tree_touch(lease->place->tree, &lease->g_pin[i].ref, 1, false);
}

/* ---- forks ---------------------------------------------------------------------------------- */

static void share(struct lease *child, struct kv_pool *pool, uint32_t slot,
                  const struct prefix_pin *pin, struct prefix_pin *again)
{
    *again = (struct prefix_pin){ 0 };
    if (prefix_is_none(pin->ref)) kv_pool_hold(pool, slot);
    else prefix_tree_pin_again(child->place->tree, pin, again);
}

enum status lease_fork(const struct lease *parent, uint32_t computed, struct lease *child,
                       struct lease_copy copy[KV_OBJECTS], uint32_t *copies)
{
    uint32_t whole = computed / KV_BLOCK_TOKENS;
    must(parent->sealed == whole);
    *child = *parent;
    child->g_block = child->w_page = NULL;
    child->g_pin = child->w_pin = NULL;
    child->g_blocks = child->w_pages = child->room = *copies = 0;
    enum status status = make_room(child, whole + 1);
    if (status != OK) goto failed;

    for (uint32_t i = 0; i < whole; i++) {
        child->g_block[i] = parent->g_block[i];
        share(child, child->place->g_pool, parent->g_block[i], &parent->g_pin[i], &child->g_pin[i]);
        child->g_blocks++;
    }
    for (uint32_t i = 0; parent->w_first + i < whole && i < parent->w_pages; i++) {
        child->w_page[i] = parent->w_page[i];
        share(child, child->place->w_pool, parent->w_page[i], &parent->w_pin[i], &child->w_pin[i]);
        child->w_pages++;
    }
    if (computed == whole * KV_BLOCK_TOKENS) return OK;
    status = lease_reserve(child, computed, computed);
    if (status != OK) goto failed;
    copy[0] = (struct lease_copy){ KV_G, parent->g_block[whole], child->g_block[whole] };
    copy[1] = (struct lease_copy){ KV_W, parent->w_page[whole - parent->w_first],
                                   child->w_page[whole - child->w_first] };
    *copies = KV_OBJECTS;
    return OK;

failed:
    lease_release(child);
    return status;
}
