/* grammar_force.c - what must follow: runs of bytes with one continuation each, in tokens. */
#include "engine/grammar/grammar_mask.h"
#include "engine/text/split.h"

enum { RUN_BYTES_MOST = 1024 };

/* The one symbol that may come next, or SYMBOLS when there are several or the reply may end. */
static unsigned only_symbol(const struct grammar *grammar, const struct run *run,
                            const struct run_frames *frames)
{
    unsigned symbol = SYMBOLS;
    bool final = run->depth == 0 && (grammar->program.set[run->set].flags & NFA_FINAL);
    if (final || run_choices(&grammar->program, run, frames, &symbol) != 1) return SYMBOLS;
    return symbol;
}

size_t grammar_forced_bytes(const struct grammar *grammar, const struct grammar_state *state,
                            char *bytes, size_t most, uint32_t *special)
{
    struct grammar_state at = *state;
    struct run_frames frames = { .frame = at.frame };
    struct run run = run_of(&at);
    size_t count = 0;
    unsigned symbol = SYMBOLS;
    if (special) *special = VOCAB_NONE;
    while (count < most && !state->ended) {
        struct run_note note;
        symbol = only_symbol(grammar, &run, &frames);
        if (symbol > UINT8_MAX) break;
        if (run_take(&grammar->program, &run, &frames, symbol, &note) != RUN_YES) break;
        bytes[count++] = (char)symbol;
    }
    if (special && symbol == SYMBOL_DSML) *special = grammar->vocab->dsml;
    if (special && symbol == SYMBOL_THINK_END) *special = grammar->vocab->think_end;
    return count;
}

/* Where the last piece of a run begins. */
static size_t last_piece(const struct tokenizer *tokenizer, struct slice run)
{
    const char *at = run.data, *end = run.data + run.size, *last = at;
    while (at < end) {
        last = at;
        at = split_piece(tokenizer->chars, at, end);
    }
    return (size_t)(last - run.data);
}

/* Takes the tokens of a run up to byte `end` of it, and puts them out; how many. */
static uint32_t take_run(const struct masker *masker, struct grammar_state *at,
                         const struct id_list *ids, size_t end, struct id_list *out, uint32_t most)
{
    size_t bytes = 0;
    uint32_t count = 0;
    for (; count < ids->count && count < most; count++) {
        bytes += vocab_bytes(masker->vocab->vocab, ids->id[count]).size;
        if (bytes > end || !mask_try(masker, at, ids->id[count], at)) break;
        id_list_add(out, ids->id[count]);
    }
    return count;
}

uint32_t grammar_force(const struct grammar *grammar, const struct grammar_state *state,
                       const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                       struct id_list *out, uint32_t most)
{
    struct masker masker = grammar_masker(grammar);
    struct grammar_state at = *state;
    struct id_list ids;
    char bytes[RUN_BYTES_MOST];
    uint32_t count = 0, special = VOCAB_NONE;
    id_list_init(&ids, 0);
    do {
        struct slice run = { bytes,
                             grammar_forced_bytes(grammar, &at, bytes, sizeof bytes, &special) };
        id_list_clear(&ids);
        if (tokenizer_encode_literal(tokenizer, scratch, run, &ids) != OK) break;
        size_t end = special != VOCAB_NONE ? run.size : last_piece(tokenizer, run);
        count += take_run(&masker, &at, &ids, end, out, most - count);
        if (special == VOCAB_NONE || count >= most || !mask_try(&masker, &at, special, &at)) break;
        id_list_add(out, special);
        count++;
    } while (count < most);
    id_list_release(&ids);
    return count;
}
