/* prompt_ids.c - two runs of the tokenizer, before and from the generation header. The header begins
 * with a control token, where a text may be cut without changing an id. */
#include "engine/text/prompt_ids.h"

/* Everything but the template's own control tokens is literal. */
static size_t literal_spans(const struct prompt *prompt, size_t from, size_t to,
                            struct text_span *span)
{
    size_t count = 0, base = from < to ? prompt->segment[from].start : 0;
    for (size_t i = from; i < to; i++) {
        const struct prompt_segment *s = &prompt->segment[i];
        if (!s->special)
            span[count++] = (struct text_span){ s->start - base, s->start - base + s->size };
    }
    return count;
}

static enum status encode_part(const struct prompt *prompt, size_t from, size_t to,
                               struct text_span *span, const struct tokenizer *tokenizer,
                               struct tokenizer_scratch *scratch, struct id_list *out)
{
    if (from == to) return OK;
    size_t start = prompt->segment[from].start;
    size_t end = prompt->segment[to - 1].start + prompt->segment[to - 1].size;
    struct tokenizer_text text = {
        .text = { prompt->text.data + start, end - start },
        .literal = span,
        .literal_count = span ? literal_spans(prompt, from, to, span) : 0,
    };
    return tokenizer_encode(tokenizer, scratch, &text, out);
}

enum status prompt_encode(const struct prompt *prompt, enum prompt_client_text client_text,
                          const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                          struct id_list *out, size_t *stable_tokens)
{
    struct text_span *span = NULL;
    size_t stable = prompt->stable_segments, count = prompt->segment_count, before = out->count;

    if (client_text == PROMPT_LITERAL && !(span = malloc((count + 1) * sizeof *span)))
        return NO_MEMORY;
    enum status status = encode_part(prompt, 0, stable, span, tokenizer, scratch, out);
    if (stable_tokens) *stable_tokens = out->count - before;
    if (status == OK) status = encode_part(prompt, stable, count, span, tokenizer, scratch, out);
    free(span);
    return status;
}
