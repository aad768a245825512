/* grammar_dsml.h - the tool block (chat-encoding 4), written as the prompt shows it.
 *
 *     <｜DSML｜tool_calls>\n
 *     <｜DSML｜invoke name="NAME">\n                          one call or more
 *     <｜DSML｜parameter name="NAME" string="true">TEXT</｜DSML｜parameter>\n
 *     </｜DSML｜invoke>\n
 *     </｜DSML｜tool_calls>
 *
 * Calls name declared tools. Parameters name declared properties (any name where none is declared),
 * in any order, each once, and all the required ones: the first SEEN_MOST of a tool are remembered.
 * A string is raw text, other values are JSON. Where a tool is strict, values follow their schemas;
 * elsewhere `type` decides which of the two forms it is. Private to engine/grammar.
 */
#ifndef ENGINE_GRAMMAR_GRAMMAR_DSML_H
#define ENGINE_GRAMMAR_GRAMMAR_DSML_H

#include "engine/grammar/grammar.h"
#include "engine/grammar/grammar_schema.h"

enum {
    TOOLS_MOST = 256,
    TOOL_NAME_MOST = 256,  // bytes of a tool's or a parameter's name (marker.h)
    FREE_NAME_MOST = 64,   // bytes of a parameter's name where none is declared
};

struct dsml_block {
    uint32_t opened;  // after the opener's DSML token
    uint32_t inside;  // after the opener and its newline
    uint32_t end;     // after the closer; final
};

/* Failures are in schema->status. */
void dsml_emit(struct schema *schema, const struct grammar_source *source,
               struct dsml_block *block);

#endif
