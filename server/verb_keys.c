/* verb_keys.c - `fathomd keys new|list|revoke --file F`: the key file, for its operator.
 *
 * Exit codes: 0 done, 1 failed, 2 wrong use.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "server/access_edit.h"
#include "server/verbs.h"

#define TRIES 100
#define TRY_US 20000

static const char usage[] =
    "usage: fathomd keys new --file FILE --tenant NAME [--scopes api,metrics] [--expires WHEN]\n"
    "       fathomd keys list --file FILE [--json]\n"
    "       fathomd keys revoke --file FILE ID\n"
    "  new prints the key, once: the file holds a salted hash of it. WHEN is a number of days "
    "(90d) or\n"
    "  of hours (12h) from now, or a time in UTC (2027-01-31, 2027-01-31T12:00:00Z). A running "
    "daemon\n"
    "  learns of new and revoked keys when it reloads (SIGHUP).\n";

struct wanted {
    const char *file, *tenant, *scopes, *expires, *id;
    bool json;
};

static int told(enum status status, const struct err *err)
{
    if (status == OK) return 0;
    fprintf(stderr, "fathomd keys: %s\n", err->text);
    return status == BAD_INPUT ? 2 : 1;
}

/* Another process that edits is done in a moment. */
static enum status add_patiently(const char *file, const struct access_wish *wish, char *key,
                                 struct err *err)
{
    enum status status = access_edit_add(file, wish, key, err);

    for (int i = 0; status == BUSY && i < TRIES; i++) {
        usleep(TRY_US);
        status = access_edit_add(file, wish, key, err);
    }
    return status;
}

static int make(const struct wanted *wanted)
{
    struct access_wish wish = { .tenant = wanted->tenant, .scopes = ACCESS_API };
    char key[ACCESS_KEY_SIZE] = "";
    struct err err = { "" };

    if (!wanted->tenant || wanted->id) return -1;
    if (wanted->scopes && !access_scopes_read(slice_of(wanted->scopes), &wish.scopes)) {
        fprintf(stderr,
                "fathomd keys: --scopes: found \"%s\", wanted api, metrics or both with a "
                "comma between them\n",
                wanted->scopes);
        return 2;
    }
    if (wanted->expires &&
        !access_expiry_read(wanted->expires, (int64_t)time(NULL), &wish.expires)) {
        fprintf(stderr,
                "fathomd keys: --expires: found \"%s\", wanted such as 90d, 12h or 2027-01-31, and "
                "to come\n",
                wanted->expires);
        return 2;
    }
    enum status status = add_patiently(wanted->file, &wish, key, &err);
    if (status == OK) puts(key);
    explicit_bzero(key, sizeof key);
    return told(status, &err);
}

static int list(const struct wanted *wanted)
{
    struct access *access = NULL;
    struct err err = { "" };
    struct buf out;

    if (wanted->tenant || wanted->scopes || wanted->expires || wanted->id) return -1;
    enum status status = access_open(wanted->file, &access, &err);
    if (status != OK) return told(status, &err);
    buf_init(&out, 0);
    access_list(access, (int64_t)time(NULL), wanted->json, &out);
    fwrite(out.data, 1, out.size, stdout);
    status = buf_status(&out) == OK ? OK : fail(&err, NO_MEMORY, "no memory for the list");
    buf_release(&out);
    access_drop(access);
    return told(status, &err);
}

static int revoke_one(const struct wanted *wanted)
{
    struct err err = { "" };

    if (!wanted->id || wanted->tenant || wanted->scopes || wanted->expires) return -1;
    enum status status = access_edit_revoke(wanted->file, wanted->id, &err);
    for (int i = 0; status == BUSY && i < TRIES; i++) {
        usleep(TRY_US);
        status = access_edit_revoke(wanted->file, wanted->id, &err);
    }
    return told(status, &err);
}

static bool read_arguments(struct wanted *wanted, int argc, char **argv)
{
    const struct {
        const char *name;
        const char **value;
    } rows[] = {
        { "--file", &wanted->file },
        { "--tenant", &wanted->tenant },
        { "--scopes", &wanted->scopes },
        { "--expires", &wanted->expires },
    };

    for (int i = 0; i < argc; i++) {
        size_t row = 0, count = sizeof rows / sizeof *rows;
        while (row < count && strcmp(argv[i], rows[row].name) != 0) row++;
        if (row < count) {
            if (++i == argc) return false;
            *rows[row].value = argv[i];
        } else if (strcmp(argv[i], "--json") == 0) {
            wanted->json = true;
        } else {
            if (argv[i][0] == '-' || wanted->id) return false;
            wanted->id = argv[i];
        }
    }
    return wanted->file != NULL;
}

int verb_keys(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const struct wanted *wanted);
    } actions[] = { { "new", make }, { "list", list }, { "revoke", revoke_one }, { 0 } };
    struct wanted wanted = { 0 };
    size_t action = 0;
    int code = -1;

    while (argc && actions[action].name && strcmp(argv[0], actions[action].name) != 0) action++;
    if (argc && actions[action].name && read_arguments(&wanted, argc - 1, argv + 1))
        code = actions[action].run(&wanted);
    if (code < 0) fputs(usage, stderr);
    if (fflush(stdout) != 0) return 1;
    return code < 0 ? 2 : code;
}
