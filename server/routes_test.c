/* routes_test.c - every base path leads to the same handlers, and nothing else leads anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include "server/routes.h"
#include <cmocka.h>  // last: it defines a macro named fail

static const struct handler chat, models, model, messages;

static const struct route table[] = {
    { "/chat/completions", METHOD_POST, SCOPE_API, &chat, true },
    { "/models", METHOD_GET, SCOPE_API, &models, false },
    { "/models/*", METHOD_GET, SCOPE_API, &model, false },
    { "/messages", METHOD_POST, SCOPE_API, &messages, true },
    { NULL, 0, 0, NULL, false },
};

static const struct {
    const char *path;
    enum method method;
    const struct handler *handler;  // NULL: none
    uint16_t allow;
    enum base_path base;
    const char *tail;
} cases[] = {
    { "/v1/chat/completions", METHOD_POST, &chat, METHOD_POST, BASE_V1, "" },
    { "/chat/completions", METHOD_POST, &chat, METHOD_POST, BASE_NONE, "" },
    { "/beta/chat/completions", METHOD_POST, &chat, METHOD_POST, BASE_BETA, "" },
    { "/beta/v1/chat/completions", METHOD_POST, &chat, METHOD_POST, BASE_BETA, "" },
    { "/anthropic/v1/messages", METHOD_POST, &messages, METHOD_POST, BASE_ANTHROPIC, "" },
    { "/v1/chat/completions/", METHOD_POST, &chat, METHOD_POST, BASE_V1, "" },
    { "/v1/chat/completions//", METHOD_POST, NULL, 0, BASE_V1, "" },
    { "/v1/chat/completions", METHOD_GET, NULL, METHOD_POST, BASE_V1, "" },
    { "/v1/Chat/completions", METHOD_POST, NULL, 0, BASE_V1, "" },
    { "/v1/chat%2Fcompletions", METHOD_POST, NULL, 0, BASE_V1, "" },
    { "/v1chat/completions", METHOD_POST, NULL, 0, BASE_NONE, "" },
    { "/v1/models", METHOD_GET, &models, METHOD_GET, BASE_V1, "" },
    { "/v1/models/", METHOD_GET, &models, METHOD_GET, BASE_V1, "" },
    { "/v1/models/a%2Fb", METHOD_GET, &model, METHOD_GET, BASE_V1, "a%2Fb" },
    { "/models/a/b/", METHOD_GET, &model, METHOD_GET, BASE_NONE, "a/b" },
    { "/v1/v1/models", METHOD_GET, NULL, 0, BASE_V1, "" },
    { "/v1", METHOD_GET, NULL, 0, BASE_V1, "" },
    { "/", METHOD_GET, NULL, 0, BASE_NONE, "" },
    { "", METHOD_GET, NULL, 0, BASE_NONE, "" },
    { "*", METHOD_OPTIONS, NULL, 0, BASE_NONE, "" },
    { "/../v1/models", METHOD_GET, NULL, 0, BASE_NONE, "" },
};

static void each_path_leads_where_the_table_says(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct route_match match = route_find(table, cases[i].method, slice_of(cases[i].path));

        print_message("%s\n", cases[i].path);
        assert_ptr_equal(match.route ? match.route->handler : NULL, cases[i].handler);
        assert_int_equal(match.allow, cases[i].allow);
        assert_int_equal(match.base, cases[i].base);
        assert_true(slice_equal(match.tail, slice_of(cases[i].tail)));
    }
}

static void every_served_route_has_a_scope_and_a_handler(void **unused)
{
    (void)unused;
    for (const struct route *route = routes; route->path; route++) {
        assert_int_equal(route->path[0], '/');
        assert_int_not_equal(route->scope, 0);
        assert_non_null(route->handler);
        assert_true(!route->handler->answer != !route->handler->prep);
        assert_int_equal(route->body, route->method == METHOD_POST);
    }
}

static void what_other_servers_have_is_refused_with_its_reason(void **unused)
{
    static const char *const nothing = "there is nothing under this path";
    static const struct {
        const char *path;
        bool known;
    } row[] = {
        { "/v1/files", true },
        { "/v1/files/", true },
        { "/files/file-1/content", true },
        { "/v1/audio/speech", true },
        { "/v1/audio", false },
        { "/beta/embeddings", true },
        { "/v1/responses/resp_1", true },
        { "/anthropic/v1/messages/batches", true },
        { "/v1/filesystem", false },
        { "", false },
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        print_message("%s\n", row[i].path);
        const char *why = route_refusal(slice_of(row[i].path));
        assert_int_equal(strcmp(why, nothing) != 0, row[i].known);
        assert_int_equal(route_find(routes, METHOD_POST, slice_of(row[i].path)).allow, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_other_servers_have_is_refused_with_its_reason),
        cmocka_unit_test(each_path_leads_where_the_table_says),
        cmocka_unit_test(every_served_route_has_a_scope_and_a_handler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
