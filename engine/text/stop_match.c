/* stop_match.c - Knuth, Morris and Pratt for each string, side by side: 16 short strings cost less
 * than one automaton of all of them, and need no table beyond their own lengths. */
#include "engine/text/stop_match.h"

struct stop_string {
    char *text;      // [size]; owned
    uint32_t *back;  // [size]; back[i]: the longest proper prefix that ends at text[i]; owned
    size_t size;     // bytes
    size_t matched;  // the last so many bytes seen are its beginning
    uint32_t index;  // its place among those that init was given
};

static enum status string_init(struct stop_string *string, struct slice text)
{
    *string = (struct stop_string){ .size = text.size };
    string->text = malloc(text.size);
    string->back = calloc(text.size, sizeof *string->back);
    if (!string->text || !string->back) return NO_MEMORY;

    memcpy(string->text, text.data, text.size);
    uint32_t length = 0;
    for (size_t i = 1; i < text.size; i++) {
        while (length && text.data[i] != text.data[length]) length = string->back[length - 1];
        if (text.data[i] == text.data[length]) length++;
        string->back[i] = length;
    }
    return OK;
}

enum status stop_match_init(struct stop_match *match, const struct slice *stop, uint32_t count)
{
    *match = (struct stop_match){ .found = STOP_NONE };
    if (count == 0) return OK;
    match->string = calloc(count, sizeof *match->string);
    if (!match->string) return NO_MEMORY;

    for (uint32_t i = 0; i < count; i++) {
        if (stop[i].size == 0) continue;
        must(stop[i].size < UINT32_MAX);
        struct stop_string *string = &match->string[match->count++];
        if (string_init(string, stop[i]) != OK) {
            stop_match_release(match);
            return NO_MEMORY;
        }
        string->index = i;
    }
    return OK;
}

void stop_match_release(struct stop_match *match)
{
    for (uint32_t i = 0; i < match->count; i++) {
        free(match->string[i].text);
        free(match->string[i].back);
    }
    free(match->string);
    *match = (struct stop_match){ 0 };
}

/* The text held back is the longest beginning under way. */
static struct slice held(const struct stop_match *match)
{
    struct slice most = { NULL, 0 };
    for (uint32_t i = 0; i < match->count; i++)
        if (match->string[i].matched > most.size)
            most = (struct slice){ match->string[i].text, match->string[i].matched };
    return most;
}

/* One byte; true when the string is complete. */
static bool string_step(struct stop_string *string, char byte)
{
    if (string->matched == string->size) string->matched = 0;
    while (string->matched && byte != string->text[string->matched])
        string->matched = string->back[string->matched - 1];
    if (byte == string->text[string->matched]) string->matched++;
    return string->matched == string->size;
}

/* Appends the first `size` bytes of before + text. */
static void add_front(struct buf *out, struct slice before, struct slice text, size_t size)
{
    size_t from_before = size < before.size ? size : before.size;
    buf_add(out, before.data, from_before);
    buf_add(out, text.data, size - from_before);
}

bool stop_match_feed(struct stop_match *match, struct slice text, struct buf *out)
{
    struct slice before = held(match);

    if (match->count == 0) {
        buf_add_slice(out, text);
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        size_t longest = 0;
        for (uint32_t s = 0; s < match->count; s++)
            if (string_step(&match->string[s], text.data[i]) && match->string[s].size > longest) {
                longest = match->string[s].size;
                match->found = match->string[s].index;
            }
        if (!longest) continue;
        add_front(out, before, text, before.size + i + 1 - longest);
        for (uint32_t s = 0; s < match->count; s++) match->string[s].matched = 0;
        return true;
    }
    add_front(out, before, text, before.size + text.size - held(match).size);
    return false;
}

bool stop_match_holds(const struct stop_match *match)
{
    return held(match).size > 0;
}

void stop_match_finish(struct stop_match *match, struct buf *out)
{
    buf_add_slice(out, held(match));
    for (uint32_t s = 0; s < match->count; s++) match->string[s].matched = 0;
}
