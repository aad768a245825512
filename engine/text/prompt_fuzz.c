/* prompt_fuzz.c - any JSON as a conversation: rendering never fails but by refusal, its segments
 * cover the text, and the first two bytes choose dialect and policy. */
#include "engine/text/chat_json.h"
#include "engine/text/prompt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct py_node *root;
    struct chat chat;
    struct prompt prompt;
    struct err err;

    if (size < 2) return 0;
    struct prompt_format style = { .dialect =
                                       dialect_of((enum dialect_id)(data[0] % DIALECT_COUNT)),
                                   .policy = data[1] & 1 ? PROMPT_SERVICE : PROMPT_REFERENCE,
                                   .most_bytes = (size_t)1 << 20 };
    arena_init(&arena, (size_t)16 << 20);
    struct slice text = { (const char *)data + 2, size - 2 };
    if (py_json_parse(&arena, text, &root, &err) == OK &&
        chat_from_json(&arena, root, &chat, &err) == OK) {
        if (prompt_render(&prompt, &chat, &style, &err) == OK) {
            size_t at = 0;
            for (size_t i = 0; i < prompt.segment_count; i++) {
                must(prompt.segment[i].start == at && prompt.segment[i].size > 0);
                at += prompt.segment[i].size;
            }
            must(at == prompt.text.size);
            must(prompt.stable_bytes <= prompt.text.size);
        }
        prompt_release(&prompt);
    }
    arena_release(&arena);
    return 0;
}
