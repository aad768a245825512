/* grammar.h - which tokens may come next: JSON, JSON of a schema, and tool calls.
 *
 *     request --grammar_compile--> struct grammar      constant, shared, counted
 *                                     |
 *                  grammar_begin --> struct grammar_state   plain data: copy it to fork or roll back
 *                                     |  ^
 *                        grammar_mask |  | grammar_accept(token)
 *                                     v  |
 *                              bit set for the sampler
 *
 * A grammar is an automaton over the bytes of tokens, so what it allows does not depend on how a
 * text falls into tokens. From every state it reaches, the end can be reached: a mask is never
 * empty. Tokens that tokenizer.json adds (`</think>`, `｜DSML｜`, ...) are allowed only where the
 * grammar names them, and nothing may spell one of reply.h's marks where it is not meant.
 *
 * What it can say is listed in grammar_schema.h; every limit is a constant. Thread: a grammar may be
 * used by any number of threads; a state belongs to one.
 */
#ifndef ENGINE_GRAMMAR_GRAMMAR_H
#define ENGINE_GRAMMAR_GRAMMAR_H

#include "config/json.h"
#include "config/slice.h"
#include "config/status.h"
#include "engine/grammar/grammar_vocab.h"
#include "engine/text/dialect.h"
#include "engine/text/tokenizer.h"

enum {
    GRAMMAR_DEPTH_FREE =
        64,  // levels of nesting that may be opened; beyond, only the shortest way out
    GRAMMAR_FRAMES = 100,     // levels in all
    GRAMMAR_SPACE_MOST = 64,  // bytes of white space after which the next token begins with none
    GRAMMAR_COMPILE_MS = 200,
};

/* Where the prompt ended. */
enum grammar_start {
    GRAMMAR_IN_REASONING,  // after <think>
    GRAMMAR_IN_CONTENT,    // after </think>
    GRAMMAR_IN_BLOCK,      // after the tool block's opener and its newline
};

struct grammar_tool {
    struct slice name;
    const struct json *parameters;  // a JSON Schema of type object; NULL: any
    bool strict;                    // its parameters' values follow their schemas
    const char *field;  // the schema's name in errors; NULL: tools[INDEX].function.parameters
};

enum grammar_calls {
    GRAMMAR_CALLS_NONE,      // no tools
    GRAMMAR_CALLS_AUTO,      // text, then perhaps a block of calls: light, always on
    GRAMMAR_CALLS_REQUIRED,  // a block of one call or more
};

enum grammar_content {
    GRAMMAR_CONTENT_FREE,
    GRAMMAR_CONTENT_OBJECT,  // any JSON object
    GRAMMAR_CONTENT_SCHEMA,  // JSON of `schema`
};

struct grammar_source {
    enum grammar_start start;
    enum grammar_content content;
    const struct json *schema;  // CONTENT_SCHEMA; borrowed during the call
    const char *schema_field;   // its name in errors, e.g. "response_format.json_schema.schema"
    struct slice begun;         // start IN_CONTENT: what the prompt holds of the JSON already

    enum grammar_calls calls;
    const struct grammar_tool *tool;  // [tools]; for a named tool choice, that one alone
    uint32_t tools;
    bool one_call;                  // the block ends after the first call
    const struct dialect *dialect;  // CALLS_AUTO, CALLS_REQUIRED: whose tags
    uint32_t
        compile_ms;  // of the thread's own time, after which it gives up; 0: GRAMMAR_COMPILE_MS
};

struct grammar;

/* Small and plain: assignment copies it. */
struct grammar_state {
    uint64_t seen;   // parameters of the call under way that were given
    uint32_t set;    // where the automaton stands
    uint32_t chars;  // characters of the text under way
    uint16_t depth;  // frames
    uint16_t space;  // bytes of white space just passed
    bool ended;      // the end token was taken
    uint32_t frame[GRAMMAR_FRAMES];
};

/* Compiles; `vocab` is borrowed and outlives the grammar. BAD_INPUT, TOO_LONG: err names the JSON
 * pointer of what is not supported, contradictory or too big. NO_MEMORY. The caller holds *grammar
 * once; a failure leaves it NULL. */
CHECKED enum status grammar_compile(const struct grammar_source *source,
                                    const struct grammar_vocab *vocab, struct grammar **grammar,
                                    struct err *err);
void grammar_hold(struct grammar *grammar);
void grammar_drop(struct grammar *grammar);  // the last one frees it; NULL does nothing

/* Memory in bytes, of the automaton, of the masks kept for it, and of all that it holds; and how often
 * a mask was there. */
struct grammar_size {
    size_t program, masks, held;
    uint32_t sets;
    uint64_t hits, misses;
};
struct grammar_size grammar_size(const struct grammar *grammar);

void grammar_begin(const struct grammar *grammar, struct grammar_state *state);

/* Fills allowed[vocab->words]: the tokens that may come next, never none. After the end only the
 * end token is allowed. A model with more ids than the tokenizer has needs more words: the caller
 * keeps those clear. */
void grammar_mask(const struct grammar *grammar, const struct grammar_state *state,
                  uint32_t *allowed);

/* The same where it takes microseconds, since the mask is kept or is a text's own. False: it may take
 * milliseconds, and nothing was filled; among states of one grammar with the same *likeness the first to
 * have its mask made saves the others' from it (0: none). */
bool grammar_mask_soon(const struct grammar *grammar, const struct grammar_state *state,
                       uint32_t *allowed, uint64_t *likeness);

/* Is this token among them? The state stays. */
bool grammar_allows(const struct grammar *grammar, const struct grammar_state *state,
                    uint32_t token);

/* Takes the token. False: it is not allowed, and the state stays. */
bool grammar_accept(const struct grammar *grammar, struct grammar_state *state, uint32_t token);

/* May the reply end here? */
bool grammar_can_end(const struct grammar *grammar, const struct grammar_state *state);

/* Nothing but the end may follow. */
bool grammar_must_end(const struct grammar *grammar, const struct grammar_state *state);

/* The run of bytes that any continuation begins with, cut at a special token; how many were
 * written. *special, if wanted, receives the token that must follow the run, or VOCAB_NONE. */
size_t grammar_forced_bytes(const struct grammar *grammar, const struct grammar_state *state,
                            char *bytes, size_t most, uint32_t *special);

/* The tokens that must follow whatever the model wants, as the tokenizer would write them: at most
 * `most` are appended, and how many is returned. The last piece of a run is left to the model, since
 * what follows may become part of its token; before a special token nothing is. The state stays. */
uint32_t grammar_force(const struct grammar *grammar, const struct grammar_state *state,
                       const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                       struct id_list *out, uint32_t most);

#endif
