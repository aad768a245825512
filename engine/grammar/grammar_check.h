/* grammar_check.h - for the module's tests and tools: a grammar from text, and texts against it. */
#ifndef ENGINE_GRAMMAR_GRAMMAR_CHECK_H
#define ENGINE_GRAMMAR_GRAMMAR_CHECK_H

#include "config/buf.h"
#include "engine/grammar/grammar.h"
#include "engine/text/tokenizer.h"

struct checker {
    struct vocab vocab;
    struct tokenizer tokenizer;
    struct tokenizer_scratch scratch;
    struct grammar_vocab gv;
    struct id_list ids;
    uint32_t *allowed;  // [gv.words]
    uint64_t random;
};

__attribute__((unused)) static void checker_make(struct checker *c)
{
    struct err err = { "" };
    must(tokenizer_init(&c->tokenizer, &c->vocab) == OK);
    must(tokenizer_scratch_init(&c->scratch) == OK);
    must(grammar_vocab_init(&c->gv, &c->vocab, &err) == OK);
    id_list_init(&c->ids, 0);
    c->allowed = calloc(c->gv.words, sizeof *c->allowed);
    c->random = 0x9e3779b97f4a7c15u;
    must(c->allowed);
}

/* From a tokenizer.json; false, with the reason on stderr, when it cannot be read. */
__attribute__((unused)) static bool checker_init(struct checker *c, const char *path)
{
    struct err err = { "" };
    if (vocab_init(&c->vocab, path, &err) != OK) {
        fprintf(stderr, "%s\n", err.text);
        return false;
    }
    checker_make(c);
    return true;
}

__attribute__((unused)) static void checker_release(struct checker *c)
{
    free(c->allowed);
    id_list_release(&c->ids);
    grammar_vocab_release(&c->gv);
    tokenizer_scratch_release(&c->scratch);
    tokenizer_release(&c->tokenizer);
    vocab_release(&c->vocab);
}

__attribute__((unused)) static uint64_t checker_draw(struct checker *c)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return c->random * 0x2545f4914f6cdd1du >> 11;
}

/* How much of the text the grammar takes, in bytes, and whether it may end there. Added tokens in the
 * text are themselves. With by_bytes every other byte is a token of its own. */
struct taken {
    size_t bytes;
    bool whole, ends;
};

__attribute__((unused)) static struct taken
checker_take(struct checker *c, const struct grammar *grammar, struct slice text, bool by_bytes)
{
    struct grammar_state state;
    struct taken taken = { 0 };
    grammar_begin(grammar, &state);
    id_list_clear(&c->ids);
    must(tokenizer_encode_marked(&c->tokenizer, &c->scratch, text, &c->ids) == OK);
    for (size_t i = 0; i < c->ids.count; i++) {
        struct slice bytes = vocab_bytes(&c->vocab, c->ids.id[i]);
        if (by_bytes && !vocab_is_added(&c->vocab, c->ids.id[i])) {
            for (size_t b = 0; b < bytes.size; b++) {
                uint32_t id = c->vocab.byte_id[(uint8_t)bytes.data[b]];
                if (!grammar_accept(grammar, &state, id)) return taken;
                taken.bytes++;
            }
        } else {
            if (!grammar_accept(grammar, &state, c->ids.id[i])) return taken;
            taken.bytes += bytes.size;
        }
    }
    taken.whole = true;
    taken.ends = grammar_can_end(grammar, &state);
    return taken;
}

/* One of the allowed tokens, all alike, or VOCAB_NONE. */
__attribute__((unused)) static uint32_t checker_pick(struct checker *c, const uint32_t *allowed)
{
    uint64_t count = 0;
    for (uint32_t w = 0; w < c->gv.words; w++) count += (uint64_t)__builtin_popcount(allowed[w]);
    if (!count) return VOCAB_NONE;
    uint64_t nth = checker_draw(c) % count;
    for (uint32_t w = 0;; w++) {
        uint32_t bits = allowed[w], here = (uint32_t)__builtin_popcount(bits);
        if (nth >= here) {
            nth -= here;
            continue;
        }
        while (nth-- > 0) bits &= bits - 1;
        return w * 32 + (uint32_t)__builtin_ctz(bits);
    }
}

/* An allowed token that goes towards the end: the end itself, a closing mark, or else any. */
__attribute__((unused)) static uint32_t checker_hurry(struct checker *c, const uint32_t *allowed,
                                                      char last)
{
    const uint32_t *byte = c->vocab.byte_id;
    if (bit_get(allowed, c->gv.eos)) return c->gv.eos;
    if (c->gv.think_end != VOCAB_NONE && bit_get(allowed, c->gv.think_end)) return c->gv.think_end;
    if (c->gv.dsml != VOCAB_NONE && last == '/' && bit_get(allowed, c->gv.dsml)) return c->gv.dsml;
    if (last == '<' && bit_get(allowed, byte['/'])) return byte['/'];
    bool in_string = !bit_get(allowed, byte['\n']);
    for (const char *mark = in_string ? "\"" : "<}]\""; *mark; mark++)
        if (bit_get(allowed, byte[(uint8_t)*mark])) return byte[(uint8_t)*mark];
    return checker_pick(c, allowed);
}

/* Writes tokens drawn from the masks, in a hurry after `most` of them. False: it did not end. */
__attribute__((unused)) static bool checker_write(struct checker *c, const struct grammar *grammar,
                                                  uint32_t most, struct buf *out)
{
    enum { HURRY_MOST = 8192 };
    struct grammar_state state;
    grammar_begin(grammar, &state);
    for (uint32_t i = 0; i < most + HURRY_MOST; i++) {
        grammar_mask(grammar, &state, c->allowed);
        bool hurry = (i >= most && checker_draw(c) % 4 > 0) ||
                     (bit_get(c->allowed, c->gv.eos) && checker_draw(c) % 8 == 0);
        uint32_t id = hurry ? checker_hurry(c, c->allowed, out->size ? out->data[out->size - 1] : 0)
                            : checker_pick(c, c->allowed);
        must(id != VOCAB_NONE && grammar_accept(grammar, &state, id));
        if (id == c->gv.eos) return true;
        buf_add_slice(out, vocab_bytes(&c->vocab, id));
    }
    return false;
}

/* Compiles a schema from text. */
__attribute__((unused)) static enum status checker_schema(struct checker *c, const char *schema,
                                                          struct grammar **grammar, struct err *err)
{
    struct json *root = NULL;
    char *text = strdup(schema);
    *grammar = NULL;
    enum status status = js_parse(text, strlen(text), &js_request_limits, &root, err);
    if (status == OK) {
        struct grammar_source source = { .start = GRAMMAR_IN_CONTENT,
                                         .content = GRAMMAR_CONTENT_SCHEMA,
                                         .schema = root,
                                         .schema_field = "schema" };
        status = grammar_compile(&source, &c->gv, grammar, err);
    }
    js_free(root);
    free(text);
    return status;
}

#endif
