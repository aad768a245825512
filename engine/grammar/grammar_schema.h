/* grammar_schema.h - JSON Schema to automaton.
 *
 *     word                                    here
 *     type                                    one name or a list of them
 *     enum, const                             any JSON values; beside them only type
 *     anyOf, $ref, allOf of one               beside them only annotations
 *     $defs, definitions                      where $ref points; recursion is fine
 *     properties, required                    written in this order; those not required may be left out
 *     additionalProperties                    false (also when absent beside properties), true, a schema
 *     items, prefixItems, minItems, maxItems
 *     minLength, maxLength, pattern           characters; pattern.h says which expressions
 *     format                                  date, time, date-time, email, hostname, ipv4, ipv6, uuid
 *     minimum, maximum, exclusiveMinimum, exclusiveMaximum       number.h says how
 *     multipleOf                              whole numbers up to 100; the value is then an integer
 *     uniqueItems: false, title, description, default, examples, deprecated, readOnly, writeOnly,
 *     $schema, $id, $comment                  say nothing
 *
 * Any other word is refused with its JSON pointer: what is accepted is enforced. A word for another
 * type than the value's says nothing, as in JSON Schema; without `type` the words present decide.
 *
 * The JSON that comes out is as writers make it: white space between tokens as one likes, keys,
 * literals and patterned strings in one spelling (escapes only where needed), other strings in any.
 * Objects' declared keys come once each; free ones may repeat. All of it is a subset of what the
 * schema accepts. Thread: whoever compiles.
 */
#ifndef ENGINE_GRAMMAR_GRAMMAR_SCHEMA_H
#define ENGINE_GRAMMAR_GRAMMAR_SCHEMA_H

#include "config/json.h"
#include "engine/grammar/nfa.h"

enum {
    SCHEMA_BYTES_MOST = 256 << 10,  // of keys and strings
    SCHEMA_NODES_MOST = 4096,       // JSON values in it, those of enum and const apart
    SCHEMA_LITERALS_MOST = 16384,   // JSON values below enum and const
    SCHEMA_DEPTH_MOST = 64,         // JSON levels: some 32 schemas in each other
    SCHEMA_CHOICES_MOST = 1024,     // alternatives for one value
    SCHEMA_ITEMS_MOST = 1024,       // minItems, maxItems
    SCHEMA_LENGTH_MOST = 1 << 20,   // minLength; a larger maxLength is no limit
};

enum schema_type {
    SCHEMA_OBJECT = 1,
    SCHEMA_ARRAY = 2,
    SCHEMA_STRING = 4,
    SCHEMA_NUMBER = 8,
    SCHEMA_INTEGER = 16,
    SCHEMA_BOOLEAN = 32,
    SCHEMA_NULL = 64,
    SCHEMA_ANY = 127 - 16,
    SCHEMA_ANY_BITS = 128,  // sets of types
};

/* One way to satisfy a schema: a literal, or some types with the words of one place. */
struct schema_choice {
    uint32_t place;              // 0: no words
    uint8_t types;               // of enum schema_type
    const struct json *literal;  // NULL: none
};

struct schema_choices {
    struct schema_choice *choice;  // [count]; owned
    uint32_t count, room;
};

/* Where a schema stands, for the pointer in errors. */
struct schema_place {
    const struct json *node;
    uint32_t parent;   // 0: none, then `key` is the whole pointer
    struct slice key;  // or an index
    uint32_t index;
};

struct schema_rule {
    uint64_t key;  // what it is for
    uint32_t start, place;
    uint8_t kind;
    const struct json *literal;
};

/* A schema being compiled. Failures are sticky; err has the first one's sentence. */
struct schema {
    struct nfa *nfa;               // borrowed
    const struct text_rule *text;  // [TEXT_KINDS]; borrowed
    const struct json *root;       // where $ref points into; borrowed
    char field[96];                // its name in errors
    struct err *err;
    enum status status;

    struct schema_place *place;  // [places]; owned; 0 is none
    struct schema_rule *rule;    // [rules]; owned
    uint32_t *slot;              // [slots] rule + 1 by key; owned
    uint32_t places, place_room, rules, rule_room, slots;
    uint32_t done;  // rules already built
};

/* Begins; nfa and text outlive it. root NULL: no schema, only `any` values. Measures it: TOO_LONG or
 * BAD_INPUT in schema->status. */
void schema_init(struct schema *schema, struct nfa *nfa, const struct text_rule *text);
void schema_release(struct schema *schema);

/* Goes over to another schema, named `field` in errors; returns its place (0: any value). Rules of
 * the former ones are built first. */
uint32_t schema_enter(struct schema *schema, const struct json *root, const char *field);

/* Names what errors are about; schema_enter does so too. */
void schema_name(struct schema *schema, const char *field);

/* The place of a member or an element of a schema. */
uint32_t schema_child(struct schema *schema, uint32_t parent, const char *word, struct slice key,
                      const struct json *node);

/* All ways to satisfy the schema of a place. The caller frees choices->choice. */
void schema_choose(struct schema *schema, uint32_t place, struct schema_choices *choices);

/* One of the choices as JSON, inline or by calls, without white space around. */
void schema_value(struct schema *schema, const struct schema_choice *choice, uint32_t from,
                  uint32_t to);

/* Any of the choices of the given types. */
void schema_values(struct schema *schema, const struct schema_choices *choices, uint8_t types,
                   uint32_t from, uint32_t to);

/* The strings among the choices as DSML's raw text, with the `</` behind it: the DSML token then
 * returns from the rule. */
void schema_raw(struct schema *schema, const struct schema_choices *choices, uint32_t from);

/* Builds all rules that were called for. */
void schema_build(struct schema *schema);

/* Fails with a sentence "field/pointer: ...". */
__attribute__((format(printf, 4, 5))) void schema_fail(struct schema *schema, enum status status,
                                                       uint32_t place, const char *format, ...);

/* ---- between the files that build rules ---- */

enum schema_rule_kind {
    RULE_OBJECT,
    RULE_ARRAY,
    RULE_STRING,
    RULE_LITERAL_STRING,
    RULE_LITERAL_OBJECT,
    RULE_LITERAL_ARRAY,
};

/* The first state of a rule, which is built later. */
uint32_t schema_rule_of(struct schema *schema, enum schema_rule_kind kind, uint32_t place,
                        const struct json *literal);

/* A word of a place, or NULL. */
const struct json *schema_word(const struct schema *schema, uint32_t place, const char *word);

/* A count in a word: from 0; absent: `absent`; above `most`: TOO_LONG, or UINT32_MAX if `most` is. */
uint32_t schema_count(struct schema *schema, uint32_t place, const char *word, uint32_t absent,
                      uint32_t most);

void schema_object_rule(struct schema *schema, uint32_t place, uint32_t start);
void schema_array_rule(struct schema *schema, uint32_t place, uint32_t start);
void schema_string_rule(struct schema *schema, uint32_t place, uint32_t start);
void schema_literal_rule(struct schema *schema, const struct schema_rule *rule);
void schema_literal(struct schema *schema, const struct json *literal, uint32_t from, uint32_t to);

#endif
