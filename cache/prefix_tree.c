/* prefix_tree.c - the table, the trie, and what happens to a node when its copies come and go.
 *
 * Every change of a copy ends in refresh(), which compares what the node's place among the victims
 * should be with what it is; nothing else enters or leaves that order.
 */
#include "cache/prefix_parts.h"

static const uint32_t NO_NODE = UINT32_MAX;

#define NOWHERE                                                                                    \
    {                                                                                              \
        { NOT_QUEUED, NOT_QUEUED, NOT_QUEUED },                                                    \
        {                                                                                          \
            NOT_QUEUED, NOT_QUEUED, NOT_QUEUED                                                     \
        }                                                                                          \
    }

/* ---- the table ------------------------------------------------------------------------------ */

uint32_t entry_tag(const struct prefix_key *key)
{
    uint32_t tag;
    memcpy(&tag, key->byte, sizeof tag);
    return tag;
}

uint32_t entry_home(const struct prefix_tree *tree, uint32_t tag)
{
    return (uint32_t)(((uint64_t)tag * tree->entries) >> 32);
}

static uint32_t entry_after(const struct prefix_tree *tree, uint32_t at)
{
    return at + 1 == tree->entries ? 0 : at + 1;
}

uint32_t node_lookup(const struct prefix_tree *tree, const struct prefix_key *key)
{
    uint32_t tag = entry_tag(key), at = entry_home(tree, tag);
    for (; tree->entry[at].node; at = entry_after(tree, at))
        if (tree->entry[at].tag == tag &&
            memcmp(&tree->node[tree->entry[at].node].key, key, sizeof *key) == 0)
            return tree->entry[at].node;
    return 0;
}

static void table_add(struct prefix_tree *tree, uint32_t node)
{
    uint32_t tag = entry_tag(&tree->node[node].key), at = entry_home(tree, tag);
    while (tree->entry[at].node) at = entry_after(tree, at);
    tree->entry[at] = (struct prefix_entry){ tag, node };
}

/* Moves later entries of the run into the hole, as long as that brings none before its home. */
static void table_remove(struct prefix_tree *tree, uint32_t node)
{
    uint32_t hole = entry_home(tree, entry_tag(&tree->node[node].key));
    while (tree->entry[hole].node != node) hole = entry_after(tree, hole);
    for (uint32_t at = entry_after(tree, hole); tree->entry[at].node; at = entry_after(tree, at)) {
        uint32_t home = entry_home(tree, tree->entry[at].tag);
        bool stays = hole <= at ? hole < home && home <= at : hole < home || home <= at;
        if (stays) continue;
        tree->entry[hole] = tree->entry[at];
        hole = at;
    }
    tree->entry[hole] = (struct prefix_entry){ 0 };
}

/* ---- nodes ---------------------------------------------------------------------------------- */

/* The LIVE node of a ref, the root too, or NO_NODE. */
static uint32_t resolve(const struct prefix_tree *tree, struct prefix_ref ref)
{
    if (prefix_is_none(ref) || ref.node > tree->options.nodes) return NO_NODE;
    const struct prefix_node *node = &tree->node[ref.node];
    return node->generation == ref.generation && node->life == NODE_LIVE ? ref.node : NO_NODE;
}

/* The same where the root makes no sense. */
static uint32_t resolve_block(const struct prefix_tree *tree, struct prefix_ref ref)
{
    uint32_t id = resolve(tree, ref);
    return id ? id : NO_NODE;
}

static struct prefix_ref ref_of(const struct prefix_tree *tree, uint32_t id)
{
    return (struct prefix_ref){ id, tree->node[id].generation };
}

static bool is_reachable(const struct prefix_tree *tree, uint32_t id)
{
    while (id && tree->node[id].life == NODE_LIVE) id = tree->node[id].parent;
    return id == 0;
}

static void refresh(struct prefix_tree *tree, uint32_t id)
{
    struct prefix_node *node = &tree->node[id];
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++) {
            bool wanted = is_victim(node, object, tier);
            bool queued = node->queued[object][tier] != NOT_QUEUED;
            if (wanted && !queued) order_add(tree, object, tier, id);
            if (!wanted && queued) order_remove(tree, object, tier, id);
        }
}

/* The node's age or hits have changed. */
static void refresh_age(struct prefix_tree *tree, uint32_t id)
{
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++)
            if (tree->node[id].queued[object][tier] != NOT_QUEUED)
                order_again(tree, object, tier, id);
}

static void pinned_below(struct prefix_tree *tree, uint32_t id, uint32_t more)
{
    for (; id && tree->node[id].life != NODE_FREE; id = tree->node[id].parent) {
        tree->node[id].pinned_below += more;  // may be a negative number, modulo 2^32
        refresh(tree, id);
        if (tree->node[id].life != NODE_LIVE) return;
    }
}

static void set_class(struct prefix_tree *tree, uint32_t id, enum w_class w_class)
{
    struct prefix_node *node = &tree->node[id];
    bool was = node->w_class == W_PINNED, is = w_class == W_PINNED;
    node->w_class = w_class & 15;
    if (was == is) return;
    tree->tenant[node->tenant].w_pinned += is ? 1u : UINT32_MAX;
    pinned_below(tree, id, is ? 1u : UINT32_MAX);
}

static void free_node(struct prefix_tree *tree, uint32_t id)
{
    struct prefix_node *node = &tree->node[id];
    node->life = NODE_FREE;
    node->generation++;
    node->next = tree->free_node;
    tree->free_node = id;
    tree->dead--;
}

static void free_if_idle(struct prefix_tree *tree, uint32_t id)
{
    const struct prefix_node *node = &tree->node[id];
    if (node->life != NODE_REAPED) return;
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++)
            if (node->copy[object][tier].state != COPY_NONE) return;
    free_node(tree, id);
}

/* Reaps for a node when none is left. What was resolved before may be gone after. */
static void make_node_room(struct prefix_tree *tree)
{
    while (!tree->free_node && tree->fresh_node > tree->options.nodes && tree->reap_node)
        prefix_tree_reap(tree, 16);
}

static uint32_t take_node(struct prefix_tree *tree)
{
    uint32_t id = tree->free_node;
    if (id) tree->free_node = tree->node[id].next;
    else if (tree->fresh_node <= tree->options.nodes) id = tree->fresh_node++;
    return id;
}

/* ---- copies --------------------------------------------------------------------------------- */

static bool has_room(struct prefix_tree *tree, uint32_t tenant, enum kv_object object,
                     enum kv_tier tier)
{
    struct prefix_owner *of = &tree->owner[tree->tenant[tenant].owner];
    return order_reserve(&of->order[object][tier], of->used[object][tier] + 1);
}

/* has_room was asked. */
static void put_copy(struct prefix_tree *tree, uint32_t id, enum kv_object object,
                     enum kv_tier tier, const struct prefix_copy *copy)
{
    struct prefix_node *node = &tree->node[id];
    node->copy[object][tier] = *copy;
    struct prefix_tenant *of = &tree->tenant[node->tenant];
    tree->used[object][tier]++;
    of->used[object][tier]++;
    tree->owner[of->owner].used[object][tier]++;
    if (object == KV_G) {
        tree->node[node->parent].children[tier]++;
        refresh(tree, node->parent);
    }
    refresh(tree, id);
}

static void release_slot(struct prefix_tree *tree, uint32_t id, enum kv_object object,
                         enum kv_tier tier)
{
    struct prefix_copy *copy = &tree->node[id].copy[object][tier];
    struct prefix_tenant *of = &tree->tenant[tree->node[id].tenant];
    must(copy->pins == 0);
    copy->state = COPY_NONE;
    tree->used[object][tier]--;
    of->used[object][tier]--;
    tree->owner[of->owner].used[object][tier]--;
    tree->options.freed(tree->options.user, object, tier, copy->slot);
}

static void detach(struct prefix_tree *tree, uint32_t id);

/* LOADING or VALID -> DOOMED or NONE, and what follows from it. */
static void drop_copy(struct prefix_tree *tree, uint32_t id, enum kv_object object,
                      enum kv_tier tier)
{
    struct prefix_node *node = &tree->node[id];
    struct prefix_copy *copy = &node->copy[object][tier];
    must(copy_is_there(copy));
    copy->state = COPY_DOOMED;
    if (object == KV_G) {
        struct prefix_node *parent = &tree->node[node->parent];
        parent->children[tier]--;
        if (node->parent && parent->last_use_s < node->last_use_s) {
            parent->last_use_s = node->last_use_s;  // a parent is never older than its child
            refresh_age(tree, node->parent);
        }
        refresh(tree, node->parent);
    } else if (!has_w(node)) {
        set_class(tree, id, W_NONE);
    }
    refresh(tree, id);
    if (copy->pins == 0) release_slot(tree, id, object, tier);
    if (object == KV_G && node->life == NODE_LIVE && !valid_copies(node, KV_G)) detach(tree, id);
}

static void drop_all(struct prefix_tree *tree, uint32_t id)
{
    for (int object = KV_OBJECTS; object-- > 0;)
        for (int tier = 0; tier < KV_TIERS; tier++)
            if (copy_is_there(&tree->node[id].copy[object][tier]))
                drop_copy(tree, id, object, tier);
}

/* The head of the list of what follows a node, or of a tenant's first blocks. */
static uint32_t *first_of(struct prefix_tree *tree, uint32_t parent, uint32_t tenant)
{
    return parent ? &tree->node[parent].first_child : &tree->tenant[tenant].first;
}

/* Takes a node out of table and trie; its children follow by prefix_tree_reap. */
static void detach(struct prefix_tree *tree, uint32_t id)
{
    struct prefix_node *node = &tree->node[id];
    must(node->life == NODE_LIVE);
    table_remove(tree, id);
    tree->live--;
    tree->dead++;
    pinned_below(tree, node->parent, 0u - node->pinned_below);
    node->life = NODE_DEAD;
    drop_all(tree, id);

    if (node->prev) tree->node[node->prev].next = node->next;
    else *first_of(tree, node->parent, node->tenant) = node->next;
    if (node->next) tree->node[node->next].prev = node->prev;
    node->parent = node->prev = 0;
    node->next = tree->reap_node;
    tree->reap_node = id;
}

bool prefix_tree_reap(struct prefix_tree *tree, uint32_t most)
{
    for (; tree->reap_node && most; most--) {
        uint32_t id = tree->reap_node;
        struct prefix_node *node = &tree->node[id];
        if (node->first_child) {
            detach(tree, node->first_child);
            continue;
        }
        tree->reap_node = node->next;
        node->life = NODE_REAPED;
        free_if_idle(tree, id);
    }
    return tree->reap_node != 0;
}

/* ---- the calls, in the header's order -------------------------------------------------------- */

enum status prefix_tree_init(struct prefix_tree *tree, const struct prefix_options *options)
{
    must(options->nodes && options->nodes < 1u << 30 && options->freed && options->ends_kept);
    must(options->tenants && options->tenants <= UINT16_MAX);
    *tree = (struct prefix_tree){ .options = *options, .fresh_node = 1, .owners = 1 };
    tree->entries = (uint32_t)((uint64_t)options->nodes * 10 / 7) + 2;
    tree->node = calloc((size_t)options->nodes + 1, sizeof *tree->node);
    tree->entry = calloc(tree->entries, sizeof *tree->entry);
    tree->tenant = calloc(options->tenants, sizeof *tree->tenant);
    if (!tree->options.owners) tree->options.owners = 1;
    tree->owner = calloc(tree->options.owners, sizeof *tree->owner);
    if (!tree->node || !tree->entry || !tree->tenant || !tree->owner) {
        free(tree->owner);
        free(tree->tenant);
        free(tree->entry);
        free(tree->node);
        *tree = (struct prefix_tree){ 0 };
        return NO_MEMORY;
    }
    for (uint32_t i = 0; i < tree->options.owners; i++) tree->owner[i].quota.weight = 1;
    tree->node[0] = (struct prefix_node){
        .generation = 1, .depth = UINT32_MAX, .life = NODE_LIVE, .queued = NOWHERE
    };
    return OK;
}

void prefix_tree_release(struct prefix_tree *tree)
{
    must(tree->pins == 0);
    for (uint32_t i = 0; i < tree->options.owners; i++)
        for (int object = 0; object < KV_OBJECTS; object++)
            for (int tier = 0; tier < KV_TIERS; tier++)
                free(tree->owner[i].order[object][tier].node);
    free(tree->owner);
    free(tree->tenant);
    free(tree->entry);
    free(tree->node);
    *tree = (struct prefix_tree){ 0 };
}

void prefix_tree_clock(struct prefix_tree *tree, uint32_t now_s)
{
    must(now_s >= tree->now_s);
    tree->now_s = now_s;
}

uint32_t prefix_tree_match(const struct prefix_tree *tree, const struct prefix_key *root,
                           const uint32_t *token, uint32_t tokens, struct prefix_ref *path)
{
    struct prefix_key key = *root;
    struct prefix_ref before = PREFIX_ROOT;
    uint32_t cap = prefix_cap(tokens), count = 0;
    for (; count < cap; count++) {
        key = prefix_key_next(&key, SLICE(""), token + (size_t)count * KV_BLOCK_TOKENS);
        path[count] = prefix_tree_find(tree, before, &key);
        if (prefix_is_none(path[count])) break;
        before = path[count];
    }
    return count;
}

uint32_t prefix_tree_match_again(const struct prefix_tree *tree, const struct prefix_prompt *prompt,
                                 struct prefix_ref *path)
{
    struct prefix_key key = *prompt->root;
    struct prefix_ref before = PREFIX_ROOT;
    uint32_t cap = prefix_cap(prompt->tokens), count = 0;
    for (; count < cap; count++) {
        key = prefix_keys_at(prompt->keys, count, &key, prompt->token);
        path[count] = prefix_tree_find(tree, before, &key);
        if (prefix_is_none(path[count])) break;
        before = path[count];
    }
    return count;
}

struct prefix_ref prefix_tree_find(const struct prefix_tree *tree, struct prefix_ref before,
                                   const struct prefix_key *key)
{
    uint32_t parent = resolve(tree, before);
    if (parent == NO_NODE) return PREFIX_NONE;
    uint32_t id = node_lookup(tree, key);
    return id && tree->node[id].parent == parent ? ref_of(tree, id) : PREFIX_NONE;
}

struct prefix_ref prefix_tree_by_key(const struct prefix_tree *tree, const struct prefix_key *key)
{
    uint32_t id = node_lookup(tree, key);
    bool found = id && (!tree->reap_node || is_reachable(tree, id));
    return found ? ref_of(tree, id) : PREFIX_NONE;
}

void prefix_tree_touch(struct prefix_tree *tree, const struct prefix_ref *path, uint32_t count,
                       bool hit)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = resolve_block(tree, path[i]);
        if (id == NO_NODE) continue;
        struct prefix_node *node = &tree->node[id];
        node->last_use_s = tree->now_s;
        if (hit && node->hits < UINT8_MAX) node->hits++;
        refresh_age(tree, id);
    }
}

void prefix_tree_touch_w(struct prefix_tree *tree, struct prefix_ref ref)
{
    uint32_t id = resolve_block(tree, ref);
    if (id == NO_NODE) return;
    tree->node[id].w_use_s = tree->now_s;
    refresh_age(tree, id);
}

bool prefix_tree_look(const struct prefix_tree *tree, struct prefix_ref ref,
                      struct prefix_block *block)
{
    uint32_t id = resolve_block(tree, ref);
    if (id == NO_NODE) return false;
    const struct prefix_node *node = &tree->node[id];
    *block =
        (struct prefix_block){ .key = node->key,
                               .before = ref_of(tree, node->parent),
                               .depth = node->depth,
                               .tenant = node->tenant,
                               .hits = node->hits,
                               .last_use_s = node->last_use_s,
                               .w_use_s = node->w_use_s,
                               .w_class = node->w_class,
                               .is_leaf = !node->first_child,
                               .forks = node->first_child && tree->node[node->first_child].next };
    for (int object = 0; object < KV_OBJECTS; object++)
        for (int tier = 0; tier < KV_TIERS; tier++) {
            const struct prefix_copy *copy = &node->copy[object][tier];
            block->state[object][tier] = copy->state;
            block->pins[object][tier] = copy->pins;
            block->slot[object][tier] = copy->slot;
        }
    return true;
}

/* ---- blocks come */

struct prefix_ref prefix_tree_at(const struct prefix_tree *tree, uint32_t number)
{
    must(number && number <= tree->options.nodes);
    const struct prefix_node *node = &tree->node[number];
    return node->life == NODE_LIVE ? ref_of(tree, number) : PREFIX_NONE;
}

static void pin_copy(struct prefix_tree *tree, uint32_t id, enum kv_object object,
                     enum kv_tier tier, struct prefix_pin *pin)
{
    struct prefix_copy *copy = &tree->node[id].copy[object][tier];
    must(copy->pins < UINT16_MAX);
    if (copy->pins++ == 0) tree->held[object][tier]++;
    tree->pins++;
    refresh(tree, id);
    *pin = (struct prefix_pin){ ref_of(tree, id), (uint8_t)object, (uint8_t)tier };
}

static uint32_t new_node(struct prefix_tree *tree, uint32_t parent, const struct prefix_add *add)
{
    uint32_t id = take_node(tree);
    if (!id) return 0;
    struct prefix_node *node = &tree->node[id], *before = &tree->node[parent];
    uint32_t *first = first_of(tree, parent, add->tenant);
    *node = (struct prefix_node){ .key = add->key,
                                  .parent = parent,
                                  .next = *first,
                                  .generation = node->generation ? node->generation : 1,
                                  .depth = before->depth + 1,
                                  .tenant = (uint16_t)add->tenant,
                                  .last_use_s = tree->now_s,
                                  .life = NODE_LIVE,
                                  .queued = NOWHERE };
    if (node->next) tree->node[node->next].prev = id;
    *first = id;
    table_add(tree, id);
    tree->live++;
    return id;
}

/* Adopts, or shares what is there, or neither. */
static enum prefix_added settle_copy(struct prefix_tree *tree, uint32_t id, enum kv_object object,
                                     enum kv_tier tier, uint32_t slot, struct prefix_pin *pin)
{
    struct prefix_node *node = &tree->node[id];
    enum prefix_added added = PREFIX_KNOWN;
    if (node->copy[object][tier].state == COPY_NONE && has_room(tree, node->tenant, object, tier)) {
        put_copy(tree, id, object, tier,
                 &(struct prefix_copy){ .slot = slot, .state = COPY_VALID });
        added = PREFIX_ADOPTED;
    }
    if (node->copy[object][tier].state != COPY_VALID) return PREFIX_PRIVATE;
    if (pin) pin_copy(tree, id, object, tier, pin);
    return added;
}

enum prefix_added prefix_tree_add(struct prefix_tree *tree, const struct prefix_add *add,
                                  struct prefix_ref *ref, struct prefix_pin *pin)
{
    must(add->tenant < tree->options.tenants);
    make_node_room(tree);
    uint32_t parent = resolve(tree, add->before);
    if (pin) *pin = (struct prefix_pin){ 0 };
    *ref = PREFIX_NONE;
    if (parent == NO_NODE || (tree->reap_node && !is_reachable(tree, parent)))
        return PREFIX_PRIVATE;

    uint32_t id = node_lookup(tree, &add->key);
    if (id && tree->node[id].parent != parent) {
        detach(tree, id);  // equal keys have equal pasts: this one hangs on a dead block
        id = 0;
    }
    if (!id) {
        if (!has_room(tree, add->tenant, KV_G, add->tier)) return PREFIX_PRIVATE;
        id = new_node(tree, parent, add);
        if (!id) return PREFIX_PRIVATE;
    }
    must(tree->node[id].tenant == add->tenant);  // the key holds the scope
    *ref = ref_of(tree, id);
    return settle_copy(tree, id, KV_G, add->tier, add->slot, pin);
}

/* Of the ENDs on the path to a block, the block itself counted, only the newest stay. */
static void let_older_ends_go(struct prefix_tree *tree, uint32_t id)
{
    uint32_t ends = 0;
    for (; id; id = tree->node[id].parent) {
        if (tree->node[id].w_class != W_END || ++ends <= tree->options.ends_kept) continue;
        for (int tier = 0; tier < KV_TIERS; tier++)
            if (copy_is_there(&tree->node[id].copy[KV_W][tier])) drop_copy(tree, id, KV_W, tier);
    }
}

enum prefix_added prefix_tree_keep(struct prefix_tree *tree, const struct prefix_keep *keep,
                                   struct prefix_pin *pin)
{
    must(keep->w_class != W_NONE);
    uint32_t id = resolve_block(tree, keep->ref);
    if (pin) *pin = (struct prefix_pin){ 0 };
    if (id == NO_NODE) return PREFIX_PRIVATE;
    struct prefix_node *node = &tree->node[id];
    enum w_class w_class = keep->w_class;
    if (w_class == W_PINNED && node->w_class != W_PINNED &&
        tree->tenant[node->tenant].w_pinned >= tree->options.w_pinned)
        w_class = W_BRANCH;

    enum prefix_added added = settle_copy(tree, id, KV_W, keep->tier, keep->slot, pin);
    if (added == PREFIX_PRIVATE) return added;
    if (w_class > node->w_class) set_class(tree, id, w_class);
    node->w_use_s = tree->now_s;
    refresh_age(tree, id);
    refresh(tree, id);
    let_older_ends_go(tree, id);
    return added;
}

/* ---- copies move */

enum copy_state prefix_tree_pin(struct prefix_tree *tree, struct prefix_ref ref,
                                enum kv_object object, enum kv_tier tier, struct prefix_pin *pin)
{
    uint32_t id = resolve_block(tree, ref);
    *pin = (struct prefix_pin){ 0 };
    if (id == NO_NODE) return COPY_NONE;
    const struct prefix_copy *copy = &tree->node[id].copy[object][tier];
    if (copy_is_there(copy)) pin_copy(tree, id, object, tier, pin);
    return copy->state;
}

static struct prefix_copy *pinned_copy(const struct prefix_tree *tree, const struct prefix_pin *pin)
{
    must(!prefix_is_none(pin->ref) && pin->ref.node <= tree->options.nodes);
    struct prefix_node *node = &tree->node[pin->ref.node];
    struct prefix_copy *copy = &node->copy[pin->object][pin->tier];
    must(node->generation == pin->ref.generation && copy->pins > 0);
    return copy;
}

void prefix_tree_pin_again(struct prefix_tree *tree, const struct prefix_pin *pin,
                           struct prefix_pin *again)
{
    pinned_copy(tree, pin);
    pin_copy(tree, pin->ref.node, pin->object, pin->tier, again);
}

void prefix_tree_unpin(struct prefix_tree *tree, struct prefix_pin *pin)
{
    if (prefix_is_none(pin->ref)) return;
    struct prefix_copy *copy = pinned_copy(tree, pin);
    uint32_t id = pin->ref.node;
    if (--copy->pins == 0) tree->held[pin->object][pin->tier]--;
    tree->pins--;
    if (copy->state == COPY_DOOMED && copy->pins == 0) {
        release_slot(tree, id, pin->object, pin->tier);
        free_if_idle(tree, id);
    } else {
        refresh(tree, id);
    }
    *pin = (struct prefix_pin){ 0 };
}

uint32_t prefix_tree_slot(const struct prefix_tree *tree, const struct prefix_pin *pin)
{
    return pinned_copy(tree, pin)->slot;
}

enum copy_state prefix_tree_state(const struct prefix_tree *tree, const struct prefix_pin *pin)
{
    return pinned_copy(tree, pin)->state;
}

bool prefix_tree_begin(struct prefix_tree *tree, struct prefix_ref ref, enum kv_object object,
                       enum kv_tier tier, uint32_t slot, struct prefix_pin *pin)
{
    uint32_t id = resolve_block(tree, ref);
    *pin = (struct prefix_pin){ 0 };
    if (id == NO_NODE) return false;
    const struct prefix_node *node = &tree->node[id];
    if (!valid_copies(node, object) || node->copy[object][tier].state != COPY_NONE) return false;
    if (!has_room(tree, node->tenant, object, tier)) return false;
    put_copy(tree, id, object, tier, &(struct prefix_copy){ .slot = slot, .state = COPY_LOADING });
    pin_copy(tree, id, object, tier, pin);
    return true;
}

bool prefix_tree_land(struct prefix_tree *tree, const struct prefix_pin *pin)
{
    struct prefix_copy *copy = pinned_copy(tree, pin);
    if (copy->state == COPY_DOOMED) return false;
    must(copy->state == COPY_LOADING);
    copy->state = COPY_VALID;
    refresh(tree, pin->ref.node);
    return true;
}

void prefix_tree_fail(struct prefix_tree *tree, struct prefix_pin *pin)
{
    struct prefix_copy *copy = pinned_copy(tree, pin);
    must(copy->state == COPY_LOADING || copy->state == COPY_DOOMED);
    if (copy->state == COPY_LOADING) drop_copy(tree, pin->ref.node, pin->object, pin->tier);
    prefix_tree_unpin(tree, pin);
}

/* ---- copies and blocks go */

void prefix_tree_drop(struct prefix_tree *tree, struct prefix_ref ref, enum kv_object object,
                      enum kv_tier tier)
{
    uint32_t id = resolve_block(tree, ref);
    if (id != NO_NODE && copy_is_there(&tree->node[id].copy[object][tier]))
        drop_copy(tree, id, object, tier);
}

void prefix_tree_purge(struct prefix_tree *tree, uint32_t tenant)
{
    while (tree->tenant[tenant].first) detach(tree, tree->tenant[tenant].first);
}

void prefix_tree_flush(struct prefix_tree *tree, enum kv_tier tier)
{
    for (uint32_t id = 1; id < tree->fresh_node; id++)
        for (int object = KV_OBJECTS; object-- > 0;)
            if (tree->node[id].life == NODE_LIVE &&
                copy_is_there(&tree->node[id].copy[object][tier]))
                drop_copy(tree, id, object, tier);
}

size_t prefix_tree_bytes(const struct prefix_tree *tree)
{
    size_t bytes = ((size_t)tree->options.nodes + 1) * sizeof *tree->node +
                   tree->entries * sizeof *tree->entry +
                   tree->options.tenants * sizeof *tree->tenant +
                   tree->options.owners * sizeof *tree->owner;
    for (uint32_t i = 0; i < tree->options.owners; i++)
        for (int object = 0; object < KV_OBJECTS; object++)
            for (int tier = 0; tier < KV_TIERS; tier++)
                bytes += tree->owner[i].order[object][tier].room * sizeof(uint32_t);
    return bytes;
}
