/* grammar_schema.c - what a schema says: its words, and all ways to satisfy it. */
#include "engine/grammar/grammar_schema.h"
#include "config/hash.h"
#include "engine/grammar/set_table.h"

/* ---- sentences ---- */

/* Appends a step of a pointer, `~` and `/` in it written as the pointer wants them. */
static size_t add_step(struct slice key, char *out, size_t size, size_t room)
{
    enum { STEP_MOST = 64 };
    for (size_t i = 0; i < key.size && i < STEP_MOST && size + 3 < room; i++) {
        char c = key.data[i];
        out[size++] = c == '~' || c == '/' ? '~' : c ? c : ' ';
        if (c == '~' || c == '/') out[size++] = c == '~' ? '0' : '1';
    }
    out[size] = '\0';
    return size;
}

/* Appends the JSON pointer of a place; returns the new size. */
static size_t add_pointer(const struct schema *s, uint32_t place, char *out, size_t size,
                          size_t room)
{
    const struct schema_place *p = &s->place[place];
    if (!place) return size;
    size = add_pointer(s, p->parent, out, size, room);
    int wrote = 0;
    if (!p->parent)
        wrote = snprintf(out + size, room - size, "%.*s", (int)p->key.size, p->key.data);
    else if (p->key.data) wrote = snprintf(out + size, room - size, "/");
    else wrote = snprintf(out + size, room - size, "/%u", p->index);
    size += wrote > 0 ? (size_t)wrote : 0;
    if (size >= room) return room - 1;
    return p->parent && p->key.data ? add_step(p->key, out, size, room) : size;
}

void schema_fail(struct schema *schema, enum status status, uint32_t place, const char *format, ...)
{
    char pointer[256] = "", sentence[256];
    va_list args;
    if (schema->status != OK) return;
    schema->status = status;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    add_pointer(schema, place, pointer, 0, sizeof pointer);
    enum status said = fail(schema->err, status, "%.80s%s%s: %s", schema->field,
                            *pointer ? " at " : "", pointer, sentence);
    (void)said;
}

/* ---- places and rules ---- */

void schema_init(struct schema *schema, struct nfa *nfa, const struct text_rule *text)
{
    *schema = (struct schema){ .nfa = nfa, .text = text, .places = 1 };
    if (!ARRAY_ROOM(schema->place, 0, schema->place_room, 1, &schema->status)) return;
    schema->place[0] = (struct schema_place){ 0 };
}

void schema_release(struct schema *schema)
{
    free(schema->place);
    free(schema->rule);
    free(schema->slot);
    *schema = (struct schema){ 0 };
}

static uint32_t new_place(struct schema *s, struct schema_place place)
{
    enum { PLACES_MOST = 1 << 18 };
    if (!ARRAY_ROOM(s->place, s->places, s->place_room, PLACES_MOST, &s->status)) return 0;
    s->place[s->places] = place;
    return s->places++;
}

uint32_t schema_child(struct schema *schema, uint32_t parent, const char *word, struct slice key,
                      const struct json *node)
{
    uint32_t middle =
        new_place(schema, (struct schema_place){ .parent = parent, .key = slice_of(word) });
    if (!key.data) {
        if (schema->status == OK) schema->place[middle].node = node;
        return middle;
    }
    return new_place(schema, (struct schema_place){ .parent = middle, .key = key, .node = node });
}

static uint32_t indexed_child(struct schema *s, uint32_t parent, const char *word, uint32_t index,
                              const struct json *node)
{
    uint32_t middle =
        new_place(s, (struct schema_place){ .parent = parent, .key = slice_of(word) });
    return new_place(s, (struct schema_place){ .parent = middle, .index = index, .node = node });
}

static void widen_rules(struct schema *s)
{
    if (2 * (s->rules + 1) < s->slots) return;
    uint32_t slots = s->slots ? 2 * s->slots : 256;
    uint32_t *slot = calloc(slots, sizeof *slot);
    if (!slot) {
        s->status = NO_MEMORY;
        return;
    }
    free(s->slot);
    s->slot = slot;
    s->slots = slots;
    for (uint32_t i = 0; i < s->rules; i++) {
        uint32_t at = (uint32_t)s->rule[i].key & (slots - 1);
        while (slot[at]) at = (at + 1) & (slots - 1);
        slot[at] = i + 1;
    }
}

uint32_t schema_rule_of(struct schema *schema, enum schema_rule_kind kind, uint32_t place,
                        const struct json *literal)
{
    const void *node = literal ? literal : schema->place[place].node;
    struct {
        const void *node;
        uint64_t kind;
    } what = { node, kind };
    uint64_t key = hash64(&what, sizeof what, 0);
    if (schema->status == OK) widen_rules(schema);
    if (schema->status != OK) return 0;
    uint32_t at = (uint32_t)key & (schema->slots - 1);
    for (; schema->slot[at]; at = (at + 1) & (schema->slots - 1)) {
        const struct schema_rule *old = &schema->rule[schema->slot[at] - 1];
        const void *of = old->literal ? old->literal : schema->place[old->place].node;
        if (old->key == key && old->kind == kind && of == node) return old->start;
    }
    if (!ARRAY_ROOM(schema->rule, schema->rules, schema->rule_room, NFA_STATES_MOST,
                    &schema->status))
        return 0;
    uint32_t start = nfa_state(schema->nfa);
    schema->slot[at] = schema->rules + 1;
    schema->rule[schema->rules++] = (struct schema_rule){
        .key = key, .start = start, .place = place, .kind = (uint8_t)kind, .literal = literal
    };
    return start;
}

void schema_build(struct schema *schema)
{
    for (; schema->done < schema->rules && schema->status == OK && schema->nfa->status == OK;
         schema->done++) {
        struct schema_rule rule = schema->rule[schema->done];
        if (rule.kind == RULE_OBJECT) schema_object_rule(schema, rule.place, rule.start);
        else if (rule.kind == RULE_ARRAY) schema_array_rule(schema, rule.place, rule.start);
        else if (rule.kind == RULE_STRING) schema_string_rule(schema, rule.place, rule.start);
        else schema_literal_rule(schema, &rule);
    }
}

/* ---- how large it is ---- */

struct measure {
    struct schema *s;
    uint32_t nodes, literals;
    size_t bytes;
};

static void measure(struct measure *m, const struct json *node, unsigned depth, bool literal)
{
    if (m->s->status != OK) return;
    uint32_t *count = literal ? &m->literals : &m->nodes;
    uint32_t most = literal ? SCHEMA_LITERALS_MOST : SCHEMA_NODES_MOST;
    if (++*count > most)
        schema_fail(m->s, TOO_LONG, 0, "more than %u values%s", most, literal ? " in enum" : "");
    if (depth > SCHEMA_DEPTH_MOST)
        schema_fail(m->s, TOO_LONG, 0, "nested deeper than %d levels", SCHEMA_DEPTH_MOST);
    enum js_kind kind = js_kind(node);
    if (kind == JS_STRING) m->bytes += js_string(node).size;
    if (kind == JS_ARRAY)
        for (size_t i = 0; i < js_count(node); i++) measure(m, js_at(node, i), depth + 1, literal);
    if (kind == JS_OBJECT) {
        struct js_member at = { 0 };
        while (js_next(node, &at)) {
            bool values = slice_equal(at.key, SLICE("enum")) || slice_equal(at.key, SLICE("const"));
            m->bytes += at.key.size;
            measure(m, at.value, depth + 1, literal || values);
        }
    }
    if (m->bytes > SCHEMA_BYTES_MOST)
        schema_fail(m->s, TOO_LONG, 0, "more than %d bytes", SCHEMA_BYTES_MOST);
}

void schema_name(struct schema *schema, const char *field)
{
    snprintf(schema->field, sizeof schema->field, "%s", field);
}

uint32_t schema_enter(struct schema *schema, const struct json *root, const char *field)
{
    schema_build(schema);
    schema->root = root;
    schema_name(schema, field);
    if (!root) return 0;
    struct measure m = { .s = schema };
    measure(&m, root, 0, false);
    return new_place(schema, (struct schema_place){ .node = root, .key = SLICE("") });
}

/* ---- words ---- */

enum use { NOTE = 1, PLAIN = 2, ALTERNATIVE = 4, VALUES = 8, TYPE = 16 };

static const struct word {
    const char *name;
    uint8_t use;
    uint8_t implies;  // the type that it is for
} known_words[] = {
    { "type", TYPE, 0 },
    { "enum", VALUES, 0 },
    { "const", VALUES, 0 },
    { "anyOf", ALTERNATIVE, 0 },
    { "allOf", ALTERNATIVE, 0 },
    { "$ref", ALTERNATIVE, 0 },
    { "properties", PLAIN, SCHEMA_OBJECT },
    { "required", PLAIN, SCHEMA_OBJECT },
    { "additionalProperties", PLAIN, SCHEMA_OBJECT },
    { "items", PLAIN, SCHEMA_ARRAY },
    { "prefixItems", PLAIN, SCHEMA_ARRAY },
    { "minItems", PLAIN, SCHEMA_ARRAY },
    { "maxItems", PLAIN, SCHEMA_ARRAY },
    { "minLength", PLAIN, SCHEMA_STRING },
    { "maxLength", PLAIN, SCHEMA_STRING },
    { "pattern", PLAIN, SCHEMA_STRING },
    { "format", PLAIN, SCHEMA_STRING },
    { "minimum", PLAIN, SCHEMA_NUMBER },
    { "maximum", PLAIN, SCHEMA_NUMBER },
    { "exclusiveMinimum", PLAIN, SCHEMA_NUMBER },
    { "exclusiveMaximum", PLAIN, SCHEMA_NUMBER },
    { "multipleOf", PLAIN, SCHEMA_NUMBER },
    { "$defs", NOTE, 0 },
    { "definitions", NOTE, 0 },
    { "title", NOTE, 0 },
    { "description", NOTE, 0 },
    { "default", NOTE, 0 },
    { "examples", NOTE, 0 },
    { "deprecated", NOTE, 0 },
    { "readOnly", NOTE, 0 },
    { "writeOnly", NOTE, 0 },
    { "$schema", NOTE, 0 },
    { "$id", NOTE, 0 },
    { "$comment", NOTE, 0 },
};

static const struct word *find_word(struct slice name)
{
    for (size_t i = 0; i < sizeof known_words / sizeof *known_words; i++)
        if (slice_equal(name, slice_of(known_words[i].name))) return &known_words[i];
    return NULL;
}

const struct json *schema_word(const struct schema *schema, uint32_t place, const char *word)
{
    const struct json *node = schema->place[place].node;
    return node && js_kind(node) == JS_OBJECT ? js_get(node, word) : NULL;
}

uint32_t schema_count(struct schema *schema, uint32_t place, const char *word, uint32_t absent,
                      uint32_t most)
{
    const struct json *node = schema_word(schema, place, word);
    if (!node) return absent;
    bool whole = js_kind(node) == JS_INT ||
                 (js_kind(node) == JS_REAL && js_real(node) == __builtin_floor(js_real(node)));
    if (!whole || js_real(node) < 0) {
        schema_fail(schema, BAD_INPUT, place, "%s: found %s, wanted a whole number from 0 up", word,
                    js_kind(node) == JS_INT || js_kind(node) == JS_REAL
                        ? "another number"
                        : js_kind_name(js_kind(node)));
        return absent;
    }
    if (js_real(node) > most) {
        if (most < UINT32_MAX)
            schema_fail(schema, TOO_LONG, place, "%s: found %.0f, wanted at most %u", word,
                        js_real(node), most);
        return UINT32_MAX;
    }
    return (uint32_t)js_real(node);
}

/* Which uses its words have, together; refuses words it does not know. */
static uint8_t check_words(struct schema *s, uint32_t place, uint8_t *implied)
{
    struct js_member at = { 0 };
    uint8_t uses = 0;
    *implied = 0;
    while (js_next(s->place[place].node, &at)) {
        const struct word *word = find_word(at.key);
        bool no_op = slice_equal(at.key, SLICE("uniqueItems")) && js_kind(at.value) == JS_BOOL &&
                     !js_bool(at.value);
        if (no_op) continue;
        if (!word) {
            schema_fail(s, BAD_INPUT, place, "%.*s is not supported",
                        (int)(at.key.size < 64 ? at.key.size : 64), at.key.data);
            return 0;
        }
        uses |= word->use;
        *implied |= word->implies;
    }
    return uses;
}

static uint8_t type_named(struct slice name)
{
    static const struct {
        struct slice name;
        uint8_t type;
    } types[] = {
        { SLICE("object"), SCHEMA_OBJECT },   { SLICE("array"), SCHEMA_ARRAY },
        { SLICE("string"), SCHEMA_STRING },   { SLICE("number"), SCHEMA_NUMBER },
        { SLICE("integer"), SCHEMA_INTEGER }, { SLICE("boolean"), SCHEMA_BOOLEAN },
        { SLICE("null"), SCHEMA_NULL },
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (slice_equal(name, types[i].name)) return types[i].type;
    return 0;
}

static uint8_t read_one_type(struct schema *s, uint32_t place, const struct json *node)
{
    uint8_t type = js_kind(node) == JS_STRING ? type_named(js_string(node)) : 0;
    if (!type) schema_fail(s, BAD_INPUT, place, "type: found what is not the name of a JSON type");
    return type;
}

static uint8_t read_types(struct schema *s, uint32_t place, uint8_t implied)
{
    const struct json *node = schema_word(s, place, "type");
    uint8_t types = 0;
    if (!node) return implied ? implied : SCHEMA_ANY;
    if (js_kind(node) != JS_ARRAY) return read_one_type(s, place, node);
    for (size_t i = 0; i < js_count(node); i++) types |= read_one_type(s, place, js_at(node, i));
    if (types & SCHEMA_NUMBER) types &= (uint8_t)~SCHEMA_INTEGER;
    return types;
}

/* ---- $ref ---- */

/* Takes one step of a pointer, with ~0 and ~1 undone. */
static const struct json *step_into(const struct json *node, struct slice step)
{
    char key[256];
    size_t size = 0;
    for (size_t i = 0; i < step.size; i++) {
        char c = step.data[i];
        if (c == '~' && i + 1 < step.size) c = step.data[++i] == '1' ? '/' : '~';
        if (size + 1 >= sizeof key) return NULL;
        key[size++] = c;
    }
    key[size] = '\0';
    if (js_kind(node) == JS_OBJECT) return js_get(node, key);
    if (js_kind(node) != JS_ARRAY || size == 0 || size > 6) return NULL;
    char *end;
    unsigned long index = strtoul(key, &end, 10);
    return *end == '\0' && index < js_count(node) ? js_at(node, index) : NULL;
}

static uint32_t resolve(struct schema *s, uint32_t place)
{
    const struct json *ref = schema_word(s, place, "$ref"), *node = s->root;
    struct slice text = js_kind(ref) == JS_STRING ? js_string(ref) : SLICE("");
    if (text.size == 0 || *text.data != '#' || (text.size > 1 && text.data[1] != '/')) {
        schema_fail(s, BAD_INPUT, place,
                    "$ref: found a reference elsewhere, wanted \"#\" or \"#/...\"");
        return 0;
    }
    for (size_t at = 1; at < text.size && node;) {
        size_t end = ++at;
        while (end < text.size && text.data[end] != '/') end++;
        node = step_into(node, (struct slice){ text.data + at, end - at });
        at = end;
    }
    if (!node || (js_kind(node) != JS_OBJECT && js_kind(node) != JS_BOOL)) {
        schema_fail(s, BAD_INPUT, place, "$ref: %.*s leads to no schema",
                    (int)(text.size < 100 ? text.size : 100), text.data);
        return 0;
    }
    return new_place(s, (struct schema_place){ .node = node, .key = slice_from(text, 1) });
}

/* ---- choices ---- */

struct chooser {
    struct schema *s;
    struct schema_choices *out;
    uint32_t *todo;  // [count] places; those before `done` were looked at
    uint32_t count, room, done;
};

static void add_choice(struct chooser *c, struct schema_choice choice)
{
    struct schema_choices *out = c->out;
    enum status status = OK;
    if (ARRAY_ROOM(out->choice, out->count, out->room, SCHEMA_LITERALS_MOST, &status))
        out->choice[out->count++] = choice;
    else if (c->s->status == OK)
        schema_fail(c->s, status, choice.place, "more than %d alternatives", SCHEMA_LITERALS_MOST);
}

/* A schema already on the list adds nothing: so a cycle of references ends. */
static void add_place(struct chooser *c, uint32_t place)
{
    enum status status = OK;
    for (uint32_t i = 0; i < c->count; i++)
        if (c->s->place[c->todo[i]].node == c->s->place[place].node) return;
    if (ARRAY_ROOM(c->todo, c->count, c->room, SCHEMA_CHOICES_MOST, &status))
        c->todo[c->count++] = place;
    else schema_fail(c->s, status, place, "more than %d alternatives", SCHEMA_CHOICES_MOST);
}

static uint8_t type_of_literal(const struct json *literal)
{
    static const uint8_t type[] = {
        [JS_NULL] = SCHEMA_NULL,    [JS_BOOL] = SCHEMA_BOOLEAN,  [JS_INT] = SCHEMA_INTEGER,
        [JS_REAL] = SCHEMA_NUMBER,  [JS_STRING] = SCHEMA_STRING, [JS_ARRAY] = SCHEMA_ARRAY,
        [JS_OBJECT] = SCHEMA_OBJECT
    };
    return type[js_kind(literal)];
}

static void add_literal(struct chooser *c, uint32_t place, uint8_t types,
                        const struct json *literal)
{
    uint8_t type = type_of_literal(literal);
    bool fits = (types & type) || (type == SCHEMA_INTEGER && (types & SCHEMA_NUMBER)) ||
                (type == SCHEMA_NUMBER && (types & SCHEMA_INTEGER) &&
                 js_real(literal) == __builtin_floor(js_real(literal)));
    if (fits) add_choice(c, (struct schema_choice){ place, type, literal });
}

static void choose_literals(struct chooser *c, uint32_t place)
{
    const struct json *all = schema_word(c->s, place, "enum");
    const struct json *one = schema_word(c->s, place, "const");
    uint8_t types = read_types(c->s, place, 0);
    if (all && one) {
        schema_fail(c->s, BAD_INPUT, place, "enum and const together are not supported");
        return;
    }
    if (one) {
        add_literal(c, place, types, one);
        return;
    }
    if (js_kind(all) != JS_ARRAY || js_count(all) == 0) {
        schema_fail(c->s, BAD_INPUT, place, "enum: wanted an array that is not empty");
        return;
    }
    for (size_t i = 0; i < js_count(all); i++) add_literal(c, place, types, js_at(all, i));
}

static void choose_alternatives(struct chooser *c, uint32_t place)
{
    struct schema *s = c->s;
    const struct json *any = schema_word(s, place, "anyOf"), *all = schema_word(s, place, "allOf");
    const struct json *ref = schema_word(s, place, "$ref");
    const struct json *list = any ? any : all;
    if ((any != NULL) + (all != NULL) + (ref != NULL) > 1) {
        schema_fail(s, BAD_INPUT, place, "only one of anyOf, allOf and $ref is supported at once");
        return;
    }
    if (ref) {
        uint32_t target = resolve(s, place);
        if (target) add_place(c, target);
        return;
    }
    if (js_kind(list) != JS_ARRAY || js_count(list) == 0) {
        schema_fail(s, BAD_INPUT, place, "%s: wanted an array that is not empty",
                    any ? "anyOf" : "allOf");
        return;
    }
    if (all && js_count(all) > 1) {
        schema_fail(s, BAD_INPUT, place, "allOf of more than one schema is not supported");
        return;
    }
    for (size_t i = 0; i < js_count(list) && s->status == OK; i++) {
        uint32_t child =
            indexed_child(s, place, any ? "anyOf" : "allOf", (uint32_t)i, js_at(list, i));
        if (child) add_place(c, child);
    }
}

static void choose_at(struct chooser *c, uint32_t place)
{
    struct schema *s = c->s;
    const struct json *node = s->place[place].node;
    uint8_t implied;
    if (js_kind(node) == JS_BOOL) {
        if (js_bool(node)) add_choice(c, (struct schema_choice){ 0, SCHEMA_ANY, NULL });
        return;
    }
    if (js_kind(node) != JS_OBJECT) {
        schema_fail(s, BAD_INPUT, place, "found %s, wanted a schema", js_kind_name(js_kind(node)));
        return;
    }
    uint8_t uses = check_words(s, place, &implied);
    if (s->status != OK) return;
    if (uses & ALTERNATIVE) {
        if (uses & (PLAIN | VALUES | TYPE))
            schema_fail(s, BAD_INPUT, place,
                        "anyOf, allOf and $ref are supported only beside annotations");
        else choose_alternatives(c, place);
    } else if (uses & VALUES) {
        if (uses & PLAIN)
            schema_fail(s, BAD_INPUT, place, "enum and const are supported only beside type");
        else choose_literals(c, place);
    } else {
        uint8_t types = read_types(s, place, implied);
        add_choice(c, (struct schema_choice){ uses & PLAIN ? place : 0, types, NULL });
    }
}

void schema_choose(struct schema *schema, uint32_t place, struct schema_choices *choices)
{
    struct chooser c = { .s = schema, .out = choices };
    *choices = (struct schema_choices){ 0 };
    if (schema->status != OK) return;
    if (!place) add_choice(&c, (struct schema_choice){ 0, SCHEMA_ANY, NULL });
    else add_place(&c, place);
    for (; c.done < c.count && schema->status == OK; c.done++) choose_at(&c, c.todo[c.done]);
    free(c.todo);
    if (schema->status == OK && choices->count == 0)
        schema_fail(schema, BAD_INPUT, place, "nothing satisfies it");
}
