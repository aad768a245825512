/* access_edit_test.c - an edit changes what it says and nothing else, or leaves the file as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "server/access_edit.h"
#include "server/access_parts.h"
#include <cmocka.h>  // last: it defines a macro named fail

static char folder[] = "/tmp/fathom-edit-XXXXXX";
static char path[64];

static const char whole[] =
    "{\n  \"tenants\": [\n"
    "    {\"name\": \"acme\", \"weight\": 3, \"models\": [\"m\", \"n\\\"\"], \"priority\": [2, 7], "
    "\"group\": \"g\", \"isolate_users\": false, \"limits\": {\"running\": 1, \"queued\": 2, "
    "\"requests_per_minute\": 3, \"input_tokens_per_minute\": 4, \"output_tokens_per_minute\": 5, "
    "\"budget_tokens\": 6, \"context\": 7, \"output\": 8, \"cache_bytes\": 9}, "
    "\"user_limits\": {\"running\": 10}}\n"
    "  ],\n  \"keys\": [\n"
    "    {\"id\": \"k\", \"tenant\": \"acme\", \"salt\": \"000102030405060708090a0b0c0d0e0f\", "
    "\"sha256\": \"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\", "
    "\"scopes\": [\"api\", \"metrics\"], \"models\": [\"m\"], "
    "\"created\": \"2026-01-31T00:00:00Z\", \"expires\": \"2036-01-31T12:00:00Z\"}\n"
    "  ]\n}\n";

static void put(const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static const char *get(void)
{
    static char text[8192];
    int fd = open(path, O_RDONLY);

    must(fd >= 0);
    ssize_t size = read(fd, text, sizeof text - 1);
    must(size >= 0);
    text[size] = '\0';
    close(fd);
    return text;
}

static bool opens(const char *key)
{
    struct access *access = NULL;
    struct caller caller = { 0 };
    struct err err;

    assert_int_equal(access_open(path, &access, &err), OK);
    bool granted = access_find(access, slice_of(key), 1, &caller) == ACCESS_GRANTED;
    caller_drop(&caller);
    access_drop(access);
    return granted;
}

static const char *id_of(const char *key)
{
    static char id[ACCESS_NAME_MOST + 1];

    snprintf(id, sizeof id, "%.*s", (int)strcspn(key + 7, "."), key + 7);
    return id;
}

static void what_an_edit_does_not_name_stays_to_the_byte(void **unused)
{
    char key[ACCESS_KEY_SIZE];
    struct err err;
    (void)unused;

    put(whole);
    assert_int_equal(access_edit_revoke(path, "k", &err), OK);
    const char *at = strstr(get(), ", \"disabled\": true}");
    assert_non_null(at);
    assert_memory_equal(get(), whole, (size_t)(at - get()));

    put(whole);
    struct access_wish wish = { .tenant = "acme", .scopes = ACCESS_METRICS, .expires = 4102444800 };
    assert_int_equal(access_edit_add(path, &wish, key, &err), OK);
    size_t same = strlen(whole) - strlen("\n  ]\n}\n");
    assert_memory_equal(get(), whole, same);
    assert_non_null(strstr(get() + same, "\"scopes\": [\"metrics\"]"));
    assert_non_null(strstr(get() + same, "\"expires\": \"2100-01-01T00:00:00Z\""));
    assert_true(opens(key));
    assert_null(strstr(get(), key + strlen(key) - ACCESS_SECRET_DIGITS));
}

static void a_key_opens_from_its_making_to_its_revoking(void **unused)
{
    char first[ACCESS_KEY_SIZE], second[ACCESS_KEY_SIZE];
    struct access_wish wish = { .tenant = "new" };
    struct stat about;
    struct err err;
    (void)unused;

    unlink(path);
    assert_int_equal(access_edit_add(path, &wish, first, &err), OK);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0600);
    assert_int_equal(access_edit_add(path, &wish, second, &err), OK);
    assert_string_not_equal(first, second);
    assert_int_equal(strlen(first), 7 + 16 + 1 + ACCESS_SECRET_DIGITS);
    assert_true(opens(first) && opens(second));
    assert_int_equal(access_edit_revoke(path, id_of(first), &err), OK);
    assert_true(!opens(first) && opens(second));
    assert_int_equal(access_edit_revoke(path, "nobody", &err), BAD_INPUT);
    assert_true(opens(second));
}

static void what_cannot_be_done_leaves_the_file_as_it_was(void **unused)
{
    struct access_wish wish = { .tenant = "b" }, bad = { .tenant = "a b" };
    char key[ACCESS_KEY_SIZE], beside[80];
    struct err err;
    (void)unused;

    put("{\"tenants\":[{\"name\":\"a\",\"weight\":0}]}");
    assert_int_equal(access_edit_add(path, &wish, key, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "weight: found 0"));
    assert_string_equal(get(), "{\"tenants\":[{\"name\":\"a\",\"weight\":0}]}");

    put(whole);
    assert_int_equal(access_edit_add(path, &bad, key, &err), BAD_INPUT);
    must(chmod(path, 0644) == 0);
    assert_int_equal(access_edit_revoke(path, "k", &err), BAD_INPUT);
    must(chmod(path, 0600) == 0);
    int fd = open(path, O_RDONLY);
    must(fd >= 0 && flock(fd, LOCK_EX) == 0);
    assert_int_equal(access_edit_revoke(path, "k", &err), BUSY);
    close(fd);
    snprintf(beside, sizeof beside, "%s.new", path);
    must(mkdir(beside, 0700) == 0);  // so nothing can be written there
    assert_int_equal(access_edit_revoke(path, "k", &err), IO_FAILED);
    must(rmdir(beside) == 0);
    assert_string_equal(get(), whole);
}

/* Whoever may write to the folder could keep it open. */
static void a_file_that_lay_in_the_new_ones_place_does_not_become_the_key_file(void **unused)
{
    struct access_wish wish = { .tenant = "acme" };
    char key[ACCESS_KEY_SIZE], beside[80];
    struct stat theirs, ours;
    struct err err;
    (void)unused;

    put(whole);
    snprintf(beside, sizeof beside, "%s.new", path);
    int fd = open(beside, O_RDWR | O_CREAT | O_EXCL, 0666);
    must(fd >= 0);
    assert_int_equal(access_edit_add(path, &wish, key, &err), OK);
    must(fstat(fd, &theirs) == 0 && stat(path, &ours) == 0);
    assert_true(theirs.st_ino != ours.st_ino);
    assert_true(opens(key));
    close(fd);
}

static void a_link_stays_a_link(void **unused)
{
    char link[80], key[ACCESS_KEY_SIZE];
    struct access_wish wish = { .tenant = "a" };
    struct stat about;
    struct err err;
    (void)unused;

    put(whole);
    snprintf(link, sizeof link, "%s/link", folder);
    must(symlink(path, link) == 0);
    assert_int_equal(access_edit_add(link, &wish, key, &err), OK);
    assert_int_equal(lstat(link, &about), 0);
    assert_true(S_ISLNK(about.st_mode));
    assert_true(opens(key));
    must(unlink(link) == 0);
}

static void the_list_tells_states_and_no_hashes(void **unused)
{
    struct access *access = NULL;
    struct err err;
    struct buf out;
    (void)unused;

    put(whole);
    assert_int_equal(access_open(path, &access, &err), OK);
    buf_init(&out, 0);
    access_list(access, 1800000000, true, &out);
    access_list(access, 2100000000, true, &out);
    access_list(access, 2100000000, false, &out);
    buf_add_byte(&out, '\0');
    assert_non_null(strstr(out.data, "\"state\": \"live\", \"scopes\": \"api,metrics\""));
    assert_non_null(strstr(out.data, "\"state\": \"expired\""));
    assert_null(strstr(out.data, "0011223344"));
    assert_null(strstr(out.data, "0001020304"));
    buf_release(&out);
    access_drop(access);
}

static void scopes_are_words_with_commas(void **unused)
{
    static const struct {
        const char *text;
        bool good;
        unsigned set;
    } cases[] = {
        { "api", true, ACCESS_API },
        { "metrics,api", true, ACCESS_API | ACCESS_METRICS },
        { "", false, 0 },
        { "admin", false, 0 },
        { "api,admin", false, 0 },
        { "api,,metrics", false, 0 },
    };
    (void)unused;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned set = 0;
        assert_int_equal(access_scopes_read(slice_of(cases[i].text), &set), cases[i].good);
        if (cases[i].good) assert_int_equal(set, cases[i].set);
    }
}

static int make_folder(void **unused)
{
    (void)unused;
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/keys.json", folder);
    return 0;
}

static int remove_folder(void **unused)
{
    (void)unused;
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_an_edit_does_not_name_stays_to_the_byte),
        cmocka_unit_test(a_key_opens_from_its_making_to_its_revoking),
        cmocka_unit_test(what_cannot_be_done_leaves_the_file_as_it_was),
        cmocka_unit_test(a_file_that_lay_in_the_new_ones_place_does_not_become_the_key_file),
        cmocka_unit_test(a_link_stays_a_link),
        cmocka_unit_test(the_list_tells_states_and_no_hashes),
        cmocka_unit_test(scopes_are_words_with_commas),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
