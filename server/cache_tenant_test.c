/* cache_tenant_test.c - who is whom, today and after a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "server/cache_tenant.h"

static void assert_digest(const uint8_t digest[SHA256_BYTES], const char *hex)
{
    char text[2 * SHA256_BYTES + 1];

    for (size_t i = 0; i < SHA256_BYTES; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
    assert_string_equal(text, hex);
}

/* A directory of today must be a hit tomorrow: these were computed by another program. */
static void digests_are_those_that_directories_were_written_with(void **unused)
{
    uint8_t digest[SHA256_BYTES], none[SHA256_BYTES] = { 0 };
    (void)unused;

    cache_owner_of(SLICE("acme"), digest);
    assert_digest(digest, "5370c9266630c56d8a50aa9fa846e120"
                          "7f98f10f5733bf40d2e4e08b9950bcd5");
    cache_group_of(SLICE("acme"), digest);
    assert_digest(digest, "06604250863ddad6555f48df343fdd2b"
                          "d29b0fd2a83a249be74bf14efc565df8");
    cache_user_of(SLICE("a"), digest);
    assert_digest(digest, "88502b1702688084f6c0dace8f7905ee"
                          "e4c5f11b5c1b58d47db562760115f5d8");
    cache_salt_of(SLICE("s"), SLICE("e"), digest);
    assert_digest(digest, "2594cdf3fa78b20b7223265090f74e48"
                          "ce1ec0c623248bc8f41e6d369f3dabcc");
    cache_tenant_of(none, none, digest);
    assert_digest(digest, "efbfe0f447cf27ce4ddd0b6a3cfa55ba"
                          "1d38dc62f805737762b64a379863620c");
}

static void no_text_is_no_user_and_no_salt(void **unused)
{
    uint8_t digest[SHA256_BYTES], none[SHA256_BYTES] = { 0 };
    (void)unused;

    cache_user_of(SLICE(""), digest);
    assert_memory_equal(digest, none, sizeof none);
    cache_salt_of((struct slice){ NULL, 0 }, SLICE(""), digest);
    assert_memory_equal(digest, none, sizeof none);
}

static void texts_of_other_kinds_or_cuts_differ(void **unused)
{
    uint8_t digest[8][SHA256_BYTES], none[SHA256_BYTES] = { 0 };
    (void)unused;

    cache_owner_of(SLICE("ab"), digest[0]);
    cache_user_of(SLICE("ab"), digest[1]);
    cache_salt_of(SLICE("ab"), SLICE(""), digest[2]);
    cache_salt_of(SLICE("a"), SLICE("b"), digest[3]);
    cache_salt_of(SLICE(""), SLICE("ab"), digest[4]);
    cache_tenant_of(digest[1], none, digest[5]);
    cache_tenant_of(none, digest[1], digest[6]);
    cache_group_of(SLICE("ab"), digest[7]);
    for (size_t i = 0; i < 8; i++)
        for (size_t j = 0; j < i; j++) assert_memory_not_equal(digest[i], digest[j], SHA256_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_those_that_directories_were_written_with),
        cmocka_unit_test(no_text_is_no_user_and_no_salt),
        cmocka_unit_test(texts_of_other_kinds_or_cuts_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
