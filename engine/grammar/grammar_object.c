/* grammar_object.c - containers: objects with their keys in order, arrays with their counts. */
#include "engine/grammar/grammar_schema.h"
#include "engine/grammar/pattern.h"

/* ---- keys that are free ---- */

/* A place in the declared keys that a free key has followed so far, and must leave again. */
struct key_node {
    uint32_t state;
    uint32_t child, sibling;  // 0: none
    uint16_t text;            // the state of the text rule
    uint8_t byte;
    bool ends;  // a declared key ends here
};

struct key_tree {
    struct key_node *node;  // [count]; the root is 0
    uint32_t count;
};

static uint32_t tree_child(struct key_tree *tree, struct schema *s, uint32_t parent, uint8_t byte)
{
    const struct text_rule *rule = &s->text[TEXT_JSON];
    for (uint32_t at = tree->node[parent].child; at; at = tree->node[at].sibling)
        if (tree->node[at].byte == byte) return at;
    uint16_t text = rule->next[tree->node[parent].text][byte];
    if (text >= rule->count) return 0;  // needs an escape: no free key goes this way
    uint32_t child = tree->count++;
    tree->node[child] = (struct key_node){
        .state = nfa_state(s->nfa), .sibling = tree->node[parent].child, .text = text, .byte = byte
    };
    tree->node[parent].child = child;
    return child;
}

static void tree_add(struct key_tree *tree, struct schema *s, struct slice key)
{
    uint32_t at = 0;
    for (size_t i = 0; i < key.size; i++) {
        if (key.data[i] == '\\' || key.data[i] == '"') return;
        at = tree_child(tree, s, at, (uint8_t)key.data[i]);
        if (!at) return;
    }
    tree->node[at].ends = true;
}

/* The ways out of a node: into its children, or off the declared keys into any text. */
static void emit_node(struct schema *s, const struct key_tree *tree, const struct key_node *node,
                      const uint32_t *text, uint32_t to)
{
    const struct text_rule *rule = &s->text[TEXT_JSON];
    bool taken[256] = { ['\\'] = true, ['"'] = true };
    for (uint32_t at = node->child; at; at = tree->node[at].sibling) {
        uint8_t byte = tree->node[at].byte;
        taken[byte] = true;
        nfa_step(s->nfa, node->state, byte, byte, tree->node[at].state);
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        uint16_t next = rule->next[node->text][byte];
        if (!taken[byte] && next < rule->count)
            nfa_step(s->nfa, node->state, (uint8_t)byte, (uint8_t)byte, text[next]);
    }
    if (!node->ends && rule->boundary[node->text]) nfa_step(s->nfa, node->state, '"', '"', to);
}

/* A key between quotes that is none of the declared ones. */
static void emit_free_key(struct schema *s, const struct json *properties, uint32_t from,
                          uint32_t to)
{
    const struct text_rule *rule = &s->text[TEXT_JSON];
    size_t nodes = 1;
    struct js_member at = { 0 };
    if (properties)
        while (js_next(properties, &at)) nodes += at.key.size;
    struct key_tree tree = { .node = calloc(nodes, sizeof *tree.node), .count = 1 };
    uint32_t *text = calloc(rule->count, sizeof *text);
    if (!tree.node || !text) {
        s->status = NO_MEMORY;
    } else {
        nfa_text(s->nfa, TEXT_JSON, rule, NULL, text);
        for (uint16_t k = 0; k < rule->count; k++)
            if (rule->boundary[k]) nfa_step(s->nfa, text[k], '"', '"', to);
        tree.node[0].state = nfa_state(s->nfa);
        at = (struct js_member){ 0 };
        if (properties)
            while (js_next(properties, &at)) tree_add(&tree, s, at.key);
        bool declares = properties && js_count(properties) > 0;
        for (uint32_t i = 0; declares && i < tree.count; i++)
            emit_node(s, &tree, &tree.node[i], text, to);
        uint32_t quote = nfa_bytes(s->nfa, from, SLICE("\""));
        nfa_epsilon(s->nfa, quote, declares ? tree.node[0].state : text[0]);
    }
    free(tree.node);
    free(text);
}

/* ---- objects ---- */

struct object {
    struct schema *s;
    uint32_t place;
    const struct json *properties, *required, *additional;
    size_t count;    // of properties
    bool *optional;  // [count]
    bool free_keys;
};

static bool is_required(const struct json *required, struct slice name)
{
    for (size_t i = 0; required && i < js_count(required); i++)
        if (js_kind(js_at(required, i)) == JS_STRING &&
            slice_equal(js_string(js_at(required, i)), name))
            return true;
    return false;
}

static void check_required(struct object *o)
{
    size_t found = 0;
    struct js_member at = { 0 };
    if (!o->required) return;
    if (js_kind(o->required) != JS_ARRAY) {
        schema_fail(o->s, BAD_INPUT, o->place, "required: wanted an array");
        return;
    }
    for (size_t i = 0; o->properties && js_next(o->properties, &at); i++) {
        o->optional[i] = !is_required(o->required, at.key);
        found += !o->optional[i];
    }
    if (found < js_count(o->required))
        schema_fail(o->s, BAD_INPUT, o->place,
                    "required: names what properties does not have, or one name twice");
}

static bool read_object(struct object *o)
{
    struct schema *s = o->s;
    o->properties = schema_word(s, o->place, "properties");
    o->required = schema_word(s, o->place, "required");
    o->additional = schema_word(s, o->place, "additionalProperties");
    if (o->properties && js_kind(o->properties) != JS_OBJECT) {
        schema_fail(s, BAD_INPUT, o->place, "properties: wanted an object");
        return false;
    }
    o->count = o->properties ? js_count(o->properties) : 0;
    o->optional = malloc(o->count + 1);
    if (!o->optional) {
        s->status = NO_MEMORY;
        return false;
    }
    memset(o->optional, true, o->count + 1);
    check_required(o);
    o->free_keys = o->additional ? js_kind(o->additional) != JS_BOOL || js_bool(o->additional)
                                 : !o->properties;
    return s->status == OK;
}

static uint32_t spaced(struct nfa *nfa, uint32_t from)
{
    uint32_t space = nfa_space(nfa);
    nfa_epsilon(nfa, from, space);
    return space;
}

/* From behind a key's closing quote: the colon and the value. */
static void emit_member_value(struct object *o, uint32_t place, uint32_t from, uint32_t to)
{
    struct schema_choices choices;
    uint32_t at = spaced(o->s->nfa, nfa_bytes(o->s->nfa, spaced(o->s->nfa, from), SLICE(":")));
    schema_choose(o->s, place, &choices);
    schema_values(o->s, &choices, SCHEMA_ANY | SCHEMA_INTEGER, at, to);
    free(choices.choice);
}

static uint32_t emit_free_member(struct object *o, uint32_t to)
{
    struct nfa *nfa = o->s->nfa;
    uint32_t start = nfa_state(nfa), after_key = nfa_state(nfa), place = 0;
    if (o->additional && js_kind(o->additional) == JS_OBJECT)
        place = schema_child(o->s, o->place, "additionalProperties", (struct slice){ NULL, 0 },
                             o->additional);
    emit_free_key(o->s, o->properties, start, after_key);
    emit_member_value(o, place, after_key, to);
    return start;
}

/*     first[i]   nothing was written yet, keys from i on may come
 *     next[i]    after a comma, keys from i on may come
 *     after[i]   after a value, keys from i on are left
 */
static void emit_object(struct object *o, uint32_t start, uint32_t *first, uint32_t *next,
                        uint32_t *after)
{
    struct nfa *nfa = o->s->nfa;
    size_t n = o->count;
    struct js_member at = { 0 };
    for (size_t i = 0; i <= n; i++) {
        first[i] = nfa_state(nfa);
        next[i] = nfa_state(nfa);
        after[i] = nfa_space(nfa);
    }
    nfa_epsilon(nfa, spaced(nfa, start), first[0]);
    uint32_t free_member = o->free_keys ? emit_free_member(o, after[n]) : 0;
    bool rest_optional = true;
    for (size_t i = n + 1; i-- > 0;) {
        if (i < n) rest_optional = rest_optional && o->optional[i];
        if (rest_optional) nfa_return(nfa, after[i], '}');
        if (i < n || free_member)
            nfa_epsilon(nfa, spaced(nfa, nfa_bytes(nfa, after[i], SLICE(","))), next[i]);
        if (i < n && o->optional[i]) {
            nfa_epsilon(nfa, first[i], first[i + 1]);
            nfa_epsilon(nfa, next[i], next[i + 1]);
        }
    }
    nfa_return(nfa, first[n], '}');
    if (free_member) {
        nfa_epsilon(nfa, first[n], free_member);
        nfa_epsilon(nfa, next[n], free_member);
    }
    for (size_t i = 0; o->properties && js_next(o->properties, &at) && o->s->status == OK; i++) {
        uint32_t key = nfa_state(nfa);
        nfa_epsilon(nfa, first[i], key);
        nfa_epsilon(nfa, next[i], key);
        uint32_t end = nfa_bytes(nfa, key, SLICE("\""));
        end = nfa_bytes(nfa, pattern_emit_text(nfa, PATTERN_JSON, at.key, end), SLICE("\""));
        emit_member_value(o, schema_child(o->s, o->place, "properties", at.key, at.value), end,
                          after[i + 1]);
    }
}

void schema_object_rule(struct schema *schema, uint32_t place, uint32_t start)
{
    struct object object = { .s = schema, .place = place };
    if (read_object(&object)) {
        size_t count = object.count + 1;
        uint32_t *state = malloc(3 * count * sizeof *state);
        if (state) emit_object(&object, start, state, state + count, state + 2 * count);
        else schema->status = NO_MEMORY;
        free(state);
    }
    free(object.optional);
}

/* ---- arrays ---- */

struct array {
    struct schema *s;
    uint32_t place, least, most;
    const struct json *prefix, *items;
    struct schema_choices rest;  // what the items behind the prefix may be
};

static bool read_array(struct array *a)
{
    struct schema *s = a->s;
    a->prefix = schema_word(s, a->place, "prefixItems");
    a->items = schema_word(s, a->place, "items");
    a->least = schema_count(s, a->place, "minItems", 0, SCHEMA_ITEMS_MOST);
    const struct json *most = schema_word(s, a->place, "maxItems");
    a->most = UINT32_MAX;
    if (most) a->most = schema_count(s, a->place, "maxItems", UINT32_MAX, SCHEMA_ITEMS_MOST);
    if (a->prefix && js_kind(a->prefix) != JS_ARRAY)
        schema_fail(s, BAD_INPUT, a->place, "prefixItems: wanted an array");
    if (a->least > a->most) schema_fail(s, BAD_INPUT, a->place, "minItems is larger than maxItems");
    if (s->status != OK) return false;

    bool closed = a->items && js_kind(a->items) == JS_BOOL && !js_bool(a->items);
    size_t prefix = a->prefix ? js_count(a->prefix) : 0;
    if (closed && a->most > prefix) a->most = (uint32_t)prefix;
    if (closed) return true;
    uint32_t place = 0;
    if (a->items) place = schema_child(s, a->place, "items", (struct slice){ NULL, 0 }, a->items);
    schema_choose(s, place, &a->rest);
    return s->status == OK;
}

static void emit_item(struct array *a, uint32_t index, uint32_t from, uint32_t to)
{
    if (!a->prefix || index >= js_count(a->prefix)) {
        schema_values(a->s, &a->rest, SCHEMA_ANY | SCHEMA_INTEGER, from, to);
        return;
    }
    struct schema_choices choices;
    uint32_t place = schema_child(a->s, a->place, "prefixItems", (struct slice){ NULL, 0 },
                                  js_at(a->prefix, index));
    schema_choose(a->s, place, &choices);
    schema_values(a->s, &choices, SCHEMA_ANY | SCHEMA_INTEGER, from, to);
    free(choices.choice);
}

static void emit_array(struct array *a, uint32_t start)
{
    struct nfa *nfa = a->s->nfa;
    uint32_t at = spaced(nfa, start), prefix = a->prefix ? (uint32_t)js_count(a->prefix) : 0;
    uint32_t last = a->least > prefix ? a->least : prefix;  // behind it items are all alike
    if (last == 0) last = 1;
    if (a->most != UINT32_MAX) last = a->most;
    if (a->least == 0) nfa_return(nfa, at, ']');
    for (uint32_t i = 0; i < last && nfa->status == OK && a->s->status == OK; i++) {
        uint32_t after = nfa_space(nfa);
        emit_item(a, i, at, after);
        if (i + 1 >= a->least) nfa_return(nfa, after, ']');
        bool loops = i + 1 == last && a->most == UINT32_MAX;
        if (i + 1 == last && !loops) break;
        at = spaced(nfa, nfa_bytes(nfa, after, SLICE(",")));
        if (loops) emit_item(a, i + 1, at, after);
    }
}

void schema_array_rule(struct schema *schema, uint32_t place, uint32_t start)
{
    struct array array = { .s = schema, .place = place };
    if (read_array(&array)) emit_array(&array, start);
    free(array.rest.choice);
}
