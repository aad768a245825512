/* sample.c - from logits to a token.
 *
 * The draw is the inverse of the cumulative distribution over the kept tokens in the order of their
 * ids, at one uniform number that is a hash of seed and position.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

/* Probabilities sorted coarsely by the leading bits of the float: the exponent and 4 more. */
enum { BUCKET_SHIFT = 19, BUCKETS = (127 << 4) + 1 };

struct candidate {
    float p;
    uint32_t id;
};

struct sample_run {
    const struct sample_args *args;
    char *scratch;         // [threads, scratch_bytes]
    size_t scratch_bytes;  // float and struct candidate [vocab]
};

/* ---- log-probabilities --------------------------------------------------------------------- */

static uint32_t argmax(const float *logit, uint32_t vocab)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < vocab; i++)
        if (logit[i] > logit[best]) best = i;
    return best;
}

static float log_sum_exp(const float *logit, uint32_t vocab)
{
    float max = logit[argmax(logit, vocab)];
    double sum = 0;
    for (uint32_t i = 0; i < vocab; i++) sum += (double)exp_f32(logit[i] - max);
    return max + (float)log(sum);
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

/* The k-th largest of value[count], 1 <= k <= count; value is reordered. */
static float kth_largest(float *value, uint32_t count, uint32_t k)
{
    uint32_t low = 0, high = count - 1, want = k - 1;

    while (low < high) {
        float pivot = value[low + (high - low) / 2];
        uint32_t i = low, j = high;
        for (;;) {
            while (value[i] > pivot) i++;
            while (value[j] < pivot) j--;
            if (i >= j) break;
            float swap = value[i];
            value[i++] = value[j];
            value[j--] = swap;
        }
        if (want <= j) high = j;
        else low = j + 1;
    }
    return value[want];
}

/* Keeps the k largest; of equal ones at the edge the smaller ids. */
static uint32_t keep_top_k(struct candidate *kept, uint32_t count, uint32_t k, float *work)
{
    uint32_t above = 0, left = 0;

    if (k == 0 || k >= count) return count;
    for (uint32_t i = 0; i < count; i++) work[i] = kept[i].p;
    float edge = kth_largest(work, count, k);
    for (uint32_t i = 0; i < count; i++) above += kept[i].p > edge;
    for (uint32_t i = 0, ties = k - above; i < count; i++) {
        if (kept[i].p < edge || (kept[i].p == edge && ties == 0)) continue;
        ties -= kept[i].p == edge;
        kept[left++] = kept[i];
    }
    return left;
}

static uint32_t keep_min_p(struct candidate *kept, uint32_t count, float least)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i++)  // the largest has p = 1
        if (kept[i].p >= least) kept[left++] = kept[i];
    return left;
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

/* Keeps the smallest set of the largest whose sum reaches top_p of the whole. Only the bucket in
 * which that happens is sorted, into `edge`. */
static uint32_t keep_top_p(struct candidate *kept, uint32_t count, float top_p,
                           struct candidate *edge)
{
    double mass[BUCKETS] = { 0 }, total = 0, sum = 0;
    uint32_t bucket = BUCKETS - 1, edges = 0, left = 0, through = 0;

    for (uint32_t i = 0; i < count; i++) mass[bucket_of(kept[i].p)] += (double)kept[i].p;
    for (uint32_t b = BUCKETS; b-- > 0;) total += mass[b];
    double target = (double)top_p * total;
    while (bucket > 0 && sum + mass[bucket] < target) sum += mass[bucket--];

    for (uint32_t i = 0; i < count; i++)
        if (bucket_of(kept[i].p) == bucket) edge[edges++] = kept[i];
    if (edges == 0) return count;
    qsort(edge, edges, sizeof *edge, by_falling_p);
    while (through < edges && (sum < target || through == 0)) sum += (double)edge[through++].p;
    const struct candidate *last = &edge[through - 1];
    for (uint32_t i = 0; i < count; i++)
        if (by_falling_p(&kept[i], last) <= 0) kept[left++] = kept[i];
    return left;
}

/* ---- the draw ------------------------------------------------------------------------------ */

/* A well mixed function of both numbers (the finaliser of splitmix64, twice). */
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

static uint32_t draw(const struct sample_row *row, const float *logit, uint32_t vocab,
                     char *scratch)
{
    struct candidate *kept = (struct candidate *)scratch, *edge = kept + vocab;
    float max = logit[argmax(logit, vocab)];
    uint32_t count = 0;
    double total = 0, sum = 0;

    for (uint32_t i = 0; i < vocab; i++) {
        float p = exp_f32((logit[i] - max) / row->temperature);
        if (p > 0) kept[count++] = (struct candidate){ p, i };
    }
    if (count == 0) return argmax(logit, vocab);  // nothing is allowed
    count = keep_top_k(kept, count, row->top_k, (float *)edge);
    if (row->min_p > 0) count = keep_min_p(kept, count, row->min_p);
    if (row->top_p < 1) count = keep_top_p(kept, count, row->top_p, edge);

    for (uint32_t i = 0; i < count; i++) total += (double)kept[i].p;
    double target = uniform(row->seed, row->position) * total;
    for (uint32_t i = 0; i + 1 < count; i++) {
        sum += (double)kept[i].p;
        if (sum > target) return kept[i].id;
    }
    return kept[count - 1].id;
}

static void sample_one(void *context, uint32_t r, uint32_t thread)
{
    const struct sample_run *run = context;
    const struct sample_row *row = &run->args->row[r];
    struct sample_out *out = &run->args->out[r];
    float *logit = mat_row(&run->args->logits, r), whole = 0;
    uint32_t vocab = run->args->logits.cols, top = 0;

    if (row->logprobs) {
        top = row->logprobs - 1 < TOP_LOGPROBS ? row->logprobs - 1 : TOP_LOGPROBS;
        if (top > vocab) top = vocab;
        whole = log_sum_exp(logit, vocab);
        top_entries(logit, vocab, top, out->top_id);
        for (uint32_t i = 0; i < top; i++) out->top_logprob[i] = logit[out->top_id[i]] - whole;
    }
    /* The chosen token's raw logit is needed after the penalties have written over it: they touch
     * few tokens, so the row is copied only then. */
    char *scratch = run->scratch + thread * run->scratch_bytes;
    float *raw = (float *)(scratch + 2 * (size_t)vocab * sizeof(struct candidate));
    bool changes = !row->forced && (row->bias_count || row->seen_count || row->allowed);
    if (row->logprobs && changes) memcpy(raw, logit, vocab * sizeof *raw);
    if (changes) penalise(row, logit, vocab);
    if (row->forced) out->id = row->forced_id;
    else out->id = row->temperature > 0 ? draw(row, logit, vocab, scratch) : argmax(logit, vocab);
    if (row->logprobs) out->logprob = (changes ? raw : logit)[out->id] - whole;
}

void cpu_sample(struct dev *dev, const struct sample_args *args)
{
    struct cpu_dev *cpu = cpu_of(dev);
    struct sample_run run = { .args = args };
    size_t vocab = args->logits.cols;

    if (args->logits.rows == 0) return;
    cpu_scratch_begin(cpu);
    run.scratch_bytes = vocab * (2 * sizeof(struct candidate) + sizeof(float)) / 64 * 64 + 64;
    run.scratch = cpu_take(cpu, pool_threads(cpu->pool) * run.scratch_bytes);
    if (!run.scratch) return;
    pool_run(cpu->pool, args->logits.rows, sample_one, &run);
}
