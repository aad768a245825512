/* seq.c - growing arrays, and counts of tokens for the penalties. */
#include "engine/seq.h"
#include <math.h>
#include <string.h>

enum { FIRST_SLOTS = 256 };

static bool grow(uint32_t **array, uint32_t *room, uint32_t want)
{
    if (want <= *room) return true;
    uint32_t more = *room ? *room : 16;
    while (more < want) more *= 2;
    uint32_t *grown = realloc(*array, more * sizeof *grown);
    if (!grown) return false;
    *array = grown;
    *room = more;
    return true;
}

static bool has_penalties(const struct sampling *sampling)
{
    return sampling->repetition != 1 || sampling->frequency != 0 || sampling->presence != 0;
}

/* ---- counts -------------------------------------------------------------------------------- */

static uint32_t slot_of(const struct seq *seq, uint32_t id)
{
    uint32_t slot = (id * 2654435761u) & (seq->seen_slots - 1);
    while (seq->seen_at[slot] && seq->seen[seq->seen_at[slot] - 1].id != id)
        slot = (slot + 1) & (seq->seen_slots - 1);
    return slot;
}

static bool grow_counts(struct seq *seq)
{
    uint32_t slots = seq->seen_slots ? seq->seen_slots * 2 : FIRST_SLOTS;
    struct token_count *seen = realloc(seq->seen, slots / 2 * sizeof *seen);
    if (!seen) return false;
    seq->seen = seen;
    uint32_t *at = calloc(slots, sizeof *at);
    if (!at) return false;
    free(seq->seen_at);
    seq->seen_at = at;
    seq->seen_slots = slots;
    seq->seen_room = slots / 2;
    for (uint32_t i = 0; i < seq->seen_count; i++) at[slot_of(seq, seen[i].id)] = i + 1;
    return true;
}

static bool count_token(struct seq *seq, uint32_t id, bool output)
{
    if (seq->seen_count == seq->seen_room && !grow_counts(seq)) return false;
    uint32_t slot = slot_of(seq, id);
    if (!seq->seen_at[slot]) {
        seq->seen[seq->seen_count++] = (struct token_count){ .id = id };
        seq->seen_at[slot] = seq->seen_count;
    }
    struct token_count *seen = &seq->seen[seq->seen_at[slot] - 1];
    *(output ? &seen->output : &seen->prompt) += 1;
    return true;
}

/* ---- the sequence -------------------------------------------------------------------------- */

/* The job's biases, and behind them a ban on each stop token, for as long as min_tokens holds. */
static bool make_bias(struct seq *seq, const struct job *job)
{
    uint32_t count = job->sampling.bias_count;
    if (count + job->stop_tokens == 0) return true;
    seq->bias = calloc(count + job->stop_tokens, sizeof *seq->bias);
    if (!seq->bias) return false;
    if (count) memcpy(seq->bias, job->sampling.bias, count * sizeof *seq->bias);
    for (uint32_t i = 0; i < job->stop_tokens; i++)
        seq->bias[count + i] = (struct token_bias){ job->stop_token[i], -INFINITY };
    return true;
}

/* A model may have more ids than the tokenizer; of those the grammar knows nothing, and they stay out. */
static bool begin_grammar(struct seq *seq, const struct job *job, uint32_t vocab)
{
    if (!job->grammar) return true;
    grammar_begin(job->grammar, &seq->follows);
    seq->words = (vocab + 31) / 32;
    seq->allowed = calloc(seq->words, sizeof *seq->allowed);
    return seq->allowed != NULL;
}

enum status seq_open(struct seq **out, struct job *job, uint32_t vocab)
{
    struct seq *seq = calloc(1, sizeof *seq);
    if (!seq) return NO_MEMORY;
    *seq = (struct seq){ .thinking = true };
    bool ok = grow(&seq->token, &seq->room, job->prompt_tokens + 1) && make_bias(seq, job) &&
              begin_grammar(seq, job, vocab);
    for (uint32_t i = 0; ok && has_penalties(&job->sampling) && i < job->prompt_tokens; i++)
        ok = count_token(seq, job->prompt[i], false);
    if (!ok) {
        seq_close(seq);
        return NO_MEMORY;
    }
    memcpy(seq->token, job->prompt, job->prompt_tokens * sizeof *seq->token);
    seq->tokens = job->prompt_tokens;
    seq->job = job;
    *out = seq;
    return OK;
}

void seq_close(struct seq *seq)
{
    must(seq->phase == SEQ_WAITING);
    job_free(seq->job);
    prefix_keys_release(&seq->keys);
    free(seq->token);
    free(seq->bias);
    free(seq->allowed);
    free(seq->seen);
    free(seq->seen_at);
    free(seq);
}

bool seq_must_know(const struct seq *seq)
{
    uint32_t budget = seq->job->think_budget;
    if (!seq->pending) return false;
    return seq->job->grammar || has_penalties(&seq->job->sampling) ||
           (budget && seq->thinking && seq_output(seq) >= budget);
}

enum status seq_accept(struct seq *seq, uint32_t token)
{
    struct grammar *grammar = seq->job->grammar;
    if (!grow(&seq->token, &seq->room, seq->tokens + 1)) return NO_MEMORY;
    if (grammar && !grammar_accept(grammar, &seq->follows, token)) return BAD_INPUT;
    if (has_penalties(&seq->job->sampling) && !count_token(seq, token, true)) return NO_MEMORY;
    seq->token[seq->tokens++] = token;
    if (token == seq->job->think_end) seq->thinking = false;
    return OK;
}
