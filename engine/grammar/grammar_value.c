/* grammar_value.c - values that are no containers: strings, numbers, literals. */
#include "engine/grammar/grammar_schema.h"
#include "engine/grammar/number.h"
#include "engine/grammar/pattern.h"

/* ---- formats ---- */

#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define IPV4 OCTET "(\\." OCTET "){3}"
#define H16 "[0-9a-fA-F]{1,4}"
#define LEAP "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
#define YEAR "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
#define DATE                                                                                       \
    "(" YEAR "-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"      \
    "02-(0[1-9]|1[0-9]|2[0-8]))|" LEAP "-02-29)"
#define TIME                                                                                       \
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]" \
    ")"
#define LABEL "[a-zA-Z0-9]([a-zA-Z0-9-]{0,60}[a-zA-Z0-9])?"
#define ATOM "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]"

static const struct format {
    struct slice name, pattern;
    uint32_t shortest, longest;  // characters that its strings have anyway
} formats[] = {
    { SLICE("date"), SLICE("^" DATE "$"), 10, 10 },
    { SLICE("time"), SLICE("^" TIME "$"), 9, 21 },
    { SLICE("date-time"), SLICE("^" DATE "T" TIME "$"), 20, 32 },
    { SLICE("hostname"), SLICE("^" LABEL "(\\." LABEL "){0,3}$"), 1, 251 },
    { SLICE("email"),
      SLICE("^" ATOM "{1,20}(\\." ATOM "{1,20}){0,2}@" LABEL "(\\." LABEL "){1,2}$"), 5, 251 },
    { SLICE("ipv4"), SLICE("^" IPV4 "$"), 7, 15 },
    { SLICE("uuid"),
      SLICE("^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"), 36,
      36 },
    { SLICE("ipv6"),
      SLICE("^((" H16 ":){7}" H16 "|(" H16 ":){1,7}:|(" H16 ":){1,6}:" H16 "|(" H16 ":){1,5}(:" H16
            "){1,2}|(" H16 ":){1,4}(:" H16 "){1,3}|(" H16 ":){1,3}(:" H16 "){1,4}|(" H16
            ":){1,2}(:" H16 "){1,5}|" H16 ":(:" H16 "){1,6}|:((:" H16 "){1,7}|:))$"),
      2, 39 },
};

/* The expression that a string must match, size 0: none; and the format that it comes from. */
static struct slice pattern_of(struct schema *s, uint32_t place, const struct format **known)
{
    const struct json *pattern = schema_word(s, place, "pattern");
    const struct json *format = schema_word(s, place, "format");
    const struct json *word = pattern ? pattern : format;
    if (!word) return SLICE("");
    if (js_kind(word) != JS_STRING) {
        schema_fail(s, BAD_INPUT, place, "%s: found %s, wanted a string",
                    pattern ? "pattern" : "format", js_kind_name(js_kind(word)));
        return SLICE("");
    }
    if (pattern && format) {
        schema_fail(s, BAD_INPUT, place, "pattern and format together are not supported");
        return SLICE("");
    }
    if (pattern) return js_string(pattern);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (slice_equal(formats[i].name, js_string(format))) {
            *known = &formats[i];
            return formats[i].pattern;
        }
    schema_fail(s, BAD_INPUT, place, "format: %.*s is not supported",
                (int)(js_string(format).size < 40 ? js_string(format).size : 40),
                js_string(format).data);
    return SLICE("");
}

/* ---- strings ---- */

/* Text of the rule from a state to where it may be left, with its characters counted. */
static void emit_text(struct schema *s, bool raw, uint32_t least, uint32_t most, uint32_t from,
                      uint32_t to)
{
    enum text_kind kind = raw ? TEXT_RAW : TEXT_JSON;
    const struct text_rule *rule = &s->text[kind];
    bool counted = least > 0 || most < UINT32_MAX;
    uint32_t *state = calloc(rule->count, sizeof *state);
    struct guard inside = { .kind = GUARD_CHARS, .low = 0, .high = most };
    if (!state) {
        s->status = NO_MEMORY;
        return;
    }
    nfa_text(s->nfa, kind, rule, counted ? &inside : NULL, state);
    nfa_epsilon(s->nfa, from, state[0]);
    for (uint16_t k = 0; k < rule->count; k++)
        if (rule->boundary[k]) nfa_epsilon(s->nfa, state[k], to);
    free(state);
}

static uint32_t counted_state(struct schema *s, uint32_t least, uint32_t most, uint32_t more)
{
    if (least == 0 && most == UINT32_MAX) return nfa_state(s->nfa);
    uint32_t high = most > UINT32_MAX - more ? UINT32_MAX : most + more;
    struct guard guard = { .kind = GUARD_CHARS, .low = least + more, .high = high };
    return nfa_guarded(s->nfa, &guard);
}

/* The closing quote, or `</` and the DSML token, behind text that was counted. */
static uint32_t counted_end(struct schema *s, bool raw, uint32_t least, uint32_t most)
{
    uint32_t end = counted_state(s, least, most, 0);
    nfa_flag(s->nfa, end, NFA_CLOSER);
    if (!raw) {
        nfa_return(s->nfa, end, '"');
        return end;
    }
    uint32_t open = counted_state(s, least, most, 1), slash = counted_state(s, least, most, 2);
    nfa_flag(s->nfa, open, NFA_CLOSER);
    nfa_flag(s->nfa, slash, NFA_CLOSER);
    nfa_step(s->nfa, end, '<', '<', open);
    nfa_step(s->nfa, open, '/', '/', slash);
    nfa_return(s->nfa, slash, SYMBOL_DSML);
    return end;
}

static uint32_t plain_end(struct schema *s, bool raw)
{
    return counted_end(s, raw, 0, UINT32_MAX);
}

static void emit_pattern(struct schema *s, uint32_t place, struct slice text, bool raw,
                         uint32_t least, uint32_t most, uint32_t from)
{
    struct pattern pattern;
    struct err why;
    if (s->nfa->status != OK) return;  // the limit is met already
    bool named = schema_word(s, place, "pattern") != NULL;
    enum status status = pattern_init(&pattern, text, &why);
    if (status != OK) {
        schema_fail(s, status, place, "%s: %s", named ? "pattern" : "format", why.text);
        return;
    }
    status = pattern_emit(&pattern, s->nfa, raw ? PATTERN_RAW : PATTERN_JSON, least, most, from,
                          plain_end(s, raw));
    if (status != OK)
        schema_fail(s, status, place, "%s: too big together with minLength and maxLength",
                    named ? "pattern" : "format");
    pattern_release(&pattern);
}

static void emit_string(struct schema *schema, uint32_t place, bool raw, uint32_t from)
{
    uint32_t least = schema_count(schema, place, "minLength", 0, SCHEMA_LENGTH_MOST);
    uint32_t most = schema_count(schema, place, "maxLength", UINT32_MAX, UINT32_MAX);
    if (most > SCHEMA_LENGTH_MOST) most = UINT32_MAX;
    const struct format *format = NULL;
    struct slice pattern = pattern_of(schema, place, &format);
    if (schema->status != OK) return;
    if (format && least <= format->shortest) least = 0;
    if (format && most >= format->longest) most = UINT32_MAX;
    if (least > most) {
        schema_fail(schema, BAD_INPUT, place, "minLength is larger than maxLength");
    } else if (pattern.size) {
        emit_pattern(schema, place, pattern, raw, least, most, from);
    } else {
        uint32_t end = counted_end(schema, raw, least, most);
        emit_text(schema, raw, least, most, from, end);
    }
}

void schema_string_rule(struct schema *schema, uint32_t place, uint32_t start)
{
    emit_string(schema, place, false, start);
}

void schema_raw(struct schema *schema, const struct schema_choices *choices, uint32_t from)
{
    for (uint32_t i = 0; i < choices->count && schema->status == OK; i++) {
        const struct schema_choice *choice = &choices->choice[i];
        if (!(choice->types & SCHEMA_STRING)) continue;
        if (!choice->literal) {
            emit_string(schema, choice->place, true, from);
            continue;
        }
        struct slice text = js_string(choice->literal);
        if (text_rule_has_mark(text))
            schema_fail(schema, BAD_INPUT, choice->place,
                        "a parameter cannot hold the text of a DSML mark");
        nfa_epsilon(schema->nfa, pattern_emit_text(schema->nfa, PATTERN_RAW, text, from),
                    plain_end(schema, true));
    }
}

/* ---- numbers ---- */

static void read_bound(struct schema *s, uint32_t place, const char *word, bool low,
                       struct number_rule *rule, bool *none)
{
    const struct json *node = schema_word(s, place, word);
    struct decimal bound;
    if (!node) return;
    if (js_kind(node) != JS_INT && js_kind(node) != JS_REAL) {
        schema_fail(s, BAD_INPUT, place, "%s: found %s, wanted a number", word,
                    js_kind_name(js_kind(node)));
        return;
    }
    if ((low ? rule->has_low : rule->has_high)) {
        schema_fail(s, BAD_INPUT, place, "%s beside another bound of its side is not supported",
                    word);
        return;
    }
    enum decimal_fit fit = js_kind(node) == JS_INT ? decimal_of_int(js_int(node), &bound)
                                                   : decimal_of_real(js_real(node), &bound);
    if (fit == DECIMAL_FINE) {
        schema_fail(s, TOO_LONG, place, "%s: more than %d digits behind the point", word,
                    NUMBER_BOUNDED_DIGITS);
        return;
    }
    if (fit == DECIMAL_HUGE) {  // beyond what we write, on one side or the other
        if (low != bound.negative) *none = true;
        return;
    }
    bool open = strncmp(word, "exclusive", 9) == 0;
    if (low) rule->has_low = true, rule->low = bound, rule->low_open = open;
    else rule->has_high = true, rule->high = bound, rule->high_open = open;
}

static void read_multiple(struct schema *s, uint32_t place, struct number_rule *rule)
{
    const struct json *node = schema_word(s, place, "multipleOf");
    if (!node) return;
    bool number = js_kind(node) == JS_INT || js_kind(node) == JS_REAL;
    double value = number ? js_real(node) : 0;
    if (value < 1 || value > NUMBER_MULTIPLE_MOST || value != __builtin_floor(value)) {
        schema_fail(s, BAD_INPUT, place,
                    "multipleOf: only whole numbers from 1 to %d are supported",
                    NUMBER_MULTIPLE_MOST);
        return;
    }
    rule->integer = true;
    rule->multiple = value > 1 ? (uint32_t)value : 0;
}

static void emit_number(struct schema *s, uint32_t place, bool integer, uint32_t from, uint32_t to)
{
    struct number_rule rule = { .integer = integer };
    bool none = false;
    read_bound(s, place, "minimum", true, &rule, &none);
    read_bound(s, place, "exclusiveMinimum", true, &rule, &none);
    read_bound(s, place, "maximum", false, &rule, &none);
    read_bound(s, place, "exclusiveMaximum", false, &rule, &none);
    read_multiple(s, place, &rule);
    if (s->status != OK || none) return;
    if (number_emit(s->nfa, &rule, from, to) != OK) s->status = NO_MEMORY;
}

/* ---- literals ---- */

static void emit_literal_number(struct schema *s, const struct json *literal, uint32_t from,
                                uint32_t to)
{
    char text[40];
    if (js_kind(literal) == JS_INT) {
        snprintf(text, sizeof text, "%lld", (long long)js_int(literal));
    } else {
        double value = js_real(literal), size = value < 0 ? -value : value;
        bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
        for (int digits = 0; digits <= 20; digits++) {
            if (plain) snprintf(text, sizeof text, "%.*f", digits, value);
            else snprintf(text, sizeof text, "%.*e", digits, value);
            if (strtod(text, NULL) == value) break;
        }
    }
    uint32_t end = nfa_bytes(s->nfa, from, slice_of(text));
    nfa_epsilon(s->nfa, end, to);
    // Writers of a real number that is whole write it so.
    if (js_kind(literal) == JS_REAL && !strpbrk(text, ".e"))
        nfa_bytes_to(s->nfa, end, SLICE(".0"), to);
}

void schema_literal(struct schema *schema, const struct json *literal, uint32_t from, uint32_t to)
{
    struct nfa *nfa = schema->nfa;
    switch (js_kind(literal)) {
    case JS_NULL:
        nfa_bytes_to(nfa, from, SLICE("null"), to);
        break;
    case JS_BOOL:
        nfa_bytes_to(nfa, from, js_bool(literal) ? SLICE("true") : SLICE("false"), to);
        break;
    case JS_INT:
    case JS_REAL:
        emit_literal_number(schema, literal, from, to);
        break;
    case JS_STRING:
        nfa_call(nfa, from, '"', schema_rule_of(schema, RULE_LITERAL_STRING, 0, literal), to);
        break;
    case JS_ARRAY:
        nfa_call(nfa, from, '[', schema_rule_of(schema, RULE_LITERAL_ARRAY, 0, literal), to);
        break;
    case JS_OBJECT:
        nfa_call(nfa, from, '{', schema_rule_of(schema, RULE_LITERAL_OBJECT, 0, literal), to);
        break;
    }
}

static uint32_t spaced(struct schema *s, uint32_t from)
{
    uint32_t space = nfa_space(s->nfa);
    nfa_epsilon(s->nfa, from, space);
    return space;
}

static void literal_array(struct schema *s, const struct json *literal, uint32_t start)
{
    uint32_t at = spaced(s, start);
    for (size_t i = 0; i < js_count(literal); i++) {
        if (i > 0) at = spaced(s, nfa_bytes(s->nfa, at, SLICE(",")));
        uint32_t after = nfa_space(s->nfa);
        schema_literal(s, js_at(literal, i), at, after);
        at = after;
    }
    nfa_return(s->nfa, at, ']');
}

static void literal_object(struct schema *s, const struct json *literal, uint32_t start)
{
    struct nfa *nfa = s->nfa;
    uint32_t at = spaced(s, start);
    struct js_member member = { 0 };
    for (size_t i = 0; js_next(literal, &member); i++) {
        if (i > 0) at = spaced(s, nfa_bytes(nfa, at, SLICE(",")));
        at = nfa_bytes(nfa, at, SLICE("\""));
        at = pattern_emit_text(nfa, PATTERN_JSON, member.key, at);
        at = spaced(s, nfa_bytes(nfa, at, SLICE("\"")));
        at = spaced(s, nfa_bytes(nfa, at, SLICE(":")));
        uint32_t after = nfa_space(nfa);
        schema_literal(s, member.value, at, after);
        at = after;
    }
    nfa_return(nfa, at, '}');
}

void schema_literal_rule(struct schema *schema, const struct schema_rule *rule)
{
    struct nfa *nfa = schema->nfa;
    if (rule->kind == RULE_LITERAL_ARRAY) literal_array(schema, rule->literal, rule->start);
    else if (rule->kind == RULE_LITERAL_OBJECT) literal_object(schema, rule->literal, rule->start);
    else
        nfa_return(nfa, pattern_emit_text(nfa, PATTERN_JSON, js_string(rule->literal), rule->start),
                   '"');
}

/* ---- any value ---- */

void schema_value(struct schema *schema, const struct schema_choice *choice, uint32_t from,
                  uint32_t to)
{
    struct nfa *nfa = schema->nfa;
    uint32_t place = choice->place;
    if (choice->literal) {
        schema_literal(schema, choice->literal, from, to);
        return;
    }
    if (choice->types & SCHEMA_OBJECT)
        nfa_call(nfa, from, '{', schema_rule_of(schema, RULE_OBJECT, place, NULL), to);
    if (choice->types & SCHEMA_ARRAY)
        nfa_call(nfa, from, '[', schema_rule_of(schema, RULE_ARRAY, place, NULL), to);
    if (choice->types & SCHEMA_STRING)
        nfa_call(nfa, from, '"', schema_rule_of(schema, RULE_STRING, place, NULL), to);
    if (choice->types & SCHEMA_NUMBER) emit_number(schema, place, false, from, to);
    else if (choice->types & SCHEMA_INTEGER) emit_number(schema, place, true, from, to);
    if (choice->types & SCHEMA_BOOLEAN) {
        nfa_bytes_to(nfa, from, SLICE("true"), to);
        nfa_bytes_to(nfa, from, SLICE("false"), to);
    }
    if (choice->types & SCHEMA_NULL) nfa_bytes_to(nfa, from, SLICE("null"), to);
}

void schema_values(struct schema *schema, const struct schema_choices *choices, uint8_t types,
                   uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < choices->count && schema->status == OK; i++) {
        struct schema_choice choice = choices->choice[i];
        choice.types &= types;
        if (choice.types) schema_value(schema, &choice, from, to);
    }
}
