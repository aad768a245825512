/* access_test.c - a key file is read whole or refused at a named place, and only its keys open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "config/buf.h"
#include "server/access.h"
#include "server/access_parts.h"
#include <cmocka.h>  // last: it defines a macro named fail

#define SECRET "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define OTHER "10112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define SALT "000102030405060708090a0b0c0d0e0f"

static char path[] = "/tmp/fathom-access-XXXXXX";

static void write_file(const char *text)
{
    int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT, 0600);

    must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

/* SHA-256 of salt and SECRET. */
static const char *digest(void)
{
    static char text[2 * SHA256_BYTES + 1];
    uint8_t salt[ACCESS_SALT_BYTES], made[SHA256_BYTES];

    must(access_hex_read(SLICE(SALT), salt, sizeof salt));
    const struct sha256_part part[] = { { salt, sizeof salt }, { SECRET, 64 } };
    sha256(part, 2, made);
    access_hex_write(made, sizeof made, text);
    return text;
}

/* `%s` stands for salt and digest of SECRET. */
static struct access *open_text(const char *text)
{
    struct access *access = NULL;
    struct err err = { "" };
    char hashes[200];
    struct buf made;

    snprintf(hashes, sizeof hashes, "\"salt\":\"" SALT "\",\"sha256\":\"%s\"", digest());
    buf_init(&made, 0);
    for (const char *at = text; *at; at++) {
        if (at[0] == '%' && at[1] == 's') buf_add_string(&made, hashes), at++;
        else buf_add_byte(&made, *at);
    }
    buf_add_byte(&made, '\0');
    write_file(made.data);
    buf_release(&made);
    if (access_open(path, &access, &err) == OK) return access;
    print_message("%s\n", err.text);
    return NULL;
}

static const char *sentence_of(const char *text)
{
    static struct err err;
    struct access *access = NULL;

    write_file(text);
    assert_int_equal(access_open(path, &access, &err), BAD_INPUT);
    assert_null(access);
    return err.text;
}

static enum access_verdict find(struct access *access, const char *key, int64_t now)
{
    struct caller caller = { 0 };
    enum access_verdict verdict = access_find(access, slice_of(key), now, &caller);

    assert_true((verdict == ACCESS_GRANTED) == (caller.tenant != NULL));
    caller_drop(&caller);
    return verdict;
}

static void only_the_whole_key_opens(void **unused)
{
    (void)unused;
    struct access *access =
        open_text("{\"tenants\":[{\"name\":\"a\"},{\"name\":\"b\"}],\"keys\":["
                  "{\"id\":\"live\",\"tenant\":\"a\",%s},"
                  "{\"id\":\"off\",\"tenant\":\"a\",%s,\"disabled\":true},"
                  "{\"id\":\"old\",\"tenant\":\"b\",%s,\"expires\":\"2026-01-31T12:00:00Z\"}]}");
    const int64_t then = 1769860800;  // 2026-01-31T12:00:00Z
    const struct {
        const char *key;
        int64_t now;
        enum access_verdict verdict;
    } cases[] = {
        { "fathom_live." SECRET, 1, ACCESS_GRANTED },
        { "Bearer fathom_live." SECRET, 1, ACCESS_GRANTED },
        { "bEaReR fathom_live." SECRET, 1, ACCESS_GRANTED },
        { "", 1, ACCESS_NO_KEY },
        { "Bearer ", 1, ACCESS_UNKNOWN },
        { "fathom_live." OTHER, 1, ACCESS_WRONG },
        { "fathom_live." SECRET "0", 1, ACCESS_UNKNOWN },
        { "fathom_live.", 1, ACCESS_UNKNOWN },
        { "fathom_live", 1, ACCESS_UNKNOWN },
        { "fathom_." SECRET, 1, ACCESS_UNKNOWN },
        { "Fathom_live." SECRET, 1, ACCESS_UNKNOWN },
        { "fathom_nobody." SECRET, 1, ACCESS_UNKNOWN },
        { SECRET, 1, ACCESS_UNKNOWN },
        { "fathom_off." SECRET, 1, ACCESS_DISABLED },
        { "fathom_off." OTHER, 1, ACCESS_WRONG },
        { "fathom_old." SECRET, then - 1, ACCESS_GRANTED },
        { "fathom_old." SECRET, then, ACCESS_EXPIRED },
        { "fathom_old." OTHER, then, ACCESS_WRONG },
    };

    assert_non_null(access);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(find(access, cases[i].key, cases[i].now), cases[i].verdict);
    access_drop(access);
}

static void every_field_comes_to_where_it_belongs(void **unused)
{
    (void)unused;
    struct access *access = open_text(
        "{\"keys\":[{\"id\":\"k\",\"tenant\":\"acme\",%s,\"scopes\":[\"metrics\"],"
        "\"models\":[\"m\"],\"created\":\"2026-01-31\"}],"
        "\"tenants\":[{\"name\":\"plain\"},"
        "{\"name\":\"acme\",\"weight\":3,\"models\":[\"m\",\"n\"],\"priority\":[2,7],"
        "\"group\":\"g\",\"isolate_users\":false,\"limits\":{\"running\":1,\"queued\":2,"
        "\"requests_per_minute\":3,\"input_tokens_per_minute\":4,\"output_tokens_per_minute\":5,"
        "\"budget_tokens\":6,\"context\":7,\"output\":8,\"cache_bytes\":9},"
        "\"user_limits\":{\"running\":10}}]}");
    assert_non_null(access);
    const struct tenant *plain = access_tenant(access, 0), *acme = access_tenant(access, 1);
    const struct access_limits limits = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
    const struct access_limits none = { 0 }, of_user = { .running = 10 };

    assert_null(access_tenant(access, 2));
    assert_string_equal(acme->name, "acme");
    assert_string_equal(acme->group, "g");
    assert_int_equal(acme->weight, 3);
    assert_int_equal(acme->priority_least, 2);
    assert_int_equal(acme->priority_most, 7);
    assert_false(acme->isolate_users);
    assert_memory_equal(&acme->limits, &limits, sizeof limits);
    assert_memory_equal(&acme->user_limits, &of_user, sizeof of_user);
    assert_int_equal(plain->weight, 1);
    assert_int_equal(plain->priority_least, 0);
    assert_int_equal(plain->priority_most, INT32_MAX);
    assert_true(plain->isolate_users && !plain->group);
    assert_memory_equal(&plain->limits, &none, sizeof none);
    assert_int_not_equal(plain->hash, acme->hash);
    assert_memory_not_equal(plain->owner, acme->owner, SHA256_BYTES);

    const struct access_key *key = access_key(access, 0);
    assert_ptr_equal(key->tenant, acme);
    assert_int_equal(key->scopes, ACCESS_METRICS);
    assert_int_equal(key->created, 1769817600);
    struct caller caller = { access_hold(access), acme, key };
    assert_true(caller_may_use(&caller, SLICE("m")));
    assert_false(caller_may_use(&caller, SLICE("n")));  // the tenant's, not the key's
    assert_false(caller_has_scope(&caller, ACCESS_API));
    assert_true(caller_has_scope(&caller, ACCESS_METRICS));
    caller_drop(&caller);
    access_drop(access);
}

static void faults_are_named_with_their_place(void **unused)
{
    (void)unused;
#define KEY_HEAD "{\"tenants\":[{\"name\":\"a\"}],\"keys\":[{"
#define TENANT "{\"tenants\":[{\"name\":\"a\","
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        { "", "wanted an object" },
        { "# ours\nfirst-key-0123456789\n", "keys one a line are no longer read" },
        { "{\"tenants\":[}", "invalid JSON at line 1" },
        { "{\"tenants\":[],\"tenants\":[]}", "duplicate" },
        { "{\"tenant\":[]}", ": tenant: found an unknown field" },
        { "{\"tenants\":{}}", ": tenants: found an object, wanted an array" },
        { "{\"tenants\":[{}]}", ": tenants[0]: found no name" },
        { "{\"tenants\":[{\"name\":\"a\"},{\"name\":\"a\"}]}",
          ": tenants[1]: found a name for the" },
        { "{\"tenants\":[{\"name\":\"a b\"}]}", ": tenants[0].name: found another text" },
        { "{\"tenants\":[{\"name\":\"\"}]}", ": tenants[0].name: found another text" },
        { "{\"tenants\":[{\"name\":\"a\\u0000\"}]}", ": tenants[0].name: found another text" },
        { TENANT "\"name\":\"b\"}]}", "duplicate" },
        { TENANT "\"weigth\":1}]}", ": tenants[0].weigth: found an unknown field" },
        { TENANT "\"weight\":0}]}", ".weight: found 0, wanted an integer from 1 to 1000" },
        { TENANT "\"weight\":1001}]}", ".weight: found 1001, wanted" },
        { TENANT "\"weight\":1.5}]}", ".weight: found a number, wanted" },
        { TENANT "\"weight\":null}]}", ".weight: found null, wanted" },
        { TENANT "\"priority\":[3,1]}]}", ".priority: found the larger number first" },
        { TENANT "\"priority\":[3]}]}", ".priority: found another number" },
        { TENANT "\"priority\":[-1,3]}]}", ".priority: found -1" },
        { TENANT "\"models\":[]}]}", ".models: found another number of names" },
        { TENANT "\"models\":[1]}]}", ".models: found an integer" },
        { TENANT "\"isolate_users\":1}]}", ".isolate_users: found an integer" },
        { TENANT "\"limits\":{\"runing\":1}}]}", ".limits.runing: found an unknown limit" },
        { TENANT "\"limits\":{\"running\":0}}]}", ".limits.running: found 0" },
        { TENANT "\"limits\":{\"running\":-1}}]}", ".limits.running: found -1" },
        { TENANT "\"user_limits\":{\"context\":1}}]}", ".context: found a limit that only" },
        { TENANT "\"user_limits\":{\"cache_bytes\":1}}]}", ".cache_bytes: found a limit that" },
        { TENANT "\"limits\":{\"cache_bytes\":\"1GB\"}}]}", ".cache_bytes: found a string" },
        { KEY_HEAD "}]}", ": keys[0]: found no id" },
        { KEY_HEAD "\"id\":\"k\"}]}", ": keys[0]: found no tenant" },
        { KEY_HEAD "\"id\":\"k\",\"tenant\":\"a\"}]}", ": keys[0]: found no salt" },
        { KEY_HEAD "\"key\":\"fathom_k." SECRET "\"}]}", ": keys[0].key: found a plain key" },
        { KEY_HEAD "\"secret\":\"" SECRET "\"}]}", ": keys[0].secret: found a plain key" },
        { KEY_HEAD "\"salt\":\"0011\"}]}", ".salt: found another text, wanted 32 hex" },
        { KEY_HEAD "\"salt\":\"00000000000000000000000000000000\"}]}", ".salt: found only zeros" },
        { KEY_HEAD "\"sha256\":\"" SALT "\"}]}", ".sha256: found another text, wanted 64 hex" },
        { KEY_HEAD "\"scopes\":[]}]}", ".scopes: found no scope" },
        { KEY_HEAD "\"scopes\":[\"admin\"]}]}", ".scopes: found another scope" },
        { KEY_HEAD "\"expires\":\"soon\"}]}", ".expires: found another text" },
        { KEY_HEAD "\"expires\":\"2026-02-30\"}]}", ".expires: found another text" },
        { KEY_HEAD "\"expires\":1}]}", ".expires: found an integer" },
        { KEY_HEAD "\"id\":\"k\",\"tenant\":\"b\",\"salt\":\"" SALT "\",\"sha256\":\"" SECRET
                   "\"}]}",
          ": keys[0]: found a tenant that is not listed" },
        { KEY_HEAD "\"id\":\"k\",\"tenant\":\"a\",\"salt\":\"" SALT "\",\"sha256\":\"" SECRET
                   "\"},{\"id\":\"k\",\"tenant\":\"a\",\"salt\":\"" SALT "\",\"sha256\":\"" SECRET
                   "\"}]}",
          "found the id \"k\" twice" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *sentence = sentence_of(cases[i].text);
        if (!strstr(sentence, cases[i].sentence)) print_message("%s\n", sentence);
        assert_non_null(strstr(sentence, cases[i].sentence));
        assert_non_null(strstr(sentence, path));
        assert_null(strstr(sentence, SECRET));
    }
}

static void a_file_that_others_may_use_is_refused(void **unused)
{
    static const mode_t modes[] = { 0640, 0604, 0620, 0601 };
    struct access *access = NULL;
    struct err err = { "" };
    (void)unused;

    write_file("{\"tenants\":[],\"keys\":[]}");
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        must(chmod(path, modes[i]) == 0);
        assert_int_equal(access_open(path, &access, &err), BAD_INPUT);
        assert_non_null(strstr(err.text, "wanted mode 600"));
    }
    must(chmod(path, 0600) == 0);
    assert_int_equal(access_open(path, &access, &err), OK);
    assert_int_equal(find(access, "fathom_k." SECRET, 1), ACCESS_UNKNOWN);  // no key opens nothing
    access_drop(access);
}

static void what_is_no_plain_file_is_refused_at_once(void **unused)
{
    struct access *access = NULL;
    struct err err = { "" };
    char pipe[sizeof path + 5];
    (void)unused;

    snprintf(pipe, sizeof pipe, "%s.pipe", path);
    must(mkfifo(pipe, 0600) == 0);
    assert_int_equal(access_open(pipe, &access, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "wanted a plain file"));
    must(unlink(pipe) == 0);
}

static void a_name_keeps_its_number_and_a_request_its_table(void **unused)
{
    (void)unused;
    struct access_slot slot = { .now =
                                    open_text("{\"tenants\":[{\"name\":\"x\"},{\"name\":\"y\"}],"
                                              "\"keys\":[{\"id\":\"k\",\"tenant\":\"y\",%s}]}") };
    struct caller caller = { 0 };

    assert_int_equal(access_find(slot.now, SLICE("fathom_k." SECRET), 1, &caller), ACCESS_GRANTED);
    uint32_t index = caller.tenant->index;
    uint64_t hash = caller.tenant->hash;
    access_swap(&slot, open_text("{\"tenants\":[{\"name\":\"z\"},{\"name\":\"y\"}]}"));
    assert_string_equal(caller.key->id, "k");  // the old table is still there
    assert_string_equal(caller.tenant->name, "y");
    assert_int_equal(access_tenant(slot.now, 1)->index, index);
    assert_int_equal(access_tenant(slot.now, 1)->hash, hash);
    assert_int_not_equal(access_tenant(slot.now, 0)->index, index);
    assert_int_equal(find(slot.now, "fathom_k." SECRET, 1), ACCESS_UNKNOWN);
    caller_drop(&caller);
    access_swap(&slot, NULL);
}

static void without_keys_everybody_is_the_default_tenant(void **unused)
{
    uint8_t zeros[SHA256_BYTES] = { 0 };
    struct access *access = NULL;
    struct caller caller = { 0 };
    struct err err;
    (void)unused;

    assert_int_equal(access_open_to_all(&access, &err), OK);
    assert_false(access_asks_for_keys(access));
    assert_int_equal(access_find(access, SLICE("Bearer none"), 1, &caller), ACCESS_GRANTED);
    assert_string_equal(caller.tenant->name, "default");
    assert_null(caller.key);
    assert_memory_equal(caller.tenant->owner, zeros, sizeof zeros);
    assert_true(caller_has_scope(&caller, ACCESS_METRICS));
    assert_true(caller_may_use(&caller, SLICE("any")));
    access_drop(access);
    caller_drop(&caller);
}

static int make_file(void **unused)
{
    int fd = mkstemp(path);
    (void)unused;

    if (fd >= 0) close(fd);
    return fd < 0;
}

static int remove_file(void **unused)
{
    (void)unused;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_whole_key_opens),
        cmocka_unit_test(every_field_comes_to_where_it_belongs),
        cmocka_unit_test(faults_are_named_with_their_place),
        cmocka_unit_test(a_file_that_others_may_use_is_refused),
        cmocka_unit_test(what_is_no_plain_file_is_refused_at_once),
        cmocka_unit_test(a_name_keeps_its_number_and_a_request_its_table),
        cmocka_unit_test(without_keys_everybody_is_the_default_tenant),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
