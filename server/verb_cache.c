/* verb_cache.c - `fathomd cache ls|stat|verify|purge DIR`: a cache directory for its operator.
 *
 * ls, stat and verify only read, also while a daemon uses the directory; purge wants it for itself.
 * Exit codes: 0 done; 1 failed, or verify found something wrong; 2 wrong use.
 */
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
#include "cache/store_admin.h"
#include "cache/store_audit.h"
#include "config/json.h"
#include "engine/cache_identity.h"
#include "server/cache_tenant.h"
#include "server/verbs.h"

static const char usage[] =
    "usage: fathomd cache ls DIR [--blocks] [WHOSE] [--json]   what lies there, by scope\n"
    "       fathomd cache stat DIR [--json]                    the directory itself\n"
    "       fathomd cache verify DIR [--json]                  reads and checks every record\n"
    "       fathomd cache purge DIR (WHOSE | --all) [--json]   overwrites it\n"
    "  WHOSE is --scope TAG as ls prints it, or [--tenant NAME | --group NAME] [--user USER]: "
    "tenant or\n"
    "  group of the key file (without: requests to a daemon that asks for no keys), and the "
    "user_id of\n"
    "  requests (\"\": those that name none, and all of a tenant that does not isolate them; "
    "without:\n"
    "  all of its users)\n";

struct item {  // one record, for sorting
    struct prefix_key key;
    uint8_t scope[RECORD_TAG];
    uint64_t sequence;
    int64_t written_s;
    uint32_t bytes, object;
};

struct tool {
    const char *dir, *scope, *user, *tenant, *group;
    bool json, blocks, all;
    size_t meant;  // bytes of tag that say whose: 0 everybody's, or an owner's, or one scope's
    uint8_t tag[RECORD_TAG];
    uint8_t (*scope_of)[RECORD_TAG];  // [scopes] owned: those of records to be purged, each once
    size_t scopes;

    struct item *item;  // [items]
    size_t items, room;
    bool no_memory;
    struct buf out;
};

/* ---- how things are printed */

static void add_hex(struct buf *out, const uint8_t *byte, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) buf_addf(out, "%02x", byte[i]);
}

static void add_time(struct buf *out, int64_t seconds)
{
    char text[32];
    struct tm tm;
    time_t time = seconds;
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&time, &tm));
    buf_add_string(out, text);
}

static const char *name_of(uint32_t object)
{
    return object == RECORD_G ? "block" : "window";
}

/* What is finished goes out at once, so that a large directory needs no memory for its text. */
static void put(struct tool *tool)
{
    tool->no_memory |= buf_status(&tool->out) != OK;
    fwrite(tool->out.data, 1, tool->out.size, stdout);
    buf_clear(&tool->out);
}

/* One value of a report: a line of its own, or a member. */
static void begin_member(struct tool *tool, const char *name)
{
    struct buf *out = &tool->out;
    if (!tool->json) buf_addf(out, "%s: ", name);
    else buf_addf(out, "%s\"%s\":", out->size ? "," : "{", name);
}

static void add_number(struct tool *tool, const char *name, uint64_t value)
{
    begin_member(tool, name);
    buf_addf(&tool->out, "%llu%s", (unsigned long long)value, tool->json ? "" : "\n");
}

static void add_text(struct tool *tool, const char *name, const char *value)
{
    begin_member(tool, name);
    if (tool->json) js_add_string(&tool->out, slice_of(value));
    else buf_addf(&tool->out, "%s\n", value);
}

static void add_when(struct tool *tool, const char *name, int64_t seconds)
{
    begin_member(tool, name);
    if (tool->json) buf_add_byte(&tool->out, '"');
    add_time(&tool->out, seconds);
    buf_add_string(&tool->out, tool->json ? "\"" : "\n");
}

static void end_report(struct tool *tool)
{
    if (tool->json) buf_add_string(&tool->out, "}\n");
    put(tool);
}

static void put_record(struct tool *tool, const struct store_record *record, const char *verdict)
{
    struct buf *out = &tool->out;
    buf_addf(out, "{\"object\":\"%s\",\"key\":\"", name_of(record->id->object));
    add_hex(out, record->id->key.byte, sizeof record->id->key);
    buf_add_string(out, "\",\"before\":\"");
    add_hex(out, record->id->before.byte, sizeof record->id->before);
    buf_add_string(out, "\",\"scope\":\"");
    add_hex(out, record->id->scope, RECORD_TAG);
    buf_addf(out, "\",\"depth\":%u,\"file\":\"%c/%06u.seg\",\"page\":%u,\"bytes\":%u,",
             record->id->depth, record->id->object == RECORD_G ? 'g' : 'w', record->segment,
             record->page, record->bytes);
    buf_addf(out, "\"sequence\":%llu,\"written\":\"", (unsigned long long)record->sequence);
    add_time(out, record->written_s);
    buf_add_string(out, "\"");
    if (verdict) buf_addf(out, ",\"verdict\":\"%s\"", verdict);
    buf_add_string(out, "}\n");
    put(tool);
}

/* ---- ls */

static bool is_wanted(const struct tool *tool, const uint8_t scope[RECORD_TAG])
{
    return memcmp(scope, tool->tag, tool->meant) == 0;
}

static void keep_item(void *user, const struct store_record *record)
{
    struct tool *tool = user;

    if (!is_wanted(tool, record->id->scope)) return;
    if (record->verdict != STORE_LISTED && record->verdict != STORE_WHOLE) return;
    if (tool->blocks) return put_record(tool, record, NULL);
    if (tool->items == tool->room) {
        size_t room = tool->room ? tool->room * 2 : 4096;
        struct item *more = realloc(tool->item, room * sizeof *more);
        if (!more) {
            tool->no_memory = true;
            return;
        }
        tool->item = more;
        tool->room = room;
    }
    struct item *item = &tool->item[tool->items++];
    *item = (struct item){ .key = record->id->key,
                           .sequence = record->sequence,
                           .written_s = record->written_s,
                           .bytes = record->bytes,
                           .object = record->id->object };
    memcpy(item->scope, record->id->scope, RECORD_TAG);
}

/* By scope; of one scope the copies of one block together, the one that counts first. */
static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int order = memcmp(x->scope, y->scope, RECORD_TAG);
    if (!order) order = memcmp(&x->key, &y->key, sizeof x->key);
    if (!order) order = (x->object > y->object) - (x->object < y->object);
    return order ? order : (x->sequence < y->sequence) - (x->sequence > y->sequence);
}

struct sum {
    uint64_t records[RECORD_OBJECTS], bytes;
    int64_t oldest_s, newest_s;
};

static void put_scope(struct tool *tool, const uint8_t scope[RECORD_TAG], const struct sum *sum)
{
    struct buf *out = &tool->out;
    if (tool->json) {
        buf_add_string(out, "{\"scope\":\"");
        add_hex(out, scope, RECORD_TAG);
        buf_addf(out, "\",\"blocks\":%llu,\"windows\":%llu,\"bytes\":%llu,\"oldest\":\"",
                 (unsigned long long)sum->records[RECORD_G],
                 (unsigned long long)sum->records[RECORD_W], (unsigned long long)sum->bytes);
        add_time(out, sum->oldest_s);
        buf_add_string(out, "\",\"newest\":\"");
        add_time(out, sum->newest_s);
        buf_add_string(out, "\"}\n");
    } else {
        add_hex(out, scope, RECORD_TAG);
        buf_addf(out, " %8llu %8llu %15llu ", (unsigned long long)sum->records[RECORD_G],
                 (unsigned long long)sum->records[RECORD_W], (unsigned long long)sum->bytes);
        add_time(out, sum->oldest_s);
        buf_add_byte(out, ' ');
        add_time(out, sum->newest_s);
        buf_add_byte(out, '\n');
    }
    put(tool);
}

static void put_scopes(struct tool *tool)
{
    struct sum sum = { 0 };

    if (!tool->json)
        printf("%-32s %8s %8s %15s %-20s %s\n", "scope", "blocks", "windows", "bytes", "oldest",
               "newest");
    if (tool->items) qsort(tool->item, tool->items, sizeof *tool->item, compare_items);
    for (size_t i = 0; i < tool->items; i++) {
        const struct item *item = &tool->item[i], *before = i ? item - 1 : NULL;
        if (before && memcmp(before->scope, item->scope, RECORD_TAG) != 0) {
            put_scope(tool, before->scope, &sum);
            sum = (struct sum){ 0 };
        } else if (before && before->object == item->object &&
                   memcmp(&before->key, &item->key, sizeof item->key) == 0) {
            continue;  // an older copy
        }
        sum.records[item->object]++;
        sum.bytes += item->bytes;
        if (!sum.oldest_s || item->written_s < sum.oldest_s) sum.oldest_s = item->written_s;
        if (item->written_s > sum.newest_s) sum.newest_s = item->written_s;
    }
    if (tool->items) put_scope(tool, tool->item[tool->items - 1].scope, &sum);
}

static enum status list(struct tool *tool, struct err *err)
{
    struct store_audit audit;
    struct store_audit_options options = {
        .dir = tool->dir, .used_too = true, .lists_only = true, .each = keep_item, .user = tool
    };
    enum status status = store_audit(&options, &audit, err);
    if (status == OK && !tool->blocks) put_scopes(tool);
    return status;
}

/* ---- stat */

static enum status describe(struct tool *tool, struct err *err)
{
    struct store_facts facts;
    struct store_audit audit;
    struct store_audit_options options = { .dir = tool->dir, .used_too = true, .lists_only = true };
    struct prefix_key secret;
    struct err no_secret;
    char format[2 * sizeof facts.format + 1];

    enum status status = store_facts(tool->dir, &facts, err);
    if (status == OK) status = store_audit(&options, &audit, err);
    if (status != OK) return status;
    bool has_secret = cache_identity_read_secret(tool->dir, &secret, &no_secret) == OK;
    for (size_t i = 0; i < sizeof facts.format; i++)
        snprintf(format + 2 * i, 3, "%02x", facts.format[i]);

    add_text(tool, "directory", tool->dir);
    add_text(tool, "state",
             facts.used_by   ? "in use"
             : facts.purging ? "a purge was cut short"
                             : "closed");
    if (facts.used_by) add_number(tool, "process", (uint64_t)facts.used_by);
    add_when(tool, "opened", facts.opened_s);
    add_text(tool, "format", format);
    add_text(tool, "key",
             !has_secret                                    ? no_secret.text
             : cache_identity_matches(tool->dir, facts.key) ? "that of the secret and a known model"
                                                            : "of another secret or model");
    add_number(tool, "block_bytes", facts.image_bytes[RECORD_G]);
    add_number(tool, "window_bytes", facts.image_bytes[RECORD_W]);
    add_number(tool, "bytes", audit.segments * facts.segment_bytes);
    add_number(tool, "bytes_used", audit.bytes);
    add_number(tool, "bytes_free", audit.unused * facts.segment_bytes);
    add_number(tool, "segment_bytes", facts.segment_bytes);
    add_number(tool, "segments", audit.segments);
    add_number(tool, "segments_of_blocks", audit.of_class[RECORD_G]);
    add_number(tool, "segments_of_windows", audit.of_class[RECORD_W]);
    add_number(tool, "segments_full", audit.sealed);
    add_number(tool, "segments_begun", audit.unfinished);
    add_number(tool, "segments_free", audit.unused);
    add_number(tool, "records", audit.records);
    end_report(tool);
    return OK;
}

/* ---- verify */

static void name_bad(void *user, const struct store_record *record)
{
    if (record->verdict == STORE_DAMAGED) put_record(user, record, "damaged");
}

static enum status verify(struct tool *tool, struct err *err)
{
    struct store_audit audit;
    struct store_audit_options options = {
        .dir = tool->dir, .used_too = true, .each = name_bad, .user = tool
    };
    enum status status = store_audit(&options, &audit, err);
    if (status != OK) return status;
    add_number(tool, "segments", audit.segments);
    add_number(tool, "records", audit.records);
    add_number(tool, "bytes", audit.bytes);
    add_number(tool, "erased", audit.erased);
    add_number(tool, "damaged", audit.damaged);
    add_number(tool, "stray_pages", audit.stray_pages);
    end_report(tool);
    if (audit.damaged || audit.stray_pages)
        return fail(err, IO_FAILED,
                    "%s: %llu records are damaged and %llu pages hold what no record owns; the "
                    "daemon takes them for misses",
                    tool->dir, (unsigned long long)audit.damaged,
                    (unsigned long long)audit.stray_pages);
    return OK;
}

/* ---- purge */

/* There are few scopes, and records of one follow each other. */
static void count_item(void *user, const struct store_record *record)
{
    struct tool *tool = user;
    const uint8_t *scope = record->id->scope;

    if (!is_wanted(tool, scope)) return;
    tool->items++;
    for (size_t i = tool->scopes; i-- > 0;)
        if (memcmp(tool->scope_of[i], scope, RECORD_TAG) == 0) return;
    void *more = realloc(tool->scope_of, (tool->scopes + 1) * sizeof *tool->scope_of);
    if (!more) {
        tool->no_memory = true;
        return;
    }
    tool->scope_of = more;
    memcpy(tool->scope_of[tool->scopes++], scope, RECORD_TAG);
}

/* One that is named goes also where no record of it is seen: what was erased before may lie there. */
static enum status purge_scopes(struct tool *tool, struct err *err)
{
    return store_admin_purge(tool->dir, tool->tag, (uint32_t)tool->meant, err);
}

static enum status purge(struct tool *tool, struct err *err)
{
    struct store_audit audit;
    struct store_audit_options options = {
        .dir = tool->dir, .lists_only = true, .each = count_item, .user = tool
    };
    enum status status = store_audit(&options, &audit, err);
    if (status == OK && tool->no_memory) status = fail(err, NO_MEMORY, "no memory for the scopes");
    if (status == OK)
        status = tool->all ? store_admin_wipe(tool->dir, err) : purge_scopes(tool, err);
    if (status != OK) return status;
    char tag[2 * RECORD_TAG + 1];
    for (size_t i = 0; i < tool->meant; i++) snprintf(tag + 2 * i, 3, "%02x", tool->tag[i]);
    add_text(tool, "scope", tool->all ? "all" : tag);
    add_number(tool, "scopes_purged", tool->scopes);
    add_number(tool, "records_purged", tool->items);
    end_report(tool);
    return OK;
}

/* ---- whose */

static bool read_tag(const char *text, uint8_t tag[RECORD_TAG])
{
    if (strlen(text) != 2 * RECORD_TAG || strspn(text, "0123456789abcdef") != 2 * RECORD_TAG)
        return false;
    for (size_t i = 0; i < RECORD_TAG; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1) return false;
        tag[i] = (uint8_t)byte;
    }
    return true;
}

static enum status find_scope(struct tool *tool, struct err *err)
{
    uint8_t owner[SHA256_BYTES] = { 0 }, user[SHA256_BYTES], tenant[SHA256_BYTES];
    struct prefix_key secret;

    if (tool->scope) {
        tool->meant = RECORD_TAG;
        if (read_tag(tool->scope, tool->tag)) return OK;
        return fail(err, BAD_INPUT, "--scope: found \"%s\", wanted %d hexadecimal digits",
                    tool->scope, 2 * RECORD_TAG);
    }
    if (!tool->user && !tool->tenant && !tool->group) return OK;
    tool->meant = tool->user ? RECORD_TAG : CACHE_OWNER_TAG;
    enum status status = cache_identity_read_secret(tool->dir, &secret, err);
    if (status != OK) return status;
    if (tool->tenant) cache_owner_of(slice_of(tool->tenant), owner);
    if (tool->group) cache_group_of(slice_of(tool->group), owner);
    cache_user_of(tool->user ? slice_of(tool->user) : SLICE(""), user);
    cache_tenant_of(owner, user, tenant);
    cache_identity_tag(&secret, owner, tenant, tool->tag);
    return OK;
}

/* ---- the verb */

enum { TAKES_BLOCKS = 1, TAKES_WHOSE = 2, TAKES_ALL = 4 };

static const struct action {
    const char *name;
    enum status (*run)(struct tool *tool, struct err *err);
    unsigned takes;
} actions[] = {
    { "ls", list, TAKES_BLOCKS | TAKES_WHOSE },
    { "stat", describe, 0 },
    { "verify", verify, 0 },
    { "purge", purge, TAKES_WHOSE | TAKES_ALL },
    { 0 },
};

static bool read_arguments(struct tool *tool, unsigned takes, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        const struct {
            const char *name;
            unsigned wanted;
            bool *flag;
            const char **value;
        } rows[] = {
            { "--json", 0, &tool->json, NULL },
            { "--blocks", TAKES_BLOCKS, &tool->blocks, NULL },
            { "--all", TAKES_ALL, &tool->all, NULL },
            { "--scope", TAKES_WHOSE, NULL, &tool->scope },
            { "--user", TAKES_WHOSE, NULL, &tool->user },
            { "--tenant", TAKES_WHOSE, NULL, &tool->tenant },
            { "--group", TAKES_WHOSE, NULL, &tool->group },
        };
        size_t row = 0, count = sizeof rows / sizeof *rows;
        while (row < count && strcmp(argv[i], rows[row].name) != 0) row++;
        if (row == count) {
            if (argv[i][0] == '-' || tool->dir) return false;
            tool->dir = argv[i];
        } else {
            if ((rows[row].wanted & takes) != rows[row].wanted) return false;
            if (rows[row].flag) *rows[row].flag = true;
            else if (++i < argc) *rows[row].value = argv[i];
            else return false;
        }
    }
    if (tool->tenant && tool->group) return false;
    bool named = tool->user || tool->tenant || tool->group;
    int whose = (tool->scope != NULL) + named + tool->all;
    return tool->dir && whose <= 1 && (whose == 1 || !(takes & TAKES_ALL));
}

int verb_cache(int argc, char **argv)
{
    const struct action *action = actions;
    struct tool tool = { 0 };
    struct err err = { "" };

    while (argc && action->name && strcmp(argv[0], action->name) != 0) action++;
    if (!argc || !action->name || !read_arguments(&tool, action->takes, argc - 1, argv + 1)) {
        fputs(usage, stderr);
        return 2;
    }
    buf_init(&tool.out, 0);
    enum status status = find_scope(&tool, &err);
    int wrong = status == BAD_INPUT ? 2 : 1;
    if (status == OK) {
        status = action->run(&tool, &err);
        wrong = 1;
    }
    if (status == OK && tool.no_memory) status = fail(&err, NO_MEMORY, "no memory for the list");
    if (status != OK) fprintf(stderr, "fathomd cache: %s\n", err.text);
    buf_release(&tool.out);
    free(tool.item);
    free(tool.scope_of);
    return status == OK && fflush(stdout) == 0 ? 0 : wrong;
}
