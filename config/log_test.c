/* log_test.c - one event is one line, whatever it holds, and never a wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "config/json.h"
#include "config/log.h"

/* What went through a pipe since the last call, as one text. */
static size_t read_all(int fd, char *text, size_t room)
{
    ssize_t size = read(fd, text, room - 1);
    if (size < 0) size = 0;
    text[size] = 0;
    return (size_t)size;
}

static void make_pipe(int ends[2])
{
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
}

static void close_pipe(const int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

static void json_line_holds_what_was_given(void **unused)
{
    int ends[2];
    char text[LOG_LINE_MOST + 1];
    struct log_line line;
    struct json *root;
    struct err err = { "" };
    (void)unused;

    make_pipe(ends);
    log_open(OPT_LOG_LEVEL_INFO, OPT_LOG_FORMAT_JSON, ends[1]);
    log_begin(&line, OPT_LOG_LEVEL_WARN, "try");
    log_text(&line, "path", SLICE("a\"b\\c\n\x01\xff\xc3\xa9\0z"));
    log_int(&line, "least", INT64_MIN);
    log_real(&line, "ratio", 0.25);
    log_bool(&line, "cold", true);
    log_ms(&line, "ms", 1500000);
    log_end(&line);

    size_t size = read_all(ends[0], text, sizeof text);
    assert_int_equal(text[size - 1], '\n');
    assert_int_equal(js_parse(text, size, &js_request_limits, &root, &err), OK);
    assert_true(slice_equal(js_string(js_get(root, "level")), SLICE("warn")));
    assert_true(slice_equal(js_string(js_get(root, "event")), SLICE("try")));
    assert_true(slice_equal(js_string(js_get(root, "path")),
                            SLICE("a\"b\\c\n\x01\xef\xbf\xbd\xc3\xa9\0z")));
    assert_true(js_int(js_get(root, "least")) == INT64_MIN);
    assert_true(js_real(js_get(root, "ratio")) == 0.25);
    assert_true(js_bool(js_get(root, "cold")));
    assert_true(js_real(js_get(root, "ms")) == 1.5);
    js_free(root);
    close_pipe(ends);
}

static void quieter_levels_are_left_out(void **unused)
{
    int ends[2];
    char text[LOG_LINE_MOST + 1];
    (void)unused;

    make_pipe(ends);
    log_open(OPT_LOG_LEVEL_WARN, OPT_LOG_FORMAT_TEXT, ends[1]);
    log_say(OPT_LOG_LEVEL_INFO, "no", "not this");
    assert_int_equal(read_all(ends[0], text, sizeof text), 0);
    log_say(OPT_LOG_LEVEL_ERROR, "yes", "but %s", "this");
    read_all(ends[0], text, sizeof text);
    assert_non_null(strstr(text, " error yes message=\"but this\"\n"));
    close_pipe(ends);
}

static void long_text_is_cut_between_characters(void **unused)
{
    int ends[2];
    char text[LOG_LINE_MOST + 1], long_text[2 * LOG_TEXT_MOST];
    struct log_line line;
    (void)unused;

    for (size_t i = 0; i + 1 < sizeof long_text; i += 2) memcpy(long_text + i, "\xc3\xa9", 2);
    make_pipe(ends);
    log_open(OPT_LOG_LEVEL_INFO, OPT_LOG_FORMAT_JSON, ends[1]);
    log_begin(&line, OPT_LOG_LEVEL_INFO, "cut");
    log_text(&line, "text", (struct slice){ long_text + 1, sizeof long_text - 1 });
    log_end(&line);
    read_all(ends[0], text, sizeof text);
    assert_non_null(strstr(text, "\xc3\xa9...\"}\n"));
    close_pipe(ends);
}

static void fields_that_do_not_fit_are_left_out_whole(void **unused)
{
    int ends[2];
    char text[LOG_LINE_MOST + 1], zeros[LOG_TEXT_MOST] = { 0 };
    struct log_line line;
    struct json *root;
    struct err err = { "" };
    (void)unused;

    make_pipe(ends);
    log_open(OPT_LOG_LEVEL_INFO, OPT_LOG_FORMAT_JSON, ends[1]);
    log_begin(&line, OPT_LOG_LEVEL_INFO, "full");
    for (int i = 0; i < 100; i++) log_text(&line, "zeros", (struct slice){ zeros, sizeof zeros });
    for (int i = 0; i < 1000; i++) log_int(&line, "n", i);
    log_end(&line);
    size_t size = read_all(ends[0], text, sizeof text);
    assert_in_range(size, LOG_LINE_MOST - 16, LOG_LINE_MOST);
    assert_int_equal(js_parse(text, size, &js_request_limits, &root, &err), OK);
    js_free(root);
    close_pipe(ends);
}

static void stopped_reader_costs_lines_and_no_time(void **unused)
{
    int ends[2];
    char text[LOG_LINE_MOST + 1];
    (void)unused;

    assert_int_equal(pipe(ends), 0);  // it would block
    log_open(OPT_LOG_LEVEL_INFO, OPT_LOG_FORMAT_JSON, ends[1]);
    uint64_t before = log_dropped();
    for (int i = 0; i < 5000; i++) log_say(OPT_LOG_LEVEL_INFO, "flood", "line %d", i);
    assert_true(log_dropped() > before);
    assert_true(log_dropped() < before + 5000);

    size_t last = 0;
    char end = 0;
    while (log_dropped() > before && (last = read_all(ends[0], text, sizeof text)) == LOG_LINE_MOST)
        end = text[last - 1];
    if (last) end = text[last - 1];
    assert_int_equal(end, '\n');  // no line was written in part
    close_pipe(ends);
}

static void thread_writes_what_was_logged_before_it_stops(void **unused)
{
    int ends[2];
    static char text[1 << 20];
    size_t size = 0;
    (void)unused;

    assert_int_equal(pipe(ends), 0);
    log_open(OPT_LOG_LEVEL_INFO, OPT_LOG_FORMAT_TEXT, ends[1]);
    uint64_t before = log_dropped();
    log_start();
    for (int i = 0; i < 500; i++) log_say(OPT_LOG_LEVEL_INFO, "line", "number %d", i);
    log_flush();
    log_say(OPT_LOG_LEVEL_INFO, "line", "the last");
    log_stop();
    close(ends[1]);
    for (ssize_t more; (more = read(ends[0], text + size, sizeof text - size)) > 0;)
        size += (size_t)more;
    const char *at = text;
    for (int i = 0; i < 500; i++) {
        char wanted[32];
        snprintf(wanted, sizeof wanted, "message=\"number %d\"\n", i);
        assert_non_null(at = strstr(at, wanted));
    }
    assert_non_null(strstr(at, "the last"));
    assert_int_equal(log_dropped(), before);
    close(ends[0]);
}

static void dying_process_says_why(void **unused)
{
    int ends[2], state;
    char text[LOG_LINE_MOST + 1];
    (void)unused;

    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        log_open(OPT_LOG_LEVEL_INFO, OPT_LOG_FORMAT_JSON, ends[1]);
        log_start();
        log_say(OPT_LOG_LEVEL_ERROR, "last", "words");
        abort();
    }
    assert_int_equal(waitpid(child, &state, 0), child);
    assert_true(WIFSIGNALED(state) && WTERMSIG(state) == SIGABRT);
    read_all(ends[0], text, sizeof text);
    assert_non_null(strstr(text, "\"message\":\"words\"}\n"));
    close_pipe(ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_line_holds_what_was_given),
        cmocka_unit_test(quieter_levels_are_left_out),
        cmocka_unit_test(long_text_is_cut_between_characters),
        cmocka_unit_test(fields_that_do_not_fit_are_left_out_whole),
        cmocka_unit_test(stopped_reader_costs_lines_and_no_time),
        cmocka_unit_test(thread_writes_what_was_logged_before_it_stops),
        cmocka_unit_test(dying_process_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
