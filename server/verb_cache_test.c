/* verb_cache_test.c - what `fathomd cache` says of directories whose every record is known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include "cache/store_fixture.h"
#include "config/json.h"
#include "engine/cache_identity.h"
#include "server/cache_tenant.h"
#include "server/verbs.h"

struct said {
    int code;
    char out[1 << 18], err[4096];
};

static void read_back(FILE *from, char *text, size_t room)
{
    rewind(from);
    text[fread(text, 1, room - 1, from)] = 0;
    fclose(from);
}

/* Runs the verb with its output in files. */
static struct said *run(const char *const *argument)
{
    static struct said said;
    FILE *out = tmpfile(), *complaints = tmpfile();
    char *argv[12];
    int argc = 0, kept[2] = { dup(1), dup(2) };
    must(out && complaints);
    while (argument[argc]) argv[argc] = (char *)(uintptr_t)argument[argc], argc++;
    fflush(stdout);
    fflush(stderr);
    dup2(fileno(out), 1);
    dup2(fileno(complaints), 2);
    said.code = verb_cache(argc, argv);
    fflush(stdout);
    fflush(stderr);
    dup2(kept[0], 1);
    dup2(kept[1], 2);
    close(kept[0]);
    close(kept[1]);
    read_back(out, said.out, sizeof said.out);
    read_back(complaints, said.err, sizeof said.err);
    return &said;
}

#define RUN(...) run((const char *const[]){ __VA_ARGS__, NULL })

static uint32_t lines_of(const char *text)
{
    uint32_t lines = 0;
    for (; *text; text++) lines += *text == '\n';
    return lines;
}

/* A member of the one line of JSON that was said. */
static int64_t number(const struct said *said, const char *name)
{
    static char text[1 << 16];
    struct json *root;
    struct err err;
    strcpy(text, said->out);
    assert_int_equal(js_parse(text, strlen(text), &js_file_limits, &root, &err), OK);
    const struct json *value = js_get(root, name);
    assert_non_null(value);
    int64_t found = js_int(value);
    js_free(root);
    return found;
}

static void fill(struct fixture *f, uint32_t chains)
{
    fixture_open_new(f, 9);
    fixture_fill(f, 0, chains);
    must(store_close(f->store, 10000));
}

static void ls_has_a_line_for_each_scope(void **unused)
{
    (void)unused;
    struct fixture f;
    fill(&f, 6);
    struct said *said = RUN("ls", f.dir);
    assert_int_equal(said->code, 0);
    assert_int_equal(lines_of(said->out), 5);  // a head, and the fixture's four scopes
    /* Of six chains the first two scopes have two each: 24 blocks, 2 windows. */
    assert_non_null(strstr(said->out, "\na0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0       24        2 "));
    assert_non_null(strstr(said->out, "\na3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3       12        1 "));

    said = RUN("ls", f.dir, "--json", "--scope", "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1");
    assert_int_equal(said->code, 0);
    assert_int_equal(lines_of(said->out), 1);
    assert_int_equal(number(said, "blocks"), 24);
    assert_int_equal(number(said, "windows"), 2);
    assert_true(number(said, "bytes") >= 24 * 4096 + 2 * 4096);

    said = RUN("ls", f.dir, "--blocks");
    assert_int_equal(said->code, 0);
    assert_int_equal(lines_of(said->out), 6 * (CHAIN + 1));
    assert_non_null(strstr(said->out, "{\"object\":\"window\",\"key\":\""));
    fixture_release(&f);
}

static void of_two_copies_of_a_block_one_is_counted(void **unused)
{
    (void)unused;
    struct fixture f;
    fixture_open_new(&f, 10);
    fixture_fill(&f, 0, 1);
    fixture_fill(&f, 0, 1);
    must(store_close(f.store, 10000));
    struct said *said = RUN("ls", "--json", f.dir);
    assert_int_equal(number(said, "blocks"), CHAIN);
    assert_int_equal(number(said, "windows"), 1);
    fixture_release(&f);
}

static void stat_adds_up(void **unused)
{
    (void)unused;
    struct fixture f;
    fill(&f, 6);
    struct said *said = RUN("stat", f.dir, "--json");
    assert_int_equal(said->code, 0);
    assert_int_equal(number(said, "records"), 6 * (CHAIN + 1));
    assert_int_equal(number(said, "segments"),
                     number(said, "segments_of_blocks") + number(said, "segments_of_windows"));
    assert_int_equal(number(said, "segments"), number(said, "segments_full") +
                                                   number(said, "segments_begun") +
                                                   number(said, "segments_free"));
    assert_int_equal(number(said, "bytes"), number(said, "segments") * 262144);
    assert_int_equal(number(said, "bytes"), 6 << 20);
    said = RUN("stat", f.dir);
    assert_non_null(strstr(said->out, "state: closed\n"));
    assert_non_null(strstr(said->out, "holds no file secret"));
    fixture_release(&f);
}

static void verify_names_what_is_damaged_and_fails(void **unused)
{
    (void)unused;
    struct fixture f;
    char path[100];
    fill(&f, 6);
    struct said *said = RUN("verify", f.dir, "--json");
    assert_int_equal(said->code, 0);
    assert_int_equal(number(said, "records"), 6 * (CHAIN + 1));
    assert_int_equal(number(said, "damaged"), 0);

    snprintf(path, sizeof path, "%s/g/000000.seg", f.dir);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "!", 1, 4096 + 700), 1);
    close(fd);
    said = RUN("verify", f.dir);
    assert_int_equal(said->code, 1);
    assert_non_null(strstr(said->out, "\"file\":\"g/000000.seg\",\"page\":1,"));
    assert_non_null(strstr(said->out, "\"verdict\":\"damaged\"}"));
    assert_non_null(strstr(said->out, "damaged: 1\n"));
    assert_non_null(strstr(said->err, "1 records are damaged"));
    fixture_release(&f);
}

static void a_directory_in_use_is_read_but_not_purged(void **unused)
{
    (void)unused;
    struct fixture f;
    char process[32];
    fixture_open_new(&f, 11);
    fixture_fill(&f, 0, 6);
    snprintf(process, sizeof process, "process %d", getpid());
    assert_int_equal(RUN("ls", f.dir)->code, 0);
    assert_int_equal(RUN("verify", f.dir)->code, 0);
    struct said *said = RUN("stat", f.dir);
    assert_non_null(strstr(said->out, "state: in use\n"));
    said = RUN("purge", f.dir, "--all");
    assert_int_equal(said->code, 1);
    assert_non_null(strstr(said->err, process));
    said = RUN("purge", f.dir, "--scope", "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1");
    assert_int_equal(said->code, 1);
    assert_non_null(strstr(said->err, process));
    fixture_close_and_remove(&f);
}

static void purge_takes_one_scope_or_all(void **unused)
{
    (void)unused;
    struct fixture f;
    fill(&f, 6);
    assert_true(fixture_marks(&f, 0xa1) > 0);
    struct said *said =
        RUN("purge", f.dir, "--scope", "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1", "--json");
    assert_int_equal(said->code, 0);
    assert_int_equal(number(said, "records_purged"), 2 * (CHAIN + 1));
    assert_int_equal(fixture_marks(&f, 0xa1), 0);
    assert_true(fixture_marks(&f, 0xa0) > 0);
    assert_int_equal(lines_of(RUN("ls", f.dir, "--json")->out), 3);
    said = RUN("purge", f.dir, "--all");
    assert_int_equal(said->code, 0);
    assert_non_null(strstr(said->out, "records_purged: 52\n"));
    said = RUN("ls", f.dir);
    assert_int_equal(said->code, 1);
    assert_non_null(strstr(said->err, "holds no cache"));
    fixture_release(&f);
}

/* One block of this user of this tenant, as a daemon would have named it. */
static void write_one(struct fixture *f, uint64_t block, const struct prefix_key *secret,
                      struct slice name, struct slice user)
{
    uint8_t owner[SHA256_BYTES] = { 0 }, who[SHA256_BYTES], tenant[SHA256_BYTES];
    struct store_done done;
    if (name.size) cache_owner_of(name, owner);
    cache_user_of(user, who);
    cache_tenant_of(owner, who, tenant);
    void *packed = fixture_pack(f, block, RECORD_G);
    struct store_write write = { .id = fixture_id(block, RECORD_G),
                                 .slot = (uint32_t)block / CHAIN,
                                 .packed = packed };
    cache_identity_tag(secret, owner, tenant, write.id.scope);
    must(store_write(f->store, &write) == OK);
    while (store_take(f->store, &done, 1) == 0) store_wait(f->store, 1000);
    must(done.status == OK);
    free(packed);
}

static void a_scope_is_found_by_tenant_and_user(void **unused)
{
    (void)unused;
    struct fixture f;
    char path[100];
    struct prefix_key secret = { .byte = { 7, 7, 7 } };
    fixture_open_new(&f, 12);
    write_one(&f, 0, &secret, SLICE(""), SLICE(""));
    write_one(&f, CHAIN, &secret, SLICE(""), SLICE("alice"));
    write_one(&f, 2 * CHAIN, &secret, SLICE("acme"), SLICE("alice"));
    static const char *const users[] = { "", "alice", "bob" };
    for (uint32_t i = 0; i < 3; i++)
        write_one(&f, (3 + i) * CHAIN, &secret, SLICE("beta"), slice_of(users[i]));
    must(store_close(f.store, 10000));
    snprintf(path, sizeof path, "%s/secret", f.dir);

    struct said *said = RUN("ls", f.dir, "--user", "");
    assert_int_equal(said->code, 2);
    assert_non_null(strstr(said->err, "holds no file secret"));

    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    must(fd >= 0 && write(fd, &secret, sizeof secret) == sizeof secret);
    close(fd);
    assert_int_equal(number(RUN("ls", f.dir, "--json", "--user", ""), "blocks"), 1);
    assert_int_equal(number(RUN("ls", f.dir, "--json", "--user", "alice"), "blocks"), 1);
    assert_int_equal(lines_of(RUN("ls", f.dir, "--json", "--user", "bob")->out), 0);
    assert_int_equal(lines_of(RUN("ls", f.dir, "--json")->out), 6);
    assert_int_equal(lines_of(RUN("ls", f.dir, "--json", "--tenant", "beta")->out), 3);
    said = RUN("purge", f.dir, "--tenant", "beta", "--json");
    assert_int_equal(said->code, 0);
    assert_int_equal(number(said, "scopes_purged"), 3);
    assert_int_equal(number(said, "records_purged"), 3);
    assert_int_equal(lines_of(RUN("ls", f.dir, "--json")->out), 3);

    said = RUN("purge", f.dir, "--user", "alice", "--tenant", "acme", "--json");
    assert_int_equal(said->code, 0);
    assert_int_equal(number(said, "records_purged"), 1);
    assert_int_equal(lines_of(RUN("ls", f.dir, "--json")->out), 2);
    assert_int_equal(number(RUN("ls", f.dir, "--json", "--user", "alice"), "blocks"), 1);
    fixture_release(&f);
}

static void wrong_use_is_told_and_changes_nothing(void **unused)
{
    (void)unused;
    struct fixture f;
    fill(&f, 2);
    const char *const cases[][6] = {
        { "ls" },
        { "look", f.dir },
        { "ls", f.dir, f.dir },
        { "ls", f.dir, "--all" },
        { "stat", f.dir, "--blocks" },
        { "purge", f.dir },
        { "purge", f.dir, "--scope" },
        { "purge", f.dir, "--tenant", "acme", "--all" },
        { "purge", f.dir, "--tenant", "acme", "--group", "both" },
        { "purge", f.dir, "--all", "--user", "alice" },
        { "purge", f.dir, "--scope", "a1" },
        { "purge", "/nowhere/at/all", "--user", "alice" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *argument[7] = { NULL };
        memcpy(argument, cases[i], sizeof cases[i]);
        struct said *said = run(argument);
        assert_int_equal(said->code, 2);
        assert_true(said->err[0] && !said->out[0]);
    }
    assert_int_equal(number(RUN("verify", f.dir, "--json"), "records"), 2 * (CHAIN + 1));
    assert_int_equal(RUN("stat", "/nowhere")->code, 1);
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ls_has_a_line_for_each_scope),
        cmocka_unit_test(of_two_copies_of_a_block_one_is_counted),
        cmocka_unit_test(stat_adds_up),
        cmocka_unit_test(verify_names_what_is_damaged_and_fails),
        cmocka_unit_test(a_directory_in_use_is_read_but_not_purged),
        cmocka_unit_test(purge_takes_one_scope_or_all),
        cmocka_unit_test(a_scope_is_found_by_tenant_and_user),
        cmocka_unit_test(wrong_use_is_told_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
