/* forcer.c - how long a run may be. */
#include "engine/forcer.h"

enum { RUN_MOST = 64 };

enum status forcer_init(struct forcer *forcer, const struct tokenizer *tokenizer)
{
    *forcer = (struct forcer){ .tokenizer = tokenizer };
    if (!tokenizer) return OK;
    id_list_init(&forcer->ids, 0);
    return tokenizer_scratch_init(&forcer->scratch);
}

void forcer_release(struct forcer *forcer)
{
    if (!forcer->tokenizer) return;
    tokenizer_scratch_release(&forcer->scratch);
    id_list_release(&forcer->ids);
    *forcer = (struct forcer){ 0 };
}

/* One token is left for the draw behind the run. */
static uint32_t room_for(const struct seq *seq, uint32_t context)
{
    uint32_t output = seq_output(seq), most = seq->job->max_tokens - output;
    if (context - seq->tokens < most) most = context - seq->tokens;
    return most - 1 < RUN_MOST ? most - 1 : RUN_MOST;
}

/* A token that stops the job is not taken for the model: it may have another spelling, or end here. */
static uint32_t before_stop(const struct job *job, const struct id_list *ids)
{
    uint32_t count = 0;
    while (count < ids->count && !job_stops_at(job, ids->id[count])) count++;
    return count;
}

uint32_t forcer_run(struct forcer *forcer, const struct seq *seq, uint32_t context)
{
    const struct job *job = seq->job;
    if (!forcer->tokenizer || !job->grammar || job->sampling.logprobs) return 0;
    must(!seq->pending);
    if (seq_output(seq) >= job->max_tokens || seq->tokens >= context) return 0;
    uint32_t most = room_for(seq, context);
    if (most < 2) return 0;
    id_list_clear(&forcer->ids);
    grammar_force(job->grammar, &seq->follows, forcer->tokenizer, &forcer->scratch, &forcer->ids,
                  most);
    if (id_list_status(&forcer->ids) != OK) return 0;
    uint32_t count = before_stop(job, &forcer->ids);
    return count < 2 ? 0 : count;
}
