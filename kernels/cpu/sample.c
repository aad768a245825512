/* sample.c - from logits to a token.
 *
 * Probabilities are kept in the order of ids, relative to the largest; what top_k, min_p and top_p
 * drop becomes 0. The draw is the inverse of their cumulative distribution at one uniform number that
 * is a hash of seed and position.
 */
#include <math.h>
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/softmax.h"

/* Probabilities sorted coarsely by the leading bits of the float: the exponent and 4 more. */
enum { BUCKET_SHIFT = 19, BUCKETS = (127 << 4) + 1 };

struct candidate {
    float p;
    uint32_t id;
};

struct sample_run {
    const struct sample_args *args;
    const struct softmax *softmax;
    char *scratch;         // [threads, scratch_bytes]
    size_t scratch_bytes;  // struct candidate [vocab], then float [vocab]
};

/* One row's probabilities. */
struct shares {
    float *p;  // [count]
    uint32_t count;
    struct candidate *edge;  // [count], scratch
};

/* ---- log-probabilities --------------------------------------------------------------------- */

static double sum_of(const struct softmax *softmax, const float *x, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i += SUM_CHUNK)
        sum += (double)softmax->chunk_sum(x + i, count - i < SUM_CHUNK ? count - i : SUM_CHUNK);
    return sum;
}

static float log_sum_exp(const struct softmax *softmax, const float *logit, uint32_t vocab,
                         float *work)
{
    float max = logit[softmax->argmax(logit, vocab)];
    softmax->exps(work, logit, vocab, max, 1);
    return max + (float)log(sum_of(softmax, work, vocab));
}

/* The `wanted` largest logits, falling; the smaller id on a tie. */
static void top_entries(const float *logit, uint32_t vocab, uint32_t wanted, uint32_t *top)
{
    uint32_t held = 0;
    for (uint32_t i = 0; i < vocab && wanted > 0; i++) {
        if (held == wanted && logit[i] <= logit[top[held - 1]]) continue;
        uint32_t at = held < wanted ? held++ : wanted - 1;
        for (; at > 0 && logit[top[at - 1]] < logit[i]; at--) top[at] = top[at - 1];
        top[at] = i;
    }
}

/* ---- what the request asks of the logits ---------------------------------------------------- */

static void penalise(const struct sample_row *row, float *logit, uint32_t vocab)
{
    for (uint32_t i = 0; i < row->bias_count; i++)
        if (row->bias[i].id < vocab) logit[row->bias[i].id] += row->bias[i].bias;
    for (uint32_t i = 0; i < row->seen_count; i++) {
        const struct token_count *seen = &row->seen[i];
        if (seen->id >= vocab) continue;
        float *l = &logit[seen->id];
        if (seen->prompt || seen->output) *l = *l > 0 ? *l / row->repetition : *l * row->repetition;
        *l -= row->frequency * (float)seen->output;
        if (seen->output) *l -= row->presence;
    }
    if (!row->allowed) return;
    for (uint32_t i = 0; i < vocab; i++)
        if (!(row->allowed[i / 32] >> (i % 32) & 1)) logit[i] = -INFINITY;
}

static int by_falling_p(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->p != y->p) return x->p < y->p ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static uint32_t bucket_of(float p)
{
    return f32_bits(p) >> BUCKET_SHIFT;
}

/* Sorts the shares of one bucket into edge, falling; their number. */
static uint32_t sort_bucket(const struct shares *s, uint32_t bucket)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->p[i] > 0 && bucket_of(s->p[i]) == bucket)
            s->edge[count++] = (struct candidate){ s->p[i], i };
    qsort(s->edge, count, sizeof *s->edge, by_falling_p);
    return count;
}

/* Drops what comes after `last` in falling order. */
static void keep_through(const struct shares *s, struct candidate last)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->p[i] < last.p || (s->p[i] == last.p && i > last.id)) s->p[i] = 0;
}

/* Keeps the k largest; of equal ones at the edge the smaller ids. Only the bucket of the k-th is
 * sorted. */
static void keep_top_k(const struct shares *s, uint32_t k)
{
    uint32_t held[BUCKETS] = { 0 }, bucket = BUCKETS - 1, above = 0;

    if (k == 0 || k >= s->count) return;
    for (uint32_t i = 0; i < s->count; i++) held[bucket_of(s->p[i])]++;
    while (above + held[bucket] < k)
        above += held[bucket--];  // all count tokens are in some bucket
    uint32_t edges = sort_bucket(s, bucket);
    if (k - above <= edges) keep_through(s, s->edge[k - above - 1]);  // else only zeros are left
}

/* Keeps the smallest set of the largest whose sum reaches top_p of the whole. */
static void keep_top_p(const struct shares *s, float top_p)
{
    double mass[BUCKETS] = { 0 }, total = 0, sum = 0;
    uint32_t bucket = BUCKETS - 1, through = 0;

    for (uint32_t i = 0; i < s->count; i++) mass[bucket_of(s->p[i])] += (double)s->p[i];
    for (uint32_t b = BUCKETS; b-- > 0;) total += mass[b];
    double target = (double)top_p * total;
    while (bucket > 0 && sum + mass[bucket] < target) sum += mass[bucket--];

    uint32_t edges = sort_bucket(s, bucket);
    while (through < edges && (sum < target || through == 0)) sum += (double)s->edge[through++].p;
    if (through > 0) keep_through(s, s->edge[through - 1]);
}

/* ---- the draw ------------------------------------------------------------------------------ */

/* A well mixed function of a number (the finaliser of splitmix64). */
static uint64_t mixed(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static double uniform(uint64_t seed, uint32_t position)
{
    uint64_t bits = mixed(mixed(seed + 0x9e3779b97f4a7c15u) + position * 0x9e3779b97f4a7c15u);
    return (double)(bits >> 11) * 0x1p-53;
}

/* The id at which the running sum passes u of the whole: first the chunk, then inside it. */
static uint32_t pick(const struct softmax *softmax, const struct shares *s, double u)
{
    double target = u * sum_of(softmax, s->p, s->count), sum = 0;
    uint32_t last = 0;

    for (uint32_t first = 0; first < s->count; first += SUM_CHUNK) {
        uint32_t left = s->count - first, count = left < SUM_CHUNK ? left : SUM_CHUNK;
        double whole = (double)softmax->chunk_sum(s->p + first, count), part = sum;
        sum += whole;
        if (whole > 0)
            for (last = first + count - 1; s->p[last] == 0;) last--;  // in case of the last digits
        if (sum <= target) continue;
        for (uint32_t i = first; i < first + count; i++) {
            part += (double)s->p[i];
            if (s->p[i] > 0 && part > target) return i;
        }
        break;
    }
    return last;
}

static uint32_t draw(const struct softmax *softmax, const struct sample_row *row,
                     const float *logit, const struct shares *s)
{
    uint32_t best = softmax->argmax(logit, s->count);

    if (!(logit[best] > -INFINITY)) return best;  // nothing is allowed
    softmax->exps(s->p, logit, s->count, logit[best], row->temperature);
    keep_top_k(s, row->top_k);
    if (row->min_p > 0)
        for (uint32_t i = 0; i < s->count; i++)  // the largest is 1
            if (s->p[i] < row->min_p) s->p[i] = 0;
    if (row->top_p < 1) keep_top_p(s, row->top_p);
    return pick(softmax, s, uniform(row->seed, row->position));
}

static void sample_one(void *context, uint32_t r, uint32_t thread)
{
    const struct sample_run *run = context;
    const struct sample_row *row = &run->args->row[r];
    const struct softmax *softmax = run->softmax;
    struct sample_out *out = &run->args->out[r];
    float *logit = mat_row(&run->args->logits, r), whole = 0;
    uint32_t vocab = run->args->logits.cols, top = 0;
    char *scratch = run->scratch + thread * run->scratch_bytes;
    struct shares shares = { .count = vocab, .edge = (struct candidate *)scratch };
    shares.p = (float *)(shares.edge + vocab);
    float *raw = shares.p + vocab;

    out->wrong = !(logit[0] == logit[0]);  // NaN: what is so before the head is so in all of them
    if (row->logprobs) {
        top = row->logprobs - 1 < TOP_LOGPROBS ? row->logprobs - 1 : TOP_LOGPROBS;
        if (top > vocab) top = vocab;
        whole = log_sum_exp(softmax, logit, vocab, shares.p);
        top_entries(logit, vocab, top, out->top_id);
        for (uint32_t i = 0; i < top; i++) out->top_logprob[i] = logit[out->top_id[i]] - whole;
        memcpy(raw, logit, vocab * sizeof *raw);  // what comes next writes over the logits
    }
    if (row->forced) {
        out->id = row->forced_id;
    } else {
        penalise(row, logit, vocab);
        out->id = row->temperature > 0 ? draw(softmax, row, logit, &shares)
                                       : softmax->argmax(logit, vocab);
    }
    if (row->logprobs) out->logprob = raw[out->id] - whole;
}

void cpu_sample(struct dev *dev, const struct sample_args *args)
{
    struct cpu_dev *cpu = cpu_of(dev);
    struct sample_run run = { .args = args, .softmax = softmax_for(cpu->isa) };
    size_t vocab = args->logits.cols;

    if (args->logits.rows == 0) return;
    cpu_scratch_begin(cpu);
    run.scratch_bytes = (vocab * (sizeof(struct candidate) + 2 * sizeof(float)) + 63) / 64 * 64;
    run.scratch = cpu_take(cpu, pool_threads(cpu->pool) * run.scratch_bytes);
    if (!run.scratch) return;
    pool_run(cpu->pool, args->logits.rows, sample_one, &run);
}
