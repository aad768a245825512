/* completions.c - POST /v1/completions: a raw prompt, or the hole between two texts, to jobs.
 *
 *     prompt   BOS text                                   ids are taken as they come
 *     suffix   BOS begin text hole suffix end             the model writes what belongs in the hole
 */
#include "config/options.h"
#include "engine/text/detok.h"
#include "engine/text/dialect.h"
#include "server/handlers.h"
#include "server/jobs.h"
#include "server/models.h"
#include "server/openai_completion.h"
#include "server/stream.h"

static enum status no_memory(struct refused *refused)
{
    refused->refusal = REFUSE_FULL;
    refused->param[0] = '\0';
    return fail(&refused->err, NO_MEMORY, "no memory for this request now");
}

/* One prompt on its way: its ids, and what echo shows of it. */
struct origin {
    struct request *request;
    const struct completion_request *completion;
    struct tokenizer_scratch *scratch;
    struct id_list ids;  // of all prompts, one after the other
    struct jobs_prompt *jobs;
    struct stream_prompt *shown;
};

/* The part before the hole and the one after it are a client's: control tokens are plain text there,
 * unless the option says otherwise. */
static enum status encode_hole(struct origin *origin, struct slice before, struct slice after)
{
    const struct service *service = origin->request->service;
    struct text_span span[2];
    struct buf text;

    buf_init(&text, 0);
    buf_add_string(&text, BOS_TEXT FIM_BEGIN_TEXT);
    span[0] = (struct text_span){ text.size, text.size + before.size };
    buf_add_slice(&text, before);
    buf_add_string(&text, FIM_HOLE_TEXT);
    span[1] = (struct text_span){ text.size, text.size + after.size };
    buf_add_slice(&text, after);
    buf_add_string(&text, FIM_END_TEXT);
    enum status status = buf_status(&text);
    struct tokenizer_text whole = { .text = buf_slice(&text), .literal = span };
    if (service->options->special_tokens_in_content == OPT_SPECIAL_TOKENS_LITERAL)
        whole.literal_count = 2;
    if (status == OK)
        status = tokenizer_encode(service->tokenizer, origin->scratch, &whole, &origin->ids);
    buf_release(&text);
    return status;
}

static enum status encode_text(struct origin *origin, struct slice text, bool *added_bos)
{
    const struct service *service = origin->request->service;
    uint32_t bos = vocab_find(service->vocab, SLICE(BOS_TEXT));

    *added_bos = origin->completion->add_special && bos != VOCAB_NONE &&
                 !slice_starts(text, SLICE(BOS_TEXT));
    if (*added_bos) id_list_add(&origin->ids, bos);
    return tokenizer_encode_marked(service->tokenizer, origin->scratch, text, &origin->ids);
}

static enum status copy_ids(struct origin *origin, const struct completion_prompt *prompt)
{
    if (!id_list_reserve(&origin->ids, prompt->tokens)) return id_list_status(&origin->ids);
    for (uint32_t i = 0; i < prompt->tokens; i++) id_list_add(&origin->ids, prompt->id[i]);
    return OK;
}

static enum status echo_of(struct origin *origin, const struct completion_prompt *prompt,
                           struct slice *echo)
{
    struct detok detok;
    struct buf text;

    if (prompt->text.data) {
        *echo = arena_copy(&origin->request->arena, prompt->text);
        return echo->data ? OK : NO_MEMORY;
    }
    buf_init(&text, 0);
    detok_init(&detok, origin->request->service->vocab, DETOK_SHOW_SPECIAL);
    for (uint32_t i = 0; i < prompt->tokens; i++) detok_add(&detok, prompt->id[i], &text);
    detok_finish(&detok, &text);
    enum status status = buf_status(&text);
    if (status == OK) *echo = arena_copy(&origin->request->arena, buf_slice(&text));
    buf_release(&text);
    return status == OK && echo->data ? OK : NO_MEMORY;
}

/* Appends the ids of prompt `index`; each prompt may fill the context by itself. */
static enum status encode_prompt(struct origin *origin, uint32_t index, struct refused *refused)
{
    const struct completion_request *completion = origin->completion;
    const struct completion_prompt *prompt = &completion->prompt[index];
    size_t before = origin->ids.count;
    bool added_bos = false;
    enum status status;

    origin->ids.limit = before + jobs_prompt_most(origin->request);
    if (completion->suffix.data) status = encode_hole(origin, prompt->text, completion->suffix);
    else if (prompt->text.data) status = encode_text(origin, prompt->text, &added_bos);
    else status = copy_ids(origin, prompt);
    if (status == TOO_LONG)
        return jobs_refuse_long(origin->request, 0, &completion->common.sampling, refused);
    if (status != OK) return no_memory(refused);

    uint32_t tokens = (uint32_t)(origin->ids.count - before);
    if (tokens == 0) {
        snprintf(refused->param, sizeof refused->param, "prompt");
        refused->refusal = REFUSE_BAD_REQUEST;
        return fail(&refused->err, BAD_INPUT,
                    "prompt: found an empty text, wanted a token or more");
    }
    origin->jobs[index] = (struct jobs_prompt){ .tokens = tokens, .stable_tokens = tokens };
    struct stream_prompt *shown = &origin->shown[index];
    shown->tokens = tokens;
    // A BOS that the client did not write is not shown either.
    shown->first_id = added_bos ? NO_TOKEN : origin->ids.id[before];
    if (completion->echo && echo_of(origin, prompt, &shown->echo) != OK) return no_memory(refused);
    return OK;
}

static enum status encode_all(struct origin *origin, struct refused *refused)
{
    uint32_t prompts = origin->completion->prompts;
    enum status status = OK;

    for (uint32_t i = 0; i < prompts && status == OK; i++)
        status = encode_prompt(origin, i, refused);
    const uint32_t *id = origin->ids.id;  // it moves no more
    for (uint32_t i = 0; i < prompts && status == OK; i++) {
        origin->jobs[i].id = id;
        id += origin->jobs[i].tokens;
    }
    return status;
}

static enum status make_jobs(struct origin *origin, struct refused *refused)
{
    const struct completion_request *completion = origin->completion;
    const struct answer_options *answer = &completion->common.answer;
    struct jobs_setup setup = {
        .sampling = &completion->common.sampling,
        .prompt = origin->jobs,
        .prompts = completion->prompts,
        .choices = answer->choices,
        .logprobs = answer->logprobs,
        .top_logprobs = answer->top_logprobs,
        .prompt_logprobs = completion->echo && answer->logprobs,
    };
    return jobs_make(origin->request, &setup, refused);
}

static enum status open_stream(struct origin *origin, struct refused *refused)
{
    struct request *request = origin->request;
    const struct completion_request *completion = origin->completion;
    const struct answer_options *answer = &completion->common.answer;
    struct stream_setup setup = {
        .kind = STREAM_COMPLETION,
        .include_usage = answer->include_usage,
        .deepseek_usage = answer->usage_on_finish,
        .service_tier = answer->service_tier,
        .logprobs = answer->logprobs,
        .top_logprobs = answer->top_logprobs,
        .choices = answer->choices,
        .prompt = origin->shown,
        .prompts = completion->prompts,
        .model = answer->model,
        .tenant = jobs_tenant(request, &completion->common.sampling),
        .reply = { .start = REPLY_IN_RAW, .stop = answer->stop, .stop_count = answer->stop_count },
    };
    request->stream = answer->stream;
    snprintf(request->model, sizeof request->model, "%s", request->service->model_name);
    return stream_open(request, &setup) == OK ? OK : no_memory(refused);
}

static enum status prepare(struct request *request, const struct completion_request *completion,
                           struct refused *refused)
{
    struct origin origin = { .request = request, .completion = completion };

    origin.scratch = jobs_scratch();
    origin.jobs = arena_array(&request->arena, completion->prompts, sizeof *origin.jobs);
    origin.shown = arena_array(&request->arena, completion->prompts, sizeof *origin.shown);
    if (!origin.scratch || !origin.jobs || !origin.shown) return no_memory(refused);
    id_list_init(&origin.ids, 0);
    enum status status = models_check_caller(request, completion->common.answer.model, refused);
    if (status == OK) status = encode_all(&origin, refused);
    if (status == OK) status = make_jobs(&origin, refused);
    if (status == OK) status = open_stream(&origin, refused);
    id_list_release(&origin.ids);
    return status;
}

static void prep(struct request *request)
{
    struct slice body = { request->body, request->body_size };
    struct completion_request completion;
    struct refused refused;

    enum status status = openai_completion_read(request->service, request->base, body,
                                                &request->arena, &completion, &refused);
    if (status == OK) {
        status = prepare(request, &completion, &refused);
        openai_completion_release(&completion);
    }
    if (status == OK) return;
    if (refused.refusal == REFUSE_CONTEXT && !refused.param[0])
        snprintf(refused.param, sizeof refused.param, "prompt");
    request_refuse(request, refused.refusal, refused.param[0] ? refused.param : NULL,
                   refused.err.text);
}

const struct handler completions_handler = {
    .prep = prep,
    .start = stream_start,
    .event = stream_event,
    .release = stream_release,
};
