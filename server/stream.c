/* stream.c - from events to text: one detokenizer and one parser a choice. */
#include "server/stream.h"
#include <time.h>
#include "config/metrics.h"
#include "server/service.h"
#include "server/stream_state.h"
#include "server/tool_memory.h"

static const struct stream_writer *const writers[] = {
    [STREAM_CHAT] = &chat_writer,
    [STREAM_COMPLETION] = &completion_writer,
    [STREAM_MESSAGES] = &messages_writer,
    [STREAM_RESPONSES] = &responses_writer,
};

static const struct stream_writer *writer_of(const struct choice *choice)
{
    return choice->stream->writer;
}

struct out_usage stream_usage(const struct stream *stream)
{
    struct out_usage usage = { .cached_tokens = stream->cached_tokens };
    for (uint32_t p = 0; p < stream->setup.prompts; p++)
        usage.prompt_tokens += stream->setup.prompt[p].tokens;
    for (uint32_t c = 0; c < stream->choice_count; c++) {
        usage.completion_tokens += stream->choice[c].tokens;
        usage.reasoning_tokens += stream->choice[c].reasoning_tokens;
    }
    return usage;
}

/* ---- log-probabilities of content ---- */

static void write_sample(struct choice *choice, const struct sample_out *sample)
{
    const struct stream_setup *setup = &choice->stream->setup;
    const struct vocab *vocab = choice->stream->request->service->vocab;

    if (setup->kind == STREAM_COMPLETION) {
        out_legacy_add(&choice->legacy, vocab, sample->id, sample, setup->top_logprobs);
        return;
    }
    if (choice->logprobs.size) buf_add_byte(&choice->logprobs, ',');
    out_logprob(&choice->logprobs, vocab, sample, setup->top_logprobs);
}

static void sample_wait(struct choice *choice, const struct sample_out *sample)
{
    struct waiting *waiting = &choice->waiting;

    if (waiting->count == waiting->room) {
        uint32_t room = waiting->room ? 2 * waiting->room : 16;
        struct sample_out *more = realloc(waiting->sample, room * sizeof *more);
        if (!more) {
            choice->logprobs.status = NO_MEMORY;
            return;
        }
        waiting->sample = more;
        waiting->room = room;
    }
    waiting->sample[waiting->count++] = *sample;
}

/* Content came: whatever waited was part of it, and so is the token being read. */
static void samples_are_content(struct choice *choice)
{
    for (uint32_t i = 0; i < choice->waiting.count; i++)
        write_sample(choice, &choice->waiting.sample[i]);
    choice->waiting.count = 0;
    if (choice->sample) write_sample(choice, choice->sample);
    choice->sample = NULL;
}

/* ---- parts ---- */

static void begin_call(struct choice *choice, const struct reply_part *part)
{
    char id[RANDOM_ID_SIZE];

    random_id_make(id, writer_of(choice)->call_prefix);
    buf_add(&choice->call_ids, id, sizeof id);
    writer_of(choice)->call_begin(choice, part->call, slice_of(id), part->text);
}

/* Reasoning that is not to stand apart goes where it was written, between its tags. */
static void take_reasoning(struct choice *choice, struct slice text)
{
    if (!choice->stream->setup.join_reasoning) {
        writer_of(choice)->text(choice, FIELD_REASONING, text);
        return;
    }
    if (!choice->think_open) writer_of(choice)->text(choice, FIELD_CONTENT, SLICE("<think>"));
    choice->think_open = true;
    writer_of(choice)->text(choice, FIELD_CONTENT, text);
}

static void close_reasoning(struct choice *choice)
{
    if (choice->think_open) writer_of(choice)->text(choice, FIELD_CONTENT, SLICE("</think>"));
    choice->think_open = false;
}

static void take_part(void *owner, const struct reply_part *part)
{
    struct choice *choice = owner;

    recall_part(&choice->recall, part);
    if (part->kind != REPLY_REASONING) close_reasoning(choice);
    switch (part->kind) {
    case REPLY_REASONING:
        take_reasoning(choice, part->text);
        break;
    case REPLY_CONTENT:
        samples_are_content(choice);
        writer_of(choice)->text(choice, FIELD_CONTENT, part->text);
        break;
    case REPLY_CALL_START:
        begin_call(choice, part);
        break;
    case REPLY_CALL_ARGS:
        writer_of(choice)->text(choice, FIELD_ARGUMENTS, part->text);
        break;
    case REPLY_CALL_END:
        writer_of(choice)->call_end(choice);
        break;
    }
}

/* ---- one choice ---- */

static enum status choice_status(const struct choice *choice)
{
    const struct buf *all[] = {
        &choice->text,
        &choice->gathered[FIELD_REASONING],
        &choice->gathered[FIELD_CONTENT],
        &choice->gathered[FIELD_ARGUMENTS],
        &choice->call_ids,
        &choice->logprobs,
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->status != OK) return all[i]->status;
    return OK;
}

/* The block as sampled is what these calls' ids will stand for when they come back. */
static void remember_block(const struct choice *choice)
{
    struct slice block = reply_block(choice->reply);
    uint32_t count = reply_calls(choice->reply);
    struct tool_memory *memory = choice->stream->request->service->tool_memory;

    if (!memory || choice->stream->setup.no_store || block.size == 0 ||
        choice->call_ids.size != (size_t)count * RANDOM_ID_SIZE)
        return;
    struct slice *id = calloc(count, sizeof *id);
    if (!id) return;
    for (uint32_t i = 0; i < count; i++)
        id[i] = slice_of(choice->call_ids.data + (size_t)i * RANDOM_ID_SIZE);
    tool_memory_keep(memory, choice->stream->setup.tenant, id, count, block);
    free(id);
}

/* The answer ended inside its thinking, and the client is to see that as the content. */
static void show_unclosed(struct choice *choice)
{
    struct buf *content = &choice->gathered[FIELD_CONTENT];
    struct buf *reasoning = &choice->gathered[FIELD_REASONING];

    if (!reply_in_reasoning(choice->reply) || content->size) return;
    struct buf empty = *content;
    *content = *reasoning;
    *reasoning = empty;
}

static void count_repairs(const struct reply *reply)
{
    static const enum metric counters[REPLY_REPAIRS] = {
        [REPLY_REPAIR_OPENER] = METRIC_repair_opener,
        [REPLY_REPAIR_CLOSER] = METRIC_repair_closer,
        [REPLY_REPAIR_BODY] = METRIC_repair_body,
        [REPLY_REPAIR_VALUE] = METRIC_repair_value,
        [REPLY_REPAIR_DUPLICATE] = METRIC_repair_duplicate,
        [REPLY_REPAIR_QUOTED] = METRIC_repair_quoted,
        [REPLY_REPAIR_STRAY] = METRIC_repair_stray,
    };

    for (enum reply_repair repair = 0; repair < REPLY_REPAIRS; repair++)
        if (reply_repaired(reply, repair))
            metric_add(counters[repair], reply_repaired(reply, repair));
}

enum ending { ENDS_ALONE, ENDS_AT_LIMIT, ENDS_CUT };

static CHECKED enum status choice_finish(struct choice *choice, enum ending ending)
{
    struct stream *stream = choice->stream;
    struct request *request = stream->request;
    static const enum outcome outcome[] = {
        [REPLY_FINISH_STOP] = OUTCOME_STOP,
        [REPLY_FINISH_LENGTH] = OUTCOME_LENGTH,
        [REPLY_FINISH_TOOL_CALLS] = OUTCOME_TOOL_CALLS,
    };

    choice->text.size = 0;
    detok_finish(&choice->detok, &choice->text);
    enum status status = reply_feed(choice->reply, buf_slice(&choice->text));
    if (status != OK) return status;
    status = reply_finish(choice->reply, ending != ENDS_ALONE, &choice->finish);
    if (status != OK) return status;

    if (stream->setup.unclosed_is_content && !request->stream) show_unclosed(choice);
    if (request->stream) writer_of(choice)->flush(choice);
    choice->cut = ending == ENDS_CUT && choice->finish == REPLY_FINISH_LENGTH;
    if (!choice->cut) request->outcome = outcome[choice->finish];
    count_repairs(choice->reply);
    remember_block(choice);
    recall_keep(&choice->recall, request->service, choice->reply);
    choice->ended = true;
    stream->live--;
    writer_of(choice)->finish(choice);
    request_stop_job(request, choice->index);
    return OK;
}

static CHECKED enum status choice_token(struct choice *choice, uint32_t token,
                                        const struct sample_out *sample)
{
    bool was_content = reply_in_content(choice->reply);
    bool reasoning = reply_in_reasoning(choice->reply);

    choice->tokens++;
    choice->reasoning_tokens += reasoning;
    choice->stream->request->output_tokens++;
    choice->stream->request->reasoning_tokens += reasoning;
    recall_token(&choice->recall, token);
    choice->text.size = 0;
    detok_add(&choice->detok, token, &choice->text);
    choice->sample = sample;
    enum status status = reply_feed(choice->reply, buf_slice(&choice->text));
    if (status != OK) return status;

    if (choice->sample) {  // its text is held back, or was a tag or newlines that were dropped
        bool holds = reply_holds(choice->reply) || choice->detok.held;
        if (!reply_in_content(choice->reply) || !holds) choice->waiting.count = 0;
        else if (was_content) sample_wait(choice, choice->sample);
    }
    choice->sample = NULL;
    return reply_ended(choice->reply) ? choice_finish(choice, ENDS_ALONE) : OK;
}

/* Nothing more of the prompt's own log-probabilities is to come. */
static void choice_echo(struct choice *choice)
{
    choice->echoed = true;
    writer_of(choice)->text(choice, FIELD_CONTENT, choice_prompt(choice)->echo);
    if (choice->stream->request->stream) writer_of(choice)->flush(choice);
}

static void choice_prompt_logprobs(struct choice *choice, const struct event *event)
{
    const struct stream_prompt *prompt = choice_prompt(choice);

    if (choice->echoed || !event->logprob) return;
    for (uint32_t i = 0; i < event->count; i++) write_sample(choice, &event->logprob[i]);
    if (event->from + event->count + 1 >= prompt->tokens) choice_echo(choice);
}

static CHECKED enum status choice_event(struct choice *choice, const struct event *event)
{
    static const enum ending ending[] = {
        [FINISH_STOP] = ENDS_ALONE,    [FINISH_LENGTH] = ENDS_AT_LIMIT,
        [FINISH_CANCELLED] = ENDS_CUT, [FINISH_DEADLINE] = ENDS_CUT,
        [FINISH_FAILED] = ENDS_CUT,
    };
    const struct stream_setup *setup = &choice->stream->setup;

    switch (event->kind) {
    case EVENT_STARTED:
        if (choice->index % setup->choices == 0)  // of each prompt once
            choice->stream->cached_tokens += event->cache.hit_tokens;
        return OK;
    case EVENT_PROMPT:
        choice_prompt_logprobs(choice, event);
        return OK;
    case EVENT_TOKENS:
        if (!choice->echoed) choice_echo(choice);
        for (uint32_t i = 0; i < event->count && !choice->ended; i++) {
            bool wanted = setup->logprobs && event->logprob;
            enum status status =
                choice_token(choice, event->token[i], wanted ? &event->logprob[i] : NULL);
            if (status != OK) return status;
        }
        if (choice->stream->request->stream && !choice->ended) writer_of(choice)->flush(choice);
        return OK;
    case EVENT_PURGED:  // never of a job
        break;
    case EVENT_END:
        if (event->finish == FINISH_FAILED) return DEVICE_FAILED;
        if (!choice->echoed) choice_echo(choice);
        return choice_finish(choice, ending[event->finish]);
    }
    return OK;
}

static CHECKED enum status choice_init(struct choice *choice, struct stream *stream, uint32_t index)
{
    struct reply_options options = stream->setup.reply;

    *choice = (struct choice){ .stream = stream, .index = index };
    options.sink = (struct reply_sink){ take_part, choice };
    if (reply_open(&options, &choice->reply) != OK) return NO_MEMORY;
    detok_init(&choice->detok, stream->request->service->vocab, DETOK_SKIP_SPECIAL);
    recall_reply_init(&choice->recall, stream->request->recall);
    buf_init(&choice->text, 0);
    for (enum field field = 0; field < FIELD_COUNT; field++) buf_init(&choice->gathered[field], 0);
    buf_init(&choice->call_ids, 0);
    buf_init(&choice->logprobs, 0);
    out_legacy_init(&choice->legacy);
    return OK;
}

static void choice_release(struct choice *choice)
{
    reply_close(choice->reply);
    recall_reply_release(&choice->recall);
    buf_release(&choice->text);
    for (enum field field = 0; field < FIELD_COUNT; field++) buf_release(&choice->gathered[field]);
    buf_release(&choice->call_ids);
    buf_release(&choice->logprobs);
    out_legacy_release(&choice->legacy);
    free(choice->waiting.sample);
}

/* ---- the face ---- */

static void stream_free(struct stream *stream)
{
    for (uint32_t i = 0; i < stream->choice_count; i++) choice_release(&stream->choice[i]);
    if (stream->writer->close) stream->writer->close(stream);
    buf_release(&stream->head);
    free(stream);
}

enum status stream_open(struct request *request, const struct stream_setup *setup)
{
    uint32_t count = setup->prompts * setup->choices;
    request->reply = NULL;
    must(count >= 1 && count <= REQUEST_JOBS_MOST);
    struct stream *stream = calloc(1, sizeof *stream + count * sizeof stream->choice[0]);
    if (!stream) return NO_MEMORY;

    stream->request = request;
    stream->setup = *setup;
    stream->created = (int64_t)time(NULL);
    stream->live = count;
    buf_init(&stream->head, 0);
    stream->writer = writers[setup->kind];
    random_id_make(stream->id, stream->writer->id_prefix);
    enum status status = stream->writer->open(stream);
    for (uint32_t i = 0; i < count && status == OK; i++) {
        status = choice_init(&stream->choice[i], stream, i);
        if (status == OK) stream->choice_count++;
    }
    if (status != OK) {
        stream_free(stream);
        return NO_MEMORY;
    }
    request->reply = stream;
    return OK;
}

void stream_release(struct request *request)
{
    if (request->reply) stream_free(request->reply);
    request->reply = NULL;
}

void stream_start(struct request *request)
{
    struct stream *stream = request->reply;

    for (uint32_t i = 0; i < stream->choice_count; i++) {
        struct choice *choice = &stream->choice[i];
        const struct stream_prompt *prompt = choice_prompt(choice);
        bool echo_logprobs = prompt->echo.size && stream->setup.logprobs;
        writer_of(choice)->begin(choice);
        if (echo_logprobs && prompt->first_id != NO_TOKEN)
            out_legacy_add(&choice->legacy, request->service->vocab, prompt->first_id, NULL, 0);
        if (!echo_logprobs || prompt->tokens == 1) choice_echo(choice);
    }
}

void stream_event(struct request *request, uint32_t job, const struct event *event)
{
    struct stream *stream = request->reply;
    must(job < stream->choice_count);
    struct choice *choice = &stream->choice[job];

    if (request->done || choice->ended) return;
    enum status status = choice_event(choice, event);
    if (status == OK) status = choice_status(choice);
    if (status == OK && !request->stream) status = buf_status(&request->out);
    if (status == OK || (request->done && request->stream)) return;
    stream->writer->error(stream, REFUSE_ENGINE,
                          status == NO_MEMORY ? "no memory for the answer" : "the engine failed");
    for (uint32_t i = 0; i < stream->choice_count; i++) request_stop_job(request, i);
}
