/* custom_input.c - one byte at a time. */
#include "server/custom_input.h"
#include "config/json.h"

static const char opening[] = "{\"input\":\"";

void custom_input_init(struct custom_input *custom)
{
    *custom = (struct custom_input){ 0 };
    buf_init(&custom->before, 0);
}

void custom_input_release(struct custom_input *custom)
{
    buf_release(&custom->before);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void before(struct custom_input *custom, char c, struct buf *out)
{
    bool inside_name = custom->matched >= 2 && custom->matched < 8;

    buf_add_byte(&custom->before, c);
    if (is_space(c) && !inside_name) return;
    if (c == opening[custom->matched]) {
        if (++custom->matched == sizeof opening - 1) custom->state = CUSTOM_INSIDE;
        return;
    }
    if (c == '}' && custom->matched == 1) {  // no arguments at all
        custom->state = CUSTOM_BEHIND;
        return;
    }
    custom->state = CUSTOM_OTHER;
    js_add_escaped(out, buf_slice(&custom->before));
}

static void inside(struct custom_input *custom, char c, struct buf *out)
{
    if (custom->held_size == 0 && c == '"') {
        custom->state = CUSTOM_BEHIND;
    } else if (custom->held_size == 0 && c != '\\') {
        buf_add_byte(out, c);
    } else {
        custom->held[custom->held_size++] = c;
        uint32_t whole = custom->held_size > 1 && custom->held[1] == 'u' ? 6 : 2;
        if (custom->held_size < whole) return;
        buf_add(out, custom->held, custom->held_size);
        custom->held_size = 0;
    }
}

void custom_input_feed(struct custom_input *custom, struct slice bytes, struct buf *out)
{
    for (size_t i = 0; i < bytes.size; i++) {
        if (custom->state == CUSTOM_OTHER) return js_add_escaped(out, slice_from(bytes, i));
        if (custom->state == CUSTOM_BEFORE) before(custom, bytes.data[i], out);
        else if (custom->state == CUSTOM_INSIDE) inside(custom, bytes.data[i], out);
    }
    if (custom->before.status != OK) out->status = custom->before.status;
}
