/* cache_identity_test.c - bytes are found again by whom they belong to, and by nobody else; and the
 * CPU's stored bytes are those of its numerics version. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cache/store.h"
#include "config/hash.h"
#include "engine/cache_identity.h"
#include "engine/model_writer.h"
#include "engine/probe.h"

static char root[] = "/tmp/fathom-identity-XXXXXX";
static char model[64], cache[64];
static struct shape shape;
static struct err err;

static struct cache_identity_options options_of(const char *dir)
{
    return (struct cache_identity_options){
        .dir = dir, .model = model, .shape = &shape, .backend = "cpu", .numerics = NUMERICS_OFFICIAL
    };
}

static struct cache_identity make_from(struct cache_identity_options options)
{
    struct cache_identity identity;
    err.text[0] = 0;
    enum status status = cache_identity_make(&options, &identity, NULL, &err);
    if (status != OK) print_error("%s\n", err.text);
    assert_int_equal(status, OK);
    return identity;
}

static bool same(struct prefix_key a, struct prefix_key b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

/* ---- stored bytes */

/* Two whole blocks of the tiny model, as a store would keep them. */
static uint64_t hash_of_blocks(enum numerics numerics)
{
    enum { TOKENS = 300 };
    struct dev_options dev_options = { .numerics = numerics, .threads = 1 };
    struct shape tiny;
    struct weights weights;
    struct probe probe;
    struct dev *dev;
    uint32_t token[TOKENS];
    uint64_t hash = 0;

    assert_int_equal(shape_read("engine/testdata/tiny", &tiny, &err), OK);
    assert_int_equal(backend_open("cpu", &dev_options, &dev, &err), OK);
    struct weights_options w = { .dir = "engine/testdata/tiny", .shape = &tiny, .dev = dev };
    assert_int_equal(weights_open(&w, &weights, &err), OK);
    struct probe_options p = { .shape = &tiny,
                               .weights = &weights,
                               .dev = dev,
                               .seqs = 1,
                               .blocks = 3,
                               .step_tokens = TOKENS };
    assert_int_equal(probe_open(&p, &probe, &err), OK);
    for (uint32_t i = 0; i < TOKENS; i++) token[i] = (i * 2654435761u >> 8) % tiny.vocab;
    probe_clear(&probe);
    probe_add(&probe, 0, token, 0, TOKENS, 0);
    assert_int_equal(probe_run(&probe, NULL, &err), OK);
    const struct kv_layout *layout = &probe.model.layout;
    for (uint32_t block = 0; block < 2; block++) {
        hash =
            hash64(probe.model.g + probe.g_block[block] * layout->g_bytes, layout->g_bytes, hash);
        hash = hash64(probe.model.w + probe.w_page[block] * layout->w_bytes, layout->w_image_bytes,
                      hash);
    }
    probe_close(&probe);
    weights_close(&weights, dev);
    dev->ops->close(dev);
    return hash;
}

/* When this fails, stored bits have changed: raise the CPU's version in cache_identity.c, and if an
 * operation's twin changed with it, that of the other backend; then put the new hash here. */
static void stored_bytes_are_those_of_the_numerics_version(void **unused)
{
    (void)unused;
    assert_int_equal(hash_of_blocks(NUMERICS_OFFICIAL), 0xa465c19792eda932);
    assert_int_equal(hash_of_blocks(NUMERICS_EXACT), 0x419c306f268bada6);
}

/* ---- identities */

static void without_a_directory_nothing_is_found_by_the_next_process(void **unused)
{
    (void)unused;
    struct cache_identity_cost cost;
    struct cache_identity a = make_from(options_of(NULL)), b = make_from(options_of(""));
    assert_false(same(a.secret, b.secret));
    assert_true(same(a.format, b.format) && same(a.numerics, b.numerics));
    struct cache_identity_options options = options_of(NULL);
    options.model = "/nowhere";  // not even looked at
    assert_int_equal(cache_identity_make(&options, &a, &cost, &err), OK);
    assert_int_equal(cost.hashed_bytes, 0);
}

static void a_directory_gives_the_same_identity_again(void **unused)
{
    (void)unused;
    struct stat s;
    char path[80];
    struct prefix_key secret;
    struct cache_identity a = make_from(options_of(cache)), b = make_from(options_of(cache));
    assert_true(memcmp(&a, &b, sizeof a) == 0);
    assert_int_equal(stat(cache, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0700);
    snprintf(path, sizeof path, "%s/secret", cache);
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    assert_int_equal(s.st_size, 32);
    assert_int_equal(cache_identity_read_secret(cache, &secret, &err), OK);
    assert_true(same(secret, a.secret));
}

static void what_decides_bytes_decides_their_names(void **unused)
{
    (void)unused;
    const uint8_t tenant[32] = { 1 }, none[32] = { 0 };
    struct cache_identity_options options = options_of(cache);
    struct cache_identity plain = make_from(options), other;
    struct prefix_key all = cache_identity_root(&plain, tenant, none), its;
    struct shape changed = shape;

    options.numerics = NUMERICS_EXACT;
    other = make_from(options);
    assert_false(same(plain.numerics, other.numerics) || same(plain.format, other.format));
    its = cache_identity_root(&other, tenant, none);
    assert_false(same(all, its));

    options = options_of(cache);
    options.backend = "cuda";
    other = make_from(options);
    assert_true(same(plain.format, other.format) && !same(plain.numerics, other.numerics));

    options = options_of(cache);
    options.shape = &changed;
    changed.compress_rope_theta += 1;
    other = make_from(options);
    assert_true(same(plain.format, other.format) && !same(plain.numerics, other.numerics));
    changed = shape;
    changed.layer[1].ratio = 128;
    other = make_from(options);
    assert_false(same(plain.format, other.format));

    options = options_of(cache);
    options.random_weights = true;
    other = make_from(options);
    assert_false(same(plain.model, other.model));
    its = cache_identity_root(&other, tenant, none);
    assert_false(same(all, its));
    make_from(options_of(cache));  // so that the latest model is the real one again
}

static void tenants_and_salts_part_and_a_tag_names_all_of_a_tenant(void **unused)
{
    (void)unused;
    const uint8_t one[32] = { 1 }, two[32] = { 2 }, salt[32] = { 3 }, none[32] = { 0 };
    struct cache_identity identity = make_from(options_of(cache)),
                          elsewhere = make_from(options_of(NULL));
    struct prefix_key key[] = {
        cache_identity_root(&identity, one, none), cache_identity_root(&identity, two, none),
        cache_identity_root(&identity, one, salt), cache_identity_root(&identity, two, salt),
        cache_identity_root(&identity, salt, one), cache_identity_root(&elsewhere, one, none)
    };
    for (size_t i = 0; i < 6; i++)
        for (size_t j = 0; j < i; j++) assert_false(same(key[i], key[j]));
    uint8_t tag[4][RECORD_TAG], again[RECORD_TAG];
    cache_identity_tag(&identity.secret, one, one, tag[0]);
    cache_identity_tag(&identity.secret, one, two, tag[1]);
    cache_identity_tag(&identity.secret, two, one, tag[2]);
    cache_identity_tag(&elsewhere.secret, one, one, tag[3]);
    cache_identity_tag(&identity.secret, one, one, again);
    assert_memory_equal(tag[0], again, RECORD_TAG);
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < i; j++) assert_memory_not_equal(tag[i], tag[j], RECORD_TAG);
    assert_memory_equal(tag[0], tag[1], CACHE_OWNER_TAG);  // one owner's two
    assert_memory_not_equal(tag[0], tag[2], CACHE_OWNER_TAG);
    assert_memory_not_equal(tag[0], tag[3], CACHE_OWNER_TAG);
}

/* ---- the directory */

static void the_store_opens_beside_the_two_files(void **unused)
{
    (void)unused;
    struct cache_identity identity = make_from(options_of(cache));
    struct store_config config = { .dir = cache,
                                   .bytes = 4 << 20,
                                   .segment_bytes = 256 << 10,
                                   .image_bytes = { 6000, 20000 },
                                   .w_percent = 30,
                                   .sparse = true };
    struct store *store;
    cache_identity_for_store(&identity, config.format, config.key);
    for (int round = 0; round < 2; round++) {
        enum status status = store_open(&config, &store, &err);
        if (status != OK) print_error("%s\n", err.text);
        assert_int_equal(status, OK);
        assert_true(store_close(store, 1000));
    }
    assert_true(cache_identity_matches(cache, config.key));
    config.key[0] ^= 1;
    assert_false(cache_identity_matches(cache, config.key));
    assert_int_equal(store_open(&config, &store, &err), BAD_INPUT);
}

static void refuse(const char *wanted)
{
    struct cache_identity identity;
    struct cache_identity_options options = options_of(cache);
    err.text[0] = 0;
    assert_int_equal(cache_identity_make(&options, &identity, NULL, &err), BAD_INPUT);
    if (!strstr(err.text, wanted)) print_error("%s\n", err.text);
    assert_non_null(strstr(err.text, wanted));
}

static void a_secret_that_others_know_or_made_is_refused(void **unused)
{
    (void)unused;
    char secret[80], kept[80], foreign[80];
    snprintf(secret, sizeof secret, "%s/secret", cache);
    snprintf(kept, sizeof kept, "%s/kept", root);
    snprintf(foreign, sizeof foreign, "%s/letters", cache);
    make_from(options_of(cache));

    assert_int_equal(chmod(secret, 0640), 0);
    refuse("secret: found mode 0640");
    assert_int_equal(chmod(secret, 0600), 0);
    assert_int_equal(chmod(cache, 0750), 0);
    refuse("found mode 0750");
    assert_int_equal(chmod(cache, 0700), 0);
    assert_int_equal(rename(secret, kept), 0);
    refuse("the file secret is gone");  // a store was written under it
    assert_int_equal(symlink(kept, secret), 0);
    refuse("secret: found a link");
    assert_int_equal(unlink(secret), 0);
    assert_int_equal(rename(kept, secret), 0);
    assert_int_equal(truncate(secret, 31), 0);
    refuse("secret: found 31 bytes, wanted 32");
    assert_int_equal(unlink(secret), 0);
    close(open(foreign, O_WRONLY | O_CREAT, 0600));
    refuse("holds letters and no cache");
    assert_int_equal(access(secret, F_OK), -1);  // nothing of ours was put beside it
    assert_int_equal(unlink(foreign), 0);
}

static void processes_that_start_at_once_share_one_secret(void **unused)
{
    (void)unused;
    enum { PROCESSES = 8 };
    char dir[80];
    int ends[2];
    struct prefix_key secret, first;
    snprintf(dir, sizeof dir, "%s/together", root);
    assert_int_equal(pipe(ends), 0);
    for (int i = 0; i < PROCESSES; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid) continue;
        struct cache_identity identity = { 0 };
        struct cache_identity_options options = options_of(dir);
        options.random_weights = true;
        enum status status = cache_identity_make(&options, &identity, NULL, &err);
        if (status != OK) fprintf(stderr, "%s\n", err.text);
        _exit(status != OK || write(ends[1], &identity.secret, sizeof secret) != sizeof secret);
    }
    close(ends[1]);
    for (int i = 0, code; i < PROCESSES; i++) {
        assert_true(wait(&code) > 0);
        assert_int_equal(code, 0);
    }
    assert_int_equal(cache_identity_read_secret(dir, &first, &err), OK);
    for (int i = 0; i < PROCESSES; i++) {
        assert_int_equal(read(ends[0], &secret, sizeof secret), sizeof secret);
        assert_true(same(secret, first));
    }
    close(ends[0]);
}

/* ---- */

static int make(void **unused)
{
    struct model_written written;
    (void)unused;
    if (!mkdtemp(root)) return -1;
    snprintf(model, sizeof model, "%s/model", root);
    snprintf(cache, sizeof cache, "%s/cache", root);
    if (mkdir(model, 0755) || shape_read("engine/testdata/small", &shape, &err) != OK) return -1;
    struct model_writer_options options = { .dir = model, .shape = &shape };
    return model_write(&options, &written, &err) == OK ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *s, int flag, struct FTW *ftw)
{
    (void)s, (void)flag, (void)ftw;
    return remove(path);
}

static int unmake(void **unused)
{
    (void)unused;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_bytes_are_those_of_the_numerics_version),
        cmocka_unit_test(without_a_directory_nothing_is_found_by_the_next_process),
        cmocka_unit_test(a_directory_gives_the_same_identity_again),
        cmocka_unit_test(what_decides_bytes_decides_their_names),
        cmocka_unit_test(tenants_and_salts_part_and_a_tag_names_all_of_a_tenant),
        cmocka_unit_test(the_store_opens_beside_the_two_files),
        cmocka_unit_test(a_secret_that_others_know_or_made_is_refused),
        cmocka_unit_test(processes_that_start_at_once_share_one_secret),
    };
    return cmocka_run_group_tests(tests, make, unmake);
}
