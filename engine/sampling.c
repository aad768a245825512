/* sampling.c - what a draw depends on: the request, its own tokens, its seed and the position. */
#include "engine/sampling.h"

static bool budget_is_spent(const struct seq *seq)
{
    const struct job *job = seq->job;
    uint32_t budget = job->think_budget;
    if (!budget || !seq->thinking || seq_output(seq) < budget) return false;
    // reasoning may also have ended in a spelled tag or in a call
    return !job->grammar || grammar_allows(job->grammar, &seq->follows, job->think_end);
}

bool sampling_needs_mask(const struct seq *seq, uint32_t position)
{
    return seq->job->grammar && position >= seq->tokens && !budget_is_spent(seq);
}

/* No stop token yet; but where the grammar allows nothing else, as where all has been said, it may end. */
static bool must_go_on(const struct seq *seq, const uint32_t *mask)
{
    const struct job *job = seq->job;
    if (seq_output(seq) >= job->min_tokens) return false;
    for (uint32_t w = 0; mask && w < seq->words; w++)
        for (uint32_t bits = mask[w]; bits; bits &= bits - 1)
            if (!job_stops_at(job, 32 * w + (uint32_t)__builtin_ctz(bits))) return true;
    return !mask;
}

void sampling_row(const struct seq *seq, uint32_t position, struct sample_row *row)
{
    const struct job *job = seq->job;
    const struct sampling *s = &job->sampling;

    *row = (struct sample_row){
        .temperature = s->temperature,
        .top_p = s->top_p,
        .min_p = s->min_p,
        .top_k = s->top_k,
        .repetition = s->repetition,
        .frequency = s->frequency,
        .presence = s->presence,
        .seen = seq->seen,
        .seen_count = seq->seen_count,
        .bias = seq->bias,
        .bias_count = s->bias_count,
        .seed = s->seed,
        .position = position,
        .logprobs = s->logprobs,
    };
    if (position < seq->tokens) {
        row->forced = true;
        row->forced_id = seq->token[position];
    } else if (budget_is_spent(seq)) {
        row->forced = true;
        row->forced_id = job->think_end;
    } else {
        row->allowed = job->grammar ? seq->allowed : NULL;
        if (must_go_on(seq, row->allowed)) row->bias_count += job->stop_tokens;
    }
}
