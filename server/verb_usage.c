/* verb_usage.c - `fathomd usage FILE...`: the records of usage-log, summed.
 *
 * Exit codes: 0 done; 1 failed, or some lines were no records (the others are summed); 2 wrong use.
 */
#include <errno.h>
#include "config/hash.h"
#include "config/json.h"
#include "server/verbs.h"

static const char usage[] =
    "usage: fathomd usage FILE... [--by tenant|key|user|model|day] [--json]\n"
    "  sums what a daemon wrote to its usage-log; - is the standard input\n";

enum sum { PROMPT, CACHED, REASONING, OUTPUT, SUMS };

static const char *const sum_keys[SUMS] = {
    [PROMPT] = "prompt_tokens",
    [CACHED] = "cached_tokens",
    [REASONING] = "reasoning_tokens",
    [OUTPUT] = "output_tokens",
};

/* How records are told apart. */
static const struct view {
    const char *name;
    const char *key[2];  // of a record; a user is one of its tenant
    size_t most;         // bytes of the value that count; 0: all
} views[] = {
    { "tenant", { "tenant", NULL }, 0 }, { "key", { "tenant", "key_id" }, 0 },
    { "user", { "tenant", "user" }, 0 }, { "model", { "model", NULL }, 0 },
    { "day", { "time", NULL }, 10 },  // of a time as 2026-01-31T12:00:00.123Z
};

struct group {
    char *name;  // owned
    uint64_t requests, failed, cancelled, sum[SUMS];
};

struct tally {
    const struct view *view;
    bool json;
    struct group *group;  // [groups]; in order of appearance
    uint32_t groups, room;
    uint32_t *slot;  // [slots] group + 1, 0 = free; found by the name's hash
    uint32_t slots;  // a power of two, more than twice groups
    struct group all;
    uint64_t wrong;  // lines
};

/* ---- groups ---- */

static uint32_t *find_slot(const struct tally *tally, struct slice name)
{
    uint32_t at = (uint32_t)hash64(name.data, name.size, 0);
    for (;; at++) {
        uint32_t *slot = &tally->slot[at & (tally->slots - 1)];
        if (!*slot || slice_equal(slice_of(tally->group[*slot - 1].name), name)) return slot;
    }
}

static CHECKED enum status make_room(struct tally *tally)
{
    if (tally->groups < tally->room) return OK;
    uint32_t room = tally->room ? tally->room * 2 : 64;
    struct group *group = realloc(tally->group, room * sizeof *group);
    if (!group) return NO_MEMORY;
    tally->group = group;
    uint32_t *slot = calloc(room * 4, sizeof *slot);
    if (!slot) return NO_MEMORY;
    free(tally->slot);
    tally->slot = slot;
    tally->slots = room * 4;
    tally->room = room;
    for (uint32_t i = 0; i < tally->groups; i++) *find_slot(tally, slice_of(group[i].name)) = i + 1;
    return OK;
}

/* NULL: no memory. */
static struct group *find_group(struct tally *tally, struct slice name)
{
    if (make_room(tally) != OK) return NULL;
    uint32_t *slot = find_slot(tally, name);
    if (*slot) return &tally->group[*slot - 1];
    char *copy = strndup(name.data, name.size);
    if (!copy) return NULL;
    tally->group[tally->groups] = (struct group){ .name = copy };
    *slot = ++tally->groups;
    return &tally->group[tally->groups - 1];
}

/* ---- records ---- */

static bool read_count(const struct json *record, const char *key, uint64_t *count)
{
    const struct json *node = js_get(record, key);
    if (!node || js_kind(node) != JS_INT || js_int(node) < 0) return false;
    *count = (uint64_t)js_int(node);
    return true;
}

static void add_name(struct buf *name, const struct json *record, const char *key, size_t most)
{
    const struct json *node = key ? js_get(record, key) : NULL;
    if (!key) return;
    if (name->size) buf_add_byte(name, '/');
    struct slice text = node && js_kind(node) == JS_STRING ? js_string(node) : SLICE("-");
    if (most && text.size > most) text.size = most;
    buf_add_slice(name, text);
}

static void add_record(struct group *group, const struct group *one)
{
    group->requests++;
    group->failed += one->failed;
    group->cancelled += one->cancelled;
    for (enum sum i = 0; i < SUMS; i++) group->sum[i] += one->sum[i];
}

/* BAD_INPUT: it is none. */
static CHECKED enum status take_record(struct tally *tally, const struct json *record)
{
    struct group one = { 0 };
    uint64_t status;
    struct buf name;

    if (js_kind(record) != JS_OBJECT || !read_count(record, "status", &status)) return BAD_INPUT;
    for (enum sum i = 0; i < SUMS; i++)
        if (!read_count(record, sum_keys[i], &one.sum[i])) return BAD_INPUT;
    const struct json *cancelled = js_get(record, "cancelled");
    one.failed = status >= 400;
    one.cancelled = cancelled && js_kind(cancelled) == JS_BOOL && js_bool(cancelled);

    buf_init(&name, 0);
    for (int i = 0; i < 2; i++) add_name(&name, record, tally->view->key[i], tally->view->most);
    struct group *group = name.status == OK ? find_group(tally, buf_slice(&name)) : NULL;
    buf_release(&name);
    if (!group) return NO_MEMORY;
    add_record(group, &one);
    add_record(&tally->all, &one);
    return OK;
}

static CHECKED enum status take_line(struct tally *tally, char *line, size_t size)
{
    struct json *record;
    struct err err = { "" };

    if (js_parse(line, size, &js_request_limits, &record, &err) != OK) return BAD_INPUT;
    enum status status = take_record(tally, record);
    js_free(record);
    return status;
}

static CHECKED enum status take_file(struct tally *tally, const char *path, struct err *err)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    enum status status = OK;

    if (!file) return fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
    while (status == OK && (size = getline(&line, &room, file)) > 0) {
        status = take_line(tally, line, (size_t)size);
        if (status == BAD_INPUT) tally->wrong++, status = OK;
    }
    free(line);
    if (status != OK) fail(err, status, "%s: no memory", path);
    else if (ferror(file)) status = fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
    if (file != stdin) fclose(file);
    return status;
}

/* ---- printing ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct group *)a)->name, ((const struct group *)b)->name);
}

static void print_text(const struct group *group, int width)
{
    printf("%-*s %10llu %14llu %14llu %14llu %14llu %9llu %9llu\n", width, group->name,
           (unsigned long long)group->requests, (unsigned long long)group->sum[PROMPT],
           (unsigned long long)group->sum[CACHED], (unsigned long long)group->sum[REASONING],
           (unsigned long long)group->sum[OUTPUT], (unsigned long long)group->cancelled,
           (unsigned long long)group->failed);
}

static void print_json(const char *by, const struct group *group)
{
    struct buf out;

    buf_init(&out, 0);
    buf_addf(&out, "{\"%s\":", by);
    js_add_string(&out, slice_of(group->name));
    buf_addf(&out, ",\"requests\":%llu", (unsigned long long)group->requests);
    for (enum sum i = 0; i < SUMS; i++)
        buf_addf(&out, ",\"%s\":%llu", sum_keys[i], (unsigned long long)group->sum[i]);
    buf_addf(&out, ",\"cancelled\":%llu,\"failed\":%llu}\n", (unsigned long long)group->cancelled,
             (unsigned long long)group->failed);
    fwrite(out.data, 1, out.size, stdout);
    buf_release(&out);
}

static void print_tally(struct tally *tally)
{
    int width = (int)sizeof "total" - 1;

    if (tally->groups) qsort(tally->group, tally->groups, sizeof *tally->group, by_name);
    for (uint32_t i = 0; i < tally->groups; i++) {
        if (tally->json) print_json(tally->view->name, &tally->group[i]);
        else if ((int)strlen(tally->group[i].name) > width)
            width = (int)strlen(tally->group[i].name);
    }
    if (tally->json) return;
    printf("%-*s %10s %14s %14s %14s %14s %9s %9s\n", width, tally->view->name, "requests",
           "prompt", "cached", "reasoning", "output", "cancelled", "failed");
    for (uint32_t i = 0; i < tally->groups; i++) print_text(&tally->group[i], width);
    tally->all.name = (char[]){ "total" };
    print_text(&tally->all, width);
}

/* ---- the verb ---- */

static bool read_arguments(struct tally *tally, int argc, char **argv, int *files)
{
    *files = 0;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            tally->json = true;
        } else if (strcmp(argv[i], "--by") == 0 && i + 1 < argc) {
            const char *name = argv[++i];
            tally->view = NULL;
            for (size_t v = 0; v < sizeof views / sizeof *views; v++)
                if (strcmp(views[v].name, name) == 0) tally->view = &views[v];
            if (!tally->view) return false;
        } else if (argv[i][0] == '-' && argv[i][1]) {
            return false;
        } else {
            argv[(*files)++] = argv[i];
        }
    }
    return *files > 0;
}

int verb_usage(int argc, char **argv)
{
    struct tally tally = { .view = &views[0] };
    struct err err = { "" };
    enum status status = OK;
    int files;

    if (!read_arguments(&tally, argc, argv, &files)) {
        fputs(usage, stderr);
        return 2;
    }
    for (int i = 0; i < files && status == OK; i++) status = take_file(&tally, argv[i], &err);
    if (status == OK) print_tally(&tally);
    else fprintf(stderr, "fathomd usage: %s\n", err.text);
    if (tally.wrong)
        fprintf(stderr, "fathomd usage: %llu lines were no records\n",
                (unsigned long long)tally.wrong);
    for (uint32_t i = 0; i < tally.groups; i++) free(tally.group[i].name);
    free(tally.group);
    free(tally.slot);
    return status == OK && !tally.wrong && fflush(stdout) == 0 ? 0 : 1;
}
