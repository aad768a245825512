/* verb_golden.c - `fathomd golden`: the forward pass against golden files, from a shell. */
#include <getopt.h>
#include <string.h>
#include "engine/golden.h"
#include "server/verbs.h"

static const char usage[] =
    "usage: fathomd golden --model DIR [--numerics exact|official] [--backend cpu|cuda]\n"
    "                      [--chunk N] [--threads N] [--isa auto|plain|avx2|avx512] GOLDEN\n"
    "  prints each comparison with its error and limit; exit status 0 only if all hold\n";

struct tool {
    const char *model, *backend, *file;
    struct dev_options dev;
    uint32_t chunk;
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
        { "model", required_argument, NULL, 'm' },
        { "numerics", required_argument, NULL, 'n' },
        { "backend", required_argument, NULL, 'b' },
        { "chunk", required_argument, NULL, 'c' },
        { "threads", required_argument, NULL, 't' },
        { "isa", required_argument, NULL, 'i' },
        { 0 },
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
        } else {
            ok = false;
        }
        if (!ok) return false;
    }
    if (!tool->model || optind != argc) return false;
    tool->file = own[optind];
    return true;
}

static enum status compare(const struct tool *tool, bool *held, struct err *err)
{
    struct shape shape;
    struct weights weights;
    struct dev *dev;
    enum status status = shape_read(tool->model, &shape, err);
    if (status != OK) return status;
    if ((status = backend_open(tool->backend, &tool->dev, &dev, err)) != OK) return status;

    status =
        weights_open(&(struct weights_options){ .dir = tool->model, .shape = &shape, .dev = dev },
                     &weights, err);
    if (status == OK) {
        status = golden_run(&(struct golden_options){ .shape = &shape,
                                                      .weights = &weights,
                                                      .dev = dev,
                                                      .path = tool->file,
                                                      .chunk = tool->chunk,
                                                      .out = stdout },
                            held, err);
        weights_close(&weights, dev);
    }
    dev->ops->close(dev);
    return status;
}

int verb_golden(int argc, char **argv)
{
    struct tool tool = { .backend = "cpu", .dev = { .numerics = NUMERICS_OFFICIAL } };
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
