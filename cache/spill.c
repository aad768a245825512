/* spill.c - the rules, from what forbids to what allows. */
#include "cache/spill.h"

static enum spill_verdict verdict_of_w(const struct spill_limits *limits,
                                       const struct spill_ask *ask)
{
    bool lasting = ask->w_class == W_BRANCH || ask->w_class == W_PINNED;
    if (!lasting && !(ask->newest_of_path && !ask->is_running)) return SPILL_DEAD_W;
    if (ask->reason == SPILL_IDLE && ask->idle_s < limits->w_ttl_s) return SPILL_LATER;
    return SPILL_WRITE;
}

static enum spill_verdict verdict_of_g(const struct spill_limits *limits,
                                       const struct spill_ask *ask)
{
    if (ask->reason == SPILL_IDLE)
        return ask->hits && ask->idle_s >= limits->disk_after_s ? SPILL_WRITE : SPILL_LATER;
    bool wanted = ask->hits || ask->in_session || ask->is_running;
    return wanted || ask->idle_s < limits->one_shot_s ? SPILL_WRITE : SPILL_ONE_SHOT;
}

enum spill_verdict spill_verdict(const struct spill_limits *limits, const struct spill_ask *ask)
{
    if (ask->no_store) return SPILL_NO_STORE;
    return ask->object == KV_W ? verdict_of_w(limits, ask) : verdict_of_g(limits, ask);
}

enum { THERE_ENOUGH = 64 };

uint32_t spill_chain(const struct prefix_tree *tree, struct prefix_ref ref,
                     struct prefix_ref *chain, uint32_t room)
{
    uint32_t count = 0, there = 0;
    struct prefix_block look;
    for (; ref.node && there < THERE_ENOUGH; ref = look.before) {
        if (!prefix_tree_look(tree, ref, &look)) return SPILL_NO_CHAIN;
        there++;
        if (look.state[KV_G][KV_DISK] == COPY_VALID || look.state[KV_G][KV_DISK] == COPY_LOADING)
            continue;
        there = 0;
        if (count == room) return SPILL_NO_CHAIN;
        chain[count++] = ref;
    }
    for (uint32_t i = 0; i < count / 2; i++) {
        struct prefix_ref other = chain[count - 1 - i];
        chain[count - 1 - i] = chain[i];
        chain[i] = other;
    }
    return count;
}
