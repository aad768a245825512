/* main.c - picks the verb. */
#include <string.h>
#include "server/verbs.h"

static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
} verbs[] = {
    { "encode", verb_encode },
    { "options", verb_options },
    { "tokenize", verb_tokenize },
    { "parse", verb_parse },
    { "plan", verb_plan },
    { "make-model", verb_make_model },
    { 0 },
};

int main(int argc, char **argv)
{
    for (const struct verb *verb = verbs; argc > 1 && verb->name; verb++)
        if (strcmp(argv[1], verb->name) == 0) return verb->run(argc - 2, argv + 2);
    return 2;
}
