/* openai_in_case.h - for the tests of chat requests: a body is taken, or refused with a field and a sentence. */
#ifndef SERVER_OPENAI_IN_CASE_H
#define SERVER_OPENAI_IN_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include "config/options.h"
#include "engine/shape.h"
#include "engine/text/prompt.h"
#include "engine/text/vocab.h"
#include "server/openai_in.h"

static struct options options;
static struct prompt_format format;
static const struct generation generation = { .temperature = 0.25f, .top_p = 0.5f, .top_k = 7 };
static const struct vocab vocab = { .size = 1000 };
static struct service service;

struct read {
    enum status status;
    struct chat_request chat;
    struct refused refused;
    struct arena arena;
};

static inline struct read read_at(enum base_path base, const char *body)
{
    struct read r = { 0 };
    char *copy = strdup(body);
    arena_init(&r.arena, 0);
    r.status = openai_chat_read(&service, base, (struct slice){ copy, strlen(copy) }, &r.arena,
                                &r.chat, &r.refused);
    free(copy);
    return r;
}

static inline struct read read_body(const char *body)
{
    return read_at(BASE_V1, body);
}

static inline void release(struct read *r)
{
    if (r->status == OK) openai_chat_release(&r->chat);
    arena_release(&r->arena);
}

#define USER "{\"role\":\"user\",\"content\":\"hi\"}"
#define WITH(fields) "{\"messages\":[" USER "]," fields "}"
#define ASK "{\"messages\":[" USER "]}"
#define MESSAGES(list) "{\"messages\":[" list "]}"
#define TOOL(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"

static inline void expect_ok(const char *body)
{
    struct read r = read_body(body);
    if (r.status != OK) print_error("%s: %s\n", body, r.refused.err.text);
    assert_int_equal(r.status, OK);
    release(&r);
}

/* Refused, with this field; the sentence begins with it and says what was found and wanted. */
static inline void expect_refused(const char *body, const char *param)
{
    struct read r = read_body(body);
    if (r.status != BAD_INPUT) print_error("taken: %s\n", body);
    assert_int_equal(r.status, BAD_INPUT);
    assert_string_equal(r.refused.param, param);
    if (param[0]) {
        assert_memory_equal(r.refused.err.text, param, strlen(param));
        assert_non_null(strstr(r.refused.err.text, "found "));
        assert_non_null(strstr(r.refused.err.text, "wanted "));
    }
    release(&r);
}

struct field_case {
    const char *body, *param;  // NULL = taken
};

static inline void check(const struct field_case *c, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (c[i].param) expect_refused(c[i].body, c[i].param);
        else expect_ok(c[i].body);
    }
}
#define CHECK(cases) check(cases, sizeof cases / sizeof *cases)

/* The service that requests are read for; a group's setup. */
static inline int make_service(void **unused)
{
    (void)unused;
    options = (struct options){ .model_aliases = "deepseek-chat, deepseek-reasoner",
                                .temperature = NAN,
                                .top_p = NAN,
                                .max_n = 4,
                                .thinking_sampling = OPT_THINKING_SAMPLING_HONOUR };
    format.dialect = dialect_of(DIALECT_V4);
    service = (struct service){ .options = &options,
                                .vocab = &vocab,
                                .format = &format,
                                .generation = &generation,
                                .model_name = "pilot",
                                .context_tokens = 1048576 };
    return 0;
}

#endif
