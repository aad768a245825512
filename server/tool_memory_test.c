/* tool_memory_test.c - a block comes back for exactly its ids and its tenant, and the memory never
 * outgrows its bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include "server/random_id.h"
#include "server/tool_memory.h"

static bool finds(struct tool_memory *memory, uint64_t tenant, const struct slice *id,
                  uint32_t count, const char *want)
{
    struct buf out;
    buf_init(&out, 0);
    bool found = tool_memory_find(memory, tenant, id, count, &out);
    if (found) assert_true(slice_equal(buf_slice(&out), slice_of(want)));
    else assert_int_equal(out.size, 0);
    buf_release(&out);
    return found;
}

static void block_is_found_by_all_its_ids_in_order(void **unused)
{
    const struct slice id[] = { SLICE("call_a"), SLICE("call_b"), SLICE("call_c") };
    const struct slice turned[] = { id[1], id[0] };
    struct tool_memory *memory;
    (void)unused;

    assert_int_equal(tool_memory_open(1 << 20, &memory), OK);
    tool_memory_keep(memory, 1, id, 2, SLICE("text"));
    assert_true(finds(memory, 1, id, 2, "text"));
    assert_false(finds(memory, 1, id, 1, ""));
    assert_false(finds(memory, 1, id, 3, ""));
    assert_false(finds(memory, 1, id + 1, 1, ""));
    assert_false(finds(memory, 1, turned, 2, ""));
    assert_false(finds(memory, 1, id, 0, ""));
    assert_false(finds(NULL, 1, id, 2, ""));
    tool_memory_close(memory);
}

static void another_tenant_finds_nothing(void **unused)
{
    const struct slice id = SLICE("call_a");
    struct tool_memory *memory;
    (void)unused;

    assert_int_equal(tool_memory_open(1 << 20, &memory), OK);
    tool_memory_keep(memory, 1, &id, 1, SLICE("mine"));
    assert_false(finds(memory, 2, &id, 1, ""));
    tool_memory_keep(memory, 2, &id, 1, SLICE("theirs"));
    assert_true(finds(memory, 1, &id, 1, "mine"));
    assert_true(finds(memory, 2, &id, 1, "theirs"));
    tool_memory_close(memory);
}

static void block_unused_for_longest_goes_first(void **unused)
{
    const struct slice id[] = { SLICE("a"), SLICE("b"), SLICE("c"), SLICE("d") };
    char text[1000];
    struct tool_memory *memory;
    struct tool_memory_stats stats;
    (void)unused;

    memset(text, 'x', sizeof text);
    assert_int_equal(tool_memory_open(3500, &memory), OK);
    for (int i = 0; i < 3; i++)
        tool_memory_keep(memory, 0, &id[i], 1, (struct slice){ text, sizeof text - 1 });
    text[sizeof text - 1] = '\0';
    assert_true(finds(memory, 0, &id[0], 1, text));
    tool_memory_keep(memory, 0, &id[3], 1, (struct slice){ text, sizeof text - 1 });
    assert_true(finds(memory, 0, &id[0], 1, text));
    assert_false(finds(memory, 0, &id[1], 1, ""));
    assert_true(finds(memory, 0, &id[2], 1, text));
    assert_true(finds(memory, 0, &id[3], 1, text));
    tool_memory_stats(memory, &stats);
    assert_int_equal(stats.blocks, 3);
    assert_int_equal(stats.dropped, 1);
    assert_true(stats.bytes <= 3500);
    tool_memory_close(memory);
}

static void block_larger_than_the_memory_is_not_kept(void **unused)
{
    const struct slice id[] = { SLICE("a"), SLICE("b") };
    static char text[2000];
    struct tool_memory *memory;
    (void)unused;

    assert_int_equal(tool_memory_open(1000, &memory), OK);
    tool_memory_keep(memory, 0, &id[0], 1, SLICE("small"));
    tool_memory_keep(memory, 0, &id[1], 1, (struct slice){ text, sizeof text });
    assert_true(finds(memory, 0, &id[0], 1, "small"));
    assert_false(finds(memory, 0, &id[1], 1, ""));
    tool_memory_close(memory);
}

static void *keep_and_find(void *context)
{
    struct tool_memory *memory = context;
    for (int i = 0; i < 2000; i++) {
        char name[RANDOM_ID_SIZE];
        random_id_make(name, "call_");
        struct slice id = slice_of(name);
        tool_memory_keep(memory, 5, &id, 1, id);
        finds(memory, 5, &id, 1, name);  // the others may have pushed it out; else it is whole
    }
    return NULL;
}

static void threads_share_it(void **unused)
{
    pthread_t thread[4];
    struct tool_memory *memory;
    struct tool_memory_stats stats;
    (void)unused;

    assert_int_equal(tool_memory_open(20000, &memory), OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, keep_and_find, memory), 0);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    tool_memory_stats(memory, &stats);
    assert_int_equal(stats.kept, 8000);
    assert_int_equal(stats.kept - stats.dropped, stats.blocks);
    assert_true(stats.bytes <= 20000);
    tool_memory_close(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(block_is_found_by_all_its_ids_in_order),
        cmocka_unit_test(another_tenant_finds_nothing),
        cmocka_unit_test(block_unused_for_longest_goes_first),
        cmocka_unit_test(block_larger_than_the_memory_is_not_kept),
        cmocka_unit_test(threads_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
