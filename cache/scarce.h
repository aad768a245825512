/* scarce.h - memory that is not to be had when a test says so.
 *
 * Included by one file of a program that is linked with --wrap for malloc, calloc, realloc and
 * aligned_alloc (Makefile). What fails are the allocations of our own objects, while `armed`; those
 * of the C library go on. One thread.
 */
#ifndef CACHE_SCARCE_H
#define CACHE_SCARCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static struct {
    const uint32_t *armed;  // not 0: allocations may fail
    uint64_t fail_at;       // the n-th from here fails, 0: none
    uint32_t rate;          // of 1,000, by chance
    uint64_t random;
    uint64_t asked, failed;
} scarce;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);

static bool is_scarce(void)
{
    if (!scarce.armed || !*scarce.armed) return false;
    scarce.asked++;
    scarce.random = scarce.random * 6364136223846793005u + 1442695040888963407u;
    bool fails =
        (scarce.fail_at && --scarce.fail_at == 0) || (scarce.random >> 33) % 1000 < scarce.rate;
    scarce.failed += fails;
    return fails;
}

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
    return is_scarce() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return is_scarce() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return is_scarce() ? NULL : __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return is_scarce() ? NULL : __real_aligned_alloc(alignment, size);
}

#endif
