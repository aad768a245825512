/* verb_golden.c - `fathomd golden`: the forward pass against golden files, or one backend against
 * another, from a shell. */
#include <getopt.h>
#include <string.h>
#include "engine/golden.h"
#include "kernels/cpu/blur.h"
#include "server/verbs.h"

static const char usage[] =
    "usage: fathomd golden --model DIR [--numerics exact|official] [--backend auto|cpu|cuda]\n"
    "                      [--gpu N] [--threads N] [--isa auto|plain|avx2|avx512] [--chunk N] "
    "GOLDEN\n"
    "   or: fathomd golden --model DIR --against cpu|cuda [--tokens N] [--random SEED]\n"
    "                      [--operations] ...\n"
    "  GOLDEN: a file of golden outputs. --against: another backend computes them, layer by "
    "layer,\n"
    "  for N (300) random tokens; --random: only DIR/config.json is read, the weights are drawn;\n"
    "  --operations: each operation of a layer by itself, from the other backend's values\n"
    "  prints each comparison with its error and limit; exit status 0 only if all hold\n";

struct tool {
    const char *model, *backend, *file, *against;
    struct dev_options dev;
    uint32_t chunk, tokens;
    bool random, operations;
    uint32_t seed;
};

/* The position of `word` in the list; false: it is not there. */
static bool choose(const char *word, const char *const *list, uint32_t count, int *choice)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(word, list[i]) == 0) return *choice = (int)i, true;
    return false;
}

static bool number(const char *text, uint32_t *value)
{
    char *rest;
    unsigned long read = strtoul(text, &rest, 10);
    *value = (uint32_t)read;
    return *text && !*rest && read <= 1u << 20;
}

static bool read_arguments(struct tool *tool, int argc, char **argv)
{
    static const char *const numerics[] = { "exact", "official" };
    static const char *const isa[] = { "auto", "plain", "avx2", "avx512" };
    static const struct option options[] = {
        { "model", required_argument, NULL, 'm' },   { "numerics", required_argument, NULL, 'n' },
        { "backend", required_argument, NULL, 'b' }, { "chunk", required_argument, NULL, 'c' },
        { "threads", required_argument, NULL, 't' }, { "isa", required_argument, NULL, 'i' },
        { "gpu", required_argument, NULL, 'g' },     { "against", required_argument, NULL, 'a' },
        { "tokens", required_argument, NULL, 'k' },  { "random", required_argument, NULL, 'r' },
        { "operations", no_argument, NULL, 'o' },    { 0 },
    };
    char *own[argc + 2];  // getopt wants the program's name in front
    own[0] = "fathomd golden";
    memcpy(own + 1, argv, (size_t)argc * sizeof *argv);
    own[argc + 1] = NULL;

    optind = 0;  // glibc: start afresh
    for (int option; (option = getopt_long(argc + 1, own, "", options, NULL)) != -1;) {
        int choice = 0;
        bool ok = true;
        if (option == 'm') {
            tool->model = optarg;
        } else if (option == 'n') {
            ok = choose(optarg, numerics, 2, &choice);
            tool->dev.numerics = (enum numerics)choice;
        } else if (option == 'b') {
            tool->backend = optarg;
        } else if (option == 'c') {
            ok = number(optarg, &tool->chunk);
        } else if (option == 't') {
            ok = number(optarg, &tool->dev.threads);
        } else if (option == 'i') {
            ok = choose(optarg, isa, 4, &choice);
            tool->dev.isa = (enum isa)choice;
        } else if (option == 'g') {
            uint32_t index = 0;
            ok = number(optarg, &index);
            tool->dev.index = (int)index;
        } else if (option == 'a') {
            tool->against = optarg;
        } else if (option == 'k') {
            ok = number(optarg, &tool->tokens) && tool->tokens > 1;
        } else if (option == 'o') {
            tool->operations = true;
        } else if (option == 'r') {
            ok = tool->random = number(optarg, &tool->seed);
        } else {
            ok = false;
        }
        if (!ok) return false;
    }
    if (!tool->model || optind != argc + (tool->against != NULL)) return false;
    if (!tool->against) tool->file = own[optind];
    return true;
}

static enum status open_side(const struct tool *tool, const char *backend, struct shape *shape,
                             struct weights *weights, struct dev **dev, struct err *err)
{
    enum status status = backend_open(backend, &tool->dev, dev, err);
    if (status != OK) return status;
    struct weights_options options = {
        .dir = tool->model, .seed = tool->seed, .shape = shape, .dev = *dev
    };
    status = tool->random ? weights_random(&options, weights, err)
                          : weights_open(&options, weights, err);
    if (status == OK) return OK;
    (*dev)->ops->close(*dev);
    return status;
}

/* A CPU that errs as the GPU's products do; nothing where the CPU itself is judged. */
struct blurred {
    struct weights weights;
    struct golden_side side;
    const struct golden_side *floor;  // &side, or NULL
};

static enum status open_blurred(const struct tool *tool, const struct dev *judged,
                                struct shape *shape, struct blurred *blurred, struct err *err)
{
    *blurred = (struct blurred){ 0 };
    if (judged->ops == &cpu_ops) return OK;
    enum status status = open_side(tool, "cpu", shape, &blurred->weights, &blurred->side.dev, err);
    if (status != OK) return status;
    cpu_blur(blurred->side.dev);
    blurred->side.weights = &blurred->weights;
    blurred->floor = &blurred->side;
    return OK;
}

static void close_side(struct weights *weights, struct dev *dev)
{
    weights_close(weights, dev);
    dev->ops->close(dev);
}

static enum status compare_file(const struct tool *tool, struct shape *shape, bool *held,
                                struct err *err)
{
    struct weights weights;
    struct dev *dev;
    enum status status = open_side(tool, tool->backend, shape, &weights, &dev, err);
    if (status != OK) return status;
    struct blurred blurred;
    status = open_blurred(tool, dev, shape, &blurred, err);
    if (status == OK)
        status = golden_run(&(struct golden_options){ .shape = shape,
                                                      .weights = &weights,
                                                      .dev = dev,
                                                      .floor = blurred.floor,
                                                      .path = tool->file,
                                                      .chunk = tool->chunk,
                                                      .out = stdout },
                            held, err);
    if (blurred.floor) close_side(&blurred.weights, blurred.side.dev);
    close_side(&weights, dev);
    return status;
}

static enum status compare_backends(const struct tool *tool, struct shape *shape, bool *held,
                                    struct err *err)
{
    struct weights weights[2];
    struct dev *dev[2];
    if (tool->dev.numerics != NUMERICS_OFFICIAL)
        return fail(err, BAD_INPUT, "--against compares official numerics; found exact");
    enum status status = open_side(tool, tool->backend, shape, &weights[0], &dev[0], err);
    if (status != OK) return status;
    status = open_side(tool, tool->against, shape, &weights[1], &dev[1], err);
    struct blurred blurred = { .floor = NULL };
    if (status == OK) {
        status = open_blurred(tool, dev[0], shape, &blurred, err);
        if (status == OK)
            status = golden_compare(&(struct golden_against){ .shape = shape,
                                                              .judged = { &weights[0], dev[0] },
                                                              .judge = { &weights[1], dev[1] },
                                                              .floor = blurred.floor,
                                                              .tokens = tool->tokens,
                                                              .operations = tool->operations,
                                                              .out = stdout },
                                    held, err);
        if (blurred.floor) close_side(&blurred.weights, blurred.side.dev);
        close_side(&weights[1], dev[1]);
    }
    close_side(&weights[0], dev[0]);
    return status;
}

static enum status compare(const struct tool *tool, bool *held, struct err *err)
{
    static struct shape shape;
    enum status status = shape_read(tool->model, &shape, err);
    if (status != OK) return status;
    return tool->against ? compare_backends(tool, &shape, held, err)
                         : compare_file(tool, &shape, held, err);
}

int verb_golden(int argc, char **argv)
{
    struct tool tool = { .backend = "cpu",
                         .tokens = 300,
                         .dev = { .numerics = NUMERICS_OFFICIAL } };
    struct err err;
    bool held = false;
    if (!read_arguments(&tool, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    if (compare(&tool, &held, &err) != OK) {
        fprintf(stderr, "fathomd golden: %s\n", err.text);
        return 1;
    }
    puts(held ? "all hold" : "NOT all hold");
    return held ? 0 : 1;
}
