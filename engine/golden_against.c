/* golden_against.c - two backends in step, a layer at a time. */
#include <string.h>
#include "engine/cut.h"
#include "engine/golden.h"
#include "engine/tape.h"

enum { JUDGED, JUDGE };

struct pair {
    const struct golden_against *o;
    struct gate gate;
    struct subject subject[2];
    struct probe probe[2];
    float *rows[2];  // [tokens, the widest row]
    struct err *err;
};

static enum status read_both(struct pair *p, const struct mat *judged, const struct mat *judge)
{
    const struct mat *mat[2] = { judged, judge };
    enum status status = OK;
    for (int i = 0; i < 2 && status == OK; i++)
        status = probe_read(p->subject[i].dev, mat[i], 0, p->o->tokens, p->rows[i], p->err);
    return status;
}

/* Share of rows whose sets of `width` words differ; count: how many of each row's words count. */
struct choices {
    const uint32_t *word[2], *count[2];
    uint32_t rows, width;
};

static double difference(const struct choices *c)
{
    uint32_t differ = 0;
    for (uint32_t r = 0; r < c->rows; r++) {
        const uint32_t *a = c->word[0] + (size_t)r * c->width;
        const uint32_t *b = c->word[1] + (size_t)r * c->width;
        uint32_t as = c->count[0] ? c->count[0][r] : c->width, found = 0;
        uint32_t bs = c->count[1] ? c->count[1][r] : c->width;
        for (uint32_t i = 0; i < as; i++)
            for (uint32_t j = 0; j < bs; j++) found += a[i] == b[j];
        differ += found != as || as != bs;
    }
    return (double)differ / c->rows;
}

static enum status compare_words(struct pair *p, const char *what, const struct choices *device)
{
    uint32_t *copy[4] = { NULL };
    struct choices c = *device;
    bool read = true;
    for (int i = 0; i < 2 && read; i++) {
        struct dev *dev = p->subject[i].dev;
        c.word[i] = copy[i] = probe_words(dev, c.word[i], (size_t)c.rows * c.width, p->err);
        read = copy[i];
        if (!read || !c.count[i]) continue;
        c.count[i] = copy[2 + i] = probe_words(dev, c.count[i], c.rows, p->err);
        read = copy[2 + i];
    }
    if (read) gate_say(&p->gate, what, difference(&c), FAR_SHARE_LIMIT);
    for (int i = 0; i < 4; i++) free(copy[i]);
    return read ? OK : DEVICE_FAILED;
}

static enum status compare_choices(struct pair *p, uint32_t layer)
{
    const struct shape *s = p->o->shape;
    const struct model *m[2] = { &p->probe[0].model, &p->probe[1].model };
    char what[64];
    snprintf(what, sizeof what, "layer %u: experts differ", layer);
    enum status status = compare_words(p, what,
                                       &(struct choices){ .word = { m[0]->expert, m[1]->expert },
                                                          .rows = p->o->tokens,
                                                          .width = s->experts_per_token });
    if (status != OK || s->layer[layer].ratio != SHAPE_CSA_RATIO) return status;
    snprintf(what, sizeof what, "layer %u: selection differs", layer);
    return compare_words(p, what,
                         &(struct choices){ .word = { m[0]->selected, m[1]->selected },
                                            .count = { m[0]->selected_count, m[1]->selected_count },
                                            .rows = p->o->tokens,
                                            .width = s->index_topk });
}

/* ---- an operation at a time ------------------------------------------------------------------ */

/* What operations write of the model's activations; route's weights are kept as they are. */
static const struct {
    const char *name;
    size_t at;
} written[] = {
#define MAT(field)                                                                                 \
    {                                                                                              \
#field, offsetof(struct model, field)                                                      \
    }
    MAT(streams), MAT(x),         MAT(y),        MAT(post), MAT(comb), MAT(qr_raw),
    MAT(qr),      MAT(q),         MAT(o),        MAT(kv),   MAT(z),    MAT(value),
    MAT(gate),    MAT(key_value), MAT(key_gate), MAT(iq),   MAT(iw),
#undef MAT
};

enum { WRITTEN = sizeof written / sizeof *written };

static struct mat *mat_at(struct model *m, size_t i)
{
    return (struct mat *)(void *)((char *)m + written[i].at);
}

/* The last bits that the judge wrote to each matrix. */
struct latest {
    float *value[WRITTEN];
};

/* The indexer may turn its queries where they lie: what is left of them means nothing. */
static bool is_scratch(const struct tape_call *call, size_t i)
{
    return strcmp(tape_name(call->op), "indexer") == 0 && strcmp(written[i].name, "iq") == 0;
}

/* Matrices that the judge's operation has changed, each beside the judged one's, which then gets the
 * judge's values: so every operation starts from the same. A matrix of fewer columns than it has room
 * for is compared as it lies in memory. */
static enum status compare_written(struct pair *p, const struct tape_call *call,
                                   struct latest *latest)
{
    struct model *m[2] = { &p->probe[0].model, &p->probe[1].model };
    uint32_t rows = p->o->tokens;
    for (size_t i = 0; i < WRITTEN; i++) {
        struct mat mat[2] = { *mat_at(m[0], i), *mat_at(m[1], i) };
        size_t count = (size_t)rows * mat[1].cols;
        float *want = malloc(count * sizeof *want), *got = malloc(count * sizeof *got);
        must(want && got);
        enum status status = probe_read(p->subject[JUDGE].dev, &mat[JUDGE], 0, rows, want, p->err);
        if (status == OK && memcmp(want, latest->value[i], count * sizeof *want) != 0) {
            status = probe_read(p->subject[JUDGED].dev, &mat[JUDGED], 0, rows, got, p->err);
            char what[64];
            snprintf(what, sizeof what, "  %s: %s", tape_name(call->op), written[i].name);
            if (status == OK && !is_scratch(call, i))
                gate_say(&p->gate, what, gate_relative(got, want, count), FAR_ERROR);
            memcpy(latest->value[i], want, count * sizeof *want);
            if (status == OK)
                status = probe_write(p->subject[JUDGED].dev, &mat[JUDGED], 0, rows, want, p->err);
        }
        free(want);
        free(got);
        if (status != OK) return status;
    }
    return OK;
}

static enum status by_operation(struct pair *p, uint32_t layer)
{
    struct tape tape[2] = { { 0 }, { 0 } };
    struct latest latest;
    enum status status = OK;
    for (int i = 0; i < 2; i++) {
        tape_start(&tape[i], p->subject[i].dev);
        model_layer(&p->probe[i].model, layer, &p->probe[i].maker.batch);
        tape_stop(&tape[i], p->subject[i].dev);
    }
    must(tape[0].calls == tape[1].calls);
    for (size_t i = 0; i < WRITTEN; i++) {
        struct mat *mat = mat_at(&p->probe[JUDGE].model, i);
        latest.value[i] = malloc((size_t)p->o->tokens * mat->cols * sizeof(float));
        must(latest.value[i]);
        if (status == OK)
            status =
                probe_read(p->subject[JUDGE].dev, mat, 0, p->o->tokens, latest.value[i], p->err);
    }
    for (uint32_t c = 0; c < tape[0].calls && status == OK; c++) {
        for (int i = 0; i < 2; i++) tape_run(&tape[i].call[c], p->subject[i].dev);
        status = compare_written(p, &tape[JUDGE].call[c], &latest);
    }
    for (size_t i = 0; i < WRITTEN; i++) free(latest.value[i]);
    for (int i = 0; i < 2; i++) tape_release(&tape[i]);
    return status;
}

/* ---- a layer at a time ----------------------------------------------------------------------- */

static enum status compare_layer(struct pair *p, uint32_t layer)
{
    struct model *judged = &p->probe[JUDGED].model, *judge = &p->probe[JUDGE].model;
    char what[64];
    enum status status = OK;
    if (p->o->operations) status = by_operation(p, layer);
    else
        for (int i = 0; i < 2; i++)
            model_layer(&p->probe[i].model, layer, &p->probe[i].maker.batch);
    for (int i = 0; i < 2 && status == OK; i++)
        status = p->subject[i].dev->ops->finish(p->subject[i].dev, p->err);
    if (status == OK) status = compare_choices(p, layer);
    if (status == OK) status = read_both(p, &judged->streams, &judge->streams);
    if (status != OK) return status;
    snprintf(what, sizeof what, "layer %u", layer);
    gate_tokens(&p->gate, what, p->rows[JUDGED], p->rows[JUDGE], p->o->tokens, judge->streams.cols,
                gate_far_error(p->o->shape));
    return probe_write(judged->dev, &judged->streams, 0, p->o->tokens, p->rows[JUDGE], p->err);
}

/* Head and MTP block, whose logits the caller has queued on both sides. */
static enum status compare_logits(struct pair *p, const char *what, double far_error)
{
    enum status status =
        read_both(p, &p->probe[JUDGED].model.logits, &p->probe[JUDGE].model.logits);
    if (status == OK)
        gate_tokens(&p->gate, what, p->rows[JUDGED], p->rows[JUDGE], p->o->tokens,
                    p->o->shape->vocab, far_error);
    return status;
}

static enum status in_step(struct pair *p)
{
    enum status status = OK;
    for (int i = 0; i < 2; i++) {
        probe_add(&p->probe[i], 0, p->subject[i].token, 0, p->o->tokens, p->o->tokens);
        model_embed(&p->probe[i].model, probe_batch(&p->probe[i]));
    }
    for (uint32_t l = 0; l < p->o->shape->layers && status == OK; l++) status = compare_layer(p, l);
    if (status != OK) return status;
    for (int i = 0; i < 2; i++)
        model_logits(&p->probe[i].model, p->probe[i].maker.device_row, p->o->tokens);
    status = compare_logits(p, "head", gate_far_error(p->o->shape));
    /* Operation by operation no floor is measured, and the MTP block is judged by its end alone. */
    if (status != OK || !p->o->judge.weights->mtp || p->o->operations) return status;

    uint32_t *next = calloc(p->o->tokens, sizeof *next);
    must(next);
    memcpy(next, p->subject[0].token + 1, (p->o->tokens - 1) * sizeof *next);
    for (int i = 0; i < 2 && status == OK; i++)
        status = probe_draft(&p->probe[i], next, p->rows[i], p->err);
    free(next);
    return status == OK ? compare_logits(p, "MTP", FAR_ERROR_NARROW) : status;
}

static enum status open_both(struct pair *p, uint32_t *token)
{
    const struct golden_against *o = p->o;
    size_t width = (size_t)o->shape->streams * o->shape->hidden;
    if (o->shape->vocab > width) width = o->shape->vocab;
    for (int i = 0; i < 2; i++) {
        const struct golden_side *side = i == JUDGED ? &o->judged : &o->judge;
        p->subject[i] = (struct subject){ o->shape, side->weights, side->dev, token, o->tokens };
        p->rows[i] = malloc(o->tokens * width * sizeof(float));
        if (!p->rows[i]) return fail(p->err, NO_MEMORY, "no memory for %u rows", o->tokens);
        enum status status = cut_probe(&p->subject[i], 1, o->tokens, &p->probe[i], p->err);
        if (status != OK) return status;
    }
    return OK;
}

static void close_both(struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        if (p->probe[i].model.piece) probe_close(&p->probe[i]);
        free(p->rows[i]);
        p->rows[i] = NULL;
    }
}

static enum status compare(struct pair *p, const struct golden_against *options, uint32_t *token)
{
    p->o = options;
    enum status status = open_both(p, token);
    if (status == OK) status = in_step(p);
    close_both(p);
    return status;
}

/* First a CPU whose products err, to be compared with afterwards. */
static enum status measure_floor(struct pair *p, const struct golden_against *options,
                                 uint32_t *token)
{
    struct golden_against blurred = *options;
    blurred.judged = *options->floor;
    p->gate.measures = true;
    enum status status = compare(p, &blurred, token);
    p->gate.measures = false;
    return status;
}

enum status golden_compare(const struct golden_against *options, bool *held, struct err *err)
{
    struct gate_floor floor[GATE_FLOORS];
    struct pair p = { .gate = { .out = options->out, .held = true, .floor = floor }, .err = err };
    uint32_t *token = calloc(options->tokens, sizeof *token);
    must(options->tokens > 1 && options->judged.dev->numerics == NUMERICS_OFFICIAL &&
         options->judge.dev->numerics == NUMERICS_OFFICIAL);
    if (!token) return fail(err, NO_MEMORY, "no memory for %u tokens", options->tokens);
    uint64_t random = 1;
    for (uint32_t i = 0; i < options->tokens; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        token[i] = (uint32_t)(random >> 33) % options->shape->vocab;
    }
    enum status status = OK;
    if (options->floor && !options->operations) status = measure_floor(&p, options, token);
    if (status == OK) status = compare(&p, options, token);
    if (status == OK && !options->operations)
        status = cut_same_bits(&p.subject[JUDGED], &p.gate, err);
    free(token);
    *held = p.gate.held;
    return status;
}
