/* golden.c - one comparison a line. */
#include "engine/golden.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "cache/kv_pool.h"
#include "engine/cut.h"
#include "engine/gate.h"
#include "engine/safetensors.h"

struct golden {
    const struct golden_options *o;
    struct st_set file;
    struct gate gate;
    struct err *err;
};

/* ---- reading the file ---------------------------------------------------------------------- */

static const struct st_tensor *find(const struct golden *g, const char *format, uint32_t number)
{
    char name[64];
    snprintf(name, sizeof name, format, number);
    return st_find(&g->file, slice_of(name));
}

static uint64_t elements(const struct st_tensor *tensor)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < tensor->dims; i++) count *= tensor->shape[i];
    return count;
}

/* The tensor as floats (F32, BF16) the caller frees. */
static float *floats(const struct golden *g, const struct st_tensor *tensor)
{
    uint64_t count = elements(tensor);
    float *out = malloc(count * sizeof *out + 1);
    const char *data = st_data(&g->file, tensor);
    must(out && (tensor->type == DT_F32 || tensor->type == DT_BF16));
    for (uint64_t i = 0; i < count; i++) {
        uint16_t half;
        if (tensor->type == DT_F32) {
            memcpy(&out[i], data + 4 * i, 4);
        } else {
            memcpy(&half, data + 2 * i, 2);
            out[i] = bf16_to_f32(half);
        }
    }
    return out;
}

/* I32 or U8 as words the caller frees. */
static uint32_t *words(const struct golden *g, const struct st_tensor *tensor)
{
    uint64_t count = elements(tensor);
    uint32_t *out = malloc(count * sizeof *out + 1);
    const unsigned char *data = st_data(&g->file, tensor);
    must(out && (tensor->type == DT_I32 || tensor->type == DT_U8));
    for (uint64_t i = 0; i < count; i++) {
        if (tensor->type == DT_I32) memcpy(&out[i], data + 4 * i, 4);
        else out[i] = data[i];
    }
    return out;
}

/* ---- one sequence, looked at from every side ----------------------------------------------- */

struct sequence {
    uint32_t tokens, vocab;
    uint32_t *token;              // [tokens]
    float *logits, *mtp;          // [tokens, vocab], [tokens - 1, vocab]; mtp may be NULL
    float *got_logits, *got_mtp;  // [tokens, vocab]
};

static struct subject subject_of(const struct golden *g, const struct sequence *s)
{
    return (struct subject){ g->o->shape, g->o->weights, g->o->dev, s->token, s->tokens };
}

static enum status exact_cut(struct golden *g, struct sequence *s, uint32_t chunk, uint32_t company)
{
    struct subject subject = subject_of(g, s);
    char how[32], what[64];
    enum status status =
        cut_run(&subject, chunk, company, s->got_logits, s->mtp ? s->got_mtp : NULL, g->err);
    if (status != OK) return status;
    if (company) snprintf(how, sizeof how, "one of %u", company + 1);
    else if (chunk >= s->tokens) snprintf(how, sizeof how, "one shot");
    else snprintf(how, sizeof how, "chunks of %u", chunk);
    snprintf(what, sizeof what, "logits, %s", how);
    gate_say(&g->gate, what,
             gate_relative(s->got_logits, s->logits, (uint64_t)s->tokens * s->vocab), EXACT_LIMIT);
    if (!s->mtp) return OK;
    snprintf(what, sizeof what, "MTP logits, %s", how);
    gate_say(&g->gate, what,
             gate_relative(s->got_mtp, s->mtp, (uint64_t)(s->tokens - 1) * s->vocab), EXACT_LIMIT);
    return OK;
}

/* ---- layer by layer ------------------------------------------------------------------------ */

/* Words of the device, which the caller frees; the step they come from has ended well. */
static uint32_t *fetch(const struct model *m, const uint32_t *word, size_t count)
{
    struct err err;
    uint32_t *out = probe_words(m->dev, word, count, &err);
    must(out);
    return out;
}

/* Share of tokens whose set of chosen experts differs. */
static double expert_difference(const struct golden *g, const struct model *m,
                                const struct st_tensor *tensor, uint32_t tokens)
{
    uint32_t k = g->o->shape->experts_per_token, differ = 0;
    uint32_t *want = words(g, tensor), *got = fetch(m, m->expert, tokens * k);
    for (uint32_t t = 0; t < tokens; t++) {
        uint32_t found = 0;
        for (uint32_t i = 0; i < k; i++)
            for (uint32_t j = 0; j < k; j++) found += want[t * k + i] == got[t * k + j];
        differ += found != k;
    }
    free(want);
    free(got);
    return (double)differ / tokens;
}

/* Share of tokens whose set of selected entries differs; the file's row is a mask. */
static double selection_difference(const struct golden *g, const struct model *m,
                                   const struct st_tensor *tensor, uint32_t tokens)
{
    uint32_t width = (uint32_t)tensor->shape[1], topk = g->o->shape->index_topk, differ = 0;
    uint32_t *want = words(g, tensor), *counts = fetch(m, m->selected_count, tokens);
    uint32_t *selected = fetch(m, m->selected, tokens * topk);
    for (uint32_t t = 0; t < tokens; t++) {
        uint32_t wanted = 0, found = 0, count = counts[t];
        for (uint32_t j = 0; j < width; j++) wanted += want[(size_t)t * width + j];
        for (uint32_t i = 0; i < count; i++) {
            uint32_t j = selected[(size_t)t * topk + i];
            found += j < width && want[(size_t)t * width + j];
        }
        differ += found != wanted || count != wanted;
    }
    free(want);
    free(counts);
    free(selected);
    return (double)differ / tokens;
}

static void compare_choices(struct golden *g, const struct model *m, uint32_t layer,
                            uint32_t tokens)
{
    bool exact = m->dev->numerics == NUMERICS_EXACT;
    double limit = exact ? 0.5 / tokens : FAR_SHARE_LIMIT;
    const struct st_tensor *experts = find(g, "experts.%u", layer);
    const struct st_tensor *selected = find(g, "selected.%u", layer);
    char what[64];
    if (experts) {
        snprintf(what, sizeof what, "layer %u: experts differ", layer);
        gate_say(&g->gate, what, expert_difference(g, m, experts, tokens), limit);
    }
    if (selected) {
        snprintf(what, sizeof what, "layer %u: selection differs", layer);
        gate_say(&g->gate, what, selection_difference(g, m, selected, tokens), limit);
    }
}

/* The streams after the layer at the file's positions. Under official numerics the file's replace
 * them, at every position. */
static enum status compare_streams(struct golden *g, const struct model *m, uint32_t layer,
                                   const float *want)
{
    const struct st_tensor *at = st_find(&g->file, SLICE("stream_positions"));
    const struct st_tensor *tensor = find(g, "streams.%u", layer);
    uint32_t rows = (uint32_t)tensor->shape[0], width = m->streams.cols;
    uint32_t *position = at ? words(g, at) : NULL;
    float *got = malloc((size_t)rows * width * sizeof *got);
    enum status status = OK;
    char what[64];
    must(got);
    for (uint32_t r = 0; r < rows && status == OK; r++)
        status = probe_read(m->dev, &m->streams, position ? position[r] : r, 1,
                            got + (size_t)r * width, g->err);
    snprintf(what, sizeof what, "layer %u", layer);
    if (m->dev->numerics == NUMERICS_EXACT) {
        gate_say(&g->gate, what, gate_relative(got, want, (uint64_t)rows * width), EXACT_LIMIT);
    } else if (status == OK) {
        gate_tokens(&g->gate, what, got, want, rows, width, gate_far_error(g->o->shape));
        status = probe_write(m->dev, &m->streams, 0, rows, want, g->err);
    }
    free(position);
    free(got);
    return status;
}

/* Layer by layer over the whole sequence. Under official numerics each layer starts from the file's
 * streams, which compare_streams puts in place, and so do head and MTP block in the end. */
static enum status by_layer(struct golden *g, struct sequence *s)
{
    struct probe probe;
    struct subject subject = subject_of(g, s);
    enum status status = cut_probe(&subject, 1, s->tokens, &probe, g->err);
    if (status != OK) return status;
    struct model *m = &probe.model;
    probe_add(&probe, 0, s->token, 0, s->tokens, s->tokens);
    const struct batch *batch = probe_batch(&probe);

    model_embed(m, batch);
    for (uint32_t l = 0; l < g->o->shape->layers && status == OK; l++) {
        model_layer(m, l, batch);
        status = m->dev->ops->finish(m->dev, g->err);
        if (status != OK) break;
        compare_choices(g, m, l, s->tokens);
        const struct st_tensor *streams = find(g, "streams.%u", l);
        if (!streams) continue;
        float *want = floats(g, streams);
        status = compare_streams(g, m, l, want);
        free(want);
    }
    if (status == OK && m->dev->numerics == NUMERICS_OFFICIAL) {
        model_logits(m, probe.maker.device_row, s->tokens);
        status = probe_read(m->dev, &m->logits, 0, s->tokens, s->got_logits, g->err);
        gate_tokens(&g->gate, "head", s->got_logits, s->logits, s->tokens, s->vocab,
                    gate_far_error(g->o->shape));
        if (s->mtp && status == OK) {
            memmove(s->token, s->token + 1, (s->tokens - 1) * sizeof *s->token);
            status = probe_draft(&probe, s->token, s->got_mtp, g->err);
            gate_tokens(&g->gate, "MTP", s->got_mtp, s->mtp, s->tokens - 1, s->vocab,
                        FAR_ERROR_NARROW);
        }
    }
    probe_close(&probe);
    return status;
}

/* The same comparisons with products that err, to be compared with afterwards. */
static enum status measure_floor(struct golden *g, const struct sequence *sequence)
{
    const struct golden_options *judged = g->o;
    struct golden_options blurred = *judged;
    struct sequence s = *sequence;
    size_t bytes = s.tokens * sizeof *s.token;
    s.token = malloc(bytes);  // by_layer moves them along for the MTP block
    must(s.token);
    memcpy(s.token, sequence->token, bytes);
    blurred.weights = judged->floor->weights;
    blurred.dev = judged->floor->dev;
    g->o = &blurred;
    g->gate.measures = true;
    enum status status = by_layer(g, &s);
    g->gate.measures = false;
    g->o = judged;
    free(s.token);
    return status;
}

static enum status compare_sequence(struct golden *g, struct sequence *s)
{
    static const uint32_t cuts[] = { 1, 7, 64, 128 };
    enum status status;
    if (g->o->chunk) return exact_cut(g, s, g->o->chunk, 0);
    if (g->o->dev->numerics == NUMERICS_OFFICIAL) {
        struct subject subject = subject_of(g, s);
        if ((status = cut_same_bits(&subject, &g->gate, g->err)) != OK) return status;
        if (g->o->floor && (status = measure_floor(g, s)) != OK) return status;
        return by_layer(g, s);
    }
    if ((status = exact_cut(g, s, s->tokens, 0)) != OK) return status;
    for (uint32_t i = 0; i < sizeof cuts / sizeof *cuts; i++)
        if ((status = exact_cut(g, s, cuts[i], 0)) != OK) return status;
    if ((status = exact_cut(g, s, 64, 7)) != OK) return status;
    return by_layer(g, s);
}

static enum status sequence_file(struct golden *g)
{
    const struct st_tensor *token = st_find(&g->file, SLICE("tokens"));
    const struct st_tensor *logits = st_find(&g->file, SLICE("logits"));
    const struct st_tensor *mtp = st_find(&g->file, SLICE("mtp_logits"));
    if (!logits || logits->dims != 2 || logits->shape[1] != g->o->shape->vocab)
        return fail(g->err, BAD_INPUT, "%s: logits: wanted [tokens, %u]", g->o->path,
                    g->o->shape->vocab);
    struct sequence s = { .tokens = (uint32_t)token->shape[0], .vocab = g->o->shape->vocab };
    size_t bytes = (size_t)s.tokens * s.vocab * sizeof(float);
    bool drafts = mtp && g->o->weights->mtp;
    s.token = words(g, token);
    s.logits = floats(g, logits);
    s.mtp = drafts ? floats(g, mtp) : NULL;
    s.got_logits = malloc(bytes);
    s.got_mtp = malloc(bytes);
    must(s.got_logits && s.got_mtp);
    enum status status = compare_sequence(g, &s);
    free(s.token);
    free(s.logits);
    free(s.mtp);
    free(s.got_logits);
    free(s.got_mtp);
    return status;
}

/* ---- continuations ------------------------------------------------------------------------- */

static uint32_t largest(const float *logits, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

struct continuation {
    uint32_t *prompt, *greedy, *mtp;
    uint32_t prompt_tokens, greedy_tokens, mtp_tokens;
};

/* Decodes greedily from the prompt; counts the tokens and drafts that differ from the file's. */
static enum status repeat(struct golden *g, const struct continuation *c, uint32_t differ[2])
{
    struct probe probe;
    uint32_t vocab = g->o->shape->vocab, chunk = g->o->chunk ? g->o->chunk : 256;
    float *logits = malloc(vocab * sizeof *logits);
    uint32_t *next = calloc(c->prompt_tokens + 1, sizeof *next), token = 0;
    must(logits && next);
    memcpy(next, c->prompt + 1, (c->prompt_tokens - 1) * sizeof *next);
    struct subject subject = { g->o->shape, g->o->weights, g->o->dev, c->prompt,
                               c->prompt_tokens + c->greedy_tokens };
    enum status status = cut_probe(&subject, 1, chunk, &probe, g->err);

    for (uint32_t p = 0, k = 0; status == OK && k < c->greedy_tokens;) {
        bool prompt = p < c->prompt_tokens;
        uint32_t count = prompt ? c->prompt_tokens - p : 1;
        if (count > chunk) count = chunk;
        bool last = p + count >= c->prompt_tokens;
        probe_clear(&probe);
        probe_add(&probe, 0, prompt ? c->prompt + p : &token, p, count, last);
        if ((status = probe_run(&probe, last ? logits : NULL, g->err)) != OK) break;
        if (last) {
            token = largest(logits, vocab);
            differ[0] += token != c->greedy[k];
            next[c->prompt_tokens - 1] = token;
        }
        if (g->o->weights->mtp)
            status = probe_draft(&probe, prompt ? next + p : &token, last ? logits : NULL, g->err);
        if (last && g->o->weights->mtp && k < c->mtp_tokens)
            differ[1] += largest(logits, vocab) != c->mtp[k];
        k += last;
        p += count;
    }
    if (status == OK) probe_close(&probe);
    free(logits);
    free(next);
    return status;
}

static enum status continuation_file(struct golden *g)
{
    const struct st_tensor *prompt;
    enum status status = OK;
    for (uint32_t j = 0; status == OK && (prompt = find(g, "%u.prompt", j)); j++) {
        const struct st_tensor *greedy = find(g, "%u.greedy", j), *mtp = find(g, "%u.mtp", j);
        if (!greedy) return fail(g->err, BAD_INPUT, "%s: %u.greedy is missing", g->o->path, j);
        struct continuation c = { .prompt = words(g, prompt),
                                  .greedy = words(g, greedy),
                                  .mtp = mtp ? words(g, mtp) : NULL,
                                  .prompt_tokens = (uint32_t)elements(prompt),
                                  .greedy_tokens = (uint32_t)elements(greedy),
                                  .mtp_tokens = mtp ? (uint32_t)elements(mtp) : 0 };
        uint32_t differ[2] = { 0, 0 };
        char what[64];
        status = repeat(g, &c, differ);
        snprintf(what, sizeof what, "case %u: %u greedy tokens, wrong", j, c.greedy_tokens);
        gate_say(&g->gate, what, differ[0], 1);
        snprintf(what, sizeof what, "case %u: %u drafts, wrong", j, c.mtp_tokens);
        if (mtp && g->o->weights->mtp) gate_say(&g->gate, what, differ[1], 1);
        free(c.prompt);
        free(c.greedy);
        free(c.mtp);
    }
    return status;
}

enum status golden_run(const struct golden_options *options, bool *held, struct err *err)
{
    struct gate_floor floor[GATE_FLOORS];
    struct golden g = { .o = options,
                        .gate = { .out = options->out, .held = true, .floor = floor },
                        .err = err };
    enum status status = st_open_file(options->path, &g.file, err);
    if (status != OK) return status;
    if (st_find(&g.file, SLICE("tokens"))) status = sequence_file(&g);
    else if (find(&g, "%u.prompt", 0)) status = continuation_file(&g);
    else
        status =
            fail(err, BAD_INPUT, "%s: neither `tokens` nor `0.prompt` is in it", options->path);
    st_close(&g.file);
    *held = g.gate.held;
    return status;
}
