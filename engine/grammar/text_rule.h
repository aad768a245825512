/* text_rule.h - the four kinds of text that a grammar leaves to the model, as tables over bytes.
 *
 *     TEXT_JSON       inside a JSON string, up to its quote
 *     TEXT_RAW        a DSML string parameter, up to `</` and the DSML token
 *     TEXT_REASONING  up to `</think>`
 *     TEXT_CONTENT    an ordinary reply
 *
 * None of them can spell what reply.h would take for a mark: a spelled closer, opener or end of
 * sentence is a dead end at its last byte, and the one who writes it must stop before. JSON and RAW
 * are also valid UTF-8, JSON without lone surrogate escapes. Constant after init.
 */
#ifndef ENGINE_GRAMMAR_TEXT_RULE_H
#define ENGINE_GRAMMAR_TEXT_RULE_H

#include <stdbool.h>
#include <stdint.h>
#include "config/slice.h"
#include "config/status.h"

enum text_kind { TEXT_JSON, TEXT_RAW, TEXT_REASONING, TEXT_CONTENT, TEXT_KINDS };

enum { TEXT_EXIT = 0xfffe, TEXT_DEAD = 0xffff };  // in place of a next state

struct text_rule {
    uint16_t count;             // states; the text begins in state 0
    uint16_t (*next)[256];      // [count] the state after each byte; owned
    bool *boundary;             // [count] between two characters; owned
    uint16_t after_open;        // the state after a lone `<`
    uint16_t after_open_slash;  // after `</`; 0 where the kind has none
};

/* NO_MEMORY leaves nothing to release. */
CHECKED enum status text_rule_init(struct text_rule *rule, enum text_kind kind);
void text_rule_release(struct text_rule *rule);

/* Does the text hold a mark that no TEXT_JSON may spell? Then its `<` must be escaped. */
bool text_rule_has_mark(struct slice text);

#endif
