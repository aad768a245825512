/* jobs.c - the last step of prep. */
#include "server/jobs.h"
#include <float.h>
#include <pthread.h>
#include "config/hash.h"
#include "config/metrics.h"
#include "config/options.h"
#include "server/cache_tenant.h"
#include "server/request_log.h"

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static bool scratch_key_made;

static void scratch_free(void *scratch)
{
    tokenizer_scratch_release(scratch);
    free(scratch);
}

static void make_scratch_key(void)
{
    scratch_key_made = pthread_key_create(&scratch_key, scratch_free) == 0;
}

struct tokenizer_scratch *jobs_scratch(void)
{
    pthread_once(&scratch_once, make_scratch_key);
    if (!scratch_key_made) return NULL;
    struct tokenizer_scratch *scratch = pthread_getspecific(scratch_key);
    if (scratch) return scratch;
    scratch = malloc(sizeof *scratch);
    if (!scratch) return NULL;
    if (tokenizer_scratch_init(scratch) == OK) {
        if (pthread_setspecific(scratch_key, scratch) == 0) return scratch;
        tokenizer_scratch_release(scratch);
    }
    free(scratch);
    return NULL;
}

/* Of prompt and answer together, with this key. */
static uint32_t context_of(const struct request *request)
{
    const struct tenant *tenant = request->caller.tenant;
    uint32_t context = request->service->context_tokens;

    if (tenant && tenant->limits.context && tenant->limits.context < context)
        context = (uint32_t)tenant->limits.context;
    return context;
}

uint32_t jobs_prompt_most(const struct request *request)
{
    return context_of(request) - 1;
}

/* The tokens of output that must fit; a request that names a number gets no fewer. */
static uint64_t wanted_output(const struct sampling_request *sampling)
{
    if (sampling->max_tokens) return sampling->max_tokens;
    return sampling->min_tokens > 1 ? sampling->min_tokens : 1;
}

enum status jobs_refuse_long(const struct request *request, uint64_t prompt_tokens,
                             const struct sampling_request *sampling, struct refused *refused)
{
    unsigned long long output = wanted_output(sampling);
    uint32_t context = context_of(request);

    refused->refusal = REFUSE_CONTEXT;
    /* Which of the two is too long; a prompt's field is the caller's to name. */
    bool fits = prompt_tokens && prompt_tokens < context;
    snprintf(refused->param, sizeof refused->param, "%s", fits ? "max_tokens" : "");
    if (prompt_tokens == 0)
        return fail(&refused->err, BAD_INPUT,
                    "the prompt has more than %u tokens and the answer may take %llu, wanted at "
                    "most %u together",
                    jobs_prompt_most(request), output, context);
    return fail(
        &refused->err, BAD_INPUT,
        "the prompt has %llu tokens and the answer may take %llu, wanted at most %u together",
        (unsigned long long)prompt_tokens, output, context);
}

static enum status refuse_memory_now(struct refused *refused)
{
    refused->refusal = REFUSE_FULL;
    refused->param[0] = '\0';
    return fail(&refused->err, NO_MEMORY, "no memory for this request now");
}

static void add_stop(const struct vocab *vocab, struct job *job, struct slice text)
{
    uint32_t id = vocab_find(vocab, text);
    if (id != VOCAB_NONE && job->stop_tokens < JOB_STOP_TOKENS_MOST)
        job->stop_token[job->stop_tokens++] = id;
}

/* Under a grammar nothing follows the end, so ignore_eos cannot mean to go on behind it: there it means
 * to go on for as long as the grammar has something else to say. */
static void set_grammar(const struct jobs_setup *setup, struct job *job)
{
    if (!setup->grammar) return;
    grammar_hold(setup->grammar);
    job->grammar = setup->grammar;
    if (setup->sampling->ignore_eos) job->min_tokens = job->max_tokens;
}

static void set_stops(const struct vocab *vocab, const struct jobs_setup *setup, struct job *job)
{
    const struct sampling_request *sampling = setup->sampling;
    if (!sampling->ignore_eos || setup->grammar) {
        add_stop(vocab, job, SLICE("<｜end▁of▁sentence｜>"));
        if (setup->chat) {
            add_stop(vocab, job, SLICE("<｜User｜>"));
            add_stop(vocab, job, SLICE("<｜Assistant｜>"));
        }
    }
    for (uint32_t i = 0; i < sampling->stop_token_count; i++)
        if (job->stop_tokens < JOB_STOP_TOKENS_MOST)
            job->stop_token[job->stop_tokens++] = sampling->stop_token[i];
}

/* What the request asks for, which check_room has found to fit; else what the options and the context
 * leave. */
static uint32_t most_output(const struct request *request, const struct sampling_request *sampling,
                            uint32_t prompt_tokens)
{
    const struct tenant *tenant = request->caller.tenant;
    uint64_t room = context_of(request) - prompt_tokens;
    uint64_t most = (uint64_t)request->service->options->max_output_tokens;  // 0 = no such limit
    uint64_t own = tenant ? tenant->limits.output : 0;

    if (own && (!most || own < most)) most = own;

    if (sampling->max_tokens) return (uint32_t)sampling->max_tokens;
    if (most && most < sampling->min_tokens) most = sampling->min_tokens;
    return (uint32_t)(most && most < room ? most : room);
}

/* Choices of one request differ, and the first is the one that the seed alone gives. */
static uint64_t choice_seed(uint64_t seed, uint32_t choice)
{
    return choice ? hash64(&choice, sizeof choice, seed) : seed;
}

/* A client's smallest number may be 0 as a float, which the sampler must not see. */
static float above_zero(double value)
{
    return (float)value > 0 ? (float)value : FLT_MIN;
}

static bool set_sampling(const struct jobs_setup *setup, uint32_t choice, struct sampling *out)
{
    const struct sampling_request *from = setup->sampling;
    struct token_bias *bias = NULL;

    if (from->bias_count) {
        bias = malloc(from->bias_count * sizeof *bias);
        if (!bias) return false;
        memcpy(bias, from->bias, from->bias_count * sizeof *bias);
    }
    *out = (struct sampling){
        .temperature = (float)from->temperature,
        .top_p = above_zero(from->top_p),
        .min_p = (float)from->min_p,
        .top_k = from->top_k,
        .repetition = above_zero(from->repetition),
        .frequency = (float)from->frequency,
        .presence = (float)from->presence,
        .seed = choice_seed(from->seed, choice),
        .logprobs = setup->logprobs ? setup->top_logprobs + 1 : 0,
        .bias = bias,
        .bias_count = from->bias_count,
    };
    return true;
}

uint64_t jobs_tenant(const struct request *request, const struct sampling_request *sampling)
{
    const struct tenant *tenant = request->caller.tenant;

    return tenant ? hash64(tenant->owner, sizeof tenant->owner, sampling->tenant)
                  : sampling->tenant;
}

void jobs_cache_tenant(const struct request *request, const struct sampling_request *sampling,
                       uint8_t out[SHA256_BYTES])
{
    static const uint8_t nobody[SHA256_BYTES];
    const struct tenant *tenant = request->caller.tenant;

    cache_tenant_of(tenant ? tenant->owner : nobody,
                    tenant && !tenant->isolate_users ? nobody : sampling->user, out);
}

/* Whom it shares computed prefixes with. A prompt whose own log-probabilities are asked for is
 * computed whole. */
static void set_cache(const struct request *request, const struct jobs_setup *setup,
                      struct job *job)
{
    const struct sampling_request *sampling = setup->sampling;

    if (request->caller.tenant)
        memcpy(job->cache_owner, request->caller.tenant->owner, sizeof job->cache_owner);
    jobs_cache_tenant(request, sampling, job->cache_tenant);
    memcpy(job->cache_salt, sampling->salt, sizeof job->cache_salt);
    job->no_cache = sampling->no_cache || setup->prompt_logprobs;
    job->no_store = sampling->no_store;
}

/* Its tenant, the user within it, and where in the queue it stands. */
static void set_fairness(const struct request *request, const struct sampling_request *sampling,
                         struct job *job)
{
    static const uint8_t nobody[SHA256_BYTES];
    const struct tenant *tenant = request->caller.tenant;
    int32_t least = tenant ? tenant->priority_least : 0;

    job->tenant = tenant ? tenant->hash : 0;
    job->weight = tenant ? tenant->weight : 1;
    job->user = memcmp(sampling->user, nobody, sizeof nobody)
                    ? hash64(sampling->user, sizeof sampling->user, job->tenant)
                    : 0;
    job->priority = sampling->priority < 0 ? least : sampling->priority;
}

/* NULL: no memory. */
static struct job *make_job(const struct request *request, const struct jobs_setup *setup,
                            const struct jobs_prompt *prompt, uint32_t choice)
{
    const struct service *service = request->service;
    const struct sampling_request *sampling = setup->sampling;
    struct job *job = calloc(1, sizeof *job);
    if (!job) return NULL;
    job->prompt = malloc(prompt->tokens * sizeof *job->prompt);
    if (!job->prompt || !set_sampling(setup, choice, &job->sampling)) {
        job_free(job);
        return NULL;
    }
    memcpy(job->prompt, prompt->id, prompt->tokens * sizeof *job->prompt);
    job->prompt_tokens = prompt->tokens;
    job->stable_tokens = prompt->stable_tokens;
    job->pinned_end[0] = prompt->pinned_tokens;
    job->max_tokens = most_output(request, sampling, prompt->tokens);
    job->min_tokens = sampling->min_tokens;
    job->prompt_logprobs = setup->prompt_logprobs;
    set_fairness(request, sampling, job);
    set_cache(request, setup, job);
    job->think_end = vocab_find(service->vocab, SLICE("</think>"));
    if (job->think_end != VOCAB_NONE) job->think_budget = sampling->think_budget;
    set_stops(service->vocab, setup, job);
    set_grammar(setup, job);
    return job;
}

static enum status check_priority(const struct request *request, const struct jobs_setup *setup,
                                  struct refused *refused)
{
    const struct tenant *tenant = request->caller.tenant;
    int32_t said = setup->sampling->priority;

    if (said < 0 || !tenant) return OK;
    if (said >= tenant->priority_least && said <= tenant->priority_most) return OK;
    metric_add(METRIC_auth_priority, 1);
    refused->refusal = REFUSE_PERMISSION;
    snprintf(refused->param, sizeof refused->param, "priority");
    return fail(&refused->err, BAD_INPUT, "priority: found %d, wanted %d to %d with this key", said,
                tenant->priority_least, tenant->priority_most);
}

/* An answer longer than the tenant may have is refused where it is asked for; else it ends there. */
static enum status check_output(const struct request *request, const struct jobs_setup *setup,
                                struct refused *refused)
{
    const struct tenant *tenant = request->caller.tenant;
    const struct sampling_request *sampling = setup->sampling;
    uint64_t most = tenant ? tenant->limits.output : 0;
    bool named = sampling->max_tokens != 0;

    if (!most || wanted_output(sampling) <= most) return OK;
    refused->refusal = REFUSE_BAD_REQUEST;
    snprintf(refused->param, sizeof refused->param, "%s", named ? "max_tokens" : "min_tokens");
    return fail(&refused->err, BAD_INPUT, "%s: found %llu, wanted at most %llu with this key",
                refused->param, (unsigned long long)wanted_output(sampling),
                (unsigned long long)most);
}

static enum status check_room(const struct request *request, const struct jobs_setup *setup,
                              struct refused *refused)
{
    uint32_t context = context_of(request);

    for (uint32_t p = 0; p < setup->prompts; p++) {
        uint64_t prompt = setup->prompt[p].tokens;
        must(prompt > 0);
        if (prompt >= context || wanted_output(setup->sampling) > context - prompt)
            return jobs_refuse_long(request, prompt, setup->sampling, refused);
    }
    return OK;
}

/* Whom a tenant asks for, in records: the same from day to day, and another for each tenant. */
static uint64_t user_of(const struct request *request, const struct sampling_request *sampling)
{
    static const uint8_t nobody[sizeof sampling->user];
    struct slice tenant = slice_of(request_tenant_name(request));

    if (memcmp(sampling->user, nobody, sizeof nobody) == 0) return 0;
    return hash64(sampling->user, sizeof sampling->user, hash64(tenant.data, tenant.size, 0));
}

enum status jobs_make(struct request *request, const struct jobs_setup *setup,
                      struct refused *refused)
{
    uint32_t count = setup->prompts * setup->choices;
    must(count > 0 && count <= REQUEST_JOBS_MOST);
    enum status status = check_priority(request, setup, refused);
    if (status == OK) status = check_output(request, setup, refused);
    if (status == OK) status = check_room(request, setup, refused);
    if (status != OK) return status;
    request->job = arena_array(&request->arena, count, sizeof(struct job *));
    if (!request->job) return refuse_memory_now(refused);

    uint32_t made = 0, tokens = 0;
    for (; made < count; made++) {
        const struct jobs_prompt *prompt = &setup->prompt[made / setup->choices];
        request->job[made] = make_job(request, setup, prompt, made % setup->choices);
        if (!request->job[made]) break;
        tokens += prompt->tokens;
    }
    if (made < count) {
        while (made--) job_free(request->job[made]);
        request->job = NULL;
        return refuse_memory_now(refused);
    }
    request->job_count = count;
    request->fork_each = setup->prompt_logprobs ? 1 : setup->choices;
    request->prompt_tokens = tokens;
    request->user = user_of(request, setup->sampling);
    return OK;
}
