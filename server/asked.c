/* asked.c - help, version, configuration: printed, or checked. */
#include <stdio.h>
#include "server/access.h"
#include "server/asked.h"
#include "server/cache_options.h"
#include "server/http.h"
#include "server/text_side.h"

static int print(void (*add)(struct buf *out))
{
    struct buf out;

    buf_init(&out, 0);
    add(&out);
    fwrite(out.data, 1, out.size, stdout);
    buf_release(&out);
    return 0;
}

static void add_version(struct buf *out)
{
    buf_addf(out, "fathomd %s, libmicrohttpd %s\n", FATHOM_VERSION, http_library_version());
}

static int print_config(const struct options *options)
{
    struct buf out;

    buf_init(&out, 0);
    options_add_config(options, &out);
    fwrite(out.data, 1, out.size, stdout);
    buf_release(&out);
    return 0;
}

/* Opens what serving would open, but no device and no socket. */
static int check_config(const struct options *options)
{
    struct text_side text;
    struct access *access = NULL;
    struct err err = { "" };
    enum status status = cache_options_check(options, &err);

    if (status == OK) status = text_side_open(&text, options, &err);
    if (status == OK) {
        text_side_release(&text);
        if (options->keys[0]) status = access_open(options->keys, &access, &err);
        access_drop(access);
    }
    if (status != OK) fprintf(stderr, "fathomd: %s\n", err.text);
    return status == OK ? 0 : 2;
}

int asked(const struct options *options)
{
    switch (options->ask) {
    case ASK_HELP:
        return print(options_add_help);
    case ASK_VERSION:
        return print(add_version);
    case ASK_PRINT_CONFIG:
        return print_config(options);
    case ASK_CHECK_CONFIG:
        return check_config(options);
    case ASK_RUN:
        break;
    }
    return 2;
}
