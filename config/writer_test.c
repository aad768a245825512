/* writer_test.c - what is added comes out whole and in order, whoever stops; nobody who adds waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/waiting.h"
#include "config/writer.h"

enum { THREADS = 4, LINES = 3000, ROOM = 1 << 20, LONG_WAIT_S = PATIENCE_S };

static _Atomic int troubles, recoveries, last_trouble;

static void note_trouble(const char *path, int error)
{
    (void)path;
    if (error) atomic_store(&last_trouble, error);
    atomic_fetch_add(error ? &troubles : &recoveries, 1);
}

static struct writer *open_writer(const char *path, int fd, size_t room)
{
    struct writer *writer;
    struct err err = { "" };
    struct writer_setup setup = {
        .path = path, .fd = fd, .room_bytes = room, .name = "test", .trouble = note_trouble
    };
    troubles = recoveries = last_trouble = 0;
    assert_int_equal(writer_open(&setup, &writer, &err), OK);
    return writer;
}

static void add(struct writer *writer, const char *line)
{
    assert_true(writer_add(writer, line, strlen(line)));
}

/* The whole of a file; "" when there is none. */
static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = calloc(1, ROOM);
    assert_non_null(text);
    if (!file) return text;
    text[fread(text, 1, ROOM - 1, file)] = 0;
    fclose(file);
    return text;
}

static void assert_file(const char *path, const char *wanted)
{
    char *text = read_file(path);
    assert_string_equal(text, wanted);
    free(text);
}

/* A directory of this test's own; *path is a file in it. */
static void make_place(char dir[64], char path[80])
{
    strcpy(dir, "/tmp/fathom-writer-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, 80, "%s/lines", dir);
}

static void remove_place(const char *dir, const char *path)
{
    unlink(path);
    rmdir(dir);
}

struct adder {
    struct writer *writer;
    int number;
};

static void *add_many(void *context)
{
    const struct adder *adder = context;
    char line[80];
    for (int i = 0; i < LINES; i++) {
        int size = snprintf(line, sizeof line, "%d %d %.*s\n", adder->number, i, 1 + i % 50,
                            "..................................................");
        while (!writer_add(adder->writer, line, (size_t)size)) usleep(100);
    }
    return NULL;
}

static void lines_of_many_threads_stay_whole_and_in_each_ones_order(void **unused)
{
    char dir[64], path[80], *text;
    struct adder adder[THREADS];
    pthread_t thread[THREADS];
    int next[THREADS] = { 0 }, number, line, used, total = 0;
    (void)unused;

    make_place(dir, path);
    struct writer *writer = open_writer(path, -1, 3 * WRITER_LINE_MOST);
    for (int i = 0; i < THREADS; i++) {
        adder[i] = (struct adder){ writer, i };
        pthread_create(&thread[i], NULL, add_many, &adder[i]);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    assert_true(writer_flush(writer, LONG_WAIT_S * NS_PER_S));
    assert_int_equal(writer_count(writer).written, THREADS * LINES);
    text = read_file(path);
    for (char *at = text; *at; at = strchr(at, '\n') + 1, total++) {
        assert_int_equal(sscanf(at, "%d %d %n", &number, &line, &used), 2);
        assert_int_equal(line, next[number]++);
        assert_int_equal(strspn(at + used, "."), 1 + line % 50);
        assert_int_equal(at[used + 1 + line % 50], '\n');
    }
    assert_int_equal(total, THREADS * LINES);
    free(text);
    writer_close(writer, NS_PER_S);
    remove_place(dir, path);
}

static void stopped_reader_costs_lines_past_the_ring_and_no_time(void **unused)
{
    int ends[2];
    char line[100], text[ROOM];
    size_t got = 0;
    (void)unused;

    assert_int_equal(pipe(ends), 0);  // it would block
    struct writer *writer = open_writer(NULL, ends[1], 1 << 16);
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\n';
    uint64_t added = 0;
    for (int i = 0; i < 5000; i++) added += writer_add(writer, line, sizeof line);
    assert_int_equal(writer_count(writer).dropped, 5000 - added);
    assert_true(added < 5000);
    assert_false(writer_flush(writer, NS_PER_S / 20));

    while (got < added * sizeof line) {  // it reads on, and finds all that was taken
        ssize_t more = read(ends[0], text + got, sizeof text - got);
        assert_true(more > 0);
        got += (size_t)more;
    }
    assert_int_equal(got, added * sizeof line);
    assert_true(writer_flush(writer, LONG_WAIT_S * NS_PER_S));
    assert_int_equal(writer_count(writer).written, added);
    writer_close(writer, NS_PER_S);
    close(ends[0]);
    close(ends[1]);
}

static void close_waits_no_longer_than_it_was_told(void **unused)
{
    int ends[2];
    char line[1000];
    (void)unused;

    assert_int_equal(pipe(ends), 0);
    struct writer *writer = open_writer(NULL, ends[1], ROOM);
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\n';
    for (int i = 0; i < 800; i++) assert_true(writer_add(writer, line, sizeof line));
    writer_close(writer, NS_PER_S / 5);  // what it would have to wait for never comes
    close(ends[0]);
    close(ends[1]);
}

static void reader_that_left_costs_lines_alone(void **unused)
{
    int ends[2];
    (void)unused;

    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe(ends), 0);
    struct writer *writer = open_writer(NULL, ends[1], ROOM);
    close(ends[0]);
    add(writer, "nobody\n");
    assert_true(writer_flush(writer, LONG_WAIT_S * NS_PER_S));
    assert_int_equal(writer_count(writer).dropped, 1);
    writer_close(writer, NS_PER_S);
    close(ends[1]);
}

static void file_is_private_and_is_made_again_when_asked(void **unused)
{
    char dir[64], path[80], old[90];
    struct stat stat_of;
    (void)unused;

    make_place(dir, path);
    struct writer *writer = open_writer(path, -1, ROOM);
    assert_int_equal(stat(path, &stat_of), 0);
    assert_int_equal(stat_of.st_mode & 07777, 0600);
    add(writer, "one\n");
    assert_true(writer_flush(writer, LONG_WAIT_S * NS_PER_S));
    snprintf(old, sizeof old, "%s.1", path);
    assert_int_equal(rename(path, old), 0);
    add(writer, "two\n");  // until it is told, the old file is the file
    assert_true(writer_flush(writer, LONG_WAIT_S * NS_PER_S));
    writer_reopen(writer);
    WAIT_UNTIL(access(path, F_OK) == 0);  // without a line
    add(writer, "three\n");
    writer_close(writer, LONG_WAIT_S * NS_PER_S);
    assert_file(old, "one\ntwo\n");
    assert_file(path, "three\n");
    unlink(old);
    remove_place(dir, path);
}

static void lines_wait_for_a_directory_that_went(void **unused)
{
    char dir[64], path[80];
    (void)unused;

    make_place(dir, path);
    struct writer *writer = open_writer(path, -1, ROOM);
    remove_place(dir, path);
    add(writer, "one\n");
    add(writer, "two\n");
    assert_false(writer_flush(writer, NS_PER_S / 5));
    WAIT_UNTIL(troubles == 1);
    assert_int_equal(last_trouble, ENOENT);
    assert_int_equal(mkdir(dir, 0700), 0);
    writer_reopen(writer);  // or a second later by itself
    assert_true(writer_flush(writer, LONG_WAIT_S * NS_PER_S));
    assert_int_equal(recoveries, 1);
    assert_file(path, "one\ntwo\n");
    writer_close(writer, NS_PER_S);
    remove_place(dir, path);
}

static void full_disk_leaves_no_half_line(void **unused)
{
    char dir[64], path[80];
    struct rlimit was, small;
    (void)unused;

    signal(SIGXFSZ, SIG_IGN);
    make_place(dir, path);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    struct writer *writer = open_writer(path, -1, ROOM);
    small = (struct rlimit){ .rlim_cur = 7, .rlim_max = was.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    add(writer, "one\n");
    assert_true(writer_flush(writer, LONG_WAIT_S * NS_PER_S));
    add(writer, "two\n");  // three of its bytes would fit
    assert_false(writer_flush(writer, NS_PER_S / 5));
    assert_file(path, "one\n");
    WAIT_UNTIL(troubles == 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_true(writer_flush(writer, LONG_WAIT_S * NS_PER_S));
    assert_file(path, "one\ntwo\n");
    writer_close(writer, NS_PER_S);
    remove_place(dir, path);
}

static void what_is_no_file_is_refused(void **unused)
{
    struct writer *writer;
    struct err err = { "" };
    struct writer_setup setup = { .path = "/dev/null", .room_bytes = ROOM, .name = "test" };
    (void)unused;

    assert_int_equal(writer_open(&setup, &writer, &err), BAD_INPUT);
    assert_string_equal(err.text, "/dev/null: wanted a plain file");
    setup.path = "/nowhere/at/all";
    assert_int_equal(writer_open(&setup, &writer, &err), IO_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_many_threads_stay_whole_and_in_each_ones_order),
        cmocka_unit_test(stopped_reader_costs_lines_past_the_ring_and_no_time),
        cmocka_unit_test(close_waits_no_longer_than_it_was_told),
        cmocka_unit_test(reader_that_left_costs_lines_alone),
        cmocka_unit_test(file_is_private_and_is_made_again_when_asked),
        cmocka_unit_test(lines_wait_for_a_directory_that_went),
        cmocka_unit_test(full_disk_leaves_no_half_line),
        cmocka_unit_test(what_is_no_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
