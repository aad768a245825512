/* verb_make_model.c - `fathomd make-model --like NAME|CONFIG [--weights sparse|random:SEED] DIR`: writes
 * a checkpoint in the form of the releases.
 *
 * --like flash, pro, flash-base, pro-base, flash-0731, pro-0813, or the directory of a config.json.
 * sparse (default): real headers, no data; for `fathomd plan`. random:SEED: a model that runs and
 * says nothing. There is no tokenizer in it.
 */
#include <errno.h>
#include <sys/stat.h>
#include "engine/model_writer.h"
#include "server/verbs.h"

struct make_arguments {
    const char *like, *dir;
    bool random;
    uint64_t seed;
};

static const char usage[] =
    "usage: fathomd make-model --like flash|pro|flash-base|pro-base|flash-0731|pro-0813|DIR\n"
    "                          [--weights sparse|random:SEED] DIR\n";

static bool read_weights(const char *text, struct make_arguments *a)
{
    char *end;

    a->random = strncmp(text, "random:", 7) == 0;
    if (!a->random) return strcmp(text, "sparse") == 0;
    errno = 0;
    a->seed = strtoull(text + 7, &end, 10);
    return !errno && end != text + 7 && *end == 0;
}

static bool read_arguments(struct make_arguments *a, int argc, char **argv)
{
    *a = (struct make_arguments){ 0 };
    for (int i = 0; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--like") == 0 && more) a->like = argv[++i];
        else if (strcmp(argv[i], "--weights") == 0 && more) {
            if (!read_weights(argv[++i], a)) return false;
        } else if (argv[i][0] != '-' && !a->dir) a->dir = argv[i];
        else return false;
    }
    return a->like && a->dir;
}

int verb_make_model(int argc, char **argv)
{
    struct make_arguments a;
    static struct shape shape;
    struct model_written written;
    struct err err = { "" };
    enum status status = OK;

    if (!read_arguments(&a, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    if (!shape_of_release(a.like, &shape)) status = shape_read(a.like, &shape, &err);
    if (status == OK && mkdir(a.dir, 0755) != 0 && errno != EEXIST)
        status = fail(&err, IO_FAILED, "%s: %s", a.dir, strerror(errno));
    struct model_writer_options options = {
        .dir = a.dir, .shape = &shape, .random = a.random, .seed = a.seed
    };
    if (status == OK) status = model_write(&options, &written, &err);
    if (status != OK) {
        fprintf(stderr, "fathomd make-model: %s\n", err.text);
        return 1;
    }
    printf("%s: %u tensors in %u files, %llu bytes of tensors\n", a.dir, written.tensors,
           written.files, (unsigned long long)written.tensor_bytes);
    return fflush(stdout) == 0 ? 0 : 1;
}
