/* marker.c - one cursor over the text; every step says yes, no, or "the text ends here". */
#include "engine/text/marker.h"
#include "engine/text/dialect.h"

struct cursor {
    struct slice rest;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Passes `word`, or says how far the text agrees with it. */
static enum marker_match read_word(struct cursor *at, struct slice word)
{
    if (slice_starts(at->rest, word)) {
        at->rest = slice_from(at->rest, word.size);
        return MARKER_YES;
    }
    return slice_starts(word, at->rest) ? MARKER_CUT : MARKER_NO;
}

static void skip_spaces(struct cursor *at)
{
    while (at->rest.size && is_space(*at->rest.data)) at->rest = slice_from(at->rest, 1);
}

/* name="value"; *key and *value are slices of the text. */
static enum marker_match read_attribute(struct cursor *at, struct slice *key, struct slice *value)
{
    size_t size = 0;
    while (size < at->rest.size && at->rest.data[size] >= 'a' && at->rest.data[size] <= 'z') size++;
    *key = (struct slice){ at->rest.data, size };
    at->rest = slice_from(at->rest, size);
    if (size == 0) return at->rest.size ? MARKER_NO : MARKER_CUT;

    enum marker_match match = read_word(at, SLICE("=\""));
    if (match != MARKER_YES) return match;
    size_t look = at->rest.size < MARKER_NAME_MOST + 1 ? at->rest.size : MARKER_NAME_MOST + 1;
    const char *quote = memchr(at->rest.data, '"', look);
    if (!quote) return at->rest.size > MARKER_NAME_MOST ? MARKER_NO : MARKER_CUT;
    *value = (struct slice){ at->rest.data, (size_t)(quote - at->rest.data) };
    at->rest = slice_from(at->rest, value->size + 1);
    return MARKER_YES;
}

/* Attributes up to `>`. The bounds are on what was read, so they hold for any longer text too. */
static enum marker_match read_attributes(struct cursor *at, struct marker *marker)
{
    bool named = false, begins = at->rest.size && is_space(*at->rest.data);
    if (at->rest.size && !begins) return MARKER_NO;

    for (;;) {
        skip_spaces(at);
        if (at->rest.size == 0) return MARKER_CUT;
        if (*at->rest.data == '>') break;
        struct slice key, value;
        enum marker_match match = read_attribute(at, &key, &value);
        if (match != MARKER_YES) return match;
        if (slice_equal(key, SLICE("name")) && !named) {
            marker->name = value;
            named = true;
        } else if (slice_equal(key, SLICE("string"))) {
            marker->string = slice_equal(value, SLICE("true"))    ? MARKER_STRING_TRUE
                             : slice_equal(value, SLICE("false")) ? MARKER_STRING_FALSE
                                                                  : MARKER_STRING_UNSAID;
        }
    }
    return named ? MARKER_YES : MARKER_NO;
}

static const struct tag {
    struct slice name;
    enum marker_kind open, close;
} tags[] = {
    { SLICE("tool_calls"), MARKER_BLOCK_OPEN, MARKER_BLOCK_CLOSE },
    { SLICE("calls"), MARKER_BLOCK_OPEN, MARKER_BLOCK_CLOSE },
    { SLICE("toolcalls"), MARKER_BLOCK_OPEN, MARKER_BLOCK_CLOSE },
    { SLICE("function_calls"), MARKER_BLOCK_OPEN, MARKER_BLOCK_CLOSE },
    { SLICE("invoke"), MARKER_INVOKE_OPEN, MARKER_INVOKE_CLOSE },
    { SLICE("parameter"), MARKER_PARAM_OPEN, MARKER_PARAM_CLOSE },
};

/* What follows the DSML word, up to and with `>`. */
static enum marker_match read_tag(struct cursor *at, bool closes, struct marker *marker)
{
    enum marker_match match = MARKER_NO;
    if (at->rest.size && *at->rest.data == ' ') at->rest = slice_from(at->rest, 1);

    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        enum marker_match found = read_word(at, tags[i].name);
        if (found == MARKER_CUT) match = MARKER_CUT;
        if (found != MARKER_YES) continue;
        marker->kind = closes ? tags[i].close : tags[i].open;
        const char *attributes = at->rest.data;
        if (marker->kind == MARKER_INVOKE_OPEN || marker->kind == MARKER_PARAM_OPEN) {
            match = read_attributes(at, marker);
        } else {
            skip_spaces(at);
            match = MARKER_YES;
        }
        if ((size_t)(at->rest.data - attributes) > MARKER_ATTRS_MOST) return MARKER_NO;
        return match == MARKER_YES ? read_word(at, SLICE(">")) : match;
    }
    return match;
}

static const struct plain_marker {
    struct slice text;
    enum marker_kind kind;
} plain_markers[] = {
    { SLICE(THINK_OPEN_TEXT), MARKER_THINK_OPEN },
    { SLICE(THINK_CLOSE_TEXT), MARKER_THINK_CLOSE },
    { SLICE(EOS_TEXT), MARKER_EOS },
};

static const struct tag_opening {
    struct slice text;
    bool closes;
} tag_openings[] = {
    { SLICE("<" DSML_TEXT), false },
    { SLICE("</" DSML_TEXT), true },
};

enum marker_match marker_read(struct slice text, struct marker *marker)
{
    enum marker_match match = MARKER_NO;

    *marker = (struct marker){ 0 };
    for (size_t i = 0; i < sizeof plain_markers / sizeof *plain_markers; i++) {
        struct cursor at = { text };
        enum marker_match found = read_word(&at, plain_markers[i].text);
        if (found == MARKER_YES) {
            marker->kind = plain_markers[i].kind;
            marker->size = plain_markers[i].text.size;
            return MARKER_YES;
        }
        if (found == MARKER_CUT) match = MARKER_CUT;
    }
    for (size_t i = 0; i < sizeof tag_openings / sizeof *tag_openings; i++) {
        struct cursor at = { text };
        enum marker_match found = read_word(&at, tag_openings[i].text);
        if (found == MARKER_YES) {
            match = read_tag(&at, tag_openings[i].closes, marker);
            marker->size = text.size - at.rest.size;
            return match;
        }
        if (found == MARKER_CUT) match = MARKER_CUT;
    }
    return match;
}

bool marker_is_tool_tag(struct slice text)
{
    for (size_t i = 0; i < sizeof tag_openings / sizeof *tag_openings; i++)
        if (slice_starts(text, tag_openings[i].text)) return true;
    return false;
}
