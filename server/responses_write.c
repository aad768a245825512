/* responses_write.c - responses, in one piece or item by item, from the same calls.
 *
 *     response.created, response.in_progress,
 *     (output_item.added, [content_part.added], ...delta..., ...done, [content_part.done],
 *      output_item.done)...,
 *     response.completed | response.incomplete | response.failed
 *
 * Items open and close as the kind of text changes. Each closed item is kept as JSON: the last event
 * repeats them all, and a whole answer is that event's response.
 */
#include <inttypes.h>
#include <time.h>
#include "config/json.h"
#include "server/custom_input.h"
#include "server/errors.h"
#include "server/responses_in.h"
#include "server/sealed_text.h"
#include "server/service.h"
#include "server/stream_state.h"

enum kind { NONE, REASONING, MESSAGE, CALL, CUSTOM };

/* What the kinds of items and their events are called. */
static const struct kind_row {
    const char *item, *id_prefix, *part, *delta, *done, *text;
} kinds[] = {
    [REASONING] = { "reasoning", "rs_", "reasoning_text", "response.reasoning_text.delta",
                    "response.reasoning_text.done", "text" },
    [MESSAGE] = { "message", "msg_", "output_text", "response.output_text.delta",
                  "response.output_text.done", "text" },
    [CALL] = { "function_call", "fc_", NULL, "response.function_call_arguments.delta",
               "response.function_call_arguments.done", "arguments" },
    [CUSTOM] = { "custom_tool_call", "ctc_", NULL, "response.custom_tool_call_input.delta",
                 "response.custom_tool_call_input.done", "input" },
};

struct response {
    enum kind open;     // the item under way; NONE: none
    uint32_t items;     // begun
    uint32_t sequence;  // of the next event
    char item_id[RANDOM_ID_SIZE];
    struct buf head;      // of a call's item: ,"call_id":...,"name":...
    struct buf text;      // of the item, escaped
    struct buf thought;   // of reasoning that is to be sealed, as it is
    struct buf logprobs;  // of the message, entries with commas between
    struct buf done;      // the closed items, with commas between
    struct custom_input custom;
};

static struct response *response_of(const struct choice *choice)
{
    return choice->stream->own;
}

static bool streams(const struct choice *choice)
{
    return choice->stream->request->stream;
}

static enum status response_open(struct stream *stream)
{
    struct response *response = calloc(1, sizeof *response);

    stream->own = response;
    if (!response) return NO_MEMORY;
    buf_init(&response->head, 0);
    buf_init(&response->text, 0);
    buf_init(&response->thought, 0);
    buf_init(&response->logprobs, 0);
    buf_init(&response->done, 0);
    custom_input_init(&response->custom);
    return OK;
}

static void response_close(struct stream *stream)
{
    struct response *response = stream->own;

    if (!response) return;
    buf_release(&response->head);
    buf_release(&response->text);
    buf_release(&response->thought);
    buf_release(&response->logprobs);
    buf_release(&response->done);
    custom_input_release(&response->custom);
    free(response);
}

/* A failure in a buffer of ours is the choice's, which stream.c looks at. */
static void note_failures(struct choice *choice)
{
    const struct response *r = response_of(choice);
    const struct buf *all[] = { &r->head, &r->text, &r->thought, &r->logprobs, &r->done };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->status != OK) choice->text.status = all[i]->status;
}

/* ---- events ---- */

static struct buf *event_begin(struct stream *stream, const char *type)
{
    struct response *response = stream->own;
    struct buf *out = &stream->request->out;

    buf_addf(out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%u", type, type,
             response->sequence++);
    return out;
}

static void event_end(struct stream *stream)
{
    buf_add_string(&stream->request->out, "}\n\n");
}

/* An event of the item under way: ,"output_index":...,"item_id":... and the part's index. */
static struct buf *item_event(struct choice *choice, const char *type)
{
    const struct response *response = response_of(choice);
    struct buf *out = event_begin(choice->stream, type);

    buf_addf(out, ",\"output_index\":%u,\"item_id\":\"%s\"", response->items - 1,
             response->item_id);
    if (kinds[response->open].part) buf_add_string(out, ",\"content_index\":0");
    return out;
}

/* ---- the response as a whole ---- */

static void add_usage(struct buf *out, const struct out_usage *usage)
{
    buf_addf(out,
             "{\"input_tokens\":%" PRIu64 ",\"input_tokens_details\":{\"cached_tokens\":%" PRIu64
             ",\"cache_write_tokens\":0},\"output_tokens\":%" PRIu64
             ",\"output_tokens_details\":{\"reasoning_tokens\":%" PRIu64
             "},\"total_tokens\":%" PRIu64 "}",
             usage->prompt_tokens, usage->cached_tokens, usage->completion_tokens,
             usage->reasoning_tokens, usage->prompt_tokens + usage->completion_tokens);
}

enum ending { UNDER_WAY, COMPLETED, INCOMPLETE, FAILED };

static void add_response(struct stream *stream, struct buf *out, enum ending ending,
                         const char *failure)
{
    static const char *const status[] = { "in_progress", "completed", "incomplete", "failed" };
    const struct response *response = stream->own;
    struct out_usage usage = stream_usage(stream);

    buf_addf(out,
             "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%" PRId64
             ",\"status\":\"%s\",\"completed_at\":",
             stream->id, stream->created, status[ending]);
    if (ending == COMPLETED) buf_addf(out, "%" PRId64, (int64_t)time(NULL));
    else buf_add_string(out, "null");
    buf_add_string(out, ",\"model\":");
    js_add_string(out, stream->setup.model);
    buf_add_string(out, ",\"error\":");
    if (failure) {
        buf_add_string(out, "{\"code\":\"server_error\",\"message\":");
        js_add_string(out, slice_of(failure));
        buf_add_byte(out, '}');
    } else {
        buf_add_string(out, "null");
    }
    buf_addf(out, ",\"incomplete_details\":%s",
             ending == INCOMPLETE ? "{\"reason\":\"max_output_tokens\"}" : "null");
    buf_add_slice(out, stream->setup.responses->echo);
    buf_add_string(out, ",\"output\":[");
    buf_add_slice(out, buf_slice(&response->done));
    buf_add_byte(out, ']');
    if (ending != UNDER_WAY) {
        buf_add_string(out, ",\"usage\":");
        add_usage(out, &usage);
    }
    buf_add_byte(out, '}');
}

static void write_lifecycle(struct stream *stream, const char *type, enum ending ending,
                            const char *failure)
{
    struct buf *out = event_begin(stream, type);

    buf_add_string(out, ",\"response\":");
    add_response(stream, out, ending, failure);
    event_end(stream);
}

static void write_start(struct choice *choice)
{
    if (!streams(choice)) return;
    write_lifecycle(choice->stream, "response.created", UNDER_WAY, NULL);
    write_lifecycle(choice->stream, "response.in_progress", UNDER_WAY, NULL);
}

/* ---- items ---- */

/* The part that a message or reasoning has, with what it says so far. */
static void add_part(const struct response *response, struct buf *out)
{
    buf_addf(out, "{\"type\":\"%s\",\"text\":\"", kinds[response->open].part);
    buf_add_slice(out, buf_slice(&response->text));
    buf_add_byte(out, '"');
    if (response->open == MESSAGE) {
        buf_add_string(out, ",\"annotations\":[],\"logprobs\":[");
        buf_add_slice(out, buf_slice(&response->logprobs));
        buf_add_byte(out, ']');
    }
    buf_add_byte(out, '}');
}

/* The item under way; `status` in_progress: as it begins, without its part. */
static void add_item(const struct choice *choice, struct buf *out, const char *status)
{
    const struct response *response = response_of(choice);
    const struct kind_row *row = &kinds[response->open];
    bool begins = strcmp(status, "in_progress") == 0;

    buf_addf(out, "{\"id\":\"%s\",\"type\":\"%s\",\"status\":\"%s\"", response->item_id, row->item,
             status);
    buf_add_slice(out, buf_slice(&response->head));
    if (response->open == REASONING) buf_add_string(out, ",\"summary\":[]");
    if (response->open == MESSAGE) buf_add_string(out, ",\"role\":\"assistant\"");
    if (row->part) {
        buf_add_string(out, ",\"content\":[");
        if (!begins) add_part(response, out);
        buf_add_byte(out, ']');
    } else {
        buf_addf(out, ",\"%s\":\"", row->text);
        buf_add_slice(out, buf_slice(&response->text));
        buf_add_byte(out, '"');
    }
    if (response->open == REASONING && choice->stream->setup.responses->seal && !begins) {
        buf_add_string(out, ",\"encrypted_content\":\"");
        sealed_text_add(out, buf_slice(&response->thought));
        buf_add_byte(out, '"');
    }
    buf_add_byte(out, '}');
}

/* The message's log-probabilities that stream.c has gathered since the last time; out may be NULL. */
static void take_logprobs(struct choice *choice, struct buf *out)
{
    struct response *response = response_of(choice);

    if (out) buf_add_slice(out, buf_slice(&choice->logprobs));
    if (choice->logprobs.size && response->logprobs.size) buf_add_byte(&response->logprobs, ',');
    buf_add_slice(&response->logprobs, buf_slice(&choice->logprobs));
    choice->logprobs.size = 0;
}

static void write_gathered(struct choice *choice)
{
    struct response *response = response_of(choice);
    struct buf *text = &choice->gathered[FIELD_CONTENT];

    if (response->open == NONE || text->size == 0) return;
    struct buf *out = item_event(choice, kinds[response->open].delta);
    buf_add_string(out, ",\"delta\":\"");
    buf_add_slice(out, buf_slice(text));
    buf_add_byte(out, '"');
    text->size = 0;
    if (response->open == MESSAGE) {
        buf_add_string(out, ",\"logprobs\":[");
        take_logprobs(choice, out);
        buf_add_byte(out, ']');
    }
    event_end(choice->stream);
}

static void close_streamed(struct choice *choice)
{
    struct response *response = response_of(choice);
    const struct kind_row *row = &kinds[response->open];

    struct buf *out = item_event(choice, row->done);
    if (response->open == CALL) buf_add_slice(out, buf_slice(&response->head));
    buf_addf(out, ",\"%s\":\"", row->text);
    buf_add_slice(out, buf_slice(&response->text));
    buf_add_byte(out, '"');
    if (response->open == MESSAGE) {
        buf_add_string(out, ",\"logprobs\":[");
        buf_add_slice(out, buf_slice(&response->logprobs));
        buf_add_byte(out, ']');
    }
    event_end(choice->stream);
    if (!row->part) return;
    out = item_event(choice, "response.content_part.done");
    buf_add_string(out, ",\"part\":");
    add_part(response, out);
    event_end(choice->stream);
}

static void close_item(struct choice *choice, const char *status)
{
    struct response *response = response_of(choice);

    if (response->open == NONE) return;
    if (streams(choice)) write_gathered(choice);
    if (response->open == MESSAGE) take_logprobs(choice, NULL);
    if (streams(choice)) close_streamed(choice);
    if (response->done.size) buf_add_byte(&response->done, ',');
    size_t at = response->done.size;
    add_item(choice, &response->done, status);
    if (streams(choice)) {
        struct buf *out = event_begin(choice->stream, "response.output_item.done");
        buf_addf(out, ",\"output_index\":%u,\"item\":", response->items - 1);
        buf_add(out, response->done.data + at, response->done.size - at);
        event_end(choice->stream);
    }
    response->open = NONE;
    note_failures(choice);
}

static void open_item(struct choice *choice, enum kind kind)
{
    struct response *response = response_of(choice);

    close_item(choice, "completed");
    response->open = kind;
    response->items++;
    random_id_make(response->item_id, kinds[kind].id_prefix);
    response->text.size = response->thought.size = response->logprobs.size = 0;
    if (kinds[kind].part) response->head.size = 0;
    if (!streams(choice)) return;
    struct buf *out = event_begin(choice->stream, "response.output_item.added");
    buf_addf(out, ",\"output_index\":%u,\"item\":", response->items - 1);
    add_item(choice, out, "in_progress");
    event_end(choice->stream);
    if (!kinds[kind].part) return;
    out = item_event(choice, "response.content_part.added");
    buf_add_string(out, ",\"part\":");
    add_part(response, out);
    event_end(choice->stream);
}

static void write_text(struct choice *choice, enum field field, struct slice text)
{
    struct response *response = response_of(choice);
    struct buf *gathered = &choice->gathered[FIELD_CONTENT];

    if (text.size == 0) return;
    if (field == FIELD_REASONING && response->open != REASONING) open_item(choice, REASONING);
    if (field == FIELD_CONTENT && response->open != MESSAGE) open_item(choice, MESSAGE);
    size_t at = response->text.size;
    if (response->open == CUSTOM) custom_input_feed(&response->custom, text, &response->text);
    else js_add_escaped(&response->text, text);
    if (streams(choice) && response->text.size > at)
        buf_add(gathered, response->text.data + at, response->text.size - at);
    if (field == FIELD_REASONING && choice->stream->setup.responses->seal)
        buf_add_slice(&response->thought, text);
    note_failures(choice);
}

static bool is_custom(const struct stream *stream, struct slice name)
{
    const struct responses_answer *answer = stream->setup.responses;

    for (uint32_t i = 0; i < answer->customs; i++)
        if (slice_equal(answer->custom[i], name)) return true;
    return false;
}

static void write_call_begin(struct choice *choice, uint32_t call, struct slice id,
                             struct slice name)
{
    struct response *response = response_of(choice);
    enum kind kind = is_custom(choice->stream, name) ? CUSTOM : CALL;
    const char *colons = name.size ? memmem(name.data, name.size, "::", 2) : NULL;
    (void)call;

    close_item(choice, "completed");
    response->head.size = 0;
    buf_add_string(&response->head, ",\"call_id\":");
    js_add_string(&response->head, id);
    if (colons) {
        buf_add_string(&response->head, ",\"namespace\":");
        js_add_string(&response->head, (struct slice){ name.data, (size_t)(colons - name.data) });
        name = slice_from(name, (size_t)(colons - name.data) + 2);
    }
    buf_add_string(&response->head, ",\"name\":");
    js_add_string(&response->head, name);
    custom_input_release(&response->custom);
    custom_input_init(&response->custom);
    open_item(choice, kind);
}

static void write_call_end(struct choice *choice)
{
    close_item(choice, "completed");
}

/* ---- the end ---- */

static void write_error(struct stream *stream, enum refusal refusal, const char *message)
{
    struct request *request = stream->request;

    if (!request->stream) {
        request_refuse(request, refusal, NULL, message);
        return;
    }
    write_lifecycle(stream, "response.failed", FAILED, message);
    request->outcome = OUTCOME_ERROR;
    request->done = true;
}

static void write_finish(struct choice *choice)
{
    struct stream *stream = choice->stream;
    bool cut = choice->finish == REPLY_FINISH_LENGTH;

    close_item(choice, cut ? "incomplete" : "completed");
    if (choice->cut) return write_error(stream, REFUSE_FULL, "the server had to stop the answer");
    if (!streams(choice))
        add_response(stream, &stream->request->out, cut ? INCOMPLETE : COMPLETED, NULL);
    else if (cut) write_lifecycle(stream, "response.incomplete", INCOMPLETE, NULL);
    else write_lifecycle(stream, "response.completed", COMPLETED, NULL);
    stream->request->done = true;
}

const struct stream_writer responses_writer = {
    .id_prefix = "resp_",
    .call_prefix = "call_",
    .open = response_open,
    .close = response_close,
    .begin = write_start,
    .text = write_text,
    .call_begin = write_call_begin,
    .call_end = write_call_end,
    .flush = write_gathered,
    .finish = write_finish,
    .error = write_error,
};
