/* pace.c - an average a bucket, and one line. */
#include "engine/pace.h"
#include "cache/kv_pool.h"

#define FADE 0.97     // of a prompt's step, each step that follows
#define LATEST 0.125  // weight of the latest step in its bucket
#define OUTLIER 8     // a step that took so many times the usual is not of the model's making
#define NARROW 0.01   // relative variance of token counts below which they tell no slope

static uint32_t bucket_of(uint32_t decodes)
{
    uint32_t bucket = 0;
    while (bucket + 1 < PACE_BUCKETS && (1u << bucket) < decodes) bucket++;
    return bucket;
}

/* Of decodes alone; an unknown bucket is taken for its nearest neighbour, the smaller one first. */
static double decode_ns(const struct pace *pace, uint32_t decodes)
{
    uint32_t bucket = bucket_of(decodes);
    if (!decodes) return 0;
    for (uint32_t b = bucket + 1; b-- > 0;)
        if (pace->decode_ns[b] > 0) return pace->decode_ns[b];
    for (uint32_t b = bucket; b < PACE_BUCKETS; b++)
        if (pace->decode_ns[b] > 0) return pace->decode_ns[b];
    return 0;
}

struct line {
    double fixed, each;  // ns
};

static struct line line_of(const struct pace *pace)
{
    double mean = pace->tokens / pace->weight, mean_ns = pace->ns / pace->weight;
    double spread = pace->square / pace->weight - mean * mean;
    double slope = mean_ns / mean;
    if (spread > NARROW * mean * mean)
        slope = (pace->product / pace->weight - mean * mean_ns) / spread;
    double least = mean_ns / mean / 16;
    if (slope < least) slope = least;
    if (slope > mean_ns / mean) slope = mean_ns / mean;
    return (struct line){ .fixed = mean_ns - slope * mean, .each = slope };
}

void pace_learn(struct pace *pace, uint32_t prompt, uint32_t decodes, uint64_t ns)
{
    double took = (double)ns, usual = pace_ns(pace, prompt, decodes), count = prompt + decodes;
    if (count == 0) return;
    if (usual > 0 && took > OUTLIER * usual) took = OUTLIER * usual;
    if (!prompt) {
        double *mean = &pace->decode_ns[bucket_of(decodes)];
        *mean = *mean > 0 ? *mean + LATEST * (took - *mean) : took;
        return;
    }
    pace->weight = pace->weight * FADE + 1;
    pace->tokens = pace->tokens * FADE + count;
    pace->square = pace->square * FADE + count * count;
    pace->ns = pace->ns * FADE + took;
    pace->product = pace->product * FADE + count * took;
}

double pace_ns(const struct pace *pace, uint32_t prompt, uint32_t decodes)
{
    double alone = decode_ns(pace, decodes);
    if (!prompt) return alone;
    if (pace->weight <= 0) return 0;
    struct line line = line_of(pace);
    double ns = line.fixed + line.each * (prompt + decodes);
    return ns > alone ? ns : alone;
}

double pace_unit_ns(const struct pace *pace, uint32_t most, uint32_t decode_units)
{
    double units = decode_units ? decode_units : 1, least = pace_ns(pace, most, 0) / most;
    for (uint32_t b = 0; b < PACE_BUCKETS; b++) {
        double each = pace->decode_ns[b] / ((double)(1u << b) * units);
        if (each > 0 && (least <= 0 || each < least)) least = each;
    }
    return least;
}

uint32_t pace_tokens(const struct pace *pace, double ns)
{
    if (pace->weight <= 0) return 0;
    struct line line = line_of(pace);
    double fit = (ns - line.fixed) / line.each;
    if (fit < KV_BLOCK_TOKENS) return KV_BLOCK_TOKENS;
    if (fit > 1 << 20) fit = 1 << 20;
    return (uint32_t)fit / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
}
