/* reload_test.c - everything is taken over or nothing, in the order in which it was asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "server/reload.h"
#include <cmocka.h>  // last: it defines a macro named fail

static char folder[] = "/tmp/fathom-reload-XXXXXX";
static char keys[64], ini[64];
static char *argv[] = { (char *)"fathomd", (char *)"--config", ini, NULL };

static void put(const char *path, const char *text)
{
    char fresh[80];
    snprintf(fresh, sizeof fresh, "%s.new", path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    must(rename(fresh, path) == 0);
}

static void put_tenant(const char *name)
{
    char text[128];

    snprintf(text, sizeof text, "{\"tenants\":[{\"name\":\"%s\"}],\"keys\":[]}", name);
    put(keys, text);
}

static void put_options(const char *more)
{
    char text[256];

    snprintf(text, sizeof text, "keys = %s\n%s", keys, more);
    put(ini, text);
}

/* What stands behind a daemon's reload. */
struct place {
    struct loop *loop;
    struct options options;
    struct access_slot access;
    struct reload *reload;
    unsigned wanted;     // answers, after which the loop stops
    unsigned answers;    // so far
    uint64_t order[8];   // [answers] who was told
    char tenant[8][16];  // [answers] whose table was in use then
    enum status status;
    char told[256];  // of the last answer
    struct err why;  // likewise
};

static const char *tenant_of(const struct place *place)
{
    return access_tenant(place->access.now, 0)->name;
}

static void place_open(struct place *place)
{
    struct err err = { "" };

    *place = (struct place){ 0 };
    put_tenant("first");
    put_options("log-level = error\n");
    assert_int_equal(loop_open(&place->loop, &err), OK);
    if (options_load(3, argv, &place->options, &err) != OK) print_error("%s\n", err.text);
    assert_string_equal(err.text, "");
    assert_int_equal(access_open(place->options.keys, &place->access.now, &err), OK);
    struct reload_setup setup = { .loop = place->loop,
                                  .argc = 3,
                                  .argv = argv,
                                  .options = &place->options,
                                  .access = &place->access,
                                  .loopback = true };
    assert_int_equal(reload_open(&setup, &place->reload), OK);
}

static void place_close(struct place *place)
{
    reload_close(place->reload);
    loop_close(place->loop);
    access_swap(&place->access, NULL);
    options_release(&place->options);
}

static void on_answer(void *context, uint64_t number, const struct reload_answer *answer)
{
    struct place *place = context;

    assert_true(place->answers < 8);
    snprintf(place->tenant[place->answers], sizeof *place->tenant, "%s", tenant_of(place));
    place->order[place->answers++] = number;
    place->status = answer->status;
    snprintf(place->told, sizeof place->told, "%.*s", (int)answer->told.size, answer->told.data);
    place->why = *answer->err;
    if (place->answers == place->wanted) loop_stop(place->loop);
}

static void ask(struct place *place, enum reload_what what, uint64_t number)
{
    struct reload_wish wish = { what, on_answer, place, number };

    assert_int_equal(reload_ask(place->reload, &wish), OK);
}

static void wait_for(struct place *place, unsigned answers)
{
    place->wanted = place->answers + answers;
    loop_run(place->loop);
}

static void what_was_read_is_taken_over_at_once_and_told(void **unused)
{
    struct place place;
    (void)unused;
    place_open(&place);
    struct access *held = access_hold(place.access.now);
    put_tenant("second");
    put_options("log-level = error\nqueue-wait = 7s\nmax-seqs = 3\n");
    ask(&place, RELOAD_ALL, 1);
    assert_string_equal(tenant_of(&place), "first");  // until the loop has it
    wait_for(&place, 1);
    assert_int_equal(place.status, OK);
    assert_string_equal(place.told, "{\"changed\":[\"queue-wait\"],\"restart\":[\"max-seqs\"]}");
    assert_string_equal(place.tenant[0], "second");
    assert_true(place.options.queue_wait_ns == 7000000000u);
    assert_int_equal(place.options.max_seqs, 64);
    assert_string_equal(access_tenant(held, 0)->name, "first");
    access_drop(held);
    place_close(&place);
}

static void a_fault_in_either_file_changes_nothing(void **unused)
{
    static const struct {
        const char *options, *keys, *why;
    } row[] = {
        { "queue-wait = 7s\nno-such = 1\n", "{\"tenants\":[],\"keys\":[]}", ":3:" },
        { "queue-wait = 7s\n", "{\"tenants\":[{\"name\":\"\"}],\"keys\":[]}", "keys: " },
        { "queue-wait = 7s\n", "{", "keys: " },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct place place;
        place_open(&place);
        uint64_t queue_wait_ns = place.options.queue_wait_ns;
        put(keys, row[i].keys);
        put_options(row[i].options);
        ask(&place, RELOAD_ALL, 1);
        wait_for(&place, 1);
        assert_int_not_equal(place.status, OK);
        assert_non_null(strstr(place.why.text, row[i].why));
        assert_string_equal(place.told, "");
        assert_string_equal(tenant_of(&place), "first");
        assert_true(place.options.queue_wait_ns == queue_wait_ns);
        struct reload_counts counts = reload_counts(place.reload);
        assert_int_equal(counts.done, 0);
        assert_int_equal(counts.failed, 1);
        place_close(&place);
    }
}

static void who_asks_during_a_reading_shares_the_next_one(void **unused)
{
    struct place place;
    (void)unused;
    place_open(&place);
    ask(&place, RELOAD_ALL, 1);  // being read from here on
    put_tenant("second");
    ask(&place, RELOAD_ALL, 2);
    ask(&place, RELOAD_ALL, 3);
    ask(&place, RELOAD_ALL, 2);  // asked for already
    wait_for(&place, 3);
    for (uint64_t i = 0; i < 3; i++) assert_int_equal(place.order[i], i + 1);
    assert_string_equal(place.tenant[1], "second");  // whatever the first one saw
    assert_string_equal(place.tenant[2], "second");
    assert_int_equal(reload_counts(place.reload).done, 2);
    place_close(&place);
}

static void readings_of_the_keys_alone_keep_their_place_in_the_order(void **unused)
{
    struct place place;
    (void)unused;
    place_open(&place);
    ask(&place, RELOAD_KEYS, 1);
    ask(&place, RELOAD_ALL, 2);
    ask(&place, RELOAD_KEYS, 3);
    ask(&place, RELOAD_KEYS, 4);
    ask(&place, RELOAD_ALL, 5);
    put_options("log-level = error\nno-such = 1\n");  // which those of the keys do not read
    put_tenant("second");
    wait_for(&place, 5);
    for (uint64_t i = 0; i < 5; i++) assert_int_equal(place.order[i], i + 1);
    assert_string_equal(place.tenant[2], "second");
    assert_int_not_equal(place.status, OK);
    struct reload_counts counts = reload_counts(place.reload);
    assert_int_equal(counts.done + counts.failed, 2);
    place_close(&place);
}

static void on_ask_again(void *context, uint64_t number, const struct reload_answer *answer)
{
    struct place *place = context;

    on_answer(context, number, answer);
    ask(place, RELOAD_KEYS, number + 1);
}

static void who_is_told_may_ask_again(void **unused)
{
    struct place place;
    (void)unused;
    place_open(&place);
    struct reload_wish wish = { RELOAD_KEYS, on_ask_again, &place, 1 };
    assert_int_equal(reload_ask(place.reload, &wish), OK);
    ask(&place, RELOAD_KEYS, 5);
    wait_for(&place, 3);
    assert_int_equal(place.order[0], 1);
    assert_int_equal(place.order[1], 5);
    assert_int_equal(place.order[2], 2);
    place_close(&place);
}

static void closing_waits_for_the_reading_and_tells_nobody(void **unused)
{
    (void)unused;
    for (int round = 0; round < 8; round++) {
        struct place place;
        place_open(&place);
        put_tenant("second");
        ask(&place, round % 2 ? RELOAD_ALL : RELOAD_KEYS, 1);
        ask(&place, RELOAD_ALL, 2);
        place_close(&place);
        assert_int_equal(place.answers, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_read_is_taken_over_at_once_and_told),
        cmocka_unit_test(a_fault_in_either_file_changes_nothing),
        cmocka_unit_test(who_asks_during_a_reading_shares_the_next_one),
        cmocka_unit_test(readings_of_the_keys_alone_keep_their_place_in_the_order),
        cmocka_unit_test(who_is_told_may_ask_again),
        cmocka_unit_test(closing_waits_for_the_reading_and_tells_nobody),
    };
    if (!mkdtemp(folder)) return 1;
    snprintf(keys, sizeof keys, "%s/keys", folder);
    snprintf(ini, sizeof ini, "%s/fathom.ini", folder);
    int code = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(keys);
    unlink(ini);
    rmdir(folder);
    return code;
}
