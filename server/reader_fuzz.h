/* reader_fuzz.h - any bytes as the body of a request: taken or refused with a sentence, and what is taken
 * can be rendered. The first byte chooses dialect and policy; its last two bits are the reader's.
 */
#ifndef SERVER_READER_FUZZ_H
#define SERVER_READER_FUZZ_H

#include <math.h>
#include "config/options.h"
#include "engine/shape.h"
#include "engine/text/prompt.h"
#include "engine/text/vocab.h"
#include "server/openai_in.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads request->body; `choice` are the first byte's last two bits. */
typedef enum status reader_fuzz_read(struct request *request, uint8_t choice,
                                     struct chat_request *chat, struct refused *refused);

static inline void reader_fuzz_check(const struct chat_request *chat,
                                     const struct prompt_format *format)
{
    struct prompt prompt;
    struct err err;
    const struct sampling_request *s = &chat->sampling;

    must(s->temperature >= 0 && s->temperature <= 2 && s->top_p > 0 && s->top_p <= 1);
    must(chat->answer.choices >= 1 && chat->answer.choices <= 4);
    must(chat->chat.message_count >= 1);
    if (prompt_render(&prompt, &chat->chat, format, &err) == OK)
        must(prompt.end != PROMPT_COMPLETE || prompt.stable_bytes == prompt.text.size);
    prompt_release(&prompt);
}

static inline int reader_fuzz(const uint8_t *data, size_t size, reader_fuzz_read *read)
{
    static const struct options options = {
        .model_aliases = "deepseek-chat", .temperature = NAN, .top_p = NAN, .max_n = 4
    };
    static const struct vocab vocab = { .size = 1000 };
    static const struct generation generation = { .temperature = 1, .top_p = 1 };
    struct chat_request chat;
    struct refused refused;

    if (size < 1) return 0;
    struct prompt_format format = {
        .dialect = dialect_of((enum dialect_id)((data[0] & 15) % DIALECT_COUNT)),
        .policy = data[0] & 16 ? PROMPT_SERVICE : PROMPT_REFERENCE,
        .most_bytes = (size_t)1 << 22,
    };
    struct service service = { .options = &options,
                               .vocab = &vocab,
                               .format = &format,
                               .generation = &generation,
                               .model_name = "pilot",
                               .context_tokens = 1048576 };
    struct request request = { .service = &service, .body_size = size - 1 };
    request.body = malloc(size);
    must(request.body);
    memcpy(request.body, data + 1, size - 1);
    arena_init(&request.arena, (size_t)64 << 20);
    if (read(&request, data[0] >> 5, &chat, &refused) == OK) {
        reader_fuzz_check(&chat, &format);
        openai_chat_release(&chat);
    } else {
        must(refused.err.text[0] && refused.refusal < REFUSE_COUNT);
    }
    arena_release(&request.arena);
    free(request.body);
    return 0;
}

#endif
