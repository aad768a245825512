/* grammar_store_test.c - what was compiled is found again; its bytes never pass the bound, and who holds
 * most makes room first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include <pthread.h>
#include "engine/grammar/grammar_check.h"
#include "engine/grammar/grammar_store.h"

static struct checker checker;
static size_t each;      // bytes that a store is charged with for some_grammar(), without masks
static size_t overhead;  // those of them that are the store's own

static struct grammar *grammar_of(const char *schema)
{
    struct grammar *grammar;
    struct err err;
    assert_int_equal(checker_schema(&checker, schema, &grammar, &err), OK);
    return grammar;
}

static struct grammar *some_grammar(void)
{
    return grammar_of("{\"type\":\"null\"}");
}

static struct grammar_store *store_of(size_t most, uint64_t stale_ns)
{
    struct grammar_store_setup setup = { .most = most, .stale_ns = stale_ns };
    struct grammar_store *store;
    assert_int_equal(grammar_store_open(&setup, &store), OK);
    return store;
}

static struct grammar_key key_of(uint32_t number)
{
    struct grammar_key key = { .byte = { 0 } };
    memcpy(key.byte, &number, sizeof number);
    return key;
}

static size_t charge_of(const struct grammar *grammar)
{
    return grammar_size(grammar).held + overhead;
}

/* Keeps one more; held is the caller's. */
static enum status put(struct grammar_store *store, uint32_t number, const char *owner,
                       struct grammar **held)
{
    struct grammar_key key = key_of(number);
    struct grammar *grammar = some_grammar();
    struct err err = { "" };
    enum status status = grammar_store_put(store, &key, owner, &grammar, &err);
    assert_int_equal(status == OK, err.text[0] == '\0');
    if (status != OK || !held) grammar_drop(grammar);
    else *held = grammar;
    return status;
}

static bool has(struct grammar_store *store, uint32_t number)
{
    struct grammar_key key = key_of(number);
    struct grammar *found = grammar_store_find(store, &key);
    grammar_drop(found);
    return found != NULL;
}

static int setup(void **state)
{
    (void)state;
    if (!checker_init(&checker, "models/pilot/tokenizer.json")) return -1;
    struct grammar_store *store = store_of(1 << 20, UINT64_MAX);
    assert_int_equal(put(store, 1, "", NULL), OK);
    each = grammar_store_stats(store).bytes;
    grammar_store_close(store);
    struct grammar *grammar = some_grammar();
    overhead = each - grammar_size(grammar).held;
    grammar_drop(grammar);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    checker_release(&checker);
    return 0;
}

static void the_coldest_of_one_owner_goes_first(void **unused)
{
    (void)unused;
    struct grammar_store *store = store_of(3 * each, UINT64_MAX);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(put(store, i, "", NULL), OK);
    assert_true(has(store, 0));
    assert_int_equal(put(store, 3, "", NULL), OK);  // in place of 1, since 0 was used again
    assert_false(has(store, 1));
    assert_true(has(store, 0) && has(store, 2) && has(store, 3));
    struct grammar_store_stats stats = grammar_store_stats(store);
    assert_int_equal(stats.count, 3);
    assert_int_equal(stats.bytes, 3 * each);
    assert_int_equal(stats.in_use, 0);
    assert_int_equal(stats.evicted, 1);
    assert_int_equal(stats.hits, 4);
    assert_int_equal(stats.misses, 1);
    grammar_store_close(store);
}

static void who_holds_most_makes_room_first(void **unused)
{
    (void)unused;
    struct grammar_store *store = store_of(6 * each, UINT64_MAX);
    assert_int_equal(put(store, 0, "small", NULL), OK);  // the coldest of all
    for (uint32_t i = 1; i < 6; i++) assert_int_equal(put(store, i, "large", NULL), OK);
    assert_int_equal(put(store, 6, "third", NULL), OK);
    assert_false(has(store, 1));
    assert_int_equal(put(store, 7, "large", NULL), OK);
    assert_false(has(store, 2));
    assert_int_equal(put(store, 8, "third", NULL), OK);
    assert_false(has(store, 3));
    assert_true(has(store, 0) && has(store, 4) && has(store, 8));
    grammar_store_close(store);
}

static void what_nobody_used_for_long_goes_before_that(void **unused)
{
    (void)unused;
    struct grammar_store *store = store_of(4 * each, 0);
    assert_int_equal(put(store, 0, "small", NULL), OK);
    for (uint32_t i = 1; i < 5; i++) assert_int_equal(put(store, i, "large", NULL), OK);
    assert_false(has(store, 0));
    assert_true(has(store, 1));
    grammar_store_close(store);
}

static void the_first_of_two_with_one_key_stays_and_is_given_to_both(void **unused)
{
    (void)unused;
    struct grammar_store *store = store_of(8 * each, UINT64_MAX);
    struct grammar *first, *second;
    assert_int_equal(put(store, 7, "", &first), OK);
    assert_int_equal(put(store, 7, "", &second), OK);
    assert_ptr_equal(first, second);
    assert_int_equal(grammar_store_stats(store).count, 1);
    assert_int_equal(grammar_store_stats(store).in_use, each);
    grammar_drop(first);
    grammar_drop(second);
    assert_int_equal(grammar_store_stats(store).in_use, 0);
    grammar_store_close(store);
}

static void what_is_in_use_stays_and_beyond_it_nothing_is_taken(void **unused)
{
    (void)unused;
    struct grammar_store *store = store_of(4 * each, UINT64_MAX);
    struct grammar *held[4];
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(put(store, i, "large", &held[i]), OK);
    assert_int_equal(put(store, 9, "large", NULL), BUSY);  // a quarter is for others
    assert_int_equal(put(store, 3, "small", &held[3]), OK);
    assert_int_equal(put(store, 9, "third", NULL), NO_MEMORY);
    assert_int_equal(put(store, 9, "", NULL), NO_MEMORY);
    assert_int_equal(grammar_store_stats(store).in_use, 4 * each);
    assert_int_equal(grammar_store_stats(store).evicted, 0);
    grammar_drop(held[1]);
    assert_int_equal(put(store, 9, "third", NULL), OK);
    assert_false(has(store, 1));
    grammar_drop(held[0]);
    grammar_drop(held[2]);
    grammar_drop(held[3]);
    grammar_store_close(store);
}

static void one_that_can_never_fit_is_refused_and_nothing_goes_for_it(void **unused)
{
    (void)unused;
    struct grammar_key key = key_of(2);
    struct grammar *large =
        grammar_of("{\"type\":\"string\",\"pattern\":\"^(ab?){1000}(cd?){1000}$\"}");
    struct grammar_store *store = store_of(each / 2 + charge_of(large), UINT64_MAX);
    struct err err;
    assert_int_equal(put(store, 1, "", NULL), OK);
    assert_int_equal(grammar_store_put(store, &key, "some", &large, &err), TOO_LONG);
    assert_non_null(strstr(err.text, "KiB"));
    assert_true(has(store, 1));
    assert_int_equal(grammar_store_put(store, &key, "", &large, &err), OK);
    assert_false(has(store, 1));
    grammar_drop(large);
    grammar_store_close(store);
}

/* ---- masks ---- */

#define PERSON                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"born\":{\"type\":"      \
    "\"string\",\"format\":\"date\"}},\"required\":[\"name\",\"born\"]}"

/* Writes some answers; every mask is the one of `twin`, which is in no store. */
static void write_with_twin(struct grammar *grammar, struct grammar *twin)
{
    uint32_t *other = calloc(checker.gv.words, sizeof *other);
    for (int answer = 0; answer < 4; answer++) {
        struct grammar_state state;
        grammar_begin(grammar, &state);
        for (int i = 0; i < 60 && !state.ended; i++) {
            grammar_mask(grammar, &state, checker.allowed);
            grammar_mask(twin, &state, other);
            assert_memory_equal(checker.allowed, other, checker.gv.words * sizeof *other);
            bool hurry = checker_draw(&checker) % 2 == 0;
            uint32_t id = hurry ? checker_hurry(&checker, checker.allowed, 0)
                                : checker_pick(&checker, checker.allowed);
            assert_true(grammar_accept(grammar, &state, id));
        }
    }
    free(other);
}

static void masks_are_charged_as_they_come_and_go_with_their_grammar(void **unused)
{
    (void)unused;
    struct grammar *grammar = grammar_of(PERSON), *twin = grammar_of(PERSON);
    struct grammar_key key = key_of(1);
    struct grammar_store *store = store_of(64 << 20, UINT64_MAX);
    struct err err;
    assert_int_equal(grammar_store_put(store, &key, "", &grammar, &err), OK);
    size_t before = grammar_store_stats(store).bytes, held = grammar_size(grammar).held;
    write_with_twin(grammar, twin);
    assert_true(grammar_size(grammar).masks > 0);
    assert_int_equal(grammar_store_stats(store).bytes - before, grammar_size(grammar).held - held);
    assert_int_equal(grammar_store_stats(store).in_use, grammar_store_stats(store).bytes);
    grammar_drop(grammar);
    grammar_drop(twin);
    grammar_store_close(store);
}

static void a_mask_without_room_is_made_all_the_same(void **unused)
{
    (void)unused;
    struct grammar *grammar = grammar_of(PERSON), *twin = grammar_of(PERSON);
    struct grammar_key key = key_of(1);
    struct grammar_store *store = store_of(charge_of(grammar), UINT64_MAX);
    struct err err;
    assert_int_equal(grammar_store_put(store, &key, "", &grammar, &err), OK);
    write_with_twin(grammar, twin);
    struct grammar_store_stats stats = grammar_store_stats(store);
    assert_true(stats.unkept > 0);
    assert_int_equal(stats.bytes, charge_of(grammar));
    assert_int_equal(grammar_size(grammar).masks, 0);
    grammar_drop(grammar);
    grammar_drop(twin);
    grammar_store_close(store);
}

static void a_mask_makes_room_among_what_is_idle(void **unused)
{
    (void)unused;
    struct grammar *grammar = grammar_of(PERSON), *twin = grammar_of(PERSON);
    struct grammar_key key = key_of(1);
    size_t room = charge_of(grammar) + 3 * each;
    struct grammar_store *store = store_of(room, UINT64_MAX);
    struct err err;
    assert_int_equal(grammar_store_put(store, &key, "", &grammar, &err), OK);
    for (uint32_t i = 2; i < 5; i++) assert_int_equal(put(store, i, "other", NULL), OK);
    write_with_twin(grammar, twin);
    assert_true(grammar_store_stats(store).evicted > 0);
    assert_true(grammar_store_stats(store).bytes <= room);
    assert_int_equal(grammar_store_stats(store).unkept, 0);
    grammar_drop(grammar);
    grammar_drop(twin);
    grammar_store_close(store);
}

static void masks_of_one_owner_leave_room_for_others_too(void **unused)
{
    (void)unused;
    struct grammar *grammar = grammar_of(PERSON), *twin = grammar_of(PERSON);
    struct grammar_key key = key_of(1);
    size_t share = charge_of(grammar);
    struct grammar_store *store = store_of((share + 3) / 3 * 4, UINT64_MAX);
    struct err err;
    assert_int_equal(grammar_store_put(store, &key, "some", &grammar, &err), OK);
    write_with_twin(grammar, twin);
    struct grammar_store_stats stats = grammar_store_stats(store);
    assert_true(stats.unkept > 0);
    assert_true(stats.in_use <= share + 3);
    grammar_drop(grammar);
    grammar_drop(twin);
    grammar_store_close(store);
}

/* ---- at random ---- */

enum { KEYS = 24, OWNERS = 4, HOLDS = 12 };

/* Every owner's own keys: as the digests of the caller. */
static const char *owner_of(uint32_t number)
{
    static const char *const name[OWNERS] = { "", "a", "b", "c" };
    return name[number % OWNERS];
}

static void random_use_never_passes_the_bound_and_refuses_only_what_is_in_use(void **unused)
{
    (void)unused;
    size_t most = 10 * each;
    struct grammar_store *store = store_of(most, UINT64_MAX);
    struct grammar *hold[HOLDS] = { NULL };
    for (int step = 0; step < 3000; step++) {
        uint32_t number = (uint32_t)(checker_draw(&checker) % KEYS);
        uint32_t at = (uint32_t)(checker_draw(&checker) % HOLDS);
        struct grammar_key key = key_of(number);
        grammar_drop(hold[at]);
        hold[at] = NULL;
        if (checker_draw(&checker) % 2) {
            hold[at] = grammar_store_find(store, &key);
            if (!hold[at]) {
                size_t used = grammar_store_stats(store).in_use;
                enum status status = put(store, number, owner_of(number), &hold[at]);
                if (status == NO_MEMORY) assert_true(used + each > most);
                else if (status == BUSY) assert_true(number % OWNERS && used > most / 2);
                else assert_int_equal(status, OK);
                if (status == OK) assert_ptr_equal(grammar_store_find(store, &key), hold[at]);
                if (status == OK) grammar_drop(hold[at]);
            }
        }
        if (hold[at] && checker_draw(&checker) % 4 == 0) {
            struct grammar_state state;
            grammar_begin(hold[at], &state);
            grammar_mask(hold[at], &state, checker.allowed);
        }
        struct grammar_store_stats stats = grammar_store_stats(store);
        assert_true(stats.bytes <= most && stats.in_use <= stats.bytes);
        assert_true(stats.bytes >= stats.count * each);
    }
    assert_true(grammar_store_stats(store).evicted > 0);
    for (int i = 0; i < HOLDS; i++) grammar_drop(hold[i]);
    assert_int_equal(grammar_store_stats(store).in_use, 0);
    grammar_store_close(store);
}

/* Each thread finds or puts its share of the keys, makes masks under them, and lets them go. */
struct user {
    pthread_t thread;
    struct grammar_store *store;
    struct grammar *made[8];
    uint32_t *allowed;
};

static void *use(void *argument)
{
    struct user *user = argument;
    for (int i = 0; i < 8; i++) {
        struct grammar_key key = key_of((uint32_t)i % 6);
        struct grammar *grammar = grammar_store_find(user->store, &key);
        struct grammar_state state;
        struct err err;
        if (!grammar) {
            grammar = user->made[i];
            user->made[i] = NULL;
            if (grammar_store_put(user->store, &key, owner_of((uint32_t)i % 6), &grammar, &err) !=
                OK) {
                grammar_drop(grammar);
                continue;
            }
        }
        grammar_begin(grammar, &state);
        grammar_mask(grammar, &state, user->allowed);
        grammar_drop(grammar);
    }
    return NULL;
}

static void threads_that_share_it_keep_its_books_right(void **unused)
{
    enum { USERS = 4 };
    struct user user[USERS] = { 0 };
    struct grammar_store *store = store_of(4 * each, UINT64_MAX);
    (void)unused;
    for (int u = 0; u < USERS; u++) {
        user[u].store = store;
        user[u].allowed = calloc(checker.gv.words, sizeof *user[u].allowed);
        for (int i = 0; i < 8; i++) user[u].made[i] = some_grammar();
    }
    for (int u = 0; u < USERS; u++)
        assert_int_equal(pthread_create(&user[u].thread, NULL, use, &user[u]), 0);
    for (int u = 0; u < USERS; u++) {
        pthread_join(user[u].thread, NULL);
        for (int i = 0; i < 8; i++) grammar_drop(user[u].made[i]);
        free(user[u].allowed);
    }
    struct grammar_store_stats stats = grammar_store_stats(store);
    assert_true(stats.bytes <= 4 * each && stats.bytes >= stats.count * each);
    assert_int_equal(stats.in_use, 0);
    grammar_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_coldest_of_one_owner_goes_first),
        cmocka_unit_test(who_holds_most_makes_room_first),
        cmocka_unit_test(what_nobody_used_for_long_goes_before_that),
        cmocka_unit_test(the_first_of_two_with_one_key_stays_and_is_given_to_both),
        cmocka_unit_test(what_is_in_use_stays_and_beyond_it_nothing_is_taken),
        cmocka_unit_test(one_that_can_never_fit_is_refused_and_nothing_goes_for_it),
        cmocka_unit_test(masks_are_charged_as_they_come_and_go_with_their_grammar),
        cmocka_unit_test(a_mask_without_room_is_made_all_the_same),
        cmocka_unit_test(a_mask_makes_room_among_what_is_idle),
        cmocka_unit_test(masks_of_one_owner_leave_room_for_others_too),
        cmocka_unit_test(random_use_never_passes_the_bound_and_refuses_only_what_is_in_use),
        cmocka_unit_test(threads_that_share_it_keep_its_books_right),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
