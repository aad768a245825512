/* openai_completion_fuzz.c - any bytes as the body of a completion: taken within its limits, or
 * refused with a sentence. */
#include <math.h>
#include "config/options.h"
#include "config/utf8.h"
#include "engine/shape.h"
#include "engine/text/vocab.h"
#include "server/openai_completion.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_taken(const struct completion_request *completion, uint32_t vocab_size)
{
    const struct answer_options *answer = &completion->common.answer;

    must(answer->choices >= 1 && answer->top_logprobs <= 5);
    must(completion->prompts >= 1 && completion->prompts * answer->choices <= REQUEST_JOBS_MOST);
    must(completion->common.sampling.max_tokens >= 1);
    for (uint32_t i = 0; i < completion->prompts; i++) {
        const struct completion_prompt *prompt = &completion->prompt[i];
        must(prompt->text.data || prompt->tokens > 0);
        must(!prompt->text.data || utf8_valid(prompt->text));
        for (uint32_t t = 0; t < prompt->tokens; t++) must(prompt->id[t] < vocab_size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct options options = {
        .model_aliases = "deepseek-chat", .temperature = NAN, .top_p = NAN, .max_n = 4
    };
    static const struct vocab vocab = { .size = 1000 };
    static const struct generation generation = { .temperature = 1, .top_p = 1 };
    static const struct service service = { .options = &options,
                                            .vocab = &vocab,
                                            .generation = &generation,
                                            .model_name = "pilot",
                                            .context_tokens = 4096 };
    struct completion_request completion;
    struct refused refused;
    struct arena arena;
    char *body = malloc(size + 1);

    if (size) memcpy(body, data, size);
    arena_init(&arena, (size_t)64 << 20);
    enum status status = openai_completion_read(&service, BASE_V1, (struct slice){ body, size },
                                                &arena, &completion, &refused);
    if (status == OK) {
        check_taken(&completion, vocab.size);
        openai_completion_release(&completion);
    } else {
        must(refused.err.text[0] && refused.refusal < REFUSE_COUNT);
        must(utf8_valid(slice_of(refused.err.text)));
    }
    arena_release(&arena);
    free(body);
    return 0;
}
