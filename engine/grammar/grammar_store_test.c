/* grammar_store_test.c - what was compiled is found again, and the coldest goes first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "engine/grammar/grammar_check.h"
#include "engine/grammar/grammar_store.h"

static struct checker checker;

static int setup(void **state)
{
    (void)state;
    return checker_init(&checker, "models/pilot/tokenizer.json") ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    checker_release(&checker);
    return 0;
}

static struct grammar_key key_of(uint8_t number)
{
    return (struct grammar_key){ .byte = { number } };
}

static struct grammar *some_grammar(void)
{
    struct grammar *grammar;
    struct err err;
    assert_int_equal(checker_schema(&checker, "{\"type\":\"null\"}", &grammar, &err), OK);
    return grammar;
}

static void the_coldest_goes_first_and_lives_while_it_is_held(void **unused)
{
    (void)unused;
    struct grammar_store *store;
    struct grammar *grammar[4], *found;
    struct grammar_key key[4];
    assert_int_equal(grammar_store_open(3, &store), OK);
    for (uint8_t i = 0; i < 4; i++) {
        key[i] = key_of(i);
        grammar[i] = some_grammar();
    }
    for (int i = 0; i < 3; i++) grammar_store_put(store, &key[i], grammar[i]);
    found = grammar_store_find(store, &key[0]);
    assert_ptr_equal(found, grammar[0]);
    grammar_drop(found);
    grammar_store_put(store, &key[3], grammar[3]);  // in place of 1, since 0 was used again
    assert_null(grammar_store_find(store, &key[1]));
    for (int i = 0; i < 4; i++) {
        found = grammar_store_find(store, &key[i]);
        assert_ptr_equal(found, i == 1 ? NULL : grammar[i]);
        grammar_drop(found);
    }
    struct grammar_state state;
    grammar_begin(grammar[1], &state);  // ours still
    assert_true(grammar_accept(grammar[1], &state, checker.vocab.byte_id['n']));
    assert_int_equal(grammar_store_stats(store).count, 3);
    assert_int_equal(grammar_store_stats(store).hits, 4);
    assert_int_equal(grammar_store_stats(store).misses, 2);
    for (int i = 0; i < 4; i++) grammar_drop(grammar[i]);
    grammar_store_close(store);
}

static void the_first_of_two_with_one_key_stays(void **unused)
{
    (void)unused;
    struct grammar_store *store;
    struct grammar *first = some_grammar(), *second = some_grammar(), *found;
    struct grammar_key key = key_of(7);
    assert_int_equal(grammar_store_open(2, &store), OK);
    grammar_store_put(store, &key, first);
    grammar_store_put(store, &key, second);
    grammar_drop(first);
    grammar_drop(second);
    found = grammar_store_find(store, &key);
    assert_ptr_equal(found, first);
    grammar_drop(found);
    assert_int_equal(grammar_store_stats(store).count, 1);
    grammar_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_coldest_goes_first_and_lives_while_it_is_held),
        cmocka_unit_test(the_first_of_two_with_one_key_stays),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
