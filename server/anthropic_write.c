/* anthropic_write.c - messages, in one piece or block by block, from the same calls.
 *
 *     message_start, (content_block_start, [ping], content_block_delta..., content_block_stop)...,
 *     message_delta, message_stop
 *
 * Blocks open and close as the kind of text changes. A whole answer keeps its blocks in the content's
 * buffer and the input of the call under way in that of the arguments.
 */
#include <inttypes.h>
#include "config/json.h"
#include "server/anthropic_error.h"
#include "server/json_mend.h"
#include "server/service.h"
#include "server/stream_state.h"

struct message {
    uint32_t blocks;  // begun
    enum field open;  // the kind of the block under way; NONE: none
};

static struct message *message_of(const struct choice *choice)
{
    return choice->stream->own;
}

static bool streams(const struct choice *choice)
{
    return choice->stream->request->stream;
}

static enum status message_open(struct stream *stream)
{
    stream->own = calloc(1, sizeof(struct message));
    return stream->own ? OK : NO_MEMORY;
}

static void message_close(struct stream *stream)
{
    free(stream->own);
}

static void event_begin(struct buf *out, const char *type)
{
    buf_addf(out, "event: %s\ndata: {\"type\":\"%s\"", type, type);
}

static void event_end(struct buf *out)
{
    buf_add_string(out, "}\n\n");
}

/* Input is what was not found in the cache, as Anthropic counts. */
static void add_usage(struct buf *out, const struct out_usage *usage)
{
    buf_addf(out,
             "{\"input_tokens\":%" PRIu64 ",\"cache_creation_input_tokens\":0,"
             "\"cache_read_input_tokens\":%" PRIu64 ",\"output_tokens\":%" PRIu64
             ",\"output_tokens_details\":{\"thinking_tokens\":%" PRIu64 "}}",
             usage->prompt_tokens - usage->cached_tokens, usage->cached_tokens,
             usage->completion_tokens, usage->reasoning_tokens);
}

/* {"id":...,"type":"message","role":"assistant","model":...,"content":[ (no more) */
static void add_head(const struct stream *stream, struct buf *out)
{
    buf_addf(out,
             "{\"id\":\"%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":", stream->id);
    js_add_string(out, stream->setup.model);
    buf_add_string(out, ",\"content\":[");
}

/* "stop_reason":...,"stop_sequence":... */
static void add_stop(const struct choice *choice, struct buf *out)
{
    static const char *const reason[] = {
        [REPLY_FINISH_STOP] = "end_turn",
        [REPLY_FINISH_LENGTH] = "max_tokens",
        [REPLY_FINISH_TOOL_CALLS] = "tool_use",
    };
    const struct reply_options *options = &choice->stream->setup.reply;
    uint32_t stop = reply_stop(choice->reply);

    if (choice->finish == REPLY_FINISH_STOP && stop != STOP_NONE) {
        buf_add_string(out, "\"stop_reason\":\"stop_sequence\",\"stop_sequence\":");
        js_add_string(out, options->stop[stop]);
    } else {
        buf_addf(out, "\"stop_reason\":\"%s\",\"stop_sequence\":null", reason[choice->finish]);
    }
}

/* ---- blocks ---- */

/* The start of a message is told what the cache had, which the first job's start brings. */
static void write_start(struct choice *choice)
{
    struct stream *stream = choice->stream;
    struct buf *out = &stream->request->out;
    struct out_usage usage = stream_usage(stream);

    if (!streams(choice)) return;
    usage.cached_tokens = stream->request->cache_known ? stream->request->cache.hit_tokens : 0;
    event_begin(out, "message_start");
    buf_add_string(out, ",\"message\":");
    add_head(stream, out);
    buf_add_string(out, "],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
    add_usage(out, &usage);
    buf_add_byte(out, '}');
    event_end(out);
}

static void write_gathered(struct choice *choice)
{
    static const char *const delta[] = {
        [FIELD_REASONING] = "thinking_delta\",\"thinking",
        [FIELD_CONTENT] = "text_delta\",\"text",
        [FIELD_ARGUMENTS] = "input_json_delta\",\"partial_json",
    };
    const struct message *message = message_of(choice);
    struct buf *out = &choice->stream->request->out;
    struct buf *text = &choice->gathered[message->open];

    if (message->open == FIELD_NONE || text->size == 0) return;
    event_begin(out, "content_block_delta");
    buf_addf(out, ",\"index\":%u,\"delta\":{\"type\":\"%s\":\"", message->blocks - 1,
             delta[message->open]);
    buf_add_slice(out, buf_slice(text));
    buf_add_string(out, "\"}");
    event_end(out);
    text->size = 0;
}

/* Nobody checks a signature, but clients do not send a thinking block back that has none. */
static void close_streamed(struct choice *choice)
{
    struct buf *out = &choice->stream->request->out;
    const struct message *message = message_of(choice);

    write_gathered(choice);
    if (message->open == FIELD_REASONING) {
        event_begin(out, "content_block_delta");
        buf_addf(out, ",\"index\":%u,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"%s\"}",
                 message->blocks - 1, choice->stream->id);
        event_end(out);
    }
    event_begin(out, "content_block_stop");
    buf_addf(out, ",\"index\":%u", message->blocks - 1);
    event_end(out);
}

static void close_block(struct choice *choice)
{
    struct message *message = message_of(choice);
    struct buf *blocks = &choice->gathered[FIELD_CONTENT];
    struct buf *input = &choice->gathered[FIELD_ARGUMENTS];

    if (message->open == FIELD_NONE) return;
    if (streams(choice)) {
        close_streamed(choice);
    } else if (message->open == FIELD_REASONING) {
        buf_addf(blocks, "\",\"signature\":\"%s\"}", choice->stream->id);
    } else if (message->open == FIELD_CONTENT) {
        buf_add_string(blocks, "\"}");
    } else {
        json_mend(blocks, buf_slice(input));
        buf_add_byte(blocks, '}');
        input->size = 0;
    }
    message->open = FIELD_NONE;
}

/* `begin` is the block as it begins, up to where its text goes on; `rest` what a stream closes it
 * with, since there it is whole and empty. */
static void open_block(struct choice *choice, enum field kind, struct slice begin, const char *rest)
{
    struct message *message = message_of(choice);
    struct buf *out = &choice->stream->request->out;

    close_block(choice);
    message->open = kind;
    message->blocks++;
    if (!streams(choice)) {
        out = &choice->gathered[FIELD_CONTENT];
        if (out->size) buf_add_byte(out, ',');
        buf_add_slice(out, begin);
        return;
    }
    event_begin(out, "content_block_start");
    buf_addf(out, ",\"index\":%u,\"content_block\":", message->blocks - 1);
    buf_add_slice(out, begin);
    buf_add_string(out, rest);
    event_end(out);
    if (message->blocks > 1) return;
    event_begin(out, "ping");
    event_end(out);
}

static void write_text(struct choice *choice, enum field field, struct slice text)
{
    struct message *message = message_of(choice);

    if (text.size == 0) return;
    if (field == FIELD_ARGUMENTS) {
        if (streams(choice)) js_add_escaped(&choice->gathered[field], text);
        else buf_add_slice(&choice->gathered[field], text);
        return;
    }
    if (message->open != field && field == FIELD_REASONING)
        open_block(choice, field, SLICE("{\"type\":\"thinking\",\"thinking\":\""),
                   "\",\"signature\":\"\"}");
    else if (message->open != field)
        open_block(choice, field, SLICE("{\"type\":\"text\",\"text\":\""), "\"}");
    js_add_escaped(&choice->gathered[streams(choice) ? field : FIELD_CONTENT], text);
}

static void write_call_begin(struct choice *choice, uint32_t call, struct slice id,
                             struct slice name)
{
    struct buf begin;
    (void)call;

    buf_init(&begin, 0);
    buf_add_string(&begin, "{\"type\":\"tool_use\",\"id\":");
    js_add_string(&begin, id);
    buf_add_string(&begin, ",\"name\":");
    js_add_string(&begin, name);
    buf_add_string(&begin, ",\"input\":");
    open_block(choice, FIELD_ARGUMENTS, buf_slice(&begin), "{}}");
    if (buf_status(&begin) != OK) choice->gathered[FIELD_ARGUMENTS].status = NO_MEMORY;
    buf_release(&begin);
}

/* ---- the end ---- */

/* There is no word for an answer that the engine had to stop: it is an error, which clients retry. */
static void write_error(struct stream *stream, enum refusal refusal, const char *message)
{
    struct request *request = stream->request;

    if (!request->stream) {
        request_refuse(request, refusal, NULL, message);
        return;
    }
    buf_add_string(&request->out, "event: error\ndata: ");
    (void)anthropic_error_add(&request->out, refusal, message, request->id);
    buf_add_string(&request->out, "\n\n");
    request->outcome = OUTCOME_ERROR;
    request->done = true;
}

static void write_finish(struct choice *choice)
{
    struct stream *stream = choice->stream;
    struct buf *out = &stream->request->out;
    struct out_usage usage = stream_usage(stream);

    close_block(choice);
    if (choice->cut) return write_error(stream, REFUSE_FULL, "the server had to stop the answer");
    if (!streams(choice)) {
        add_head(stream, out);
        buf_add_slice(out, buf_slice(&choice->gathered[FIELD_CONTENT]));
        buf_add_string(out, "],");
        add_stop(choice, out);
        buf_add_string(out, ",\"usage\":");
        add_usage(out, &usage);
        buf_add_byte(out, '}');
    } else {
        event_begin(out, "message_delta");
        buf_add_string(out, ",\"delta\":{");
        add_stop(choice, out);
        buf_add_string(out, "},\"usage\":");
        add_usage(out, &usage);
        event_end(out);
        event_begin(out, "message_stop");
        event_end(out);
    }
    stream->request->done = true;
}

const struct stream_writer messages_writer = {
    .id_prefix = "msg_",
    .call_prefix = "toolu_",
    .open = message_open,
    .close = message_close,
    .begin = write_start,
    .text = write_text,
    .call_begin = write_call_begin,
    .call_end = close_block,
    .flush = write_gathered,
    .finish = write_finish,
    .error = write_error,
};
