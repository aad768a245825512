/* main.c - picks the verb; without one, serves. Called fathomctl, it is that. */
#include <stdio.h>
#include <string.h>
#include "server/verbs.h"

static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
} verbs[] = {
    // clang-format off
    { "cache", verb_cache },
    { "encode", verb_encode },
    { "golden", verb_golden },
    { "options", verb_options },
    { "tokenize", verb_tokenize },
    { "parse", verb_parse },
    { "plan", verb_plan },
    { "make-model", verb_make_model },
    { "serve", verb_serve },
    { "keys", verb_keys },
    { "usage", verb_usage },
    { "ctl", verb_ctl },
    { "health", verb_health },
    { 0 },
    // clang-format on
};

int main(int argc, char **argv)
{
    const char *slash = argc ? strrchr(argv[0], '/') : NULL;

    if (argc && strcmp(slash ? slash + 1 : argv[0], "fathomctl") == 0)
        return verb_ctl(argc - 1, argv + 1);
    if (argc < 2 || argv[1][0] == '-') return verb_serve(argc - 1, argv + 1);
    for (const struct verb *verb = verbs; verb->name; verb++)
        if (strcmp(argv[1], verb->name) == 0) return verb->run(argc - 2, argv + 2);
    fprintf(stderr, "fathomd: there is no verb %s; try `fathomd --help`\n", argv[1]);
    return 2;
}
