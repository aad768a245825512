/* sha256_test.c - the published vectors come out, however the message is divided. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "config/sha256.h"

static void hex(const uint8_t digest[SHA256_BYTES], char text[2 * SHA256_BYTES + 1])
{
    for (int i = 0; i < SHA256_BYTES; i++)
        text[2 * i] = "0123456789abcdef"[digest[i] >> 4],
                 text[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    text[2 * SHA256_BYTES] = 0;
}

static void vectors_of_fips_180_come_out(void **unused)
{
    static const struct {
        const char *message, *digest;
    } row[] = {
        { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        size_t size = strlen(row[i].message);
        for (size_t cut = 0; cut <= size; cut++) {
            uint8_t digest[SHA256_BYTES];
            char text[2 * SHA256_BYTES + 1];
            struct sha256_part part[] = { { row[i].message, cut },
                                          { row[i].message + cut, size - cut } };
            sha256(part, 2, digest);
            hex(digest, text);
            assert_string_equal(text, row[i].digest);
        }
    }
}

static void vector_2_of_rfc_4231_comes_out(void **unused)
{
    uint8_t digest[SHA256_BYTES];
    char text[2 * SHA256_BYTES + 1];
    struct sha256_part part[] = { { "what do ya want ", 16 }, { "for nothing?", 12 } };
    (void)unused;
    hmac_sha256((const uint8_t *)"Jefe", 4, part, 2, digest);
    hex(digest, text);
    assert_string_equal(text, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vector_2_of_rfc_4231_comes_out),
        cmocka_unit_test(vectors_of_fips_180_come_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
