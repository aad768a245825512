/* prompt_ids_test.c - a prompt's ids are those of its text, wherever it was cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "engine/text/chat_json.h"
#include "engine/text/prompt_ids.h"
#include "engine/text/tiny_vocab.h"

struct made {
    struct vocab vocab;
    struct tokenizer tokenizer;
    struct tokenizer_scratch scratch;
    struct arena arena;
    struct prompt prompt;
    struct id_list ids;
    struct prompt_ends ends;
};

static struct made *make(enum prompt_policy policy, const char *json,
                         const struct prompt_recall *recall)
{
    static struct made m;
    struct py_node *root;
    struct chat chat;
    struct err err = { "" };
    struct prompt_format style = { .dialect = dialect_of(DIALECT_V4), .policy = policy };

    m = (struct made){ 0 };
    tiny_vocab_init(&m.vocab);
    assert_int_equal(tokenizer_init(&m.tokenizer, &m.vocab), OK);
    assert_int_equal(tokenizer_scratch_init(&m.scratch), OK);
    arena_init(&m.arena, 0);
    assert_int_equal(py_json_parse(&m.arena, slice_of(json), &root, &err), OK);
    assert_int_equal(chat_from_json(&m.arena, root, &chat, &err), OK);
    assert_int_equal(prompt_render(&m.prompt, &chat, &style, &err), OK);
    id_list_init(&m.ids, 0);
    struct prompt_encoding encoding = { &m.prompt, PROMPT_PARSE, &m.tokenizer, &m.scratch, recall };
    assert_int_equal(prompt_encode(&encoding, &m.ids, &m.ends), OK);
    return &m;
}

static void release(struct made *m)
{
    id_list_release(&m->ids);
    prompt_release(&m->prompt);
    arena_release(&m->arena);
    tokenizer_scratch_release(&m->scratch);
    tokenizer_release(&m->tokenizer);
    vocab_release(&m->vocab);
}

/* Bytes of the first ids. */
static size_t bytes_of(const struct made *m, size_t ids)
{
    size_t bytes = 0;
    for (size_t i = 0; i < ids; i++) bytes += vocab_bytes(&m->vocab, m->ids.id[i]).size;
    return bytes;
}

#define TURNS                                                                                      \
    "{\"role\":\"user\",\"content\":\"lower\"},{\"role\":\"assistant\",\"content\":\"newlow\"},"   \
    "{\"role\":\"user\",\"content\":\"low\"},{\"role\":\"assistant\",\"content\":\"lowlow\"},"
#define ASKS                                                                                       \
    "{\"messages\":[{\"role\":\"system\",\"content\":\"be lower\"}," TURNS                         \
    "{\"role\":\"user\",\"content\":\"new\"}],\"thinking\":false}"

static void ends_are_where_the_texts_end(void **unused)
{
    (void)unused;
    for (enum prompt_policy policy = PROMPT_REFERENCE; policy <= PROMPT_SERVICE; policy++) {
        struct made *m = make(policy, ASKS, NULL);
        const char *text = m->prompt.text.data, *user = strstr(text, USER_TEXT);
        assert_int_equal(bytes_of(m, m->ids.count), m->prompt.text.size);
        assert_int_equal(bytes_of(m, m->ends.pinned), user - text);
        assert_int_equal(bytes_of(m, m->ends.stable), m->prompt.stable_bytes);
        assert_int_equal(bytes_of(m, m->ends.next_reply), m->prompt.text.size);
        release(m);
    }
}

static void without_a_system_prompt_nothing_is_pinned(void **unused)
{
    (void)unused;
    struct made *m = make(PROMPT_REFERENCE,
                          "{\"messages\":[{\"role\":\"user\",\"content\":\"low\"}],"
                          "\"thinking\":false}",
                          NULL);
    assert_int_equal(m->ends.pinned, 0);
    assert_true(m->ends.stable > 0);
    release(m);
}

static void cutting_changes_no_id(void **unused)
{
    (void)unused;
    struct made *m = make(PROMPT_REFERENCE, ASKS, NULL);
    struct id_list whole;
    id_list_init(&whole, 0);
    assert_int_equal(
        tokenizer_encode_marked(&m->tokenizer, &m->scratch, buf_slice(&m->prompt.text), &whole),
        OK);
    assert_int_equal(whole.count, m->ids.count);
    assert_memory_equal(whole.id, m->ids.id, whole.count * sizeof *whole.id);
    id_list_release(&whole);
    release(m);
}

static bool take_second(void *owner, size_t reply, struct id_list *out)
{
    unsigned *asked = owner;
    *asked |= 1u << reply;
    if (reply == 1)
        for (uint32_t i = 0; i < 3; i++) id_list_add(out, 1000 + i);
    return reply == 1;
}

static void a_reply_that_is_remembered_takes_its_ids(void **unused)
{
    unsigned asked = 0;
    const struct prompt_recall recall = { take_second, &asked };
    size_t before = 0, reply_bytes, at = 0;
    (void)unused;

    struct made *m = make(PROMPT_REFERENCE, ASKS, &recall);
    assert_int_equal(m->prompt.reply_count, 2);
    assert_int_equal(asked, 3);
    const struct prompt_segment *from = &m->prompt.segment[m->prompt.reply[1].from];
    const struct prompt_segment *to = &m->prompt.segment[m->prompt.reply[1].to];
    assert_true(strncmp(m->prompt.text.data + from->start, "lowlow" EOS_TEXT,
                        strlen("lowlow" EOS_TEXT)) == 0);
    reply_bytes = to->start - from->start;
    while (m->ids.id[at] < 1000) before += vocab_bytes(&m->vocab, m->ids.id[at++]).size;
    assert_int_equal(before, from->start);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(m->ids.id[at + i], 1000 + i);
    size_t after = 0;
    for (size_t i = at + 3; i < m->ids.count; i++)
        after += vocab_bytes(&m->vocab, m->ids.id[i]).size;
    assert_int_equal(before + reply_bytes + after, m->prompt.text.size);
    assert_true(m->ends.stable > at + 3 && m->ends.next_reply == m->ids.count);
    release(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_are_where_the_texts_end),
        cmocka_unit_test(without_a_system_prompt_nothing_is_pinned),
        cmocka_unit_test(cutting_changes_no_id),
        cmocka_unit_test(a_reply_that_is_remembered_takes_its_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
