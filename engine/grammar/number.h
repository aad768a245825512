/* number.h - JSON numbers within bounds, as an automaton over their digits.
 *
 * Without bounds: an integer has up to 18 digits, a number up to 18 before the point, 20 behind it
 * and an exponent of up to 289, so that every reader can hold it. With bounds: no exponent, and 15
 * digits in all, so that two different texts are two different doubles and a strict bound is one
 * for the reader too.
 */
#ifndef ENGINE_GRAMMAR_NUMBER_H
#define ENGINE_GRAMMAR_NUMBER_H

#include "engine/grammar/nfa.h"

enum {
    NUMBER_INTEGER_DIGITS = 18,
    NUMBER_FRACTION_DIGITS = 20,
    NUMBER_BOUNDED_DIGITS = 15,
    NUMBER_MULTIPLE_MOST = 100,
};

/* A bound, exactly as it was written. */
struct decimal {
    bool negative;
    uint8_t wholes, fractions;
    char whole[NUMBER_INTEGER_DIGITS];     // digits; "0" for none
    char fraction[NUMBER_INTEGER_DIGITS];  // digits, the last one not 0
};

struct number_rule {
    bool integer;
    bool has_low, has_high, low_open, high_open;  // open: the bound itself is outside
    struct decimal low, high;
    uint32_t multiple;  // integers: a multiple of it; 0: any
};

enum decimal_fit { DECIMAL_FITS, DECIMAL_HUGE, DECIMAL_FINE };  // too many digits before, behind

enum decimal_fit decimal_of_int(int64_t value, struct decimal *out);
enum decimal_fit decimal_of_real(double value, struct decimal *out);

/* The numbers of the rule from one state to another. NO_MEMORY. */
CHECKED enum status number_emit(struct nfa *nfa, const struct number_rule *rule, uint32_t from,
                                uint32_t to);

#endif
