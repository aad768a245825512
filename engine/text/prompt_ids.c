/* prompt_ids.c - runs of the tokenizer between places where a text may be cut without changing an id:
 * before and behind control tokens. */
#include "engine/text/prompt_ids.h"

/* A prompt on its way. */
struct run {
    const struct prompt_encoding *encoding;
    struct text_span *span;  // room for one of each segment, or NULL
    struct id_list *out;
    size_t at;      // segments done
    size_t before;  // ids of out that were there
};

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

static enum status encode_part(struct run *run, size_t to)
{
    const struct prompt *prompt = run->encoding->prompt;
    size_t start = prompt->segment[run->at].start;
    size_t end = prompt->segment[to - 1].start + prompt->segment[to - 1].size;
    struct tokenizer_text text = {
        .text = { prompt->text.data + start, end - start },
        .literal = run->span,
        .literal_count = run->span ? literal_spans(prompt, run->at, to, run->span) : 0,
    };
    run->at = to;
    return tokenizer_encode(run->encoding->tokenizer, run->encoding->scratch, &text, run->out);
}

/* The segment behind system prompt and tools, or 0: where another speaks first. */
static size_t pinned_segments(const struct prompt *prompt)
{
    bool text = false;

    for (size_t i = 0; i < prompt->segment_count; i++) {
        struct slice token = prompt_segment_text(prompt, i);
        if (!prompt->segment[i].special) text = true;
        else if (slice_equal(token, SLICE(USER_TEXT)) || slice_equal(token, SLICE(REMINDER_TEXT)) ||
                 slice_equal(token, SLICE(ASSISTANT_TEXT)))
            return text ? i : 0;
    }
    return 0;
}

struct mark {
    size_t segment;
    size_t *tokens;  // receives the ids before it
};
enum { MARKS = 3 };

/* Goes on to segment `to`, stopping at the marks on the way. */
static enum status encode_to(struct run *run, const struct mark *mark, size_t to)
{
    enum status status = OK;

    for (;;) {
        size_t next = to;
        for (size_t m = 0; m < MARKS; m++) {
            if (mark[m].segment == run->at) *mark[m].tokens = run->out->count - run->before;
            if (mark[m].segment > run->at && mark[m].segment < next) next = mark[m].segment;
        }
        if (run->at == to || status != OK) return status;
        status = encode_part(run, next);
    }
}

enum status prompt_encode(const struct prompt_encoding *encoding, struct id_list *out,
                          struct prompt_ends *ends)
{
    const struct prompt *prompt = encoding->prompt;
    const struct prompt_recall *recall = encoding->recall;
    const struct mark mark[MARKS] = { { prompt->stable_segments, &ends->stable },
                                      { pinned_segments(prompt), &ends->pinned },
                                      { prompt->next_reply, &ends->next_reply } };
    struct run run = { .encoding = encoding, .out = out, .before = out->count };
    enum status status = OK;

    *ends = (struct prompt_ends){ 0 };
    if (encoding->client_text == PROMPT_LITERAL &&
        !(run.span = malloc((prompt->segment_count + 1) * sizeof *run.span)))
        return NO_MEMORY;
    for (size_t i = 0; recall && i < prompt->reply_count && status == OK; i++) {
        if (prompt->reply[i].from < run.at) continue;
        status = encode_to(&run, mark, prompt->reply[i].from);
        if (status == OK && recall->take(recall->owner, i, out)) run.at = prompt->reply[i].to;
        if (status == OK) status = id_list_status(out);
    }
    if (status == OK) status = encode_to(&run, mark, prompt->segment_count);
    free(run.span);
    return status;
}
