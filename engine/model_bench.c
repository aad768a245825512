/* model_bench.c - tokens a second of the forward pass alone: decode by batch, prefill by chunk.
 *
 *   model_bench --model DIR [--threads N] [--context N] [--random SEED] [--seconds S]
 *
 * With --random only DIR/config.json is read. The share of the memory's read bandwidth counts the
 * stored bytes that one decode step reads; the bandwidth is measured in the same run.
 */
#include <getopt.h>
#include <pthread.h>
#include <string.h>
#include "config/clock.h"
#include "engine/probe.h"

struct bench {
    const char *model;
    struct dev_options dev;
    bool random;
    uint64_t seed;
    uint32_t context;  // tokens before the first decoded one
    double seconds;    // of each measurement
    struct shape shape;
    struct weights weights;
    struct dev *device;
    struct probe probe;
    uint32_t *token;
};

enum { MOST_BATCH = 16, CHUNK = 512 };

static double seconds_since(uint64_t start_ns)
{
    return (double)(now_ns() - start_ns) / (double)NS_PER_S;
}

static void must_run(enum status status, const struct err *err)
{
    if (status == OK) return;
    fprintf(stderr, "model_bench: %s\n", err->text);
    exit(1);
}

static void open_all(struct bench *b)
{
    struct err err = { "" };
    must_run(shape_read(b->model, &b->shape, &err), &err);
    must_run(backend_open("cpu", &b->dev, &b->device, &err), &err);
    struct weights_options weights = {
        .dir = b->model, .seed = b->seed, .shape = &b->shape, .dev = b->device
    };
    must_run(b->random ? weights_random(&weights, &b->weights, &err)
                       : weights_open(&weights, &b->weights, &err),
             &err);
    must_run(probe_open(&(struct probe_options){ .shape = &b->shape,
                                                 .weights = &b->weights,
                                                 .dev = b->device,
                                                 .seqs = MOST_BATCH,
                                                 .blocks = (b->context + 8192) / BLOCK_TOKENS + 1,
                                                 .step_tokens = CHUNK },
                        &b->probe, &err),
             &err);
    b->token = calloc(b->context + 8192, sizeof *b->token);
    must(b->token);
    for (uint32_t i = 0; i < b->context + 8192; i++)
        b->token[i] = (i * 2654435761u >> 8) % b->shape.vocab;
}

static void close_all(struct bench *b)
{
    free(b->token);
    probe_close(&b->probe);
    weights_close(&b->weights, b->device);
    b->device->ops->close(b->device);
}

/* Prefills every sequence up to the context; the time counts for the prefill figure. */
static double prefill(struct bench *b, uint32_t seqs)
{
    struct err err;
    uint64_t start = now_ns();
    for (uint32_t s = 0; s < seqs; s++)
        for (uint32_t p = 0; p < b->context; p += CHUNK) {
            uint32_t count = b->context - p < CHUNK ? b->context - p : CHUNK;
            probe_clear(&b->probe);
            probe_add(&b->probe, s, b->token + p, p, count, 0);
            must_run(probe_run(&b->probe, NULL, &err), &err);
        }
    return (double)seqs * b->context / seconds_since(start);
}

/* Tokens a second of `seqs` sequences decoding together, logits included. */
static double decode(struct bench *b, uint32_t seqs)
{
    struct err err;
    float *logits = malloc((size_t)seqs * b->shape.vocab * sizeof *logits);
    uint32_t step = 0;
    must(logits);
    uint64_t start = now_ns();
    for (; step < 8000 && seconds_since(start) < b->seconds; step++) {
        probe_clear(&b->probe);
        for (uint32_t s = 0; s < seqs; s++)
            probe_add(&b->probe, s, b->token + b->context + step, b->context + step, 1, 1);
        must_run(probe_run(&b->probe, logits, &err), &err);
    }
    double rate = (double)step * seqs / seconds_since(start);
    free(logits);
    return rate;
}

/* ---- the machine's read bandwidth ---------------------------------------------------------- */

struct reader {
    const uint64_t *data;
    size_t words;
    uint64_t sum;
};

static void *read_all(void *user)
{
    struct reader *reader = user;
    uint64_t sum[8] = { 0 };
    for (size_t i = 0; i + 8 <= reader->words; i += 8)
        for (size_t k = 0; k < 8; k++) sum[k] += reader->data[i + k];
    for (size_t k = 0; k < 8; k++) reader->sum += sum[k];
    return NULL;
}

/* Bytes a second that `threads` threads read from 1 GiB of memory; the best of three passes. */
static double read_bandwidth(uint32_t threads)
{
    size_t bytes = (size_t)1 << 30;
    uint64_t *data = malloc(bytes);
    struct reader reader[threads];
    pthread_t thread[threads];
    double best = 0;
    must(data);
    memset(data, 1, bytes);
    for (int pass = 0; pass < 3; pass++) {
        uint64_t start = now_ns();
        for (uint32_t t = 0; t < threads; t++) {
            reader[t] = (struct reader){ data + bytes / 8 / threads * t, bytes / 8 / threads, 0 };
            must(pthread_create(&thread[t], NULL, read_all, &reader[t]) == 0);
        }
        for (uint32_t t = 0; t < threads; t++) pthread_join(thread[t], NULL);
        double rate = (double)bytes / seconds_since(start);
        if (rate > best) best = rate;
    }
    must(reader[0].sum != 0);
    free(data);
    return best;
}

/* Stored bytes that one token's step reads: everything but the embedding, the experts that were not
 * chosen, and the drafter. */
static double step_bytes(const struct bench *b)
{
    const struct shape *s = &b->shape;
    double expert = 3.0 * s->inter * s->hidden;
    expert *= s->expert_type == DT_I8 ? 0.5 + 1.0 / 32 : 1;
    double idle = (double)s->layers * (s->experts - s->experts_per_token) * expert;
    double embed = 2.0 * s->vocab * s->hidden;
    double hash = 8.0 * s->vocab * s->experts_per_token * s->hash_layers;
    double draft = 0;
    if (s->drafter == DRAFTER_MTP)
        draft = ((double)b->weights.stored_bytes - 2 * embed - hash) / (s->layers + 1);
    return (double)b->weights.stored_bytes - idle - embed - hash - draft;
}

static bool read_arguments(struct bench *b, int argc, char **argv)
{
    static const struct option options[] = {
        { "model", required_argument, NULL, 'm' },   { "threads", required_argument, NULL, 't' },
        { "context", required_argument, NULL, 'c' }, { "random", required_argument, NULL, 'r' },
        { "seconds", required_argument, NULL, 's' }, { 0 },
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'm') b->model = optarg;
        else if (option == 't') b->dev.threads = (uint32_t)atoi(optarg);
        else if (option == 'c') b->context = (uint32_t)atoi(optarg);
        else if (option == 's') b->seconds = atof(optarg);
        else if (option == 'r') b->random = true, b->seed = (uint64_t)atoll(optarg);
        else return false;
    }
    return optind == argc && b->context >= 1 && b->seconds > 0;
}

int main(int argc, char **argv)
{
    struct bench b = { .model = "models/pilot",
                       .dev = { .numerics = NUMERICS_OFFICIAL },
                       .context = 512,
                       .seconds = 2 };
    if (!read_arguments(&b, argc, argv)) {
        fprintf(stderr, "usage: model_bench [--model DIR] [--random SEED] [--threads N] "
                        "[--context N] [--seconds S]\n");
        return 2;
    }
    uint64_t start = now_ns();
    open_all(&b);
    printf("%s: %.3f GB stored, opened in %.0f ms\n", b.model, (double)b.weights.stored_bytes / 1e9,
           seconds_since(start) * 1e3);
    printf("prefill, %4u tokens a sequence   %9.0f tok/s\n", b.context, prefill(&b, MOST_BATCH));
    double bandwidth = read_bandwidth(b.dev.threads ? b.dev.threads : 2);
    for (uint32_t seqs = 1; seqs <= MOST_BATCH; seqs *= 4) {
        double rate = decode(&b, seqs);
        printf("decode, %2u streams               %9.0f tok/s", seqs, rate);
        if (seqs == 1)
            printf("   %.2f GB/s of weights, %.0f %% of the %.2f GB/s that memory gives",
                   rate * step_bytes(&b) / 1e9, 100 * rate * step_bytes(&b) / bandwidth,
                   bandwidth / 1e9);
        putchar('\n');
    }
    close_all(&b);
    return 0;
}
