/* cut.c - chunks and company. */
#include "engine/cut.h"
#include <string.h>
#include "cache/kv_pool.h"

enum status cut_probe(const struct subject *subject, uint32_t seqs, uint32_t step_tokens,
                      struct probe *probe, struct err *err)
{
    return probe_open(&(struct probe_options){ .shape = subject->shape,
                                               .weights = subject->weights,
                                               .dev = subject->dev,
                                               .seqs = seqs,
                                               .blocks = subject->tokens / KV_BLOCK_TOKENS + 1,
                                               .step_tokens = step_tokens,
                                               .shuffle = true },
                      probe, err);
}

enum status cut_run(const struct subject *s, uint32_t chunk, uint32_t company, float *logits,
                    float *mtp, struct err *err)
{
    struct probe probe;
    uint32_t seqs = company + 1, most = chunk * seqs, vocab = s->shape->vocab;
    enum status status = cut_probe(s, seqs, most, &probe, err);
    if (status != OK) return status;
    uint32_t *other = calloc(s->tokens, sizeof *other), *next = calloc(most, sizeof *next);
    must(other && next);

    for (uint32_t p = 0; p < s->tokens && status == OK; p += chunk) {
        uint32_t count = s->tokens - p < chunk ? s->tokens - p : chunk, row = 0;
        probe_clear(&probe);
        for (uint32_t q = 0; q < seqs; q++) {
            bool own = q == company / 2;
            for (uint32_t i = 0; i < count; i++) {
                uint32_t at = p + i;
                other[i] = own ? s->token[at] : (s->token[at] * (q + 3) + 17 * q) % vocab;
                next[row++] = own && at + 1 < s->tokens ? s->token[at + 1] : other[i];
            }
            probe_add(&probe, q, other, p, count, own ? count : 0);
        }
        status = probe_run(&probe, logits + (size_t)p * vocab, err);
        if (status == OK && mtp) status = probe_draft(&probe, next, mtp + (size_t)p * vocab, err);
    }
    free(other);
    free(next);
    probe_close(&probe);
    return status;
}

enum status cut_same_bits(const struct subject *s, struct gate *gate, struct err *err)
{
    static const struct {
        uint32_t chunk, company;
    } cut[] = { { 1, 0 }, { 7, 0 }, { 64, 2 }, { 128, 0 }, { 7, 7 }, { 1, 36 } };
    size_t bytes = (size_t)s->tokens * s->shape->vocab * sizeof(float);
    float *first = malloc(bytes), *then = malloc(bytes);
    must(first && then);
    enum status status = cut_run(s, s->tokens, 0, first, NULL, err);
    for (uint32_t i = 0; i < sizeof cut / sizeof *cut && status == OK; i++) {
        char what[64];
        status = cut_run(s, cut[i].chunk, cut[i].company, then, NULL, err);
        snprintf(what, sizeof what, "bits: chunks of %u, one of %u", cut[i].chunk,
                 cut[i].company + 1);
        if (status == OK) gate_say(gate, what, memcmp(first, then, bytes) ? 1 : 0, 0.5);
    }
    free(first);
    free(then);
    return status;
}
