/* golden.c - one comparison a line. */
#include "engine/golden.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "cache/kv_pool.h"
#include "engine/probe.h"
#include "engine/safetensors.h"

#define EXACT_LIMIT 1e-4   // relative, over a whole tensor
#define MEDIAN_LIMIT 2e-3  // official: of the tokens' relative errors
/* official: a token beyond it is far off, which few may be. One flipped FP8 step of one channel is an
 * error of 1e-2 in a model of 128 channels: the reference against itself, with its sums in another
 * order, puts up to a quarter of such a layer's tokens above 1e-2 and half of the MTP logits, but
 * never more than 2 % above 5e-2. */
#define FAR_ERROR 1e-2
#define FAR_ERROR_NARROW 5e-2  // fewer than WIDE channels; and MTP logits, two products further on
#define WIDE 256
#define FAR_SHARE_LIMIT 0.05

struct golden {
    const struct golden_options *o;
    struct st_set file;
    bool held;
    struct err *err;
};

static void say(struct golden *g, const char *what, double error, double limit)
{
    bool ok = error < limit;
    fprintf(g->o->out, "%-44s %10.3g  limit %.3g  %s\n", what, error, limit, ok ? "ok" : "FAILED");
    g->held = g->held && ok;
}

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

/* ---- measures ------------------------------------------------------------------------------ */

static double relative(const float *got, const float *want, uint64_t count)
{
    double difference = 0, norm = 0;
    for (uint64_t i = 0; i < count; i++) {
        double d = (double)got[i] - (double)want[i];
        difference += d * d;
        norm += (double)want[i] * (double)want[i];
    }
    return isfinite(difference) ? sqrt(difference / (norm > 0 ? norm : 1)) : INFINITY;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double far_error(const struct golden *g)
{
    return g->o->shape->hidden < WIDE ? FAR_ERROR_NARROW : FAR_ERROR;
}

/* The gate of official numerics: median and share of far tokens, each token by itself. */
static void say_tokens(struct golden *g, const char *what, const float *got, const float *want,
                       uint32_t tokens, uint64_t width, double far_error)
{
    double *error = malloc(tokens * sizeof *error);
    char line[64];
    uint32_t far = 0;
    must(error);
    for (uint32_t t = 0; t < tokens; t++) {
        error[t] = relative(got + t * width, want + t * width, width);
        far += error[t] > far_error;
    }
    qsort(error, tokens, sizeof *error, ascending);
    snprintf(line, sizeof line, "%s: median token", what);
    say(g, line, error[tokens / 2], MEDIAN_LIMIT);
    snprintf(line, sizeof line, "%s: share above %g", what, far_error);
    say(g, line, (double)far / tokens, FAR_SHARE_LIMIT);
    free(error);
}

static enum status open_probe(const struct golden *g, uint32_t seqs, uint32_t tokens,
                              uint32_t step_tokens, struct probe *probe)
{
    return probe_open(&(struct probe_options){ .shape = g->o->shape,
                                               .weights = g->o->weights,
                                               .dev = g->o->dev,
                                               .seqs = seqs,
                                               .blocks = tokens / KV_BLOCK_TOKENS + 1,
                                               .step_tokens = step_tokens,
                                               .shuffle = true },
                      probe, g->err);
}

/* ---- one sequence, looked at from every side ----------------------------------------------- */

struct sequence {
    uint32_t tokens, vocab;
    uint32_t *token;              // [tokens]
    float *logits, *mtp;          // [tokens, vocab], [tokens - 1, vocab]; mtp may be NULL
    float *got_logits, *got_mtp;  // [tokens, vocab]
};

/* Runs the sequence in chunks, in company of `company` others that run the same length with other
 * tokens. got_logits and got_mtp receive its logits. */
static enum status run_cut(struct golden *g, struct sequence *s, uint32_t chunk, uint32_t company)
{
    struct probe probe;
    uint32_t seqs = company + 1, most = chunk * seqs;
    enum status status = open_probe(g, seqs, s->tokens, most, &probe);
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
                other[i] = own ? s->token[at] : (s->token[at] * (q + 3) + 17 * q) % s->vocab;
                next[row++] = own && at + 1 < s->tokens ? s->token[at + 1] : other[i];
            }
            probe_add(&probe, q, other, p, count, own ? count : 0);
        }
        status = probe_run(&probe, s->got_logits + (size_t)p * s->vocab, g->err);
        if (status == OK && s->mtp)
            status = probe_draft(&probe, next, s->got_mtp + (size_t)p * s->vocab, g->err);
    }
    free(other);
    free(next);
    probe_close(&probe);
    return status;
}

static enum status exact_cut(struct golden *g, struct sequence *s, uint32_t chunk, uint32_t company)
{
    char how[32], what[64];
    enum status status = run_cut(g, s, chunk, company);
    if (status != OK) return status;
    if (company) snprintf(how, sizeof how, "one of %u", company + 1);
    else if (chunk >= s->tokens) snprintf(how, sizeof how, "one shot");
    else snprintf(how, sizeof how, "chunks of %u", chunk);
    snprintf(what, sizeof what, "logits, %s", how);
    say(g, what, relative(s->got_logits, s->logits, (uint64_t)s->tokens * s->vocab), EXACT_LIMIT);
    if (!s->mtp) return OK;
    snprintf(what, sizeof what, "MTP logits, %s", how);
    say(g, what, relative(s->got_mtp, s->mtp, (uint64_t)(s->tokens - 1) * s->vocab), EXACT_LIMIT);
    return OK;
}

/* Company may change nothing, to the last bit. */
static enum status same_bits(struct golden *g, struct sequence *s)
{
    static const struct {
        uint32_t chunk, company;
    } cut[] = { { 1, 0 }, { 7, 0 }, { 64, 2 }, { 128, 0 }, { 7, 7 } };
    size_t bytes = (size_t)s->tokens * s->vocab * sizeof(float);
    float *first = malloc(bytes);
    must(first);
    enum status status = run_cut(g, s, s->tokens, 0);
    memcpy(first, s->got_logits, bytes);
    for (uint32_t i = 0; i < sizeof cut / sizeof *cut && status == OK; i++) {
        char what[64];
        status = run_cut(g, s, cut[i].chunk, cut[i].company);
        snprintf(what, sizeof what, "bits: chunks of %u, one of %u", cut[i].chunk,
                 cut[i].company + 1);
        say(g, what, memcmp(first, s->got_logits, bytes) ? 1 : 0, 0.5);
    }
    free(first);
    return status;
}

/* ---- layer by layer ------------------------------------------------------------------------ */

/* Share of tokens whose set of chosen experts differs. */
static double expert_difference(const struct golden *g, const struct model *m,
                                const struct st_tensor *tensor, uint32_t tokens)
{
    uint32_t k = g->o->shape->experts_per_token, differ = 0;
    uint32_t *want = words(g, tensor);
    for (uint32_t t = 0; t < tokens; t++) {
        uint32_t found = 0;
        for (uint32_t i = 0; i < k; i++)
            for (uint32_t j = 0; j < k; j++) found += want[t * k + i] == m->expert[t * k + j];
        differ += found != k;
    }
    free(want);
    return (double)differ / tokens;
}

/* Share of tokens whose set of selected entries differs; the file's row is a mask. */
static double selection_difference(const struct golden *g, const struct model *m,
                                   const struct st_tensor *tensor, uint32_t tokens)
{
    uint32_t width = (uint32_t)tensor->shape[1], topk = g->o->shape->index_topk, differ = 0;
    uint32_t *want = words(g, tensor);
    for (uint32_t t = 0; t < tokens; t++) {
        uint32_t wanted = 0, found = 0, count = m->selected_count[t];
        for (uint32_t j = 0; j < width; j++) wanted += want[(size_t)t * width + j];
        for (uint32_t i = 0; i < count; i++) {
            uint32_t j = m->selected[(size_t)t * topk + i];
            found += j < width && want[(size_t)t * width + j];
        }
        differ += found != wanted || count != wanted;
    }
    free(want);
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
        say(g, what, expert_difference(g, m, experts, tokens), limit);
    }
    if (selected) {
        snprintf(what, sizeof what, "layer %u: selection differs", layer);
        say(g, what, selection_difference(g, m, selected, tokens), limit);
    }
}

/* Exact: the streams after the layer at the file's positions. */
static void compare_streams(struct golden *g, const struct model *m, uint32_t layer, float *want)
{
    const struct st_tensor *at = st_find(&g->file, SLICE("stream_positions"));
    const struct st_tensor *tensor = find(g, "streams.%u", layer);
    uint32_t rows = (uint32_t)tensor->shape[0], width = m->streams.cols;
    uint32_t *position = at ? words(g, at) : NULL;
    float *got = malloc((size_t)rows * width * sizeof *got);
    char what[64];
    must(got);
    for (uint32_t r = 0; r < rows; r++)
        m->dev->ops->copy_out(m->dev, got + (size_t)r * width,
                              mat_row(&m->streams, position ? position[r] : r),
                              width * sizeof *got);
    snprintf(what, sizeof what, "layer %u", layer);
    if (m->dev->numerics == NUMERICS_EXACT) {
        say(g, what, relative(got, want, (uint64_t)rows * width), EXACT_LIMIT);
    } else {
        say_tokens(g, what, got, want, rows, width, far_error(g));
        m->dev->ops->copy_in(m->dev, m->streams.data, want, (size_t)rows * width * sizeof *want);
    }
    free(position);
    free(got);
}

/* Layer by layer over the whole sequence. Under official numerics each layer starts from the file's
 * streams, which compare_streams puts in place, and so do head and MTP block in the end. */
static enum status by_layer(struct golden *g, struct sequence *s)
{
    struct probe probe;
    enum status status = open_probe(g, 1, s->tokens, s->tokens, &probe);
    if (status != OK) return status;
    struct model *m = &probe.model;
    must(m->dev->activation == DT_F32);
    probe_add(&probe, 0, s->token, 0, s->tokens, s->tokens);
    const struct batch *batch = probe_batch(&probe);

    model_embed(m, batch);
    for (uint32_t l = 0; l < g->o->shape->layers && status == OK; l++) {
        model_layer(m, l, batch);
        status = m->dev->ops->finish(m->dev, g->err);
        compare_choices(g, m, l, s->tokens);
        const struct st_tensor *streams = find(g, "streams.%u", l);
        if (!streams) continue;
        float *want = floats(g, streams);
        compare_streams(g, m, l, want);
        free(want);
    }
    if (status == OK && m->dev->numerics == NUMERICS_OFFICIAL) {
        size_t bytes = (size_t)s->tokens * s->vocab * sizeof(float);
        model_logits(m, probe.maker.device_row, s->tokens);
        m->dev->ops->copy_out(m->dev, s->got_logits, m->logits.data, bytes);
        say_tokens(g, "head", s->got_logits, s->logits, s->tokens, s->vocab, far_error(g));
        if (s->mtp) {
            memmove(s->token, s->token + 1, (s->tokens - 1) * sizeof *s->token);
            status = probe_draft(&probe, s->token, s->got_mtp, g->err);
            say_tokens(g, "MTP", s->got_mtp, s->mtp, s->tokens - 1, s->vocab, FAR_ERROR_NARROW);
        }
    }
    probe_close(&probe);
    return status;
}

static enum status compare_sequence(struct golden *g, struct sequence *s)
{
    static const uint32_t cuts[] = { 1, 7, 64, 128 };
    enum status status;
    if (g->o->chunk) return exact_cut(g, s, g->o->chunk, 0);
    if (g->o->dev->numerics == NUMERICS_OFFICIAL) {
        if ((status = same_bits(g, s)) != OK) return status;
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
    enum status status = open_probe(g, 1, c->prompt_tokens + c->greedy_tokens, chunk, &probe);

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
        say(g, what, differ[0], 1);
        snprintf(what, sizeof what, "case %u: %u drafts, wrong", j, c.mtp_tokens);
        if (mtp && g->o->weights->mtp) say(g, what, differ[1], 1);
        free(c.prompt);
        free(c.greedy);
        free(c.mtp);
    }
    return status;
}

enum status golden_run(const struct golden_options *options, bool *held, struct err *err)
{
    struct golden g = { .o = options, .held = true, .err = err };
    enum status status = st_open_file(options->path, &g.file, err);
    if (status != OK) return status;
    if (st_find(&g.file, SLICE("tokens"))) status = sequence_file(&g);
    else if (find(&g, "%u.prompt", 0)) status = continuation_file(&g);
    else
        status =
            fail(err, BAD_INPUT, "%s: neither `tokens` nor `0.prompt` is in it", options->path);
    st_close(&g.file);
    *held = g.held;
    return status;
}
