/* stop_match_test.c - the matcher against the rule spelled out: the first place where any stop
 * string is complete ends the text, at the start of the longest one complete there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "engine/text/stop_match.h"

static uint32_t dice(uint32_t sides)
{
    static uint64_t random = 88172645463325252ull;
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    return (uint32_t)(random % sides);
}

static size_t random_text(char *text, size_t most)
{
    size_t size = dice((uint32_t)most + 1);
    for (size_t i = 0; i < size; i++) text[i] = (char)('a' + dice(2));
    return size;
}

/* Bytes of `text` that stay; *found tells which stop string was. */
static size_t naive(struct slice text, const struct slice *stop, uint32_t count, uint32_t *found)
{
    for (size_t end = 1; end <= text.size; end++) {
        size_t longest = 0;
        for (uint32_t s = 0; s < count; s++)
            if (stop[s].size && stop[s].size <= end && stop[s].size > longest &&
                memcmp(text.data + end - stop[s].size, stop[s].data, stop[s].size) == 0) {
                longest = stop[s].size;
                *found = s;
            }
        if (longest) return end - longest;
    }
    return text.size;
}

static void agrees_with_the_rule_in_any_cutting(void **unused)
{
    uint32_t stops = 0;
    (void)unused;
    for (int round = 0; round < 30000; round++) {
        char stop_text[4][8], body[64];
        struct slice stop[4];
        uint32_t count = dice(5);
        for (uint32_t s = 0; s < count; s++)
            stop[s] = (struct slice){ stop_text[s], random_text(stop_text[s], 8) };
        struct slice text = { body, random_text(body, sizeof body) };

        struct stop_match match;
        struct buf out;
        uint32_t want_found = STOP_NONE;
        bool stopped = false;
        size_t want = naive(text, stop, count, &want_found);
        buf_init(&out, 0);
        assert_int_equal(stop_match_init(&match, stop, count), OK);
        for (size_t at = 0, size; at < text.size && !stopped; at += size) {
            size = 1 + dice(9);
            if (size > text.size - at) size = text.size - at;
            stopped = stop_match_feed(&match, (struct slice){ body + at, size }, &out);
            assert_true(out.size <= want);  // nothing that had to be held back
        }
        stop_match_finish(&match, &out);
        assert_int_equal(stopped, want_found != STOP_NONE);
        assert_int_equal(match.found, want_found);
        assert_int_equal(out.size, want);
        assert_memory_equal(out.size ? out.data : "", body, want);
        stops += stopped;
        stop_match_release(&match);
        buf_release(&out);
    }
    assert_in_range(stops, 1000, 29000);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(agrees_with_the_rule_in_any_cutting) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
