/* reply.c - the scanner, and what it does with reasoning and content. */
#include "engine/text/reply_state.h"
#include "config/utf8.h"

enum {
    INPUT_SLICE = 4096,  // bytes mended and scanned at a time
    SEND_AT = 65536,     // bytes of one part, about
};

/* ---- sending ---- */

static void send_out(struct reply *reply)
{
    if (reply->out.size == 0) return;
    struct reply_part part = { reply->out_kind, reply->calls ? reply->calls - 1 : 0,
                               buf_slice(&reply->out) };
    reply->options.sink.take(reply->options.sink.owner, &part);
    reply->out.size = 0;
}

struct buf *reply_sending(struct reply *reply, enum reply_part_kind kind)
{
    if (reply->out_kind != kind) send_out(reply);
    reply->out_kind = kind;
    return &reply->out;
}

void reply_sent(struct reply *reply)
{
    if (reply->out.size >= SEND_AT) send_out(reply);
}

void reply_send(struct reply *reply, enum reply_part_kind kind, struct slice text)
{
    buf_add_slice(reply_sending(reply, kind), text);
    reply_sent(reply);
}

void reply_send_mark(struct reply *reply, enum reply_part_kind kind, struct slice text)
{
    send_out(reply);
    struct reply_part part = { kind, reply->calls - 1, text };
    reply->options.sink.take(reply->options.sink.owner, &part);
}

/* ---- reasoning and content ---- */

static void send_content(struct reply *reply, struct slice text)
{
    if (reply->options.json) text = json_pick_feed(&reply->pick, text);
    reply->stopped.size = 0;
    if (stop_match_feed(&reply->stop, text, &reply->stopped)) reply->state = ENDED;
    if (reply->options.json && reply->pick.done) reply->state = ENDED;
    reply_send(reply, REPLY_CONTENT, buf_slice(&reply->stopped));
}

void reply_let_stops_go(struct reply *reply)
{
    reply->stopped.size = 0;
    stop_match_finish(&reply->stop, &reply->stopped);
    if (reply->stopped.size) reply_send(reply, REPLY_CONTENT, buf_slice(&reply->stopped));
}

/* Text and newlines go the same way; ENDED stays ENDED. */
static void send_text(struct reply *reply, struct slice text)
{
    if (text.size == 0 || reply->state == ENDED) return;
    if (reply->state == IN_REASONING) reply_send(reply, REPLY_REASONING, text);
    else send_content(reply, text);
}

static void send_newlines(struct reply *reply)
{
    static const char some[] = "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n";
    while (reply->newlines && reply->state != ENDED) {
        uint64_t now = reply->newlines < sizeof some - 1 ? reply->newlines : sizeof some - 1;
        reply->newlines -= now;
        send_text(reply, (struct slice){ some, (size_t)now });
    }
    reply->newlines = 0;
}

/* Only before a marker that ends the text are newlines dropped; without such markers they go. */
static bool holds_newlines(const struct reply *reply)
{
    return reply->state == IN_REASONING || (reply->state == IN_CONTENT && reply->tools_on);
}

void reply_end_text(struct reply *reply)
{
    send_newlines(reply);
    reply->state = ENDED;
}

void reply_add_newlines(struct reply *reply, uint64_t count)
{
    if (count == 0 || reply->fresh) return;
    reply->newlines += count;
    if (!holds_newlines(reply)) send_newlines(reply);
}

void reply_add_text(struct reply *reply, struct slice text)
{
    size_t lead = 0;
    if (reply->fresh)
        while (lead < text.size && text.data[lead] == '\n') lead++;
    text = slice_from(text, lead);

    size_t trail = 0;
    while (trail < text.size && text.data[text.size - 1 - trail] == '\n') trail++;
    text.size -= trail;
    if (text.size) {
        reply->fresh = false;
        send_newlines(reply);
        send_text(reply, text);
    }
    reply_add_newlines(reply, trail);
}

static void enter_content(struct reply *reply)
{
    reply->newlines = 0;
    reply->state = IN_CONTENT;
    reply->fresh = true;
}

static bool text_wants(const struct reply *reply, const struct marker *marker, size_t before)
{
    switch (marker->kind) {
    case MARKER_EOS:
    case MARKER_THINK_CLOSE:
        return true;
    case MARKER_THINK_OPEN:
        return reply->state == IN_REASONING && reply->fresh && before == 0 &&
               !reply->think_absorbed;
    case MARKER_INVOKE_OPEN:
        return reply->tools_on && reply_tools_find(reply->options.tools, marker->name);
    case MARKER_PARAM_OPEN:
        return false;
    default:
        return reply->tools_on;
    }
}

static void text_marker(struct reply *reply, const struct marker *marker, struct slice text)
{
    switch (marker->kind) {
    case MARKER_EOS:
        reply_end_text(reply);
        break;
    case MARKER_THINK_OPEN:
        reply->think_absorbed = true;
        reply->repairs[REPLY_REPAIR_STRAY]++;
        break;
    case MARKER_THINK_CLOSE:
        if (reply->state == IN_REASONING) enter_content(reply);
        break;
    case MARKER_BLOCK_OPEN:
    case MARKER_INVOKE_OPEN:
        reply_block_enter(reply, marker, text);
        break;
    default:  // a stray closer
        reply->repairs[REPLY_REPAIR_STRAY]++;
        break;
    }
}

/* ---- the scanner ---- */

static bool in_calls(const struct reply *reply)
{
    return reply->state == IN_BLOCK || reply->state == IN_CALL || reply->state == IN_VALUE;
}

/* Finds the first marker that the state wants, or the place that may become one. *before receives
 * the bytes of plain text in front of it, all of them on MARKER_NO. */
static enum marker_match find_marker(const struct reply *reply, struct slice text, size_t *before,
                                     struct marker *marker)
{
    for (size_t at = 0; reply->state != IN_RAW; at++) {
        const char *less = memchr(text.data + at, '<', text.size - at);
        if (!less) break;
        at = (size_t)(less - text.data);
        enum marker_match match = marker_read(slice_from(text, at), marker);
        if (match == MARKER_NO) continue;
        bool wanted = match == MARKER_CUT || (in_calls(reply) ? reply_call_wants(reply, marker)
                                                              : text_wants(reply, marker, at));
        if (!wanted) continue;
        *before = at;
        return match;
    }
    *before = text.size;
    return MARKER_NO;
}

/* The text is over and ends in what might have become a marker. In a call the beginning of a tool
 * tag is no text; a length cut drops even the first byte of one. */
static bool drop_cut_marker(const struct reply *reply, struct slice text, bool by_length)
{
    if (!in_calls(reply)) return false;
    return by_length || reply->state == IN_BLOCK || marker_is_tool_tag(text);
}

static void take_plain(struct reply *reply, struct slice text)
{
    if (text.size == 0) return;
    if (in_calls(reply)) {
        reply->at += reply_call_text(reply, text);
        return;
    }
    reply_add_text(reply, text);
    reply->at += text.size;
}

enum scan_end { MORE_COMES, ENDS_BY_STOP, ENDS_BY_LENGTH };

static void scan(struct reply *reply, enum scan_end end)
{
    while (reply->at < reply->in.size && reply->state != ENDED) {
        struct slice text = slice_from(buf_slice(&reply->in), reply->at);
        if (reply->fresh && !in_calls(reply) && *text.data == '\n') {
            reply->at++;
            continue;
        }
        struct marker marker;
        size_t before;
        enum marker_match match = find_marker(reply, text, &before, &marker);
        if (before) {
            take_plain(reply, (struct slice){ text.data, before });
            continue;  // the state may have changed: look again
        }
        if (match == MARKER_YES) {
            reply->at += marker.size;
            text.size = marker.size;
            if (in_calls(reply)) reply_call_marker(reply, &marker, text);
            else text_marker(reply, &marker, text);
            continue;
        }
        if (end == MORE_COMES) break;
        if (drop_cut_marker(reply, text, end == ENDS_BY_LENGTH)) reply->at = reply->in.size;
        else take_plain(reply, (struct slice){ text.data, 1 });
    }
    if (reply->state == ENDED) reply->at = reply->in.size;
    buf_drop_front(&reply->in, reply->at);
    reply->at = 0;
}

static const struct slice replacement = { "\xef\xbf\xbd", 3 };

/* One more byte for the unfinished character; false when it broke it and must be read again. */
static bool mend_tail(struct reply *reply, char byte)
{
    reply->tail[reply->tail_size++] = byte;
    struct slice tail = { reply->tail, reply->tail_size };
    struct utf8_char c = utf8_read(tail);
    if (c.cut) return true;
    reply->tail_size = 0;
    buf_add_slice(&reply->in, c.valid ? tail : replacement);
    return c.size == tail.size;
}

/* Appends bytes to `in` as valid UTF-8; an unfinished character waits in `tail`. */
static void mend(struct reply *reply, struct slice bytes)
{
    while (bytes.size) {
        if (reply->tail_size) {
            if (mend_tail(reply, *bytes.data)) bytes = slice_from(bytes, 1);
            continue;
        }
        size_t good = 0;
        struct utf8_char c = { 0 };
        while (good < bytes.size && (c = utf8_read(slice_from(bytes, good))).valid) good += c.size;
        buf_add(&reply->in, bytes.data, good);
        bytes = slice_from(bytes, good);
        if (bytes.size == 0) return;
        if (c.cut) {
            memcpy(reply->tail, bytes.data, bytes.size);
            reply->tail_size = bytes.size;
            return;
        }
        buf_add_slice(&reply->in, replacement);
        bytes = slice_from(bytes, c.size);
    }
}

/* A limit that was met is part of the rules; only missing memory is a failure. */
static enum status memory_status(const struct reply *reply)
{
    const struct buf *all[] = { &reply->in,         &reply->out,        &reply->stopped,
                                &reply->block.text, &reply->call.names, &reply->call.value };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->status == NO_MEMORY) return NO_MEMORY;
    return OK;
}

/* ---- the face ---- */

static enum reply_state start_state(enum reply_start start)
{
    static const enum reply_state state[] = {
        [REPLY_IN_REASONING] = IN_REASONING,
        [REPLY_IN_CONTENT] = IN_CONTENT,
        [REPLY_IN_BLOCK] = IN_BLOCK,
        [REPLY_IN_RAW] = IN_RAW,
    };
    return state[start];
}

/* A quotation that turns back into text must fit whatever the limit. */
static size_t block_limit(const struct reply_options *options)
{
    size_t least = options->prefill.size + REPLY_PROSE_MOST + 2 * MARKER_ATTRS_MOST;
    size_t limit = options->block_limit ? options->block_limit : REPLY_BLOCK_LIMIT;
    return limit > least ? limit : least;
}

enum status reply_open(const struct reply_options *options, struct reply **out)
{
    *out = NULL;
    must(options->sink.take);
    struct reply *reply = calloc(1, sizeof *reply);
    if (!reply) return NO_MEMORY;
    if (stop_match_init(&reply->stop, options->stop, options->stop_count) != OK) {
        free(reply);
        return NO_MEMORY;
    }

    reply->options = *options;
    reply->options.stop = NULL;  // copied
    if (!options->value_limit) reply->options.value_limit = REPLY_VALUE_LIMIT;
    reply->state = start_state(options->start);
    reply->tools_on = options->tools && options->tools->count && options->start != REPLY_IN_RAW;
    reply->fresh = !options->continued && options->start != REPLY_IN_RAW;
    buf_init(&reply->block.text, block_limit(options));
    if (options->start == REPLY_IN_BLOCK) {
        must(reply->tools_on);
        buf_add_slice(&reply->block.text, options->prefill);
        reply->block.prefill = reply->block.text.size;
        reply->block.from = IN_CONTENT;
        reply->block.opened = options->prefill.size > 0;
    }
    *out = reply;
    return OK;
}

void reply_close(struct reply *reply)
{
    if (!reply) return;
    stop_match_release(&reply->stop);
    buf_release(&reply->in);
    buf_release(&reply->out);
    buf_release(&reply->stopped);
    buf_release(&reply->block.text);
    buf_release(&reply->call.names);
    buf_release(&reply->call.value);
    free(reply);
}

enum status reply_feed(struct reply *reply, struct slice bytes)
{
    while (bytes.size && reply->state != ENDED) {
        size_t now = bytes.size < INPUT_SLICE ? bytes.size : INPUT_SLICE;
        mend(reply, (struct slice){ bytes.data, now });
        bytes = slice_from(bytes, now);
        scan(reply, MORE_COMES);
    }
    send_out(reply);
    return memory_status(reply);
}

bool reply_ended(const struct reply *reply)
{
    return reply->state == ENDED;
}

enum status reply_finish(struct reply *reply, bool by_length, enum reply_finish *finish)
{
    by_length = by_length && reply->state != ENDED;
    if (reply->tail_size && reply->state != ENDED) buf_add_slice(&reply->in, replacement);
    reply->tail_size = 0;
    scan(reply, by_length ? ENDS_BY_LENGTH : ENDS_BY_STOP);

    if (reply->state == ENDED) by_length = false;  // a marker stood in what was held back
    if (in_calls(reply)) reply_block_finish(reply, by_length);
    if (reply->state != ENDED) send_newlines(reply);
    reply_let_stops_go(reply);
    send_out(reply);
    *finish = by_length      ? REPLY_FINISH_LENGTH
              : reply->calls ? REPLY_FINISH_TOOL_CALLS
                             : REPLY_FINISH_STOP;
    return memory_status(reply);
}

struct slice reply_block(const struct reply *reply)
{
    const struct reply_block *block = &reply->block;
    bool whole = reply->calls && block->opened && block->closed && block->text.status == OK;
    return whole ? buf_slice(&block->text) : (struct slice){ NULL, 0 };
}

uint32_t reply_calls(const struct reply *reply)
{
    return reply->calls;
}

uint32_t reply_stop(const struct reply *reply)
{
    return reply->stop.found;
}

uint32_t reply_repaired(const struct reply *reply, enum reply_repair repair)
{
    return reply->repairs[repair];
}

bool reply_in_reasoning(const struct reply *reply)
{
    return reply->state == IN_REASONING;
}

bool reply_in_content(const struct reply *reply)
{
    return reply->state == IN_CONTENT || reply->state == IN_RAW;
}

bool reply_holds(const struct reply *reply)
{
    return reply->in.size || reply->tail_size || reply->newlines || stop_match_holds(&reply->stop);
}
