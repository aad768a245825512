/* header_check_test.c - framing that two readers could read differently is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include "server/header_check.h"
#include <cmocka.h>  // last: it defines a macro named fail

/* Fields as "Name: value" lines; \x01 and the like stand for themselves. */
static struct headers read_fields(const char *const *fields, const char *version)
{
    struct headers headers = { 0 };

    for (; *fields; fields++) {
        const char *colon = strchr(*fields, ':');
        struct slice name = { *fields, (size_t)(colon - *fields) };
        headers_take(&headers, name, slice_of(colon + 2));
    }
    headers_finish(&headers, version);
    return headers;
}

static const struct {
    const char *fields[5];
    const char *version;
    bool refused;
} cases[] = {
    { { "Host: a" }, "HTTP/1.1", false },
    { { "Host: a", "Content-Length: 10" }, "HTTP/1.1", false },
    { { "Host: a", "Transfer-Encoding: chunked" }, "HTTP/1.1", false },
    { { "Host: a", "transfer-encoding: CHUNKED" }, "HTTP/1.1", false },
    { { "Host: a", "X-Odd!#$%&'*+-.^_`|~: b\tc" }, "HTTP/1.1", false },
    { { NULL }, "HTTP/1.0", false },
    { { NULL }, "HTTP/1.1", true },
    { { "Host: a", "Host: a" }, "HTTP/1.1", true },
    { { "Host: a", "Content-Length: 10", "Content-Length: 10" }, "HTTP/1.1", true },
    { { "Host: a", "Content-Length: 10", "Transfer-Encoding: chunked" }, "HTTP/1.1", true },
    { { "Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked" }, "HTTP/1.1", true },
    { { "Host: a", "Transfer-Encoding: gzip, chunked" }, "HTTP/1.1", true },
    { { "Host: a", "Transfer-Encoding: xchunked" }, "HTTP/1.1", true },
    { { "Host: a", "Transfer-Encoding: chunked" }, "HTTP/1.0", true },
    { { "Host: a", "Content-Length: +10" }, "HTTP/1.1", true },
    { { "Host: a", "Content-Length: -1" }, "HTTP/1.1", true },
    { { "Host: a", "Content-Length: 0x10" }, "HTTP/1.1", true },
    { { "Host: a", "Content-Length: 10, 10" }, "HTTP/1.1", true },
    { { "Host: a", "Content-Length: " }, "HTTP/1.1", true },
    { { "Host: a", "Content-Length: 18446744073709551617" }, "HTTP/1.1", true },
    { { "Host: a", "Content-Length: 10", "Transfer-Encodingchunked: " }, "HTTP/1.1", true },
    { { "Host: a", "content-lengthX: 1" }, "HTTP/1.1", true },
    { { "Host: a", "Hosts: 1", "Content-Encoding: x" }, "HTTP/1.1", false },
    { { "Host: a", "X Y: b" }, "HTTP/1.1", true },
    { { "Host: a", "X\x01: b" }, "HTTP/1.1", true },
    { { "Host: a", "X\xc3\xa9: b" }, "HTTP/1.1", true },
    { { "Host: a", ": b" }, "HTTP/1.1", true },
    { { "Host: a", "X: b\x0b" }, "HTTP/1.1", true },
    { { "Host: a", "X: b\x7f" }, "HTTP/1.1", true },
    { { "Host: a", "X: b\r c" }, "HTTP/1.1", true },
};

static void ambiguous_framing_is_refused_and_plain_framing_is_not(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct headers headers = read_fields(cases[i].fields, cases[i].version);
        print_message("case %zu: %s\n", i, headers.fault ? headers.fault : "fine");
        assert_int_equal(headers.fault != NULL, cases[i].refused);
    }
}

static void what_the_transport_needs_is_found_by_any_spelling(void **unused)
{
    const char *fields[] = { "HOST: a",
                             "content-LENGTH: 123",
                             "Expect: 100-Continue",
                             "Content-type: application/json",
                             "X-REQUEST-ID: abc",
                             "authorization: Bearer k",
                             "X-Request-Timeout: 5",
                             "Origin: http://x",
                             NULL };
    (void)unused;

    struct headers headers = read_fields(fields, "HTTP/1.1");
    assert_null(headers.fault);
    assert_int_equal(headers.content_length, 123);
    assert_true(headers.expect_continue);
    assert_true(slice_equal(headers.content_type, SLICE("application/json")));
    assert_true(slice_equal(headers.request_id, SLICE("abc")));
    assert_true(slice_equal(headers.key, SLICE("Bearer k")));
    assert_true(slice_equal(headers.timeout, SLICE("5")));
    assert_true(slice_equal(headers.origin, SLICE("http://x")));
}

static void keys_and_cookies_are_secret_by_any_spelling(void **unused)
{
    (void)unused;
    assert_true(headers_is_secret(SLICE("AUTHORIZATION")));
    assert_true(headers_is_secret(SLICE("x-Api-Key")));
    assert_true(headers_is_secret(SLICE("Cookie")));
    assert_false(headers_is_secret(SLICE("x-request-id")));
    assert_false(headers_is_secret(SLICE("authorizatio")));
    assert_false(headers_is_secret(SLICE("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ambiguous_framing_is_refused_and_plain_framing_is_not),
        cmocka_unit_test(what_the_transport_needs_is_found_by_any_spelling),
        cmocka_unit_test(keys_and_cookies_are_secret_by_any_spelling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
