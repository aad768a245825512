/* grammar.c - from a request's wishes to a program, and the face of the module. */
#include "engine/grammar/grammar.h"
#include "engine/grammar/grammar_dsml.h"
#include "engine/grammar/grammar_mask.h"

/* ---- compiling ---- */

struct compiler {
    const struct grammar_source *source;
    const struct grammar_vocab *vocab;
    struct nfa nfa;
    struct schema schema;
    struct dsml_block block;
    bool loose;  // the reply may end anywhere, and hold any token, before a block
};

static bool makes_json(const struct grammar_source *source)
{
    return source->content != GRAMMAR_CONTENT_FREE;
}

/* The states of a free text; text[0] begins it. Where the text may be left goes to `exit`. */
static void emit_free_text(struct compiler *c, enum text_kind kind, uint32_t *text, uint32_t exit)
{
    const struct text_rule *rule = &c->vocab->text[kind];
    struct nfa *nfa = &c->nfa;
    nfa_text(nfa, kind, rule, NULL, text);
    for (uint16_t k = 0; k < rule->count; k++) {
        if (c->loose) {
            nfa_flag(nfa, text[k], NFA_FINAL);
            nfa_step(nfa, text[k], SYMBOL_ADDED, SYMBOL_ADDED, text[0]);
        }
        if (!exit) continue;
        nfa_step(nfa, text[k], SYMBOL_THINK_END, SYMBOL_THINK_END, exit);
        for (unsigned byte = 0; byte < 256; byte++)
            if (rule->next[k][byte] == TEXT_EXIT)
                nfa_step(nfa, text[k], (uint8_t)byte, (uint8_t)byte, exit);
    }
    if (c->source->calls == GRAMMAR_CALLS_AUTO && c->loose)
        nfa_step(nfa, text[rule->after_open], SYMBOL_DSML, SYMBOL_DSML, c->block.opened);
}

static void emit_json(struct compiler *c, uint32_t from)
{
    const struct grammar_source *source = c->source;
    struct schema_choices choices;
    struct schema_choice object = { .types = SCHEMA_OBJECT };
    uint32_t space = nfa_space(&c->nfa), end = nfa_state(&c->nfa);
    nfa_epsilon(&c->nfa, from, space);
    nfa_flag(&c->nfa, end, NFA_FINAL);
    if (source->content == GRAMMAR_CONTENT_OBJECT) {
        schema_enter(&c->schema, NULL, "response_format");
        schema_value(&c->schema, &object, space, end);
    } else {
        const char *field = source->schema_field ? source->schema_field : "schema";
        schema_choose(&c->schema, schema_enter(&c->schema, source->schema, field), &choices);
        schema_values(&c->schema, &choices, SCHEMA_ANY | SCHEMA_INTEGER, space, end);
        free(choices.choice);
    }
    schema_build(&c->schema);
}

/* What follows `</think>`. */
static void emit_content(struct compiler *c, uint32_t from, uint32_t *text)
{
    const struct grammar_source *source = c->source;
    struct nfa *nfa = &c->nfa;
    if (source->calls == GRAMMAR_CALLS_REQUIRED || (makes_json(source) && source->calls)) {
        uint32_t open = nfa_bytes(nfa, from, SLICE("\n\n<"));
        nfa_step(nfa, open, SYMBOL_DSML, SYMBOL_DSML, c->block.opened);
    }
    if (source->calls == GRAMMAR_CALLS_REQUIRED) return;
    if (makes_json(source)) {
        emit_json(c, from);
    } else {
        emit_free_text(c, TEXT_CONTENT, text, 0);
        nfa_epsilon(nfa, from, text[0]);
    }
}

/* The state that the grammar begins in. */
static uint32_t emit_all(struct compiler *c)
{
    const struct grammar_source *source = c->source;
    uint32_t text[UINT8_MAX] = { 0 }, content = nfa_state(&c->nfa);
    must(c->vocab->text[TEXT_REASONING].count < UINT8_MAX &&
         c->vocab->text[TEXT_CONTENT].count < UINT8_MAX);
    c->loose = source->calls != GRAMMAR_CALLS_REQUIRED && !makes_json(source);
    if (source->calls) {
        dsml_emit(&c->schema, source, &c->block);
        schema_build(&c->schema);
    }
    if (source->start == GRAMMAR_IN_BLOCK) return c->block.inside;
    emit_content(c, content, text);
    if (source->start == GRAMMAR_IN_CONTENT) return content;
    emit_free_text(c, TEXT_REASONING, text, content);
    return text[0];
}

static enum status check_source(const struct grammar_source *source,
                                const struct grammar_vocab *vocab, struct err *err)
{
    if (vocab->eos == VOCAB_NONE)
        return fail(err, BAD_INPUT, "the tokenizer has no %s, which a grammar ends with", EOS_TEXT);
    if (source->calls && vocab->dsml == VOCAB_NONE)
        return fail(err, BAD_INPUT, "the tokenizer has no %s, which tool calls need", DSML_TEXT);
    must(!source->calls || (source->dialect && source->tools));
    must(source->start != GRAMMAR_IN_BLOCK || source->calls);
    must(source->content != GRAMMAR_CONTENT_SCHEMA || source->schema);
    return OK;
}

static enum status compile(struct compiler *c, struct program *program, struct err *err)
{
    uint32_t most_ms = c->source->compile_ms ? c->source->compile_ms : GRAMMAR_COMPILE_MS;
    uint64_t until_ns = thread_ns() + (uint64_t)most_ms * NS_PER_MS;
    uint32_t start = emit_all(c);
    if (c->schema.status == NO_MEMORY)
        return fail(err, NO_MEMORY, "no memory to compile a grammar");
    if (c->schema.status != OK) return c->schema.status;
    struct err why;
    enum status status = program_init(program, &c->nfa, start, c->vocab->text, until_ns, &why);
    if (status == OK) return OK;
    const char *field = makes_json(c->source) && c->source->schema_field ? c->source->schema_field
                        : c->source->calls                               ? "tools"
                                                                         : "schema";
    return fail(err, status, "%.80s: %.400s", field, why.text);
}

/* Byte by byte. How much white space there may be binds the model alone, and ends with a token of it:
 * what it wrote itself may hold more. */
static bool take_begun(const struct masker *masker, struct grammar_state *state, uint8_t byte)
{
    uint16_t space = state->space;
    state->space = 0;
    if (!mask_try(masker, state, masker->vocab->vocab->byte_id[byte], state)) return false;
    if (state->space) state->space = space < GRAMMAR_SPACE_MOST ? space + 1 : space;
    return true;
}

/* Goes on from what the prompt holds of the JSON. */
static enum status begin(struct grammar *grammar, const struct grammar_source *source,
                         struct err *err)
{
    struct masker masker = grammar_masker(grammar);
    grammar->begin = (struct grammar_state){ .set = grammar->program.start };
    if (source->start != GRAMMAR_IN_CONTENT || !makes_json(source)) return OK;
    for (size_t i = 0; i < source->begun.size; i++) {
        if (take_begun(&masker, &grammar->begin, (uint8_t)source->begun.data[i])) continue;
        return fail(err, BAD_INPUT,
                    "%.80s: the answer was begun with what cannot begin it, from byte %zu on",
                    source->schema_field ? source->schema_field : "response_format", i);
    }
    return OK;
}

enum status grammar_compile(const struct grammar_source *source, const struct grammar_vocab *vocab,
                            struct grammar **grammar, struct err *err)
{
    *grammar = NULL;
    enum status status = check_source(source, vocab, err);
    if (status != OK) return status;
    struct grammar *made = calloc(1, sizeof *made);
    if (!made) return fail(err, NO_MEMORY, "no memory to compile a grammar");

    struct compiler c = { .source = source, .vocab = vocab };
    struct err why = { "" };
    nfa_init(&c.nfa);
    schema_init(&c.schema, &c.nfa, vocab->text);
    c.schema.err = err ? err : &why;
    status = compile(&c, &made->program, err);
    schema_release(&c.schema);
    nfa_release(&c.nfa);
    if (status != OK) {
        free(made);
        return status;
    }
    made->vocab = vocab;
    atomic_init(&made->holders, 1);
    mask_cache_init(&made->cache);
    status = begin(made, source, err);
    if (status == OK) *grammar = made;
    else grammar_drop(made);
    return status;
}

void grammar_hold(struct grammar *grammar)
{
    atomic_fetch_add(&grammar->holders, 1);
}

void grammar_drop(struct grammar *grammar)
{
    if (!grammar || atomic_fetch_sub(&grammar->holders, 1) > 1) return;
    mask_cache_release(&grammar->cache);
    program_release(&grammar->program);
    free(grammar);
}

struct grammar_size grammar_size(const struct grammar *grammar)
{
    struct mask_cache *cache = (struct mask_cache *)(uintptr_t)&grammar->cache;
    struct grammar_size size = { .program = program_bytes(&grammar->program),
                                 .sets = grammar->program.sets };
    pthread_rwlock_rdlock(&cache->lock);
    size.masks = cache->bytes;
    size.held = sizeof *grammar + HEAP_BYTES_EACH + size.program + size.masks;
    pthread_rwlock_unlock(&cache->lock);
    size.hits = atomic_load(&cache->hits);
    size.misses = atomic_load(&cache->misses);
    return size;
}

/* ---- running ---- */

struct masker grammar_masker(const struct grammar *grammar)
{
    return (struct masker){ .program = &grammar->program,
                            .vocab = grammar->vocab,
                            .cache = (struct mask_cache *)(uintptr_t)&grammar->cache };
}

void grammar_begin(const struct grammar *grammar, struct grammar_state *state)
{
    *state = grammar->begin;
}

void grammar_mask(const struct grammar *grammar, const struct grammar_state *state,
                  uint32_t *allowed)
{
    struct masker masker = grammar_masker(grammar);
    mask_make(&masker, state, allowed);
}

bool grammar_mask_soon(const struct grammar *grammar, const struct grammar_state *state,
                       uint32_t *allowed, uint64_t *likeness)
{
    struct masker masker = grammar_masker(grammar);
    return mask_make_soon(&masker, state, allowed, likeness);
}

bool grammar_allows(const struct grammar *grammar, const struct grammar_state *state,
                    uint32_t token)
{
    struct masker masker = grammar_masker(grammar);
    return mask_try(&masker, state, token, NULL);
}

bool grammar_accept(const struct grammar *grammar, struct grammar_state *state, uint32_t token)
{
    struct masker masker = grammar_masker(grammar);
    return mask_try(&masker, state, token, state);
}

bool grammar_can_end(const struct grammar *grammar, const struct grammar_state *state)
{
    return state->ended ||
           (state->depth == 0 && (grammar->program.set[state->set].flags & NFA_FINAL));
}

bool grammar_must_end(const struct grammar *grammar, const struct grammar_state *state)
{
    return state->ended ||
           (grammar_can_end(grammar, state) && grammar->program.set[state->set].edges == 0);
}
