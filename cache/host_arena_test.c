/* host_arena_test.c - slots lie apart and aligned, and filling takes memory for every page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "cache/host_arena.h"

static const uint32_t slots[KV_OBJECTS] = { 37, 3 };
static const size_t images[KV_OBJECTS] = { 9000, 70000 };

static void slots_are_aligned_and_their_own(void **unused)
{
    (void)unused;
    struct host_arena arena;
    assert_int_equal(host_arena_init(&arena, slots, images), OK);
    for (uint32_t object = 0; object < KV_OBJECTS; object++)
        for (uint32_t i = 0; i < slots[object]; i++) {
            char *slot = host_arena_slot(&arena, object, i);
            assert_int_equal((uintptr_t)slot % 4096, 0);
            memset(slot, (int)(object * 100 + i), arena.part[object].slot_bytes);
        }
    for (uint32_t object = 0; object < KV_OBJECTS; object++)
        for (uint32_t i = 0; i < slots[object]; i++) {
            const uint8_t *slot = host_arena_slot(&arena, object, i);
            for (uint32_t b = 0; b < arena.part[object].slot_bytes; b++)
                assert_int_equal(slot[b], object * 100 + i);
        }
    host_arena_release(&arena);
}

static uint32_t resident(const struct iovec *range)
{
    size_t pages = (range->iov_len + 4095) / 4096;
    unsigned char *is_there = malloc(pages);
    uint32_t count = 0;
    assert_non_null(is_there);
    assert_int_equal(mincore(range->iov_base, range->iov_len, is_there), 0);
    for (size_t i = 0; i < pages; i++) count += is_there[i] & 1;
    free(is_there);
    return count;
}

static void filling_takes_all_the_memory_and_nothing_else_does(void **unused)
{
    (void)unused;
    struct host_arena arena;
    if (sysconf(_SC_PAGESIZE) != 4096) skip();
    assert_int_equal(host_arena_init(&arena, slots, images), OK);
    for (uint32_t i = 0; i < arena.ranges; i++) assert_int_equal(resident(&arena.range[i]), 0);
    host_arena_fill(&arena);
    for (uint32_t i = 0; i < arena.ranges; i++)
        assert_int_equal(resident(&arena.range[i]), (arena.range[i].iov_len + 4095) / 4096);
    for (uint32_t i = 0; i < slots[KV_G]; i++) {
        const char *image = host_arena_image(&arena, KV_G, i);
        for (size_t b = 0; b < images[KV_G]; b++) assert_int_equal(image[b], 0);
    }
    host_arena_release(&arena);
}

/* Whether the mapping that begins here is left out of a core: "dd" among its flags. */
static bool is_undumped(const void *memory)
{
    char line[512], start[32];
    bool here = false, undumped = false;
    FILE *maps = fopen("/proc/self/smaps", "re");
    assert_non_null(maps);
    snprintf(start, sizeof start, "%lx-", (unsigned long)(uintptr_t)memory);
    while (fgets(line, sizeof line, maps)) {
        if (strchr("0123456789abcdef", line[0])) here = strncmp(line, start, strlen(start)) == 0;
        if (here && strncmp(line, "VmFlags:", 8) == 0) undumped = strstr(line, " dd") != NULL;
    }
    fclose(maps);
    return undumped;
}

static void a_core_leaves_it_out(void **unused)
{
    (void)unused;
    struct host_arena arena;
    assert_int_equal(host_arena_init(&arena, slots, images), OK);
    /* The lowest range: the kernel may have joined those that touch. */
    const void *lowest = arena.range[0].iov_base;
    for (uint32_t i = 1; i < arena.ranges; i++)
        if (arena.range[i].iov_base < lowest) lowest = arena.range[i].iov_base;
    assert_true(is_undumped(lowest));
    host_arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_aligned_and_their_own),
        cmocka_unit_test(filling_takes_all_the_memory_and_nothing_else_does),
        cmocka_unit_test(a_core_leaves_it_out),
    };
    return cmocka_run_group_tests_name("host arena", tests, NULL, NULL);
}
