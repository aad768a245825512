/* stream_write.c - OpenAI's chat and completion chunks, or the answer in one piece, from the same calls.
 *
 *     data: {head...,"choices":[{"index":0,"delta":{...},"logprobs":...,"finish_reason":...}]}
 *           rendered once           ^ from here on it differs
 */
#include "config/json.h"
#include "server/service.h"
#include "server/sse.h"
#include "server/stream_state.h"

static bool is_chat(const struct stream *stream)
{
    return stream->setup.kind == STREAM_CHAT;
}

static bool shows_reasoning(const struct stream *stream)
{
    const struct stream_setup *setup = &stream->setup;
    return is_chat(stream) && setup->thinking && !setup->hide_reasoning && !setup->join_reasoning;
}

static enum status write_head(struct stream *stream)
{
    bool chunks = stream->request->stream;
    struct out_head head = {
        .id = stream->id,
        .object = !is_chat(stream) ? "text_completion"
                  : chunks         ? "chat.completion.chunk"
                                   : "chat.completion",
        .created = stream->created,
        .model = stream->setup.model,
        .fingerprint = stream->request->service->fingerprint,
    };

    if (chunks) sse_begin(&stream->head);
    out_head(&stream->head, &head);
    if (stream->setup.service_tier) buf_add_string(&stream->head, ",\"service_tier\":\"default\"");
    buf_add_string(&stream->head, ",\"choices\":[");
    if (chunks) buf_add_string(&stream->head, "{\"index\":");
    return buf_status(&stream->head);
}

static void add_usage(const struct stream *stream, struct buf *out)
{
    struct out_usage usage = stream_usage(stream);
    out_usage(out, &usage);
}

/* What was gathered of the content's log-probabilities, or null. */
static void add_logprobs(struct choice *choice, struct buf *out, bool content)
{
    const struct stream_setup *setup = &choice->stream->setup;

    buf_add_string(out, ",\"logprobs\":");
    if (!setup->logprobs || !content) {
        buf_add_string(out, "null");
    } else if (setup->kind == STREAM_COMPLETION) {
        out_legacy_take(&choice->legacy, out);
    } else {
        buf_add_string(out, "{\"content\":[");
        buf_add_slice(out, buf_slice(&choice->logprobs));
        buf_add_string(out, "],\"refusal\":null}");
        choice->logprobs.size = 0;
    }
}

static void add_finish(const struct choice *choice, struct buf *out)
{
    static const char *const name[] = {
        [REPLY_FINISH_STOP] = "stop",
        [REPLY_FINISH_LENGTH] = "length",
        [REPLY_FINISH_TOOL_CALLS] = "tool_calls",
    };
    const char *finish = choice->cut ? "insufficient_system_resource" : name[choice->finish];
    if (choice->finish == REPLY_FINISH_TOOL_CALLS && choice->stream->setup.functions)
        finish = "function_call";

    buf_add_string(out, ",\"finish_reason\":");
    if (choice->ended) buf_addf(out, "\"%s\"}", finish);
    else buf_add_string(out, "null}");
}

/* ---- chunks ---- */

static struct buf *chunk_begin(struct choice *choice)
{
    struct buf *out = &choice->stream->request->out;

    buf_add_slice(out, buf_slice(&choice->stream->head));
    buf_addf(out, is_chat(choice->stream) ? "%u,\"delta\":{" : "%u,\"text\":\"", choice->index);
    return out;
}

static void chunk_end(struct choice *choice, bool content)
{
    const struct stream *stream = choice->stream;
    struct buf *out = &stream->request->out;
    bool last = choice->ended && stream->live == 0;

    buf_add_byte(out, is_chat(stream) ? '}' : '"');
    add_logprobs(choice, out, content);
    add_finish(choice, out);
    buf_add_byte(out, ']');
    if (last && stream->setup.deepseek_usage) {
        buf_add_string(out, ",\"usage\":");
        add_usage(stream, out);
    } else if (stream->setup.include_usage) {
        buf_add_string(out, ",\"usage\":null");
    }
    buf_add_byte(out, '}');
    sse_end(out);
}

static void write_role(struct choice *choice)
{
    if (!choice->stream->request->stream || !is_chat(choice->stream)) return;
    struct buf *out = chunk_begin(choice);
    buf_add_string(out, "\"role\":\"assistant\",");
    if (shows_reasoning(choice->stream)) {
        buf_add_string(out, "\"content\":null,\"reasoning_content\":\"\"");
        if (choice->stream->setup.reasoning_both) buf_add_string(out, ",\"reasoning\":\"\"");
    } else {
        buf_add_string(out, "\"content\":\"\"");
    }
    chunk_end(choice, false);
}

static void write_gathered(struct choice *choice)
{
    if (choice->field == FIELD_NONE) return;
    struct slice text = buf_slice(&choice->gathered[choice->field]);
    struct buf *out = chunk_begin(choice);

    if (!is_chat(choice->stream)) {
        buf_add_slice(out, text);
    } else if (choice->field == FIELD_REASONING) {
        buf_add_string(out, "\"content\":null,\"reasoning_content\":\"");
        buf_add_slice(out, text);
        if (choice->stream->setup.reasoning_both) {
            buf_add_string(out, "\",\"reasoning\":\"");
            buf_add_slice(out, text);
        }
        buf_add_byte(out, '"');
    } else if (choice->field == FIELD_CONTENT) {
        buf_add_string(out, "\"content\":\"");
        buf_add_slice(out, text);
        buf_add_byte(out, '"');
    } else if (choice->stream->setup.functions) {
        buf_add_string(out, "\"function_call\":{\"arguments\":\"");
        buf_add_slice(out, text);
        buf_add_string(out, "\"}");
    } else {
        buf_addf(out, "\"tool_calls\":[{\"index\":%u,\"function\":{\"arguments\":\"", choice->call);
        buf_add_slice(out, text);
        buf_add_string(out, "\"}}]");
    }
    chunk_end(choice, choice->field == FIELD_CONTENT);
    choice->gathered[choice->field].size = 0;
    choice->field = FIELD_NONE;
}

static void write_text(struct choice *choice, enum field field, struct slice text)
{
    if (text.size == 0) return;
    if (field == FIELD_REASONING && !shows_reasoning(choice->stream)) return;
    if (choice->stream->request->stream && choice->field != field) {
        write_gathered(choice);
        choice->field = field;
    }
    js_add_escaped(&choice->gathered[field], text);
}

/* The beginning of a call, as its chunk has it. */
static void write_call_chunk(struct choice *choice, struct slice id, struct slice name)
{
    struct buf *out = chunk_begin(choice);

    if (choice->stream->setup.functions) {
        buf_add_string(out, "\"function_call\":");
        out_function_begin(out, name);
        out_function_end(out);
    } else {
        buf_add_string(out, "\"tool_calls\":[");
        out_call_begin(out, choice->call, id, name);
        out_call_end(out);
        buf_add_byte(out, ']');
    }
    chunk_end(choice, false);
}

static void write_call_begin(struct choice *choice, uint32_t call, struct slice id,
                             struct slice name)
{
    bool chunks = choice->stream->request->stream;
    struct buf *calls = &choice->gathered[FIELD_ARGUMENTS];

    if (chunks) write_gathered(choice);  // of the call before
    choice->call = call;
    choice->call_open = true;
    if (chunks) return write_call_chunk(choice, id, name);
    if (calls->size) buf_add_byte(calls, ',');
    if (choice->stream->setup.functions) out_function_begin(calls, name);
    else out_call_begin(calls, -1, id, name);
}

static void write_call_end(struct choice *choice)
{
    struct buf *calls = &choice->gathered[FIELD_ARGUMENTS];

    if (!choice->call_open) return;
    choice->call_open = false;
    if (choice->stream->request->stream) return;
    if (choice->stream->setup.functions) out_function_end(calls);
    else out_call_end(calls);
}

/* ---- the answer in one piece ---- */

static void add_string(struct buf *out, const char *before, const struct buf *escaped)
{
    buf_add_string(out, before);
    buf_add_byte(out, '"');
    buf_add_slice(out, buf_slice(escaped));
    buf_add_byte(out, '"');
}

static void add_message(struct choice *choice, struct buf *out)
{
    const struct stream_setup *setup = &choice->stream->setup;
    const struct buf *content = &choice->gathered[FIELD_CONTENT];
    const struct buf *reasoning = &choice->gathered[FIELD_REASONING];
    const struct buf *calls = &choice->gathered[FIELD_ARGUMENTS];

    buf_add_string(out, ",\"message\":{\"role\":\"assistant\"");
    if (calls->size && !content->size) buf_add_string(out, ",\"content\":null");
    else add_string(out, ",\"content\":", content);
    buf_add_string(out, ",\"refusal\":null");  // OpenAI's schema requires it
    if (shows_reasoning(choice->stream)) {
        add_string(out, ",\"reasoning_content\":", reasoning);
        if (setup->reasoning_both) add_string(out, ",\"reasoning\":", reasoning);
    }
    if (calls->size && setup->functions) {
        buf_add_string(out, ",\"function_call\":");
        buf_add_slice(out, buf_slice(calls));
    } else if (calls->size) {
        buf_add_string(out, ",\"tool_calls\":[");
        buf_add_slice(out, buf_slice(calls));
        buf_add_byte(out, ']');
    }
    buf_add_byte(out, '}');
}

static void write_answer(struct stream *stream)
{
    struct buf *out = &stream->request->out;

    buf_add_slice(out, buf_slice(&stream->head));
    for (uint32_t i = 0; i < stream->choice_count; i++) {
        struct choice *choice = &stream->choice[i];
        buf_addf(out, "%s{\"index\":%u", i ? "," : "", choice->index);
        if (is_chat(stream)) add_message(choice, out);
        else add_string(out, ",\"text\":", &choice->gathered[FIELD_CONTENT]);
        add_logprobs(choice, out, true);
        add_finish(choice, out);
    }
    buf_add_string(out, "],\"usage\":");
    add_usage(stream, out);
    buf_add_byte(out, '}');
}

/* ---- the end ---- */

/* {head...,"choices":[],"usage":{...}}: the head without the choice that it opens. */
static void write_usage_chunk(struct stream *stream)
{
    struct buf *out = &stream->request->out;
    struct slice head = buf_slice(&stream->head);

    head.size -= strlen("{\"index\":");
    buf_add_slice(out, head);
    buf_add_string(out, "],\"usage\":");
    add_usage(stream, out);
    buf_add_byte(out, '}');
    sse_end(out);
}

static void write_finish(struct choice *choice)
{
    struct stream *stream = choice->stream;

    write_call_end(choice);
    if (stream->request->stream) {
        chunk_begin(choice);
        chunk_end(choice, false);
    }
    if (stream->live) return;

    if (!stream->request->stream) {
        write_answer(stream);
    } else {
        if (stream->setup.include_usage) write_usage_chunk(stream);
        sse_done(&stream->request->out);
    }
    stream->request->done = true;
}

static void write_error(struct stream *stream, enum refusal refusal, const char *message)
{
    struct request *request = stream->request;

    if (request->stream) {
        sse_begin(&request->out);
        error_add(&request->out, refusal, NULL, message);
        sse_end(&request->out);
        request->outcome = OUTCOME_ERROR;
        request->done = true;
    } else {
        request_refuse(request, refusal, NULL, message);
    }
}

const struct stream_writer chat_writer = {
    .id_prefix = "chatcmpl-",
    .call_prefix = "call_",
    .open = write_head,
    .begin = write_role,
    .text = write_text,
    .call_begin = write_call_begin,
    .call_end = write_call_end,
    .flush = write_gathered,
    .finish = write_finish,
    .error = write_error,
};

const struct stream_writer completion_writer = {
    .id_prefix = "cmpl-",
    .call_prefix = "call_",
    .open = write_head,
    .begin = write_role,
    .text = write_text,
    .call_begin = write_call_begin,
    .call_end = write_call_end,
    .flush = write_gathered,
    .finish = write_finish,
    .error = write_error,
};
