/* store_walk_test.c - several requests under way at once, restarts, purges and every fault at random:
 * right bytes or a miss, never anything else. FATHOM_STORE_STEPS (4,000) sets how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/store_fixture.h"

/* One step against the list; several requests may be under way at once. */
struct walk {
    struct fixture *f;
    uint8_t *memory[64];  // of requests under way, by tag
    uint32_t slot[64];
    uint64_t misses, hits;
    bool faults;
};

static void settle(struct walk *w, bool all)
{
    struct fixture *f = w->f;
    struct store_done done[16];
    uint32_t under_way = 1;

    while (under_way) {
        uint32_t got = store_take(f->store, done, 16);
        for (uint32_t i = 0; i < got; i++) {
            uint32_t slot = w->slot[done[i].tag];
            struct model_slot *m = &f->slot[slot];
            uint8_t *memory = w->memory[done[i].tag];
            w->memory[done[i].tag] = NULL;
            if (done[i].op == STORE_WRITE) {
                must(m->state == MODEL_WRITING);
                m->state = done[i].status == OK ? MODEL_THERE : MODEL_FREE;
                if (!w->faults) must(done[i].status == OK);
                if (m->state == MODEL_THERE && !store_holds(f->store, slot, NULL))
                    m->state = MODEL_LOST;  // gone before we looked
            } else if (done[i].status != OK) {
                /* What was erased or evicted while it was read may be missed. */
                uint64_t block;
                memcpy(&block, memory + record_slot_bytes(W_BYTES), sizeof block);
                w->misses += m->state == MODEL_THERE && m->block == block &&
                             store_holds(f->store, slot, NULL);
            } else {
                const struct record_head *head = (const void *)memory;
                uint32_t object = head->id.object;
                if (record_unpack(f->codec, &f->map[object], memory, object ? W_BYTES : G_BYTES)) {
                    uint64_t block = f->rng;  // set below: the tag's block
                    memcpy(&block, memory + record_slot_bytes(W_BYTES), sizeof block);
                    must(fixture_is_right(block, object, memory));
                    w->hits++;
                } else {
                    must(w->faults);
                    w->misses++;
                    if (m->state == MODEL_THERE) store_wrong(f->store, slot);
                }
            }
            free(memory);
        }
        under_way = 0;
        for (uint32_t t = 0; t < 64; t++) under_way += w->memory[t] != NULL;
        if (!all) return;
        if (under_way && !got) store_wait(f->store, 20);
    }
}

static uint32_t free_tag(struct walk *w)
{
    for (;;) {
        for (uint32_t t = 0; t < 64; t++)
            if (!w->memory[t]) return t;
        settle(w, false);
        store_wait(w->f->store, 10);
    }
}

static void write_some(struct walk *w)
{
    struct fixture *f = w->f;
    uint64_t block = (uint64_t)fixture_below(f, 60) * CHAIN + fixture_below(f, CHAIN);
    uint32_t object = fixture_below(f, 8) == 0, slot = fixture_take_slot(f), tag = free_tag(w);
    struct store_write write = { .id = fixture_id(block, object),
                                 .slot = slot,
                                 .packed = fixture_pack(f, block, object),
                                 .owner = block,
                                 .tag = tag };
    if (store_write(f->store, &write) != OK) {
        free(write.packed);
        return;
    }
    w->memory[tag] = write.packed;
    w->slot[tag] = slot;
    f->slot[slot] = (struct model_slot){ MODEL_WRITING, block, object };
}

static void read_some(struct walk *w)
{
    struct fixture *f = w->f;
    uint32_t slot = fixture_below(f, store_slots(f->store)), tag = free_tag(w);
    for (uint32_t i = 0; i < 50 && f->slot[slot].state != MODEL_THERE; i++)
        slot = fixture_below(f, store_slots(f->store));
    struct model_slot m = f->slot[slot];
    if (m.state != MODEL_THERE) return;
    /* Behind the slot, the number of the block that it must be when it is there. */
    uint8_t *memory = aligned_alloc(RECORD_PAGE, record_slot_bytes(W_BYTES) + RECORD_PAGE);
    memcpy(memory + record_slot_bytes(W_BYTES), &m.block, sizeof m.block);
    struct store_read read = { .object = m.object, .slot = slot, .memory = memory, .tag = tag };
    fixture_key(m.block, &read.key);
    enum status status = store_read(f->store, &read);
    if (status != OK) {
        must(status == BUSY || w->faults);
        free(memory);
        return;
    }
    w->memory[tag] = memory;
    w->slot[tag] = slot;
}

static void step(struct walk *w)
{
    struct fixture *f = w->f;
    uint32_t kind = fixture_below(f, 1000), slot = fixture_below(f, store_slots(f->store));
    uint8_t scope[RECORD_TAG];

    if (kind < 350) {
        write_some(w);
    } else if (kind < 850) {
        read_some(w);
    } else if (kind < 900) {
        store_touch(f->store, slot);
    } else if (kind < 960) {
        bool busy = f->slot[slot].state == MODEL_WRITING;
        if (!busy) {
            if (kind < 910) store_erase(f->store, slot);
            else store_forget(f->store, slot);
            f->slot[slot].state = MODEL_FREE;
        }
    } else if (kind < 994) {
        settle(w, true);
        fixture_compare(f);
    } else if (kind < 997 && f->config.failures_off) {
        settle(w, true);
        fixture_scope((uint64_t)fixture_below(f, 4) * CHAIN, scope);
        enum status status = store_purge(f->store, scope, RECORD_TAG);
        if (status == OK && !f->fault.rate[FAULT_LOST] && !f->fault.rate[FAULT_TORN] &&
            !f->fault.rate[FAULT_ASTRAY] && !f->fault.rate[FAULT_FLIP])
            must(fixture_marks(f, scope[0]) == 0);
        if (!w->faults) must(status == OK);
    } else {
        settle(w, true);
        must(store_close(f->store, 10000));
        uint64_t rate[FAULT_KINDS];
        for (int k = 0; k < FAULT_KINDS; k++) rate[k] = f->fault.rate[k];
        if (fixture_below(f, 2)) memset(f->fault.rate, 0, sizeof f->fault.rate);
        while (fixture_open(f) != OK) memset(f->fault.rate, 0, sizeof f->fault.rate);
        for (int k = 0; k < FAULT_KINDS; k++) f->fault.rate[k] = (uint32_t)rate[k];
    }
    settle(w, false);
}

static void walk(uint64_t seed, uint32_t steps, const uint32_t rate[FAULT_KINDS])
{
    struct fixture f;
    struct walk w = { .f = &f };

    fixture_open_new(&f, seed);
    f.fault.seed = seed;
    f.fault.shuffle = rate != NULL;
    for (int k = 0; rate && k < FAULT_KINDS; k++) {
        f.fault.rate[k] = rate[k];
        w.faults |= rate[k] > 0 && k != FAULT_DELAY;
    }
    for (uint32_t i = 0; i < steps; i++) step(&w);
    memset(f.fault.rate, 0, sizeof f.fault.rate);
    settle(&w, true);
    fixture_compare(&f);
    assert_true(w.hits > 0);
    if (!w.faults) assert_int_equal(w.misses, 0);
    fixture_close_and_remove(&f);
}

static uint32_t walk_steps(void)
{
    const char *steps = getenv("FATHOM_STORE_STEPS");
    return steps ? (uint32_t)strtoul(steps, NULL, 10) : 4000;
}

static void random_operations_agree_with_the_list(void **unused)
{
    (void)unused;
    walk(41, walk_steps(), NULL);
    uint32_t late[FAULT_KINDS] = { [FAULT_DELAY] = FAULT_ALWAYS / 4 };
    walk(42, walk_steps(), late);
}

static void each_fault_alone_is_a_miss_at_worst(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < FAULT_KINDS; kind++) {
        uint32_t rate[FAULT_KINDS] = { 0 };
        rate[kind] = FAULT_ALWAYS / 50;
        walk(50 + (uint64_t)kind, walk_steps() / 4, rate);
    }
}

static void all_faults_together_are_misses_at_worst(void **unused)
{
    (void)unused;
    for (uint64_t seed = 0; seed < 4; seed++) {
        uint32_t rate[FAULT_KINDS];
        for (int kind = 0; kind < FAULT_KINDS; kind++) rate[kind] = FAULT_ALWAYS / 300;
        walk(70 + seed, walk_steps() / 4, rate);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_the_list),
        cmocka_unit_test(each_fault_alone_is_a_miss_at_worst),
        cmocka_unit_test(all_faults_together_are_misses_at_worst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
