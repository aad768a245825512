/* options_test.c - four places, one value each; whoever errs is told where and what was wanted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/options.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static char *no_environment[] = { NULL };

static enum status read_arguments(struct options *options, struct err *err, char **argv, char **env)
{
    int argc = 0;
    while (argv[argc]) argc++;
    struct options_input input = { .argc = argc, .argv = argv, .env = env };
    return options_read(&input, options, err);
}

/* A file of its own for one test; the caller unlinks it. */
static void write_file(char path[32], const char *text)
{
    strcpy(path, "/tmp/fathom-options-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void every_default_is_within_its_own_range(void **unused)
{
    struct options options;
    struct err err = { "" };
    (void)unused;

    assert_int_equal(read_arguments(&options, &err, (char *[]){ NULL }, no_environment), OK);
    assert_string_equal(options.listen, "127.0.0.1:8000");
    assert_int_equal(options.body_limit_bytes, 64 << 20);
    assert_int_equal(options.keep_alive_ns, 10 * NS_PER_S);
    assert_int_equal(options.threads, 0);
    assert_true(isnan(options.temperature));
    assert_int_equal(options.numerics, OPT_NUMERICS_OFFICIAL);
    assert_int_equal(options.log_level, OPT_LOG_LEVEL_INFO);
    assert_false(options.insecure);
    assert_int_equal(options.ask, ASK_RUN);
    options_release(&options);
}

static void each_place_outranks_the_one_before(void **unused)
{
    char path[32];
    write_file(path, "max-seqs = 1\nmax-n = 2\nqueue-length = 3\n; a comment\nlisten = [::1]:0\n");
    char *env[] = { "FATHOM_MAX_N=4", "FATHOM_QUEUE_LENGTH=5", "OTHER=1", "FATHOM_SHARED=x", NULL };
    char *argv[] = { "-c", path, "--queue-length", "6", NULL };
    struct options options;
    struct err err = { "" };
    (void)unused;

    enum status status = read_arguments(&options, &err, argv, env);
    unlink(path);
    assert_string_equal(err.text, "");
    assert_int_equal(status, OK);
    assert_int_equal(options.max_seqs, 1);
    assert_int_equal(options.max_n, 4);
    assert_int_equal(options.queue_length, 6);
    assert_string_equal(options.listen, "[::1]:0");
    assert_int_equal(options.origin[OPTION_max_seqs].line, 1);
    assert_int_equal(options.origin[OPTION_max_n].source, FROM_ENVIRONMENT);
    assert_int_equal(options.origin[OPTION_queue_length].source, FROM_COMMAND_LINE);

    struct buf text;
    buf_init(&text, 0);
    options_add_config(&options, &text);
    buf_add_byte(&text, 0);
    assert_non_null(strstr(text.data, "max-seqs = 1 "));
    assert_non_null(strstr(text.data, path));
    buf_release(&text);
    options_release(&options);
}

static void flags_need_no_value_and_values_may_follow_an_equals_sign(void **unused)
{
    char *argv[] = { "--insecure",
                     "first",
                     "--max-seqs=7",
                     "--no-allow-root",
                     "--kv-memory=2GB",
                     "--queue-wait",
                     "1500ms",
                     "--temperature",
                     "0.25",
                     "--top_p=auto",
                     "--strict-fields=off",
                     "--",
                     "--second",
                     NULL };
    struct options options;
    struct err err = { "" };
    (void)unused;

    assert_int_equal(read_arguments(&options, &err, argv, no_environment), OK);
    assert_true(options.insecure);
    assert_false(options.allow_root);
    assert_false(options.strict_fields);
    assert_int_equal(options.max_seqs, 7);
    assert_int_equal(options.kv_memory_bytes, 2ull << 30);
    assert_int_equal(options.queue_wait_ns, 1500 * (uint64_t)NS_PER_MS);
    assert_true(options.temperature == 0.25);
    assert_true(isnan(options.top_p));
    assert_int_equal(options.rest_count, 2);
    assert_string_equal(options.rest[0], "first");
    assert_string_equal(options.rest[1], "--second");
    options_release(&options);
}

static void a_verb_may_bring_options_of_its_own(void **unused)
{
    const char *chunk = "none", *gpus = "none";
    struct option_extra extra[] = { { "chunk", &chunk }, { "gpus", &gpus }, { 0 } };
    char *argv[] = { "--chunk", "7", "file", NULL };
    struct options_input input = { 3, argv, no_environment, extra };
    struct options options;
    struct err err;
    (void)unused;

    assert_int_equal(options_read(&input, &options, &err), OK);
    assert_string_equal(chunk, "7");
    assert_string_equal(gpus, "none");
    assert_int_equal(options.rest_count, 1);
    options_release(&options);
}

static void a_wrong_command_line_is_refused_with_its_sentence(void **unused)
{
    static const struct {
        const char *argument, *sentence;
    } cases[] = {
        { "--max-seq=4", "command line: unknown option \"max-seq\"; did you mean max-seqs?" },
        { "--MAX-SEQS=4", "command line: unknown option \"MAX-SEQS\"; did you mean max-seqs?" },
        { "--zzzzzzzzzzzz=4", "command line: unknown option \"zzzzzzzzzzzz\"" },
        { "-q", "command line: unknown option \"-q\"" },
        { "--no-listen", "command line: unknown option \"no-listen\"; did you mean listen?" },
        { "--listen", "command line: --listen needs a value" },
        { "--config", "command line: --config needs a file name" },
        { "--max-seqs=0",
          "command line: max-seqs: found \"0\", wanted a whole number from 1 to 16384" },
        { "--max-seqs=16385",
          "command line: max-seqs: found \"16385\", wanted a whole number from 1 to 16384" },
        { "--max-seqs=99999999999999999999",
          "command line: max-seqs: found \"99999999999999999999\", wanted a whole number from 1 to "
          "16384" },
        { "--max-seqs= 4",
          "command line: max-seqs: found \" 4\", wanted a whole number from 1 to 16384" },
        { "--max-seqs=",
          "command line: max-seqs: found \"\", wanted a whole number from 1 to 16384" },
        { "--threads=-1",
          "command line: threads: found \"-1\", wanted a whole number from 1 to 1024, or auto" },
        { "--temperature=nan",
          "command line: temperature: found \"nan\", wanted a number from 0 to 2, or auto" },
        { "--temperature=1e400",
          "command line: temperature: found \"1e400\", wanted a number from 0 to 2, or auto" },
        { "--insecure=perhaps", "command line: insecure: found \"perhaps\", wanted true or false" },
        { "--body-limit=64 potatoes",
          "command line: body-limit: found \"64 potatoes\", wanted a size from 1KiB to 4GiB" },
        { "--body-limit=99999999T",
          "command line: body-limit: found \"99999999T\", wanted a size from 1KiB to 4GiB" },
        { "--body-limit=-1",
          "command line: body-limit: found \"-1\", wanted a size from 1KiB to 4GiB" },
        { "--keep-alive=10 apples",
          "command line: keep-alive: found \"10 apples\", wanted a time from 100ms to 1h" },
        { "--backend=CPU",
          "command line: backend: found \"CPU\", wanted one of auto, cpu, cuda, scripted" },
        { "--backend=cp",
          "command line: backend: found \"cp\", wanted one of auto, cpu, cuda, scripted" },
        { "--backend=",
          "command line: backend: found \"\", wanted one of auto, cpu, cuda, scripted" },
    };
    (void)unused;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct options options;
        struct err err = { "" };
        char *argv[] = { (char *)(uintptr_t)cases[i].argument, NULL };
        assert_int_equal(read_arguments(&options, &err, argv, no_environment), BAD_INPUT);
        assert_string_equal(err.text, cases[i].sentence);
    }
}

static void a_wrong_file_is_refused_with_its_line(void **unused)
{
    static const struct {
        const char *text, *sentence;  // the sentence without the path in front
    } cases[] = {
        { "; fine\nlistn = 1\n", ":2: unknown option \"listn\"; did you mean listen?" },
        { "max-n = 1\n\nmax-n = 2\n", ":3: max-n is given twice, first in line 1" },
        { "max-n = many\n", ":1: max-n: found \"many\", wanted a whole number from 1 to 128" },
        { "max-n = 1\nnonsense\n", ":2: found neither `name = value` nor a comment" },
        { "[model]\nmax-n = 1\n", ":2: found section [model], wanted none" },
    };
    (void)unused;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char path[32], wanted[300];
        write_file(path, cases[i].text);
        struct options options;
        struct err err = { "" };
        char *argv[] = { "--config", path, NULL };
        enum status status = read_arguments(&options, &err, argv, no_environment);
        unlink(path);
        snprintf(wanted, sizeof wanted, "%s%s", path, cases[i].sentence);
        assert_string_equal(err.text, wanted);
        assert_int_equal(status, BAD_INPUT);
    }
}

static void a_file_that_is_named_must_be_there(void **unused)
{
    struct options options;
    struct err err = { "" };
    char *argv[] = { "--config=/nowhere/fathom.ini", NULL };
    (void)unused;

    assert_int_equal(read_arguments(&options, &err, argv, no_environment), IO_FAILED);
    assert_string_equal(err.text, "/nowhere/fathom.ini: No such file or directory");
    argv[0] = "--config=/tmp";
    assert_int_equal(read_arguments(&options, &err, argv, no_environment), IO_FAILED);
}

static void a_line_too_long_for_the_parser_is_refused(void **unused)
{
    char path[32], text[4096];
    memset(text, 'a', sizeof text);
    memcpy(text, "listen = ", 9);
    text[sizeof text - 1] = 0;
    write_file(path, text);
    struct options options;
    struct err err = { "" };
    char *argv[] = { "--config", path, NULL };
    (void)unused;

    enum status status = read_arguments(&options, &err, argv, no_environment);
    unlink(path);
    assert_int_equal(status, BAD_INPUT);
    assert_non_null(strstr(err.text, "a line is longer"));
}

static void a_wrong_environment_is_refused_with_its_name(void **unused)
{
    struct options options;
    struct err err = { "" };
    char *env[] = { "FATHOM_MAX_SEQS=x", NULL };
    (void)unused;

    assert_int_equal(read_arguments(&options, &err, (char *[]){ NULL }, env), BAD_INPUT);
    assert_string_equal(err.text, "environment variable FATHOM_MAX_SEQS: max-seqs: found \"x\", "
                                  "wanted a whole number from 1 to 16384");
}

static void the_sample_file_is_read_back_without_a_change(void **unused)
{
    struct buf sample;
    buf_init(&sample, 0);
    options_add_ini(&sample);
    buf_add_byte(&sample, 0);
    assert_int_equal(buf_status(&sample), OK);
    for (char *line = sample.data; (line = strstr(line, "\n;")); line++)  // set every default
        if (line[2] != ' ') memmove(line + 1, line + 2, strlen(line + 2) + 1);

    char path[32];
    write_file(path, sample.data);
    buf_release(&sample);
    struct options plain, read;
    struct err err = { "" };
    char *argv[] = { "--config", path, NULL };
    (void)unused;
    enum status status = read_arguments(&read, &err, argv, no_environment);
    unlink(path);
    assert_string_equal(err.text, "");
    assert_int_equal(status, OK);
    assert_int_equal(read_arguments(&plain, &err, (char *[]){ NULL }, no_environment), OK);
    for (int id = 0; id < OPTION_COUNT; id++) {
        assert_int_equal(read.origin[id].source, FROM_FILE);
        if (id != OPTION_model) assert_string_equal(read.text[id], plain.text[id]);
    }
    options_release(&read);
    options_release(&plain);
}

static void items_of_a_list_lose_their_white_space(void **unused)
{
    const char *rest = " one, two three ,,four ,";
    static const char *const wanted[] = { "one", "two three", "four" };
    struct slice item;
    size_t count = 0;
    (void)unused;

    while (options_next_item(&rest, &item)) {
        assert_true(count < COUNT(wanted) && slice_equal(item, slice_of(wanted[count])));
        count++;
    }
    assert_int_equal(count, COUNT(wanted));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_default_is_within_its_own_range),
        cmocka_unit_test(each_place_outranks_the_one_before),
        cmocka_unit_test(flags_need_no_value_and_values_may_follow_an_equals_sign),
        cmocka_unit_test(a_verb_may_bring_options_of_its_own),
        cmocka_unit_test(a_wrong_command_line_is_refused_with_its_sentence),
        cmocka_unit_test(a_wrong_file_is_refused_with_its_line),
        cmocka_unit_test(a_file_that_is_named_must_be_there),
        cmocka_unit_test(a_line_too_long_for_the_parser_is_refused),
        cmocka_unit_test(a_wrong_environment_is_refused_with_its_name),
        cmocka_unit_test(the_sample_file_is_read_back_without_a_change),
        cmocka_unit_test(items_of_a_list_lose_their_white_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
