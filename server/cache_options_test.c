/* cache_options_test.c - options of the cache that contradict each other are refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "server/cache_options.h"

static void read_into(struct options *options, char **argv)
{
    static char *no_environment[] = { NULL };
    struct err err = { "" };
    int argc = 0;
    while (argv[argc]) argc++;
    struct options_input input = { .argc = argc, .argv = argv, .env = no_environment };
    enum status status = options_read(&input, options, &err);
    if (status != OK) print_error("%s\n", err.text);
    assert_int_equal(status, OK);
}

static void contradictions_are_refused_by_name(void **unused)
{
    static const struct {
        char *argv[7];
        const char *wanted;  // in the sentence; NULL: they go together
    } cases[] = {
        { { NULL }, NULL },
        { { "--cache-dir", "/c", "--cache-size", "200GB", NULL }, NULL },
        { { "--prefix-cache", "false", NULL }, NULL },
        { { "--cache-host", "1GiB", "--cache-verify", "0", "--cache-replay", "off", NULL }, NULL },
        { { "--cache-dir", "/c", NULL }, "cache-dir: found \"/c\" and no cache-size" },
        { { "--cache-size", "1GB", NULL }, "cache-size: found \"1GB\" and no cache-dir" },
        { { "--cache-write-rate", "1MB", NULL }, "cache-write-rate: found \"1MB\" and no" },
        { { "--cache-write-day", "0", NULL }, "cache-write-day: found \"0\" and no cache-dir" },
        { { "--cache-disk-after", "5s", NULL }, "cache-disk-after: found \"5s\" and no" },
        { { "--cache-dir", "/c", "--cache-size", "1GB", "--prefix-cache=false", NULL },
          "while prefix-cache is off" },
        { { "--cache-dir", "/c", "--cache-size", "1GB", "--backend", "scripted", NULL },
          "scripted" },
        { { "--cache-host", "1GB", "--prefix-cache=off", NULL }, "cache-host: found \"1GB\"" },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct options options;
        struct err err = { "" };
        char *argv[7];
        memcpy(argv, cases[i].argv, sizeof argv);
        read_into(&options, argv);
        enum status status = cache_options_check(&options, &err);
        bool right = cases[i].wanted ? status == BAD_INPUT && strstr(err.text, cases[i].wanted)
                                     : status == OK;
        if (!right) print_error("case %zu: %d, \"%s\"\n", i, status, err.text);
        assert_true(right);
        options_release(&options);
    }
}

static void host_memory_follows_backend_and_directory(void **unused)
{
    const uint64_t gib = 1ull << 30;
    static const struct {
        char *argv[7];
        bool gpu;
        uint64_t ram_gib, mib;  // of the machine; wanted
    } cases[] = {
        { { NULL }, true, 128, 32 << 10 },
        { { NULL }, false, 128, 0 },
        { { "--cache-dir", "/c", "--cache-size", "1GB", NULL }, false, 16, 1024 },
        { { "--cache-dir", "/c", "--cache-size", "1GB", NULL }, false, 512, 4096 },
        { { "--cache-dir", "/c", "--cache-size", "1GB", NULL }, false, 0, 64 },
        { { "--cache-dir", "/c", "--cache-size", "1GB", NULL }, true, 16, 4096 },
        { { "--cache-host", "3GiB", NULL }, false, 16, 3072 },
        { { "--prefix-cache=false", NULL }, true, 16, 0 },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct options options;
        char *argv[7];
        memcpy(argv, cases[i].argv, sizeof argv);
        read_into(&options, argv);
        assert_int_equal(cache_options_host_bytes(&options, cases[i].gpu, cases[i].ram_gib * gib),
                         cases[i].mib << 20);
        options_release(&options);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contradictions_are_refused_by_name),
        cmocka_unit_test(host_memory_follows_backend_and_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
