/* grammar_dsml.c - the block's states. All of a tool's parameters' names are one state (names.h), and
 * each leads by its closing quote into the rule of its value, which returns at the closer's DSML token; so
 * tools share the rules of their values. */
#include "engine/grammar/grammar_dsml.h"

struct writer {
    struct schema *s;
    struct nfa *nfa;
    const struct grammar_source *source;
    uint32_t plain
        [SCHEMA_ANY_BITS];  // the rules of values of some types, without more words; 0: not yet made
    uint32_t free_parameter;  // likewise, from the quote before the name on
    uint32_t more;            // after a call
};

struct tool {
    const struct grammar_tool *given;
    uint32_t place;  // of the object schema whose properties are the parameters; strict tools
    const struct json *properties, *required;
    uint64_t names, required_names;  // of the first SEEN_MOST properties that can be written
    uint32_t list;                   // where a parameter or the closer may begin
};

/* ---- values ---- */

static uint32_t json_end(struct writer *w)
{
    uint32_t end = nfa_state(w->nfa);
    nfa_return(w->nfa, nfa_bytes(w->nfa, end, SLICE("</")), SYMBOL_DSML);
    return end;
}

static void emit_value(struct writer *w, const struct schema_choices *choices, uint32_t start)
{
    uint8_t types = 0;
    for (uint32_t i = 0; i < choices->count; i++) types |= choices->choice[i].types;
    if (types & SCHEMA_STRING)
        schema_raw(w->s, choices, nfa_bytes(w->nfa, start, SLICE(" string=\"true\">")));
    if (types & ~SCHEMA_STRING)
        schema_values(w->s, choices, (uint8_t)((SCHEMA_ANY | SCHEMA_INTEGER) & ~SCHEMA_STRING),
                      nfa_bytes(w->nfa, start, SLICE(" string=\"false\">")), json_end(w));
}

/* Any value of some types: tools share these rules. */
static uint32_t plain_value(struct writer *w, uint8_t types)
{
    if (!w->plain[types]) {
        struct schema_choice any = { .types = types };
        struct schema_choices one = { .choice = &any, .count = 1 };
        w->plain[types] = nfa_state(w->nfa);
        emit_value(w, &one, w->plain[types]);
    }
    return w->plain[types];
}

static bool is_string_name(const struct json *node)
{
    return js_kind(node) == JS_STRING && slice_equal(js_string(node), SLICE("string"));
}

/* Of a tool that is not strict: text, JSON or both, as `type` says. */
static uint8_t light_types(const struct json *schema)
{
    const struct json *type = js_kind(schema) == JS_OBJECT ? js_get(schema, "type") : NULL;
    uint8_t other = SCHEMA_ANY & ~SCHEMA_STRING;
    if (!type) return SCHEMA_ANY;
    if (js_kind(type) == JS_STRING) return is_string_name(type) ? SCHEMA_STRING : other;
    if (js_kind(type) != JS_ARRAY) return SCHEMA_ANY;
    for (size_t i = 0; i < js_count(type); i++)
        if (is_string_name(js_at(type, i))) return js_count(type) == 1 ? SCHEMA_STRING : SCHEMA_ANY;
    return other;
}

static uint32_t value_of(struct writer *w, const struct tool *tool, struct slice name,
                         const struct json *schema)
{
    struct schema_choices choices;
    uint32_t start = 0;
    if (!tool->given->strict) return plain_value(w, light_types(schema));
    schema_choose(w->s, schema_child(w->s, tool->place, "properties", name, schema), &choices);
    if (w->s->status == OK) {
        const struct schema_choice *one = &choices.choice[0];
        if (choices.count == 1 && !one->place && !one->literal) {
            start = plain_value(w, one->types);
        } else {
            start = nfa_state(w->nfa);
            emit_value(w, &choices, start);
        }
    }
    free(choices.choice);
    return start;
}

/* ---- parameters ---- */

/* Can the name stand between the quotes of a tag? */
static bool name_is_plain(struct slice name)
{
    if (name.size == 0 || name.size > TOOL_NAME_MOST || text_rule_has_mark(name)) return false;
    for (size_t i = 0; i < name.size; i++)
        if ((uint8_t)name.data[i] < 0x20 || name.data[i] == '"') return false;
    return true;
}

/* Any name, and behind its closing quote any value: tools share the rule. */
static uint32_t free_parameter(struct writer *w)
{
    static const char *const letters[] = { "az", "AZ", "09", "__", "--", ".." };
    if (w->free_parameter) return w->free_parameter;
    uint32_t at = w->free_parameter = nfa_state(w->nfa), value = plain_value(w, SCHEMA_ANY);
    for (int i = 0; i < FREE_NAME_MOST; i++) {
        uint32_t next = nfa_state(w->nfa);
        for (size_t l = 0; l < sizeof letters / sizeof *letters; l++)
            nfa_step(w->nfa, at, (uint8_t)letters[l][0], (uint8_t)letters[l][1], next);
        nfa_step(w->nfa, next, '"', '"', value);
        at = next;
    }
    return w->free_parameter;
}

/* The ways on from a tool's names: the rules of their values. */
struct ways {
    uint32_t value[SEEN_MOST];
    uint32_t count;
};

/* A strict tool has no more properties than there are ways, others only few kinds of values. */
static uint8_t way_to(struct writer *w, struct ways *ways, uint32_t value, uint32_t named,
                      uint32_t after)
{
    uint32_t way = 0;
    while (way < ways->count && ways->value[way] != value) way++;
    must(way < SEEN_MOST);
    if (way == ways->count) {
        ways->value[ways->count++] = value;
        nfa_call(w->nfa, named, (uint16_t)(SYMBOL_NAME + way), value, after);
    }
    return (uint8_t)way;
}

/* From `name=` on. */
static void emit_parameters(struct writer *w, struct tool *tool, uint32_t from, uint32_t after)
{
    struct names *names = &w->nfa->names;
    struct ways ways = { .count = 0 };
    struct js_member at = { 0 };
    if (!tool->properties) {
        nfa_call(w->nfa, from, '"', free_parameter(w), after);
        return;
    }
    uint32_t named = nfa_bytes(w->nfa, from, SLICE("\""));
    uint32_t list = names_begin(names), before = names->count;
    for (uint32_t i = 0; js_next(tool->properties, &at) && w->s->status == OK; i++) {
        if (!name_is_plain(at.key)) continue;
        uint32_t value = value_of(w, tool, at.key, at.value);
        if (w->s->status != OK || w->nfa->status != OK) return;
        names_add(names, at.key, way_to(w, &ways, value, named, after),
                  (uint8_t)(i < SEEN_MOST ? i : NAME_UNMARKED));
    }
    names_end(names);
    if (names->count > before || names->status != OK) nfa_take_names(w->nfa, named, list);
}

/* ---- tools ---- */

static bool is_in(const struct json *array, struct slice name)
{
    for (size_t i = 0; array && js_kind(array) == JS_ARRAY && i < js_count(array); i++)
        if (js_kind(js_at(array, i)) == JS_STRING && slice_equal(js_string(js_at(array, i)), name))
            return true;
    return false;
}

static void read_strict(struct writer *w, struct tool *tool, const char *field)
{
    struct schema_choices choices;
    uint32_t root = schema_enter(w->s, tool->given->parameters, field);
    schema_choose(w->s, root, &choices);
    if (w->s->status == OK) {
        const struct schema_choice *one = &choices.choice[0];
        if (choices.count != 1 || one->types != SCHEMA_OBJECT || one->literal)
            schema_fail(w->s, BAD_INPUT, root, "wanted a schema of type object");
        tool->place = one->place;
    }
    free(choices.choice);
    tool->properties = schema_word(w->s, tool->place, "properties");
    tool->required = schema_word(w->s, tool->place, "required");
    if (tool->properties && js_kind(tool->properties) != JS_OBJECT)
        schema_fail(w->s, BAD_INPUT, tool->place, "properties: wanted an object");
    else if (tool->properties && js_count(tool->properties) > SEEN_MOST)
        schema_fail(w->s, TOO_LONG, tool->place, "properties: more than %d in a strict tool",
                    SEEN_MOST);
}

static void read_light(struct tool *tool)
{
    const struct json *schema = tool->given->parameters;
    if (!schema || js_kind(schema) != JS_OBJECT) return;
    tool->properties = js_get(schema, "properties");
    tool->required = js_get(schema, "required");
    if (tool->properties && js_kind(tool->properties) != JS_OBJECT) tool->properties = NULL;
}

static void read_tool(struct writer *w, struct tool *tool, uint32_t index)
{
    char field[96];
    struct js_member at = { 0 };
    if (tool->given->field) snprintf(field, sizeof field, "%s", tool->given->field);
    else snprintf(field, sizeof field, "tools[%u].function.parameters", index);
    if (!name_is_plain(tool->given->name)) {
        schema_name(w->s, field);
        schema_fail(w->s, BAD_INPUT, 0, "the tool's name cannot stand in a tag");
    }
    if (tool->given->strict && tool->given->parameters) read_strict(w, tool, field);
    else read_light(tool);
    if (w->s->status != OK) return;
    for (uint32_t i = 0; tool->properties && js_next(tool->properties, &at); i++) {
        bool plain = name_is_plain(at.key), required = is_in(tool->required, at.key);
        if (!plain && tool->given->strict)
            schema_fail(w->s, BAD_INPUT, tool->place, "a property's name cannot stand in a tag");
        if (!plain || i >= SEEN_MOST) continue;
        tool->names |= 1ull << i;
        if (required) tool->required_names |= 1ull << i;
    }
}

static uint32_t guarded(struct writer *w, enum guard_kind kind, uint64_t names)
{
    struct guard guard = { .kind = kind, .names = names };
    return names ? nfa_guarded(w->nfa, &guard) : nfa_state(w->nfa);
}

/* `</｜DSML｜invoke>\n` from a state, once all that is required was given. */
static void emit_invoke_closer(struct writer *w, const struct tool *tool, uint32_t from)
{
    uint32_t open = guarded(w, GUARD_SEEN, tool->required_names);
    uint32_t slash = guarded(w, GUARD_SEEN, tool->required_names), word = nfa_state(w->nfa);
    nfa_step(w->nfa, from, '<', '<', open);
    nfa_step(w->nfa, open, '/', '/', slash);
    nfa_step(w->nfa, slash, SYMBOL_DSML, SYMBOL_DSML, word);
    word = nfa_bytes(w->nfa, word, w->source->dialect->invoke);
    nfa_bytes_to(w->nfa, word, SLICE(">\n"), w->more);
}

static void emit_tool(struct writer *w, struct tool *tool, uint32_t from)
{
    struct nfa *nfa = w->nfa;
    const struct dialect *dialect = w->source->dialect;
    uint32_t at = nfa_bytes(nfa, from, tool->given->name), begun = nfa_state(nfa);
    nfa_step(nfa, at, '"', '"', begun);
    nfa_act(nfa, ACT_FORGET);
    begun = nfa_bytes(nfa, begun, SLICE(">\n"));
    tool->list = nfa_state(nfa);
    nfa_epsilon(nfa, begun, tool->list);

    uint32_t empty = guarded(w, GUARD_SEEN, tool->required_names);
    nfa_step(nfa, begun, '\n', '\n', empty);
    emit_invoke_closer(w, tool, empty);
    emit_invoke_closer(w, tool, tool->list);

    // Names beyond those remembered may always come, so then nothing is ever used up.
    bool counts = tool->properties && js_count(tool->properties) <= SEEN_MOST;
    bool none = tool->given->strict && tool->given->parameters && !tool->properties;
    if (none || (counts && !tool->names)) return;
    uint32_t open = guarded(w, GUARD_UNSEEN, counts ? tool->names : 0), word = nfa_state(nfa);
    nfa_step(nfa, tool->list, '<', '<', open);
    nfa_step(nfa, open, SYMBOL_DSML, SYMBOL_DSML, word);
    word = nfa_bytes(nfa, nfa_bytes(nfa, word, dialect->parameter), SLICE(" name="));
    uint32_t after = nfa_state(nfa);
    nfa_bytes_to(nfa, nfa_bytes(nfa, after, dialect->parameter), SLICE(">\n"), tool->list);
    emit_parameters(w, tool, word, after);
}

/* ---- tools of one name ---- */

static bool same_json(const struct json *a, const struct json *b)
{
    struct js_member left = { 0 }, right = { 0 };
    if (!a || !b || js_kind(a) != js_kind(b)) return a == b;
    switch (js_kind(a)) {
    case JS_OBJECT:
        if (js_count(a) != js_count(b)) return false;
        while (js_next(a, &left) && js_next(b, &right))
            if (!slice_equal(left.key, right.key) || !same_json(left.value, right.value))
                return false;
        return true;
    case JS_ARRAY:
        if (js_count(a) != js_count(b)) return false;
        for (size_t i = 0; i < js_count(a); i++)
            if (!same_json(js_at(a, i), js_at(b, i))) return false;
        return true;
    case JS_STRING:
        return slice_equal(js_string(a), js_string(b));
    case JS_INT:
        return js_int(a) == js_int(b);
    case JS_REAL:
        return js_real(a) == js_real(b);
    case JS_BOOL:
        return js_bool(a) == js_bool(b);
    case JS_NULL:
        return true;
    }
    return false;
}

/* Is it one that was declared before? With other parameters no call could tell which of the two is
 * meant. */
static bool came_before(struct writer *w, uint32_t index)
{
    const struct grammar_tool *tool = &w->source->tool[index], *before = w->source->tool;
    while (before < tool && !slice_equal(before->name, tool->name)) before++;
    if (before == tool) return false;
    if (before->strict == tool->strict && same_json(before->parameters, tool->parameters))
        return true;
    schema_name(w->s, "tools");
    schema_fail(w->s, TOO_LONG, 0, "two tools of one name with different parameters");
    return true;
}

/* ---- the block ---- */

static void emit_invoke(struct writer *w, uint32_t from, uint32_t named)
{
    uint32_t word = nfa_state(w->nfa);
    uint32_t open = nfa_bytes(w->nfa, from, SLICE("<"));
    nfa_step(w->nfa, open, SYMBOL_DSML, SYMBOL_DSML, word);
    word = nfa_bytes(w->nfa, word, w->source->dialect->invoke);
    nfa_bytes_to(w->nfa, word, SLICE(" name=\""), named);
}

void dsml_emit(struct schema *schema, const struct grammar_source *source, struct dsml_block *block)
{
    struct nfa *nfa = schema->nfa;
    struct writer w = { .s = schema, .nfa = nfa, .source = source };
    const struct dialect *dialect = source->dialect;
    uint32_t named = nfa_state(nfa), word = nfa_state(nfa);
    if (source->tools > TOOLS_MOST) {
        schema_name(schema, "tools");
        schema_fail(schema, TOO_LONG, 0, "more than %d", TOOLS_MOST);
        return;
    }
    w.more = nfa_state(nfa);
    block->opened = nfa_state(nfa);
    block->inside = nfa_state(nfa);
    block->end = nfa_state(nfa);
    nfa_flag(nfa, block->end, NFA_FINAL);
    nfa_bytes_to(nfa, nfa_bytes(nfa, block->opened, dialect->block), SLICE(">\n"), block->inside);
    emit_invoke(&w, block->inside, named);
    if (!source->one_call) emit_invoke(&w, w.more, named);
    nfa_step(nfa, nfa_bytes(nfa, w.more, SLICE("</")), SYMBOL_DSML, SYMBOL_DSML, word);
    nfa_bytes_to(nfa, nfa_bytes(nfa, word, dialect->block), SLICE(">"), block->end);

    for (uint32_t i = 0; i < source->tools && schema->status == OK && nfa->status == OK; i++) {
        struct tool tool = { .given = &source->tool[i] };
        if (came_before(&w, i)) continue;
        read_tool(&w, &tool, i);
        if (schema->status == OK) emit_tool(&w, &tool, named);
        if (tool.given->strict) schema_build(schema);
    }
}
