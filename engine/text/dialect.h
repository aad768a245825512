/* dialect.h - the three prompt formats of the V4 family: which one a checkpoint speaks, and its
 * literal strings.
 *
 * The format is a property of the weights, never of the request: the paragraph that asks for
 * maximal effort in one dialect asks for less in the next.
 */
#ifndef ENGINE_TEXT_DIALECT_H
#define ENGINE_TEXT_DIALECT_H

#include "config/json.h"
#include "config/slice.h"
#include "config/status.h"
#include "engine/text/chat.h"

#define BOS_TEXT "<｜begin▁of▁sentence｜>"
#define EOS_TEXT "<｜end▁of▁sentence｜>"
#define USER_TEXT "<｜User｜>"
#define ASSISTANT_TEXT "<｜Assistant｜>"
#define SYSTEM_TEXT "<｜System｜>"  // v4.1 only
#define REMINDER_TEXT "<｜latest_reminder｜>"
#define DSML_TEXT "｜DSML｜"
#define THINK_OPEN_TEXT "<think>"
#define THINK_CLOSE_TEXT "</think>"
#define IMAGE_TEXT "<｜deepseek_image｜>"
#define FIM_BEGIN_TEXT "<｜fim▁begin｜>"
#define FIM_HOLE_TEXT "<｜fim▁hole｜>"
#define FIM_END_TEXT "<｜fim▁end｜>"

enum dialect_id { DIALECT_V4, DIALECT_V4_0731, DIALECT_V41, DIALECT_COUNT };

struct dialect {
    enum dialect_id id;
    const char *name;                        // "v4", "v4-0731", "v4.1"
    struct slice effort[CHAT_EFFORT_SCORE];  // by enum chat_effort: the text before everything
    bool effort_scores;                      // takes a number from 1 to 100 as effort
    bool system_token;                       // writes <｜System｜>
    struct slice block, invoke, parameter;   // tag names, with v4.1's leading space
    struct slice tools_before;               // the tools section up to its schemas
};

/* What stands around a number from 1 to 100 given as effort. */
extern const struct slice dialect_score_before, dialect_score_after;

/* By id; always there. */
const struct dialect *dialect_of(enum dialect_id id);

/* By name, or NULL. */
const struct dialect *dialect_named(struct slice name);

/* From a checkpoint's config.json: model_type deepseek_v4 with dspark_* fields speaks v4-0731, without
 * them v4; deepseek_v41 speaks v4.1. *why receives a constant phrase for the log. BAD_INPUT: any
 * other model_type; the operator then names the dialect. */
CHECKED enum status dialect_detect(const struct json *config, const struct dialect **dialect,
                                   const char **why, struct err *err);

#endif
