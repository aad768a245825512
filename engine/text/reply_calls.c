/* reply_calls.c - the tool block: calls, parameters, and the JSON they become.
 *
 * Arguments are written as {"k": v, "k2": v2}. A string's value goes out as it comes; any other
 * waits for its end, since only then is it known to be JSON. Two things come late on purpose: a
 * body that is JSON itself, and one parameter that wraps all arguments, are only known as such
 * when the call ends.
 */
#include "config/json.h"
#include "engine/text/reply_state.h"

/* ---- arguments ---- */

static struct buf *arguments(struct reply *reply)
{
    return reply_sending(reply, REPLY_CALL_ARGS);
}

static void write_key(struct reply *reply)
{
    struct reply_call *call = &reply->call;
    struct buf *out = arguments(reply);
    buf_add_string(out, call->written ? ", " : "{");
    js_add_string(out, (struct slice){ call->name, call->name_size });
    buf_add_string(out, ": ");
    call->written = true;
}

/* The first parameter of each name counts. */
static bool name_is_new(struct reply_call *call, struct slice name)
{
    if (call->params >= REPLY_PARAMS_MOST) return false;
    for (size_t at = 0; at < call->names.size;) {
        const unsigned char *entry = (const unsigned char *)call->names.data + at;
        size_t size = (size_t)entry[0] << 8 | entry[1];
        if (slice_equal((struct slice){ (const char *)entry + 2, size }, name)) return false;
        at += 2 + size;
    }
    buf_add_byte(&call->names, (char)(name.size >> 8));
    buf_add_byte(&call->names, (char)(name.size & 0xff));
    buf_add_slice(&call->names, name);
    return true;
}

static const struct reply_property *property_of(const struct reply_call *call, struct slice name)
{
    return call->tool ? reply_tool_property(call->tool, name) : NULL;
}

/* One parameter `arguments` or `input` that the schema does not know, holding an object of nothing
 * but the schema's properties, is all the arguments in a wrapper (if no other parameter follows). */
static bool is_wrapper(const struct reply_call *call)
{
    struct slice name = { call->name, call->name_size };
    struct slice object = json_text_trim(buf_slice(&call->value)), key;

    if (!call->tool || call->params != 1 || object.size == 0 || *object.data != '{') return false;
    if (!slice_equal(name, SLICE("arguments")) && !slice_equal(name, SLICE("input"))) return false;
    if (property_of(call, name)) return false;
    for (size_t at = 0; json_text_next_key(object, &at, &key);)
        if (!property_of(call, key)) return false;
    return true;
}

static void write_value(struct reply *reply)
{
    write_key(reply);
    reply_send(reply, REPLY_CALL_ARGS, buf_slice(&reply->call.value));
}

/* A parameter followed after all. */
static void unwrap_nothing(struct reply *reply)
{
    if (reply->call.wrapper_waits) write_value(reply);
    reply->call.wrapper_waits = false;
}

static void param_begin(struct reply *reply, const struct marker *marker)
{
    struct reply_call *call = &reply->call;
    bool is_new = name_is_new(call, marker->name);

    if (!is_new) reply->repairs[REPLY_REPAIR_DUPLICATE]++;
    unwrap_nothing(reply);
    call->body = BODY_JUNK;  // with parameters there is no other body
    call->params++;
    call->value.size = 0;
    call->name_size = marker->name.size;
    memcpy(call->name, marker->name.data, marker->name.size);
    reply->state = IN_VALUE;

    const struct reply_property *property = property_of(call, marker->name);
    bool string = marker->string == MARKER_STRING_TRUE ||
                  (marker->string == MARKER_STRING_UNSAID && property && property->is_string);
    call->mode = !is_new ? VALUE_DROPPED : string ? VALUE_STRING : VALUE_JSON;
    if (call->mode != VALUE_STRING) return;
    write_key(reply);
    buf_add_byte(arguments(reply), '"');
}

static void add_escaped(struct reply *reply, struct slice text)
{
    js_add_escaped(arguments(reply), text);
    reply_sent(reply);
}

/* What waited as JSON is a string, as is what follows. */
static void value_turns_string(struct reply *reply)
{
    write_key(reply);
    buf_add_byte(arguments(reply), '"');
    add_escaped(reply, buf_slice(&reply->call.value));
    reply->call.value.size = 0;
    reply->call.mode = VALUE_STRING;
}

static void value_add(struct reply *reply, struct slice text)
{
    struct reply_call *call = &reply->call;

    if (call->mode == VALUE_JSON && call->value.size + text.size > reply->options.value_limit)
        value_turns_string(reply);
    if (call->mode == VALUE_STRING) add_escaped(reply, text);
    if (call->mode == VALUE_JSON) buf_add_slice(&call->value, text);
}

static void param_end(struct reply *reply)
{
    struct reply_call *call = &reply->call;

    if (call->mode == VALUE_JSON && !json_text_valid(buf_slice(&call->value))) {
        reply->repairs[REPLY_REPAIR_VALUE]++;
        value_turns_string(reply);
    }
    if (call->mode == VALUE_STRING) buf_add_byte(arguments(reply), '"');
    if (call->mode == VALUE_JSON && is_wrapper(call)) call->wrapper_waits = true;
    else if (call->mode == VALUE_JSON) write_value(reply);
    reply->state = IN_CALL;
}

/* ---- calls ---- */

static void call_begin(struct reply *reply, struct slice name)
{
    struct reply_call *call = &reply->call;

    call->tool = reply_tools_find(reply->options.tools, name);
    call->params = 0;
    call->written = call->wrapper_waits = false;
    call->names.size = call->value.size = 0;
    call->body = BODY_NONE;
    reply->calls++;
    reply->state = IN_CALL;
    reply_send_mark(reply, REPLY_CALL_START, name);
}

/* A body in place of parameters: kept while it may be one JSON object. */
static void body_add(struct reply *reply, struct slice text)
{
    struct reply_call *call = &reply->call;

    if (call->body == BODY_NONE) {
        text = json_text_trim_start(text);
        if (text.size) call->body = *text.data == '{' ? BODY_JSON : BODY_JUNK;
    }
    if (call->body != BODY_JSON) return;
    if (call->value.size + text.size > reply->options.value_limit) call->body = BODY_JUNK;
    else buf_add_slice(&call->value, text);
}

static void call_end(struct reply *reply)
{
    struct reply_call *call = &reply->call;
    struct slice all = SLICE("{}");

    if (reply->state == IN_VALUE) param_end(reply);
    bool body = call->body == BODY_JSON && json_text_valid(buf_slice(&call->value));
    if (call->wrapper_waits || call->body != BODY_NONE) {
        bool params = call->params > 0 && !call->wrapper_waits;
        reply->repairs[REPLY_REPAIR_BODY] += !params;
    }
    if (call->wrapper_waits || body) all = json_text_trim(buf_slice(&call->value));
    reply_send(reply, REPLY_CALL_ARGS, call->written ? SLICE("}") : all);
    reply_send_mark(reply, REPLY_CALL_END, (struct slice){ NULL, 0 });
    reply->state = reply->options.one_call ? ENDED : IN_BLOCK;
}

/* ---- the block ---- */

static void block_forget(struct reply *reply)
{
    buf_clear(&reply->block.text);
    reply->block.prefill = 0;
    reply->block.newlines = 0;
    reply->block.opened = reply->block.closed = false;
}

void reply_block_enter(struct reply *reply, const struct marker *marker, struct slice text)
{
    reply_let_stops_go(reply);
    block_forget(reply);
    if (marker->kind == MARKER_INVOKE_OPEN) reply->repairs[REPLY_REPAIR_OPENER]++;
    reply->block.from = reply->state;
    reply->block.newlines = reply->newlines;
    reply->newlines = 0;
    reply->state = IN_BLOCK;
    reply_call_marker(reply, marker, text);
}

/* An opener that no call followed was a quotation: it goes back to where it stood. */
static void block_back_to_text(struct reply *reply)
{
    struct slice text = slice_from(buf_slice(&reply->block.text), reply->block.prefill);

    reply->repairs[REPLY_REPAIR_QUOTED]++;
    reply->state = reply->block.from;
    reply_add_newlines(reply, reply->block.newlines);
    reply_add_text(reply, text);
    block_forget(reply);
}

/* Is there anything in the block but tags and white space? */
static bool block_has_prose(const struct reply *reply)
{
    struct slice text = slice_from(buf_slice(&reply->block.text), reply->block.prefill);

    for (text = json_text_trim(text); text.size; text = json_text_trim(text)) {
        struct marker marker;
        if (*text.data != '<' || marker_read(text, &marker) != MARKER_YES) return true;
        text = slice_from(text, marker.size);
    }
    return false;
}

/* A block without a call leaves nothing behind. */
static void block_vanishes(struct reply *reply)
{
    if (reply->block.from == IN_REASONING) reply->fresh = true;
    reply->state = IN_CONTENT;
    block_forget(reply);
}

static void block_end(struct reply *reply)
{
    reply->block.closed = true;
    if (reply->calls) reply->state = ENDED;
    else block_vanishes(reply);
}

void reply_block_finish(struct reply *reply, bool by_length)
{
    if (!by_length && reply->calls) reply->repairs[REPLY_REPAIR_CLOSER]++;
    if (reply->state != IN_BLOCK) {
        if (!by_length) call_end(reply);
    } else if (reply->calls == 0) {
        if (block_has_prose(reply)) block_back_to_text(reply);
        else block_vanishes(reply);
    }
}

/* ---- what the scanner calls ---- */

bool reply_call_wants(const struct reply *reply, const struct marker *marker)
{
    switch (marker->kind) {
    case MARKER_EOS:
    case MARKER_BLOCK_CLOSE:
        return true;
    case MARKER_THINK_OPEN:
        return false;
    case MARKER_THINK_CLOSE:  // then the reasoning had not ended: it only spoke of calls
        return reply->calls == 0 && reply->block.from == IN_REASONING;
    case MARKER_BLOCK_OPEN:
        return reply->state != IN_VALUE;
    case MARKER_INVOKE_OPEN:
        return reply->state != IN_VALUE &&
               (reply->block.opened || reply_tools_find(reply->options.tools, marker->name));
    case MARKER_PARAM_OPEN:
    case MARKER_INVOKE_CLOSE:
    case MARKER_PARAM_CLOSE:
        return true;
    }
    return false;
}

static size_t prose_limit(const struct reply *reply)
{
    return reply->block.prefill + REPLY_PROSE_MOST;
}

/* Text between the opener and the first call, up to the point where it must be prose. */
static size_t take_prose(struct reply *reply, struct slice text)
{
    struct buf *block = &reply->block.text;
    size_t take = block->size < prose_limit(reply) ? prose_limit(reply) - block->size : 0;

    if (take >= text.size) {
        buf_add_slice(block, text);
        return text.size;
    }
    while (take < text.size && ((unsigned char)text.data[take] & 0xc0) == 0x80) take++;
    buf_add(block, text.data, take);
    block_back_to_text(reply);
    return take;
}

size_t reply_call_text(struct reply *reply, struct slice text)
{
    if (reply->state == IN_BLOCK && reply->calls == 0) return take_prose(reply, text);
    buf_add_slice(&reply->block.text, text);
    if (reply->state == IN_VALUE) value_add(reply, text);
    if (reply->state == IN_CALL) body_add(reply, text);
    return text.size;
}

/* The marker ends more than its own tag: a closer before it was left out. */
static bool closes_too_much(const struct reply *reply, const struct marker *marker)
{
    switch (marker->kind) {
    case MARKER_BLOCK_CLOSE:
    case MARKER_INVOKE_OPEN:
        return reply->state != IN_BLOCK;
    case MARKER_INVOKE_CLOSE:
    case MARKER_PARAM_OPEN:
        return reply->state == IN_VALUE;
    default:
        return false;
    }
}

void reply_call_marker(struct reply *reply, const struct marker *marker, struct slice text)
{
    bool in_call = reply->state != IN_BLOCK;

    if (marker->kind == MARKER_THINK_CLOSE) {
        block_back_to_text(reply);
        reply->at -= marker->size;  // and is read again where it belongs
        return;
    }
    if (marker->kind == MARKER_EOS) {
        reply_block_finish(reply, false);
        reply_end_text(reply);
        return;
    }

    buf_add_slice(&reply->block.text, text);
    if (closes_too_much(reply, marker)) reply->repairs[REPLY_REPAIR_CLOSER]++;
    switch (marker->kind) {
    case MARKER_BLOCK_OPEN:
        if (!in_call) reply->block.opened = true;
        break;
    case MARKER_BLOCK_CLOSE:
        if (in_call) call_end(reply);
        if (reply->state != ENDED) block_end(reply);
        break;
    case MARKER_INVOKE_OPEN:
        if (in_call) call_end(reply);
        if (reply->state != ENDED) call_begin(reply, marker->name);
        break;
    case MARKER_INVOKE_CLOSE:
        if (in_call) call_end(reply);
        break;
    case MARKER_PARAM_OPEN:
        if (reply->state == IN_VALUE) param_end(reply);
        if (in_call) param_begin(reply, marker);
        break;
    case MARKER_PARAM_CLOSE:
        if (reply->state == IN_VALUE) param_end(reply);
        break;
    default:
        break;
    }
    bool prose = reply->state == IN_BLOCK && reply->calls == 0;
    if (prose && reply->block.text.size >= prose_limit(reply)) block_back_to_text(reply);
}
