/* verb_ctl.c - `fathomctl COMMAND`, also `fathomd ctl COMMAND`: a running daemon, for its operator. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "server/ctl.h"
#include "server/verbs.h"

#define DEFAULT_SOCKET "/run/fathom/admin.sock"
#define WORDS_MOST 4

static const char usage[] =
    "usage: fathomctl [--socket PATH] [--json] COMMAND\n"
    "  status                       version, load, rates, waits, cache\n"
    "  top [--once]                 the same, renewed every second; c cancels, q quits\n"
    "  requests                     what is under way, oldest first\n"
    "  cancel ID                    ends one: its number, or its x-request-id\n"
    "  drain | undrain              take no new work; take it again\n"
    "  reload                       read configuration and keys again, all of it or nothing\n"
    "  log-level [LEVEL]            error, warn, info or debug\n"
    "  tenants                      their limits, and what they use of them\n"
    "  keys list\n"
    "  keys new TENANT [--scopes api,metrics] [--expires WHEN]   prints the key, once\n"
    "  keys revoke ID [--now]       --now: also ends the requests it let in\n"
    "  cache stat                   what lies where\n"
    "  cache flush                  forgets everything, on disk too\n"
    "  cache purge TENANT [--user USER]\n"
    "  metrics                      as Prometheus reads them\n"
    "The socket is that of --socket, of FATHOM_ADMIN_SOCKET, or " DEFAULT_SOCKET ".\n"
    "Exit codes: 0 done, 1 refused or failed, 2 wrong use, 3 no daemon listens there.\n";

/* The words behind a command, and the options that some commands have. */
struct words {
    const char *word[WORDS_MOST];
    int count;
    const char *scopes, *expires, *user;
    bool now;
};

/* ---- one exchange ---- */

static int complain(const struct err *err, int code)
{
    fprintf(stderr, "fathomctl: %s\n", err->text);
    return code;
}

/* What the daemon says about its refusal. */
static int refused(const struct ctl_answer *answer)
{
    struct json *root = NULL;
    struct err err;
    struct slice message = SLICE("");

    if (js_parse(answer->body.data, answer->body.size, &js_file_limits, &root, &err) == OK)
        message = ctl_text(root, "error.message");
    fprintf(stderr, "fathomctl: ");
    if (message.size) fprintf(stderr, "%.*s\n", (int)message.size, message.data);
    else fprintf(stderr, "the daemon answered with status %d\n", answer->status);
    js_free(root);
    return CTL_FAILED;
}

typedef void show_answer(struct buf *out, const struct json *root);

static int print(struct buf *out)
{
    if (buf_status(out) == OK) fwrite(out->data, 1, out->size, stdout);
    int code = buf_status(out) == OK && fflush(stdout) == 0 ? CTL_DONE : CTL_FAILED;
    if (out->data) explicit_bzero(out->data, out->size);
    buf_release(out);
    return code;
}

/* Prints the answer as it came, or through `show`. */
static int present(const struct ctl *ctl, struct ctl_answer *answer, show_answer *show)
{
    struct json *root = NULL;
    struct err err;
    struct buf out;

    buf_init(&out, 0);
    if (ctl->json || !show) {
        buf_add_slice(&out, buf_slice(&answer->body));
        if (out.size && out.data[out.size - 1] != '\n') buf_add_byte(&out, '\n');
        return print(&out);
    }
    if (js_parse(answer->body.data, answer->body.size, &js_file_limits, &root, &err) != OK)
        return complain(&err, CTL_FAILED);
    show(&out, root);
    js_free(root);
    return print(&out);
}

static int ask(const struct ctl *ctl, const struct ctl_ask *what, show_answer *show)
{
    struct ctl_answer answer;
    struct err err;
    enum status status = ctl_exchange(ctl, what, &answer, &err);

    if (status != OK) return complain(&err, ctl_code(status));
    int code = answer.status == 200 ? present(ctl, &answer, show) : refused(&answer);
    if (answer.body.data) explicit_bzero(answer.body.data, answer.body.size);
    buf_release(&answer.body);
    return code;
}

static int get(const struct ctl *ctl, const char *path, show_answer *show)
{
    return ask(ctl, &(struct ctl_ask){ "GET", path, NULL }, show);
}

/* Takes the body over. */
static int post(const struct ctl *ctl, const char *path, struct buf *body, show_answer *show)
{
    buf_add_byte(body, 0);
    if (buf_status(body) != OK) return CTL_FAILED;
    int code = ask(ctl, &(struct ctl_ask){ "POST", path, body->data }, show);
    buf_release(body);
    return code;
}

/* ,"name":"text" */
static void add_member(struct buf *body, const char *name, const char *text)
{
    if (!text) return;
    buf_add_byte(body, body->size > 1 ? ',' : ' ');
    buf_addf(body, "\"%s\":", name);
    js_add_string(body, slice_of(text));
}

static void begin_body(struct buf *body)
{
    buf_init(body, 0);
    buf_add_byte(body, '{');
}

/* ---- what is shown ---- */

static void show_requests(struct buf *out, const struct json *root)
{
    ctl_add_table(out, ctl_at(root, "requests"), ctl_request_columns);
}

static void show_tenants(struct buf *out, const struct json *root)
{
    ctl_add_table(out, ctl_at(root, "tenants"), ctl_tenant_columns);
}

static void show_keys(struct buf *out, const struct json *root)
{
    ctl_add_table(out, ctl_at(root, "keys"), ctl_key_columns);
}

static void show_door(struct buf *out, const struct json *root)
{
    ctl_add_text(out, ctl_text(root, "door"));
    buf_addf(out, "; %lld requests under way\n", (long long)ctl_int(root, "work"));
}

static void add_names(struct buf *out, const char *title, const struct json *names)
{
    if (!names || js_count(names) == 0) return;
    buf_add_string(out, title);
    for (size_t i = 0; i < js_count(names); i++) {
        buf_add_byte(out, ' ');
        ctl_add_text(out, js_string(js_at(names, i)));
    }
    buf_add_byte(out, '\n');
}

static void show_reload(struct buf *out, const struct json *root)
{
    buf_add_string(out, "read again\n");
    add_names(out, "changed:", ctl_at(root, "changed"));
    add_names(out, "changed, but only a restart takes it:", ctl_at(root, "restart"));
}

static void show_level(struct buf *out, const struct json *root)
{
    ctl_add_text(out, ctl_text(root, "level"));
    buf_add_byte(out, '\n');
}

static void show_key(struct buf *out, const struct json *root)
{
    ctl_add_text(out, ctl_text(root, "key"));
    buf_add_byte(out, '\n');
}

static void show_cancelled(struct buf *out, const struct json *root)
{
    buf_addf(out, "%lld cancelled\n", (long long)ctl_int(root, "cancelled"));
}

static void show_revoked(struct buf *out, const struct json *root)
{
    buf_add_string(out, "revoked ");
    ctl_add_text(out, ctl_text(root, "revoked"));
    buf_addf(out, ", %lld requests cancelled\n", (long long)ctl_int(root, "cancelled"));
}

static void show_purged(struct buf *out, const struct json *root)
{
    buf_addf(out, "gone: %lld scopes\n", (long long)ctl_int(root, "purged_scopes"));
}

/* ---- commands ---- */

static int status(const struct ctl *ctl, const struct words *words)
{
    (void)words;
    return get(ctl, "/status", ctl_add_status);
}

static int top(const struct ctl *ctl, const struct words *words)
{
    (void)words;
    return ctl_top(ctl);
}

static int requests(const struct ctl *ctl, const struct words *words)
{
    (void)words;
    return get(ctl, "/requests", show_requests);
}

static int cancel(const struct ctl *ctl, const struct words *words)
{
    const char *id = words->word[0];
    bool number = strspn(id, "0123456789") == strlen(id) && strlen(id) < 18 && id[0] != '0';
    struct buf body;

    begin_body(&body);
    if (number) buf_addf(&body, " \"id\":%s", id);
    else add_member(&body, "request_id", id);
    buf_add_byte(&body, '}');
    return post(ctl, "/cancel", &body, show_cancelled);
}

static int drain(const struct ctl *ctl, const struct words *words)
{
    (void)words;
    return ask(ctl, &(struct ctl_ask){ "POST", "/drain", NULL }, show_door);
}

static int undrain(const struct ctl *ctl, const struct words *words)
{
    (void)words;
    return ask(ctl, &(struct ctl_ask){ "POST", "/undrain", NULL }, show_door);
}

static int reload(const struct ctl *ctl, const struct words *words)
{
    (void)words;
    return ask(ctl, &(struct ctl_ask){ "POST", "/reload", NULL }, show_reload);
}

static int log_level(const struct ctl *ctl, const struct words *words)
{
    struct buf body;

    if (words->count == 0) return get(ctl, "/log-level", show_level);
    begin_body(&body);
    add_member(&body, "level", words->word[0]);
    buf_add_byte(&body, '}');
    return post(ctl, "/log-level", &body, show_level);
}

static int tenants(const struct ctl *ctl, const struct words *words)
{
    (void)words;
    return get(ctl, "/tenants", show_tenants);
}

static int metrics(const struct ctl *ctl, const struct words *words)
{
    (void)words;
    return get(ctl, "/metrics", NULL);
}

static int keys_list(const struct ctl *ctl, const struct words *words)
{
    (void)words;
    return get(ctl, "/keys", show_keys);
}

static int keys_new(const struct ctl *ctl, const struct words *words)
{
    struct buf body;

    begin_body(&body);
    add_member(&body, "tenant", words->word[0]);
    add_member(&body, "scopes", words->scopes);
    add_member(&body, "expires", words->expires);
    buf_add_byte(&body, '}');
    return post(ctl, "/keys", &body, show_key);
}

static int keys_revoke(const struct ctl *ctl, const struct words *words)
{
    struct buf body;

    begin_body(&body);
    add_member(&body, "id", words->word[0]);
    buf_addf(&body, ",\"now\":%s}", words->now ? "true" : "false");
    return post(ctl, "/keys/revoke", &body, show_revoked);
}

static int cache_stat(const struct ctl *ctl, const struct words *words)
{
    (void)words;
    return get(ctl, "/status", ctl_add_cache);
}

static int cache_flush(const struct ctl *ctl, const struct words *words)
{
    (void)words;
    return ask(ctl, &(struct ctl_ask){ "POST", "/cache/flush", NULL }, show_purged);
}

static int cache_purge(const struct ctl *ctl, const struct words *words)
{
    struct buf body;

    begin_body(&body);
    add_member(&body, "tenant", words->word[0]);
    add_member(&body, "user", words->user);
    buf_add_byte(&body, '}');
    return post(ctl, "/cache/purge", &body, show_purged);
}

/* Options that only some commands have. */
enum { SCOPES = 1, EXPIRES = 2, USER = 4, NOW = 8, ONCE = 16 };

static const struct command {
    const char *name, *second;  // second: NULL where one word is the command
    int (*run)(const struct ctl *ctl, const struct words *words);
    int least, most;  // words behind it
    unsigned options;
} commands[] = {
    { "status", NULL, status, 0, 0, 0 },
    { "top", NULL, top, 0, 0, ONCE },
    { "requests", NULL, requests, 0, 0, 0 },
    { "cancel", NULL, cancel, 1, 1, 0 },
    { "drain", NULL, drain, 0, 0, 0 },
    { "undrain", NULL, undrain, 0, 0, 0 },
    { "reload", NULL, reload, 0, 0, 0 },
    { "log-level", NULL, log_level, 0, 1, 0 },
    { "tenants", NULL, tenants, 0, 0, 0 },
    { "metrics", NULL, metrics, 0, 0, 0 },
    { "keys", "list", keys_list, 0, 0, 0 },
    { "keys", "new", keys_new, 1, 1, SCOPES | EXPIRES },
    { "keys", "revoke", keys_revoke, 1, 1, NOW },
    { "cache", "stat", cache_stat, 0, 0, 0 },
    { "cache", "flush", cache_flush, 0, 0, 0 },
    { "cache", "purge", cache_purge, 1, 1, USER },
    { 0 },
};

/* ---- the command line ---- */

/* The command that the first words are, which are then taken away; NULL: none. */
static const struct command *find_command(struct words *words)
{
    for (const struct command *command = commands; command->name; command++) {
        int own = command->second ? 2 : 1;
        if (words->count < own || strcmp(words->word[0], command->name) != 0) continue;
        if (command->second && strcmp(words->word[1], command->second) != 0) continue;
        words->count -= own;
        memmove(words->word, words->word + own, sizeof words->word[0] * (size_t)words->count);
        return command;
    }
    return NULL;
}

/* Fills what the arguments say; given: the set of options among them. */
static bool read_arguments(int argc, char **argv, struct ctl *ctl, struct words *words,
                           unsigned *given)
{
    const struct {
        const char *name;
        const char **value;
        bool *flag;
        unsigned option;
    } rows[] = {
        { "--socket", &ctl->socket, NULL, 0 },
        { "--json", NULL, &ctl->json, 0 },
        { "--once", NULL, &ctl->once, ONCE },
        { "--now", NULL, &words->now, NOW },
        { "--scopes", &words->scopes, NULL, SCOPES },
        { "--expires", &words->expires, NULL, EXPIRES },
        { "--user", &words->user, NULL, USER },
    };
    const size_t count = sizeof rows / sizeof *rows;

    for (int i = 0; i < argc; i++) {
        size_t row = 0;
        while (row < count && strcmp(argv[i], rows[row].name) != 0) row++;
        if (row == count) {
            if (argv[i][0] == '-' || words->count == WORDS_MOST) return false;
            words->word[words->count++] = argv[i];
            continue;
        }
        *given |= rows[row].option;
        if (rows[row].flag) *rows[row].flag = true;
        else if (++i < argc) *rows[row].value = argv[i];
        else return false;
    }
    return true;
}

int verb_ctl(int argc, char **argv)
{
    const char *named = getenv("FATHOM_ADMIN_SOCKET");
    struct ctl ctl = { .socket = named && *named ? named : DEFAULT_SOCKET };
    struct words words = { 0 };
    unsigned given = 0;
    const struct command *command = NULL;

    if (argc == 1 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
        fputs(usage, stdout);
        return CTL_DONE;
    }
    if (read_arguments(argc, argv, &ctl, &words, &given)) command = find_command(&words);
    if (command && words.count >= command->least && words.count <= command->most &&
        !(given & ~command->options))
        return command->run(&ctl, &words);
    fputs(usage, stderr);
    return CTL_WRONG_USE;
}
