/* number.c - digit by digit: has the number so far left the bounds behind? */
#include "engine/grammar/number.h"

/* ---- bounds ---- */

/* From digits and the place of the point among them (it may lie outside). */
static enum decimal_fit settle(const char *digit, int digits, int point, struct decimal *out)
{
    while (digits > 0 && digit[digits - 1] == '0') digits--;
    while (digits > 0 && *digit == '0') {
        digit++;
        digits--;
        point--;
    }
    if (digits == 0) {
        *out = (struct decimal){ .wholes = 1, .whole = { '0' } };
        return DECIMAL_FITS;
    }
    if (point > NUMBER_INTEGER_DIGITS) return DECIMAL_HUGE;
    if (digits - point > NUMBER_BOUNDED_DIGITS) return DECIMAL_FINE;
    for (int i = 0; i < point; i++) out->whole[out->wholes++] = i < digits ? digit[i] : '0';
    if (out->wholes == 0) out->whole[out->wholes++] = '0';
    for (int i = point; i < digits; i++) out->fraction[out->fractions++] = i < 0 ? '0' : digit[i];
    return DECIMAL_FITS;
}

enum decimal_fit decimal_of_int(int64_t value, struct decimal *out)
{
    char text[24];
    *out = (struct decimal){ .negative = value < 0 };
    int size = snprintf(text, sizeof text, "%lld", (long long)value);
    int sign = value < 0;
    return settle(text + sign, size - sign, size - sign, out);
}

enum decimal_fit decimal_of_real(double value, struct decimal *out)
{
    char text[40], digit[24];
    int digits = 0, exponent;
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, value);
        if (strtod(text, NULL) == value) break;
    }
    *out = (struct decimal){ .negative = value < 0 };
    const char *e = strchr(text, 'e');
    if (!e) return DECIMAL_HUGE;
    for (const char *c = text; c < e; c++)
        if (*c >= '0' && *c <= '9') digit[digits++] = *c;
    exponent = (int)strtol(e + 1, NULL, 10);
    return settle(digit, digits, exponent + 1, out);
}

/* ---- without bounds ---- */

/* From 1 to `most` digits; state[i] is behind digit i + 1. */
static void emit_digits(struct nfa *nfa, uint32_t from, uint32_t most, uint32_t to)
{
    for (uint32_t i = 0; i < most; i++) {
        uint32_t next = nfa_state(nfa);
        nfa_step(nfa, from, '0', '9', next);
        nfa_epsilon(nfa, next, to);
        from = next;
    }
}

static void emit_integer(struct nfa *nfa, bool sign, uint32_t from, uint32_t to)
{
    uint32_t first = nfa_state(nfa), second = nfa_state(nfa);
    nfa_epsilon(nfa, from, first);
    if (sign) nfa_step(nfa, from, '-', '-', first);
    nfa_step(nfa, first, '0', '0', to);
    nfa_step(nfa, first, '1', '9', second);
    nfa_epsilon(nfa, second, to);
    emit_digits(nfa, second, NUMBER_INTEGER_DIGITS - 1, to);
}

static void emit_exponent(struct nfa *nfa, uint32_t from, uint32_t to)
{
    uint32_t e = nfa_state(nfa), signed_e = nfa_state(nfa), one = nfa_state(nfa);
    uint32_t two = nfa_state(nfa), tens = nfa_state(nfa), last = nfa_state(nfa);
    nfa_step(nfa, from, 'e', 'e', e);
    nfa_step(nfa, from, 'E', 'E', e);
    nfa_epsilon(nfa, e, signed_e);
    nfa_step(nfa, e, '+', '+', signed_e);
    nfa_step(nfa, e, '-', '-', signed_e);
    emit_digits(nfa, signed_e, 2, to);
    nfa_step(nfa, signed_e, '1', '1', one);
    nfa_step(nfa, one, '0', '9', tens);
    nfa_step(nfa, signed_e, '2', '2', two);
    nfa_step(nfa, two, '0', '8', tens);
    nfa_step(nfa, tens, '0', '9', last);
    nfa_epsilon(nfa, last, to);
}

static void emit_plain(struct nfa *nfa, bool integer, bool sign, uint32_t from, uint32_t to)
{
    if (integer) {
        emit_integer(nfa, sign, from, to);
        return;
    }
    uint32_t whole = nfa_state(nfa), point = nfa_state(nfa), fraction = nfa_state(nfa);
    emit_integer(nfa, sign, from, whole);
    nfa_epsilon(nfa, whole, to);
    nfa_step(nfa, whole, '.', '.', point);
    emit_digits(nfa, point, NUMBER_FRACTION_DIGITS, fraction);
    nfa_epsilon(nfa, fraction, to);
    emit_exponent(nfa, whole, to);
    emit_exponent(nfa, fraction, to);
}

/* ---- within bounds ---- */

/* The size of a number without its sign. */
struct magnitude {
    struct decimal low, high;
    bool has_high, low_open, high_open;
};

enum phase { WHOLE, POINT, FRACTION, PHASES };

/* How far a number has come. While it equals a bound so far, it is tight there. */
struct place {
    enum phase phase;
    uint32_t length;  // digits before the point
    uint32_t at;      // digits so far
    bool tight_low, tight_high;
    uint32_t rest;  // of the number so far, divided by `multiple`
};

enum { LENGTHS = NUMBER_INTEGER_DIGITS + 1, PLACES = NUMBER_INTEGER_DIGITS + 2 };

struct bounded {
    struct nfa *nfa;
    const struct number_rule *rule;
    const struct magnitude *magnitude;
    uint32_t to, multiple;
    uint32_t *state;  // [PHASES][LENGTHS][PLACES][2][2][multiple]; 0: not yet made
};

static uint32_t place_digits(const struct bounded *b, uint32_t length)
{
    return b->rule->integer ? length : NUMBER_BOUNDED_DIGITS;
}

static int digit_of(const struct decimal *bound, const struct place *place)
{
    if (place->at < place->length) return bound->whole[place->at] - '0';
    uint32_t behind = place->at - place->length;
    return behind < bound->fractions ? bound->fraction[behind] - '0' : 0;
}

/* Do only zeros follow in the bound? */
static bool bound_is_spent(const struct decimal *bound, const struct place *place)
{
    return place->at - place->length >= bound->fractions;
}

static bool may_end(const struct bounded *b, const struct place *place)
{
    const struct magnitude *m = b->magnitude;
    if (place->at < place->length || place->phase == POINT || place->rest) return false;
    if (place->tight_low && (!bound_is_spent(&m->low, place) || m->low_open)) return false;
    return !(place->tight_high && bound_is_spent(&m->high, place) && m->high_open);
}

static uint32_t emit_place(struct bounded *b, struct place place);

static void emit_next_digits(struct bounded *b, const struct place *place, uint32_t state)
{
    const struct magnitude *m = b->magnitude;
    int low = place->tight_low ? digit_of(&m->low, place) : 0;
    int high = place->tight_high ? digit_of(&m->high, place) : 9;
    int least = place->at == 0 && place->length > 1 ? 1 : 0;
    for (int digit = low > least ? low : least; digit <= high; digit++) {
        struct place next = *place;
        next.at++;
        next.tight_low = place->tight_low && digit == low;
        next.tight_high = place->tight_high && digit == high;
        next.rest = (place->rest * 10 + (uint32_t)digit) % b->multiple;
        if (place->phase == POINT) next.phase = FRACTION;
        uint16_t symbol = (uint16_t)('0' + digit);
        nfa_step(b->nfa, state, symbol, symbol, emit_place(b, next));
    }
}

static uint32_t emit_place(struct bounded *b, struct place place)
{
    if (b->rule->integer && !place.tight_low && !place.tight_high && place.at > 0) {
        uint32_t left = place.length - place.at;  // all that matters now
        place.at = NUMBER_INTEGER_DIGITS - left;
        place.length = NUMBER_INTEGER_DIGITS;
    }
    size_t index = (place.phase * LENGTHS + place.length) * PLACES + place.at;
    index = (index * 4 + place.tight_low * 2u + place.tight_high) * b->multiple + place.rest;
    if (b->state[index] || b->nfa->status != OK) return b->state[index];
    uint32_t state = b->state[index] = nfa_state(b->nfa);

    if (may_end(b, &place)) nfa_epsilon(b->nfa, state, b->to);
    if (place.at < place.length ||
        (place.phase != WHOLE && place.at < place_digits(b, place.length)))
        emit_next_digits(b, &place, state);
    else if (place.phase == WHOLE && place.at < place_digits(b, place.length)) {
        place.phase = POINT;
        nfa_step(b->nfa, state, '.', '.', emit_place(b, place));
    }
    return state;
}

static enum status emit_magnitude(struct nfa *nfa, const struct number_rule *rule,
                                  const struct magnitude *m, uint32_t from, uint32_t to)
{
    struct bounded b = { .nfa = nfa, .rule = rule, .magnitude = m, .to = to };
    uint32_t most = rule->integer ? NUMBER_INTEGER_DIGITS : NUMBER_BOUNDED_DIGITS;
    b.multiple = rule->multiple ? rule->multiple : 1;
    b.state = calloc((size_t)PHASES * LENGTHS * PLACES * 4 * b.multiple, sizeof *b.state);
    if (!b.state) return NO_MEMORY;

    bool from_zero = m->low.wholes == 1 && m->low.whole[0] == '0' && !m->low.fractions;
    for (uint32_t length = m->low.wholes; length <= most; length++) {
        if (m->has_high && length > m->high.wholes) break;
        struct place place = {
            .length = length,
            .tight_low = length == m->low.wholes && (!from_zero || m->low_open),
            .tight_high = m->has_high && length == m->high.wholes,
        };
        nfa_epsilon(nfa, from, emit_place(&b, place));
    }
    free(b.state);
    return OK;
}

/* The absolute value of a bound. */
static struct decimal absolute(struct decimal bound)
{
    bound.negative = false;
    return bound;
}

static const struct decimal zero = { .wholes = 1, .whole = { '0' } };

static bool is_zero(const struct decimal *d)
{
    return d->wholes == 1 && d->whole[0] == '0' && !d->fractions;
}

static enum status emit_bounded(struct nfa *nfa, const struct number_rule *r, uint32_t from,
                                uint32_t to)
{
    enum status status = OK;
    bool low_below = !r->has_low || r->low.negative;
    bool high_below = r->has_high && (r->high.negative || (is_zero(&r->high) && r->high_open));
    if (!high_below) {  // from 0 up
        struct magnitude up = { .low = low_below ? zero : r->low,
                                .low_open = !low_below && r->low_open,
                                .has_high = r->has_high,
                                .high = r->high,
                                .high_open = r->high_open };
        status = emit_magnitude(nfa, r, &up, from, to);
    }
    if (status == OK && low_below) {  // below 0
        bool bounded = r->has_high && r->high.negative;
        struct magnitude down = { .low = bounded ? absolute(r->high) : zero,
                                  .low_open = (bounded && r->high_open) || (high_below && !bounded),
                                  .has_high = r->has_low,
                                  .high = absolute(r->low),
                                  .high_open = r->low_open };
        uint32_t minus = nfa_state(nfa);
        nfa_step(nfa, from, '-', '-', minus);
        status = emit_magnitude(nfa, r, &down, minus, to);
    }
    return status;
}

enum status number_emit(struct nfa *nfa, const struct number_rule *rule, uint32_t from, uint32_t to)
{
    bool from_zero = rule->has_low && is_zero(&rule->low) && !rule->low_open && !rule->has_high;
    if (!rule->multiple && ((!rule->has_low && !rule->has_high) || from_zero)) {
        emit_plain(nfa, rule->integer, !from_zero, from, to);
        return OK;
    }
    return emit_bounded(nfa, rule, from, to);
}
