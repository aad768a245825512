/* key_guard_test.c - an address that goes on with wrong keys waits, and others do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include "config/clock.h"
#include "server/key_guard.h"
#include <cmocka.h>  // last: it defines a macro named fail

#define START (1000 * NS_PER_S)

static struct key_guard *open_guard(void)
{
    struct key_guard *guard = NULL;
    struct err err;

    assert_int_equal(key_guard_open(10, &guard, &err), OK);
    return guard;
}

static void the_eleventh_wrong_key_of_a_minute_waits_as_long_as_it_is_told(void **unused)
{
    (void)unused;
    struct key_guard *guard = open_guard();

    for (int i = 0; i < 10; i++) assert_int_equal(key_guard_wrong(guard, "10.0.0.1", START), 0);
    uint64_t wait = key_guard_wrong(guard, "10.0.0.1", START);
    assert_int_equal(wait, 6 * NS_PER_S);
    assert_int_equal(key_guard_wrong(guard, "10.0.0.2", START), 0);
    assert_int_equal(key_guard_wrong(guard, "10.0.0.1", START + wait - 1), 1);
    assert_int_equal(key_guard_wrong(guard, "10.0.0.1", START + wait), 0);
    assert_int_equal(key_guard_wrong(guard, "10.0.0.1", START + wait), wait);
    key_guard_close(guard);
}

static void a_network_of_ipv6_is_one_address(void **unused)
{
    (void)unused;
    struct key_guard *guard = open_guard();
    char peer[48];

    for (int i = 0; i < 10; i++) {
        snprintf(peer, sizeof peer, "2001:db8::%x", i + 1);
        assert_int_equal(key_guard_wrong(guard, peer, START), 0);
    }
    assert_true(key_guard_wrong(guard, "2001:db8::ffff", START) > 0);
    assert_int_equal(key_guard_wrong(guard, "2001:db8:0:1::1", START), 0);
    key_guard_close(guard);
}

static void an_ipv4_address_is_itself_on_a_socket_for_both_kinds(void **unused)
{
    (void)unused;
    struct key_guard *guard = open_guard();

    for (int i = 0; i < 10; i++)
        assert_int_equal(key_guard_wrong(guard, "::ffff:10.0.0.1", START), 0);
    assert_int_equal(key_guard_wrong(guard, "::ffff:10.0.0.2", START), 0);
    assert_true(key_guard_wrong(guard, "::ffff:10.0.0.1", START) > 0);
    assert_true(key_guard_wrong(guard, "10.0.0.1", START) > 0);
    key_guard_close(guard);
}

/* Many addresses push out one another, never one that is worse than they are. */
static void an_address_that_waits_is_not_forgotten_for_one_that_does_not(void **unused)
{
    (void)unused;
    struct key_guard *guard = open_guard();
    char peer[48];

    for (int i = 0; i < 10; i++) assert_int_equal(key_guard_wrong(guard, "10.0.0.1", START), 0);
    for (int i = 0; i < 100000; i++) {
        snprintf(peer, sizeof peer, "11.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
        assert_int_equal(key_guard_wrong(guard, peer, START), 0);
    }
    assert_true(key_guard_wrong(guard, "10.0.0.1", START) > 0);
    key_guard_close(guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_eleventh_wrong_key_of_a_minute_waits_as_long_as_it_is_told),
        cmocka_unit_test(a_network_of_ipv6_is_one_address),
        cmocka_unit_test(an_ipv4_address_is_itself_on_a_socket_for_both_kinds),
        cmocka_unit_test(an_address_that_waits_is_not_forgotten_for_one_that_does_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
