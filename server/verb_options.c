/* verb_options.c - `fathomd options --markdown | --ini`: the option table as a document. */
#include "config/options.h"
#include "server/verbs.h"

int verb_options(int argc, char **argv)
{
    struct buf out;
    buf_init(&out, 0);
    if (argc == 1 && strcmp(argv[0], "--markdown") == 0) options_add_markdown(&out);
    else if (argc == 1 && strcmp(argv[0], "--ini") == 0) options_add_ini(&out);
    else if (argc == 0) options_add_help(&out);
    else {
        fprintf(stderr, "usage: fathomd options [--markdown | --ini]\n");
        return 2;
    }
    bool done = buf_status(&out) == OK && fwrite(out.data, 1, out.size, stdout) == out.size;
    buf_release(&out);
    return done ? 0 : 1;
}
