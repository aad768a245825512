/* budget_test.c - what the usage log holds of a tenant counts to its budget, and nothing else does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>
#include "server/access_parts.h"
#include "server/budget.h"
#include <cmocka.h>  // last: it defines a macro named fail

static char path[] = "/tmp/fathom-budget-XXXXXX";

static void whole_records_of_known_tenants_count(void **unused)
{
    (void)unused;
    static const char text[] =
        "{\"time\":\"t\",\"request_id\":\"r\",\"tenant\":\"acme\",\"key_id\":\"k\",\"user\":null,"
        "\"prompt_tokens\":100,\"cached_tokens\":64,\"reasoning_tokens\":3,\"output_tokens\":20,"
        "\"finish_reason\":\"stop\"}\n"
        "{\"tenant\":\"other\",\"prompt_tokens\":1,\"output_tokens\":2,\"status\":200}\n"
        "{\"tenant\":\"nobody\",\"prompt_tokens\":1000,\"output_tokens\":2000,\"status\":200}\n"
        "{\"tenant\":null,\"prompt_tokens\":0,\"output_tokens\":0,\"status\":401}\n"
        "{\"tenant\":\"acme\",\"prompt_tokens\":7,\"output_tokens\":0,\"status\":499}\n"
        "not a record\n"
        "{\"tenant\":\"acme\",\"prompt_tokens\":-7,\"output_tokens\":5,\"status\":200}\n"
        "{\"tenant\":\"acme\",\"prompt_tokens\":99999999999999999999,\"output_tokens\":5,\"s\":1}\n"
        "{\"tenant\":\"acme\",\"prompt_tokens\":5000,\"output_tokens\":5000,\"stat";
    struct tenant tenant[] = { { .name = "acme", .index = 0, .limits.budget_tokens = 1000 },
                               { .name = "other", .index = 1 } };
    struct access access = { .tenant = tenant, .tenants = 2 };
    struct limits *limits = NULL;
    struct limits_levels levels;
    struct err err = { "" };

    FILE *file = fopen(path, "w");
    must(file && fputs(text, file) >= 0 && fclose(file) == 0);
    assert_int_equal(limits_open(1, 0, &limits, &err), OK);
    assert_int_equal(budget_read(path, &access, limits, &err), OK);
    limits_show(limits, &tenant[0], 1, &levels);
    assert_int_equal(levels.spent, 127);
    limits_show(limits, &tenant[1], 1, &levels);
    assert_int_equal(levels.spent, 3);
    limits_close(limits);
}

static void no_file_is_an_empty_one_and_a_folder_is_an_error(void **unused)
{
    (void)unused;
    struct tenant tenant = { .name = "acme", .limits.budget_tokens = 1000 };
    struct access access = { .tenant = &tenant, .tenants = 1 };
    struct limits *limits = NULL;
    struct err err = { "" };

    assert_int_equal(limits_open(1, 0, &limits, &err), OK);
    assert_int_equal(budget_read("", &access, limits, &err), OK);
    assert_int_equal(budget_read("/nowhere/at/all", &access, limits, &err), OK);
    assert_int_equal(budget_read("/tmp", &access, limits, &err), IO_FAILED);
    tenant.limits.budget_tokens = 0;
    assert_int_equal(budget_read("/tmp", &access, limits, &err), OK);
    limits_close(limits);
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
        cmocka_unit_test(whole_records_of_known_tenants_count),
        cmocka_unit_test(no_file_is_an_empty_one_and_a_folder_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
