/* fathom_bench.c - `fathom-bench kernels`, `step` and `load`: how fast a model's operations, whole
 * steps and the way of its weights are on this machine, beside what the machine reaches at best in
 * the same run. `fathom-bench cache` is bench_cache.c's, `fathom-bench
 * fairness` bench_fairness.c's.
 */
#include <getopt.h>
#include <string.h>
#include "config/clock.h"
#include "engine/bench.h"
#include "engine/bench_cache.h"
#include "engine/bench_fairness.h"

static const char usage[] =
    "usage: fathom-bench cache ...  the prefix cache; by itself it says how\n"
    "       fathom-bench fairness ...  tenants beside each other; likewise\n"
    "       fathom-bench kernels|step|lanes|load --model DIR [--backend auto|cpu|cuda] [--gpu N] "
    "[--threads "
    "N]\n"
    "                    [--weights random:SEED|checkpoint] [--batches N,...] [--contexts N,...]\n"
    "                    [--prompts N,...] [--chunk N] [--steps N] [--kv-memory MIB]\n"
    "  kernels  each operation of the forward pass at the model's shapes\n"
    "  step     decode at every batch and context, prefill at every prompt length\n"
    "  lanes    copies between device and host, and decode steps beside them\n"
    "  load     DIR's checkpoint to the device, beside plain copies of the same bytes\n"
    "  Random weights need DIR/config.json alone. A list of 0 leaves its part out.\n";

static bool read_number(const char *text, uint32_t *value)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    *value = (uint32_t)number;
    return end != text && !*end && number <= 1u << 30;
}

static bool read_list(const char *text, struct bench_list *list)
{
    char copy[256], *rest = copy;
    if (strlen(text) >= sizeof copy) return false;
    memcpy(copy, text, strlen(text) + 1);
    list->count = 0;
    for (char *item; (item = strsep(&rest, ","));) {
        if (list->count == BENCH_MOST_CASES) return false;
        if (!read_number(item, &list->value[list->count])) return false;
        if (list->value[list->count]) list->count++;
    }
    return true;
}

static bool read_weights(const char *text, struct bench_options *o)
{
    uint32_t seed = 0;
    if (strcmp(text, "checkpoint") == 0) return o->checkpoint = true;
    if (strncmp(text, "random:", 7) != 0 || !read_number(text + 7, &seed)) return false;
    o->seed = seed;
    return true;
}

static bool read_option(struct bench_options *o, int option, const char *text)
{
    uint32_t number = 0;
    switch (option) {
    case 'm':
        o->model = text;
        return true;
    case 'b':
        o->backend = text;
        return true;
    case 'w':
        return read_weights(text, o);
    case 'B':
        return read_list(text, &o->batches);
    case 'C':
        return read_list(text, &o->contexts);
    case 'P':
        return read_list(text, &o->prompts);
    case 'c':
        return read_number(text, &o->chunk) && o->chunk >= BLOCK_TOKENS;
    case 's':
        return read_number(text, &o->steps) && o->steps;
    case 't':
        return read_number(text, &o->dev.threads);
    case 'g':
        if (!read_number(text, &number)) return false;
        o->dev.index = (int)number;
        return true;
    case 'k':
        if (!read_number(text, &number)) return false;
        o->kv_bytes = (uint64_t)number << 20;
        return true;
    default:
        return false;
    }
}

static bool read_arguments(struct bench_options *o, int argc, char **argv)
{
    static const struct option options[] = {
        { "model", required_argument, NULL, 'm' },     { "backend", required_argument, NULL, 'b' },
        { "weights", required_argument, NULL, 'w' },   { "batches", required_argument, NULL, 'B' },
        { "contexts", required_argument, NULL, 'C' },  { "prompts", required_argument, NULL, 'P' },
        { "chunk", required_argument, NULL, 'c' },     { "steps", required_argument, NULL, 's' },
        { "threads", required_argument, NULL, 't' },   { "gpu", required_argument, NULL, 'g' },
        { "kv-memory", required_argument, NULL, 'k' }, { 0 },
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (!read_option(o, option, optarg)) return false;
    return optind == argc && o->model;
}

/* ---- opening ------------------------------------------------------------------------------- */

/* Blocks for every sequence's own context, if they fit into the memory that is left. */
static enum status take_kv(struct bench *b, uint32_t blocks, struct err *err)
{
    const struct bench_options *o = b->options;
    const struct kv_layout *layout = &b->model.layout;
    struct dev_memory memory = { 0 };
    uint32_t pages = 3 * b->most_seqs, chunk = o->chunk / BLOCK_TOKENS + 3;
    b->kv = (struct model_kv){ .w_pages = (pages > chunk ? pages : chunk) + 1,
                               .states = b->most_seqs + 1 };
    b->dev->ops->memory(b->dev, &memory);
    uint64_t fixed = b->kv.w_pages * layout->w_bytes + b->kv.states * layout->state_bytes;
    uint64_t spare = memory.total / 64 + fixed;
    uint64_t bytes = o->kv_bytes ? o->kv_bytes : memory.free > spare ? memory.free - spare : 0;
    if (!b->dev->ops->capture_begin && !o->kv_bytes) bytes /= 2;
    uint64_t fit = bytes / (layout->g_bytes ? layout->g_bytes : 1);
    uint64_t most = (uint64_t)b->most_seqs * blocks + 1;
    if (fit < 2) return fail(err, NO_MEMORY, "no memory is left for KV blocks");
    b->kv.g_blocks = (uint32_t)(fit < most ? fit : most);
    return model_take_kv(&b->model, &b->kv, err);
}

static enum status open_model(struct bench *b, struct err *err)
{
    const struct bench_options *o = b->options;
    uint32_t context = bench_most(&o->contexts) + o->steps + 8, prompt = bench_most(&o->prompts);
    uint32_t longest = context > prompt ? context : prompt, blocks = longest / BLOCK_TOKENS + 2;
    b->most_seqs = bench_most(&o->batches) ? bench_most(&o->batches) : 1;
    uint32_t tokens = o->chunk > b->most_seqs ? o->chunk : b->most_seqs;

    struct weights_options weights = {
        .dir = o->model, .seed = o->seed, .shape = &b->shape, .dev = b->dev
    };
    enum status status = o->checkpoint ? weights_open(&weights, &b->weights, err)
                                       : weights_random(&weights, &b->weights, err);
    if (status != OK) return status;
    struct model_options model = { &b->shape, &b->weights, b->dev, tokens, b->most_seqs };
    if ((status = model_open(&model, &b->model, err)) != OK) return status;
    struct batch_limits limits = { tokens, b->most_seqs, blocks, b->most_seqs };
    if ((status = runner_init(&b->runner, &b->model, &limits, err)) != OK) return status;

    const struct model_kv little = { 1, 1, 1 };
    if ((status = model_take_kv(&b->model, &little, err)) != OK) return status;
    runner_spare(&b->runner, &little);
    if ((status = runner_warm(&b->runner, err)) != OK) return status;
    if ((status = take_kv(b, blocks, err)) != OK) return status;
    runner_spare(&b->runner, &b->kv);
    b->table = calloc(blocks, sizeof *b->table);
    if (!b->table) return fail(err, NO_MEMORY, "no memory for %u blocks", blocks);
    for (uint32_t i = 0; i < blocks; i++) b->table[i] = i % (b->kv.g_blocks - 1);
    status = bench_fill_kv(b, err);
    return status == OK ? runner_capture(&b->runner, err) : status;
}

static void close_model(struct bench *b)
{
    free(b->table);
    if (b->runner.model) runner_release(&b->runner);
    if (b->model.piece) model_close(&b->model);
    if (b->weights.owner) weights_close(&b->weights, b->dev);
    if (b->dev) b->dev->ops->close(b->dev);
}

static void print_head(const struct bench *b, double seconds)
{
    struct dev_memory memory = { 0 };
    b->dev->ops->memory(b->dev, &memory);
    printf("%s on %s: %u layers, %u experts, %.3f GB of weights, open after %.2f s\n",
           b->options->model, b->dev->ops->name, b->shape.layers, b->shape.experts,
           (double)b->weights.stored_bytes / 1e9, seconds);
    printf("KV memory %.3f GB (%u blocks), graphs %u, %.2f of %.2f GB of memory free\n",
           (double)model_kv_bytes(&b->model, &b->kv) / 1e9, b->kv.g_blocks, b->runner.graphs,
           (double)memory.free / 1e9, (double)memory.total / 1e9);
    if (b->ceiling.read > 0)
        printf("ceilings: read %.3f TB/s, FP8 %.0f TFLOP/s, BF16 %.0f TFLOP/s\n",
               b->ceiling.read / 1e12, b->ceiling.fp8 / 1e12, b->ceiling.bf16 / 1e12);
}

struct verb {
    const char *name;
    enum status (*measure)(struct bench *bench, struct err *err);
};

static enum status bench(const struct bench_options *o, const struct verb *verb, struct err *err)
{
    static struct bench b;
    uint64_t start = now_ns();
    b.options = o;
    enum status status = shape_read(o->model, &b.shape, err);
    if (status == OK) status = backend_open(o->backend, &o->dev, &b.dev, err);
    if (status == OK && b.dev->ops->ceilings) b.dev->ops->ceilings(b.dev, &b.ceiling);
    if (status == OK) status = open_model(&b, err);
    if (status == OK) {
        print_head(&b, (double)(now_ns() - start) / (double)NS_PER_S);
        status = verb->measure(&b, err);
    }
    close_model(&b);
    return status;
}

int main(int argc, char **argv)
{
    static const struct verb table[] = { { "kernels", bench_kernels },
                                         { "step", bench_steps },
                                         { "lanes", bench_lanes } };
    struct bench_options options = {
        .backend = "auto",
        .dev = { .numerics = NUMERICS_OFFICIAL },
        .seed = 1,
        .batches = { { 1, 2, 4, 8, 16, 32, 64, 128, 256 }, 9 },
        .contexts = { { 1024, 8192, 32768, 131072 }, 4 },
        .prompts = { { 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072 }, 8 },
        .chunk = 8192,
        .steps = 32,
    };
    struct err err = { "" };
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "cache") == 0) return bench_cache(argc - 1, argv + 1);
    if (strcmp(what, "fairness") == 0) return bench_fairness(argc - 1, argv + 1);
    const struct verb *verb = NULL;
    bool load = strcmp(what, "load") == 0;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(what, table[i].name) == 0) verb = &table[i];
    if ((!verb && !load) || !read_arguments(&options, argc - 1, argv + 1)) {
        fputs(usage, stderr);
        return 2;
    }
    enum status status = load ? bench_load(&options, &err) : bench(&options, verb, &err);
    if (status == OK) return 0;
    fprintf(stderr, "fathom-bench: %s\n", err.text);
    return 1;
}
