/* prefix_key_test.c - a key tells its whole past, its namespace and whom it may be shared with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/prefix_key.h"

static struct prefix_space space_of(struct slice tenant, struct slice salt)
{
    return (struct prefix_space){
        .format = SLICE("format"),
        .model = SLICE("model"),
        .adapter = SLICE(""),
        .numerics = SLICE("numerics"),
        .scope = prefix_scope(SLICE("secret"), tenant, salt),
    };
}

static int same(const struct prefix_key *a, const struct prefix_key *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static void assert_key(const struct prefix_key *key, const char *hex)
{
    char text[2 * SHA256_BYTES + 1];
    for (int i = 0; i < SHA256_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", (unsigned)key->byte[i]);
    assert_string_equal(text, hex);
}

/* Computed by Python's hashlib and hmac from cache.md 4: what a disk keeps must mean the same in
 * the next release. */
static void golden_chain_stays_what_it_is(void **unused)
{
    uint32_t token[2 * KV_BLOCK_TOKENS];
    struct prefix_space space = space_of(SLICE("alice"), SLICE("salt"));
    struct prefix_key root = prefix_key_root(&space), first, second;
    (void)unused;
    for (uint32_t i = 0; i < 2 * KV_BLOCK_TOKENS; i++) token[i] = i * 7 + 1;
    first = prefix_key_next(&root, SLICE(""), token);
    second = prefix_key_next(&first, SLICE("image"), token + KV_BLOCK_TOKENS);
    assert_key(&space.scope, "101876197aed97a449878853216c87e880804225112dce7dbfa063b7a9ae2686");
    assert_key(&root, "3887fc3eddf61211718a3c342aa359632763ed6f9fb0a868decf6d41e7601b4b");
    assert_key(&first, "8e12127725ea202c1f425be5776b5b5df85f8fe5469ec7c32bd471e9fe2f1e08");
    assert_key(&second, "ae7defd75145fd5f0c16c4eb4d5b9417c91e101999cebc326c6d9c3f33bac0a6");
}

/* B13, I12: nothing that changes the meaning of stored bytes leaves the key as it was. */
static void every_part_of_the_namespace_changes_the_key(void **unused)
{
    struct prefix_space space[8];
    struct prefix_key root[8];
    (void)unused;
    for (int i = 0; i < 8; i++) space[i] = space_of(SLICE("alice"), SLICE(""));
    space[1].format = SLICE("format2");
    space[2].model = SLICE("model2");
    space[3].adapter = SLICE("adapter");
    space[4].numerics = SLICE("numerics2");
    space[5].scope = prefix_scope(SLICE("secret"), SLICE("bob"), SLICE(""));
    space[6].scope = prefix_scope(SLICE("secret"), SLICE("alice"), SLICE("mine"));
    space[7].scope = prefix_scope(SLICE("secret2"), SLICE("alice"), SLICE(""));
    for (int i = 0; i < 8; i++) {
        root[i] = prefix_key_root(&space[i]);
        for (int j = 0; j < i; j++) assert_false(same(&root[i], &root[j]));
    }
}

/* A boundary between two variable parts cannot be moved. */
static void parts_joined_otherwise_are_another_key(void **unused)
{
    struct prefix_key a = prefix_scope(SLICE("s"), SLICE("ab"), SLICE("c"));
    struct prefix_key b = prefix_scope(SLICE("s"), SLICE("a"), SLICE("bc"));
    struct prefix_space x = space_of(SLICE("t"), SLICE("")), y = x;
    struct prefix_key rx, ry;
    (void)unused;
    assert_false(same(&a, &b));
    x.format = SLICE("ab"), x.model = SLICE("c");
    y.format = SLICE("a"), y.model = SLICE("bc");
    rx = prefix_key_root(&x), ry = prefix_key_root(&y);
    assert_false(same(&rx, &ry));
}

static void no_tenant_has_the_shared_scope(void **unused)
{
    struct prefix_key shared = prefix_scope_shared(SLICE("s"), SLICE("group"));
    struct prefix_key tenant = prefix_scope(SLICE("s"), SLICE("group"), SLICE(""));
    (void)unused;
    assert_false(same(&shared, &tenant));
}

/* B14, I11: one token anywhere, or one more input that is not text, and the chain parts. */
static void any_token_changes_its_block_and_every_later_one(void **unused)
{
    uint32_t token[KV_BLOCK_TOKENS] = { 0 };
    struct prefix_space space = space_of(SLICE("alice"), SLICE(""));
    struct prefix_key root = prefix_key_root(&space);
    struct prefix_key plain = prefix_key_next(&root, SLICE(""), token), other, x, y;
    (void)unused;
    for (uint32_t i = 0; i < KV_BLOCK_TOKENS; i++) {
        token[i] = 1u << (i % 32);
        other = prefix_key_next(&root, SLICE(""), token);
        assert_false(same(&plain, &other));
        token[i] = 0;
        x = prefix_key_next(&plain, SLICE(""), token);
        y = prefix_key_next(&other, SLICE(""), token);
        assert_false(same(&x, &y));
    }
    other = prefix_key_next(&root, SLICE("image"), token);
    assert_false(same(&plain, &other));
}

/* B16: a prompt of exactly k blocks leaves its last block to compute, one token more does not. */
static void cap_leaves_one_token_to_compute(void **unused)
{
    static const struct {
        uint32_t tokens, blocks;
    } row[] = { { 0, 0 },   { 1, 0 },   { 127, 0 }, { 128, 0 },  { 129, 1 },
                { 255, 1 }, { 256, 1 }, { 257, 2 }, { 1280, 9 }, { 1281, 10 } };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_int_equal(prefix_cap(row[i].tokens), row[i].blocks);
}

static void keys_that_are_kept_are_those_of_the_chain_and_hashed_once(void **unused)
{
    enum { BLOCKS = 40 };
    static uint32_t token[BLOCKS * KV_BLOCK_TOKENS];
    struct prefix_key root = { { 1 } }, want[BLOCKS], key;
    struct prefix_keys keys = { 0 };
    (void)unused;
    for (uint32_t i = 0; i < BLOCKS * KV_BLOCK_TOKENS; i++) token[i] = i * i;
    for (uint32_t i = 0; i < BLOCKS; i++)
        want[i] = prefix_key_next(i ? &want[i - 1] : &root, SLICE(""), token + i * KV_BLOCK_TOKENS);
    for (uint32_t round = 1; round <= 2; round++) {
        key = root;
        for (uint32_t i = 0; i < BLOCKS / 2 * round; i++) {
            key = prefix_keys_at(&keys, i, &key, token);
            assert_true(same(&key, &want[i]));
        }
        memset(token, 0, sizeof token / 2);  // nobody looks there a second time
    }
    prefix_keys_release(&keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_token_changes_its_block_and_every_later_one),
        cmocka_unit_test(cap_leaves_one_token_to_compute),
        cmocka_unit_test(every_part_of_the_namespace_changes_the_key),
        cmocka_unit_test(golden_chain_stays_what_it_is),
        cmocka_unit_test(keys_that_are_kept_are_those_of_the_chain_and_hashed_once),
        cmocka_unit_test(no_tenant_has_the_shared_scope),
        cmocka_unit_test(parts_joined_otherwise_are_another_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
