/* access_read.c - the key file, field by field, with the place of every fault. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "config/buf.h"
#include "config/hash.h"
#include "config/json.h"
#include "server/access_parts.h"

#define BUDGET_MOST 1000000000000000  // so that sums of tokens stay far from the end of their type

#define CACHE_BYTES_MOST ((uint64_t)1 << 50)  // likewise, of a group's

#define TENANT_SLOTS (2 * ACCESS_TENANTS_MOST)  // a power of two

#define PER_MINUTE_MOST 1000000000  // so that each one's share of a minute is some ns
#define LIMIT(name, of_users, least, most)                                                         \
    {                                                                                              \
#name, offsetof(struct access_limits, name), of_users, least, most                         \
    }

const struct access_limit_row access_limit_rows[ACCESS_LIMIT_ROWS] = {
    LIMIT(running, true, 1, 1000000),
    LIMIT(queued, true, 1, 1000000),
    LIMIT(requests_per_minute, true, 1, PER_MINUTE_MOST),
    LIMIT(input_tokens_per_minute, true, 1, PER_MINUTE_MOST),
    LIMIT(output_tokens_per_minute, true, 1, PER_MINUTE_MOST),
    LIMIT(budget_tokens, false, 1, BUDGET_MOST),
    LIMIT(context, false, 2, INT32_MAX),
    LIMIT(output, false, 1, INT32_MAX),
    LIMIT(cache_bytes, false, 1, CACHE_BYTES_MOST),
};

struct reader {
    struct access *access;
    const char *path;
    struct err *err;
    char place[160];              // such as "tenants[2].limits.running"; "" = the whole
    uint32_t slot[TENANT_SLOTS];  // by the hash of their names: 1 + a tenant's number; 0 = free
};

/* ---- places, and what is wrong there ---- */

static enum status wrong(struct reader *r, const char *found, const char *wanted)
{
    return fail(r->err, BAD_INPUT, "%s: %s: found %s, wanted %s", r->path,
                r->place[0] ? r->place : "the file", found, wanted);
}

static enum status no_memory(struct reader *r)
{
    return fail(r->err, NO_MEMORY, "%s: no memory for its keys", r->path);
}

static enum status wrong_kind(struct reader *r, const struct json *value, const char *wanted)
{
    return wrong(r, js_kind_name(js_kind(value)), wanted);
}

/* Returns where the place was cut, for leave. */
static size_t enter(struct reader *r, const char *name)
{
    size_t at = strlen(r->place);

    snprintf(r->place + at, sizeof r->place - at, "%s%s", at ? "." : "", name);
    return at;
}

static size_t enter_index(struct reader *r, size_t index)
{
    size_t at = strlen(r->place);

    snprintf(r->place + at, sizeof r->place - at, "[%zu]", index);
    return at;
}

static void leave(struct reader *r, size_t at)
{
    r->place[at] = '\0';
}

/* ---- objects by their table of fields ---- */

struct field {
    const char *name;
    enum status (*read)(struct reader *r, const struct json *value, void *into);
};

/* A field's name as it may be shown: short, and nothing that a terminal would act on. */
static void show_name(struct slice name, char shown[40])
{
    size_t size = name.size < 39 ? name.size : 39;

    memcpy(shown, name.data, size);
    shown[size] = '\0';
    for (size_t i = 0; i < size; i++)
        if (shown[i] < ' ' || shown[i] > '~') shown[i] = '?';
}

static enum status read_object(struct reader *r, const struct json *object,
                               const struct field *fields, void *into)
{
    struct js_member member = { 0 };
    enum status status = OK;

    if (js_kind(object) != JS_OBJECT) return wrong_kind(r, object, "an object");
    while (status == OK && js_next(object, &member)) {
        char shown[40];
        const struct field *field = fields;
        while (field->name && !slice_equal(slice_of(field->name), member.key)) field++;
        show_name(member.key, shown);
        size_t at = enter(r, shown);
        if (field->name) status = field->read(r, member.value, into);
        else status = wrong(r, "an unknown field", "none of this name");
        if (status == OK) leave(r, at);
    }
    return status;
}

/* ---- single values ---- */

bool access_name_is_fit(struct slice name)
{
    static const char fit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

    if (name.size == 0 || name.size > ACCESS_NAME_MOST) return false;
    for (size_t i = 0; i < name.size; i++)
        if (!name.data[i] || !strchr(fit, name.data[i])) return false;
    return true;
}

/* Names go into logs, labels and keys. */
static enum status read_name(struct reader *r, const struct json *value, const char **name)
{
    static const char wanted[] = "1 to 64 of A-Z a-z 0-9 . _ -";

    if (js_kind(value) != JS_STRING) return wrong_kind(r, value, wanted);
    if (!access_name_is_fit(js_string(value))) return wrong(r, "another text", wanted);
    *name = arena_copy(&r->access->arena, js_string(value)).data;
    return *name ? OK : no_memory(r);
}

static enum status read_number(struct reader *r, const struct json *value, uint64_t least,
                               uint64_t most, uint64_t *number)
{
    char wanted[80], found[32];

    snprintf(wanted, sizeof wanted, "an integer from %llu to %llu", (unsigned long long)least,
             (unsigned long long)most);
    if (js_kind(value) != JS_INT) return wrong_kind(r, value, wanted);
    int64_t said = js_int(value);
    if (said < 0 || (uint64_t)said < least || (uint64_t)said > most) {
        snprintf(found, sizeof found, "%lld", (long long)said);
        return wrong(r, found, wanted);
    }
    *number = (uint64_t)said;
    return OK;
}

static enum status read_bool(struct reader *r, const struct json *value, bool *flag)
{
    if (js_kind(value) != JS_BOOL) return wrong_kind(r, value, "true or false");
    *flag = js_bool(value);
    return OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool access_hex_read(struct slice text, uint8_t *bytes, size_t size)
{
    if (text.size != 2 * size) return false;
    for (size_t i = 0; i < size; i++) {
        int high = hex_digit(text.data[2 * i]), low = hex_digit(text.data[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

void access_hex_write(const uint8_t *bytes, size_t size, char *text)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < size; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * size] = '\0';
}

static enum status read_hex(struct reader *r, const struct json *value, uint8_t *bytes, size_t size)
{
    char wanted[48];
    uint8_t any = 0;

    snprintf(wanted, sizeof wanted, "%zu hexadecimal digits", 2 * size);
    if (js_kind(value) != JS_STRING) return wrong_kind(r, value, wanted);
    if (!access_hex_read(js_string(value), bytes, size)) return wrong(r, "another text", wanted);
    for (size_t i = 0; i < size; i++) any |= bytes[i];
    return any ? OK : wrong(r, "only zeros", "what `fathomd keys new` makes");
}

bool access_time_read(struct slice text, int64_t *unix_s)
{
    static const char *const forms[] = { "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d" };
    char copy[24];

    if (text.size == 0 || text.size >= sizeof copy) return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    for (size_t i = 0; i < 2; i++) {
        struct tm day = { 0 };
        char again[24];
        const char *end = strptime(copy, forms[i], &day);
        if (!end || *end) continue;
        struct tm made = day;
        *unix_s = timegm(&made);  // moves the 31st of June; then it does not read back
        return strftime(again, sizeof again, forms[i], &made) > 0 && strcmp(again, copy) == 0 &&
               *unix_s > 0;
    }
    return false;
}

void access_time_write(int64_t unix_s, char text[24])
{
    time_t when = (time_t)unix_s;
    struct tm day;

    if (!gmtime_r(&when, &day) || !strftime(text, 24, "%Y-%m-%dT%H:%M:%SZ", &day)) text[0] = '\0';
}

static enum status read_time(struct reader *r, const struct json *value, int64_t *unix_s)
{
    static const char wanted[] = "a time like \"2026-01-31T12:00:00Z\" or \"2026-01-31\"";

    if (js_kind(value) != JS_STRING) return wrong_kind(r, value, wanted);
    return access_time_read(js_string(value), unix_s) ? OK : wrong(r, "another text", wanted);
}

static enum status read_model_names(struct reader *r, const struct json *value,
                                    struct access_names *names)
{
    if (js_kind(value) != JS_ARRAY) return wrong_kind(r, value, "an array of model names");
    size_t count = js_count(value);
    if (count == 0 || count > 256) return wrong(r, "another number of names", "1 to 256");
    struct slice *name = arena_array(&r->access->arena, count, sizeof *name);
    if (!name) return no_memory(r);
    for (size_t i = 0; i < count; i++) {
        const struct json *item = js_at(value, i);
        if (js_kind(item) != JS_STRING) return wrong_kind(r, item, "an array of model names");
        if (js_string(item).size == 0) return wrong(r, "an empty name", "a model's name");
        name[i] = arena_copy(&r->access->arena, js_string(item));
        if (!name[i].data) return no_memory(r);
    }
    *names = (struct access_names){ name, (uint32_t)count };
    return OK;
}

/* ---- tenants ---- */

static enum status read_limits(struct reader *r, const struct json *object, bool of_users,
                               struct access_limits *limits)
{
    struct js_member member = { 0 };
    enum status status = OK;

    if (js_kind(object) != JS_OBJECT) return wrong_kind(r, object, "an object");
    while (status == OK && js_next(object, &member)) {
        char shown[40];
        const struct access_limit_row *row = NULL;
        for (size_t i = 0; i < ACCESS_LIMIT_ROWS; i++)
            if (slice_equal(slice_of(access_limit_rows[i].name), member.key))
                row = &access_limit_rows[i];
        show_name(member.key, shown);
        size_t at = enter(r, shown);
        if (!row) status = wrong(r, "an unknown limit", "none of this name");
        else if (of_users && !row->of_users)
            status = wrong(r, "a limit that only tenants have", "it in limits");
        else
            status = read_number(r, member.value, row->least, row->most,
                                 (uint64_t *)(void *)((char *)limits + row->offset));
        if (status == OK) leave(r, at);
    }
    return status;
}

static enum status tenant_name(struct reader *r, const struct json *value, void *into)
{
    return read_name(r, value, &((struct tenant *)into)->name);
}

static enum status tenant_group(struct reader *r, const struct json *value, void *into)
{
    return read_name(r, value, &((struct tenant *)into)->group);
}

static enum status tenant_weight(struct reader *r, const struct json *value, void *into)
{
    uint64_t weight = 0;
    enum status status = read_number(r, value, 1, ACCESS_WEIGHT_MOST, &weight);

    ((struct tenant *)into)->weight = (uint32_t)weight;
    return status;
}

static enum status tenant_models(struct reader *r, const struct json *value, void *into)
{
    return read_model_names(r, value, &((struct tenant *)into)->models);
}

static enum status tenant_priority(struct reader *r, const struct json *value, void *into)
{
    static const char wanted[] = "[least, most], such as [0, 100]";
    struct tenant *tenant = into;
    uint64_t end[2] = { 0, 0 };

    if (js_kind(value) != JS_ARRAY) return wrong_kind(r, value, wanted);
    if (js_count(value) != 2) return wrong(r, "another number of elements", wanted);
    for (size_t i = 0; i < 2; i++) {
        enum status status = read_number(r, js_at(value, i), 0, INT32_MAX, &end[i]);
        if (status != OK) return status;
    }
    if (end[0] > end[1]) return wrong(r, "the larger number first", wanted);
    tenant->priority_least = (int32_t)end[0];
    tenant->priority_most = (int32_t)end[1];
    return OK;
}

static enum status tenant_isolate(struct reader *r, const struct json *value, void *into)
{
    return read_bool(r, value, &((struct tenant *)into)->isolate_users);
}

static enum status tenant_limits(struct reader *r, const struct json *value, void *into)
{
    return read_limits(r, value, false, &((struct tenant *)into)->limits);
}

static enum status tenant_user_limits(struct reader *r, const struct json *value, void *into)
{
    return read_limits(r, value, true, &((struct tenant *)into)->user_limits);
}

static const struct field tenant_fields[] = {
    { "name", tenant_name },
    { "weight", tenant_weight },
    { "models", tenant_models },
    { "priority", tenant_priority },
    { "group", tenant_group },
    { "isolate_users", tenant_isolate },
    { "limits", tenant_limits },
    { "user_limits", tenant_user_limits },
    { 0 },
};

/* The slot of the tenant of this name, or the one that would be. A loop serves nobody while it reads a
 * file, so that no key may look through all tenants. */
static uint32_t *find_slot(struct reader *r, struct slice name)
{
    uint64_t at = hash64(name.data, name.size, 0);

    for (;; at++) {
        uint32_t *slot = &r->slot[at % TENANT_SLOTS];
        if (!*slot || slice_equal(slice_of(r->access->tenant[*slot - 1].name), name)) return slot;
    }
}

static enum status read_tenants(struct reader *r, const struct json *value, void *unused)
{
    struct access *access = r->access;
    (void)unused;

    if (js_kind(value) != JS_ARRAY) return wrong_kind(r, value, "an array of tenants");
    size_t count = js_count(value);
    if (count > ACCESS_TENANTS_MOST) return wrong(r, "more tenants", "at most 4096");
    access->tenant = arena_array(&access->arena, count + 1, sizeof *access->tenant);
    if (!access->tenant) return no_memory(r);
    for (size_t i = 0; i < count; i++) {
        struct tenant made = { .weight = 1, .priority_most = INT32_MAX, .isolate_users = true };
        size_t at = enter_index(r, i);
        enum status status = read_object(r, js_at(value, i), tenant_fields, &made);
        if (status != OK) return status;
        if (!made.name) return wrong(r, "no name", "a name");
        uint32_t *slot = find_slot(r, slice_of(made.name));
        if (*slot) return wrong(r, "a name for the second time", "each tenant once");
        access->tenant[access->tenants++] = made;
        *slot = access->tenants;
        leave(r, at);
    }
    return OK;
}

/* ---- keys ---- */

struct key_read {
    struct access_key key;
    const char *tenant;
    bool salted, digested;
};

static enum status key_id(struct reader *r, const struct json *value, void *into)
{
    return read_name(r, value, &((struct key_read *)into)->key.id);
}

static enum status key_tenant(struct reader *r, const struct json *value, void *into)
{
    return read_name(r, value, &((struct key_read *)into)->tenant);
}

static enum status key_salt(struct reader *r, const struct json *value, void *into)
{
    struct key_read *read = into;

    read->salted = true;
    return read_hex(r, value, read->key.salt, sizeof read->key.salt);
}

static enum status key_digest(struct reader *r, const struct json *value, void *into)
{
    struct key_read *read = into;

    read->digested = true;
    return read_hex(r, value, read->key.digest, sizeof read->key.digest);
}

static enum status key_scopes(struct reader *r, const struct json *value, void *into)
{
    static const char wanted[] = "an array of \"api\" and \"metrics\"";
    struct access_key *key = &((struct key_read *)into)->key;

    if (js_kind(value) != JS_ARRAY) return wrong_kind(r, value, wanted);
    key->scopes = 0;
    for (size_t i = 0; i < js_count(value); i++) {
        const struct json *item = js_at(value, i);
        if (js_kind(item) != JS_STRING) return wrong_kind(r, item, wanted);
        if (slice_equal(js_string(item), SLICE("api"))) key->scopes |= ACCESS_API;
        else if (slice_equal(js_string(item), SLICE("metrics"))) key->scopes |= ACCESS_METRICS;
        else return wrong(r, "another scope", wanted);
    }
    return key->scopes ? OK : wrong(r, "no scope", wanted);
}

static enum status key_models(struct reader *r, const struct json *value, void *into)
{
    return read_model_names(r, value, &((struct key_read *)into)->key.models);
}

static enum status key_created(struct reader *r, const struct json *value, void *into)
{
    return read_time(r, value, &((struct key_read *)into)->key.created);
}

static enum status key_expires(struct reader *r, const struct json *value, void *into)
{
    return read_time(r, value, &((struct key_read *)into)->key.expires);
}

static enum status key_disabled(struct reader *r, const struct json *value, void *into)
{
    return read_bool(r, value, &((struct key_read *)into)->key.disabled);
}

static enum status key_is_plain(struct reader *r, const struct json *value, void *into)
{
    (void)value;
    (void)into;
    return wrong(r, "a plain key",
                 "its salt and sha256 alone, as `fathomd keys new` writes them; this key is known "
                 "to whoever read the file");
}

static const struct field key_fields[] = {
    { "id", key_id },           { "tenant", key_tenant },   { "salt", key_salt },
    { "sha256", key_digest },   { "scopes", key_scopes },   { "models", key_models },
    { "created", key_created }, { "expires", key_expires }, { "disabled", key_disabled },
    { "key", key_is_plain },    { "secret", key_is_plain }, { 0 },
};

static enum status complete_key(struct reader *r, struct key_read *read)
{
    if (!read->key.id) return wrong(r, "no id", "an id");
    if (!read->tenant) return wrong(r, "no tenant", "the name of one");
    if (!read->salted) return wrong(r, "no salt", "32 hexadecimal digits");
    if (!read->digested) return wrong(r, "no sha256", "64 hexadecimal digits");
    uint32_t slot = *find_slot(r, slice_of(read->tenant));
    if (!slot) return wrong(r, "a tenant that is not listed", "one of tenants");
    read->key.tenant = &r->access->tenant[slot - 1];
    return OK;
}

static enum status read_keys(struct reader *r, const struct json *value)
{
    struct access *access = r->access;

    if (js_kind(value) != JS_ARRAY) return wrong_kind(r, value, "an array of keys");
    size_t count = js_count(value);
    if (count > ACCESS_KEYS_MOST) return wrong(r, "more keys", "at most 65536");
    access->key = arena_array(&access->arena, count + 1, sizeof *access->key);
    if (!access->key) return no_memory(r);
    for (size_t i = 0; i < count; i++) {
        struct key_read made = { .key = { .scopes = ACCESS_API } };
        size_t at = enter_index(r, i);
        enum status status = read_object(r, js_at(value, i), key_fields, &made);
        if (status == OK) status = complete_key(r, &made);
        if (status != OK) return status;
        access->key[access->keys++] = made.key;
        leave(r, at);
    }
    return OK;
}

/* ---- the file ---- */

/* Keys name tenants, so they wait until all of those are read. */
static enum status note_keys(struct reader *r, const struct json *value, void *into)
{
    (void)r;
    *(const struct json **)into = value;
    return OK;
}

static const struct field file_fields[] = {
    { "tenants", read_tenants },
    { "keys", note_keys },
    { 0 },
};

static enum status read_text(struct reader *r, int fd, struct buf *text)
{
    struct stat about;
    ssize_t got;

    if (fstat(fd, &about)) return fail(r->err, IO_FAILED, "%s: %s", r->path, strerror(errno));
    if (!S_ISREG(about.st_mode)) return fail(r->err, BAD_INPUT, "%s: wanted a plain file", r->path);
    if (about.st_mode & (S_IRWXG | S_IRWXO))
        return fail(r->err, BAD_INPUT, "%s: others than its owner may use it; wanted mode 600",
                    r->path);
    do {
        if (!buf_reserve(text, 65536)) break;
        got = read(fd, text->data + text->size, 65536);
        if (got < 0) return fail(r->err, IO_FAILED, "%s: %s", r->path, strerror(errno));
        text->size += (size_t)got;
    } while (got > 0);
    if (buf_status(text) == TOO_LONG)
        return fail(r->err, BAD_INPUT, "%s: larger than any key file", r->path);
    return buf_status(text) == OK ? OK : no_memory(r);
}

static enum status parse(struct reader *r, struct buf *text, struct json **root)
{
    const struct js_limits limits = { .depth = 8, .number_length = 64, .unique_keys = true };
    struct err why = { "" };
    size_t at = 0;

    while (at < text->size && strchr(" \t\r\n", text->data[at])) at++;
    if (at == text->size || text->data[at] != '{')
        return wrong(r, "something else than JSON",
                     "an object of tenants and keys, as `fathomd keys new` writes it; keys one a "
                     "line are no longer read");
    enum status status = js_parse(text->data, text->size, &limits, root, &why);
    return status == OK ? OK : fail(r->err, status, "%s: %s", r->path, why.text);
}

enum status access_read(struct access *access, int fd, const char *path, struct err *err)
{
    struct reader r = { .access = access, .path = path, .err = err };
    const struct json *keys = NULL;
    struct json *root = NULL;
    struct buf text;

    buf_init(&text, ACCESS_FILE_BYTES_MOST);
    enum status status = read_text(&r, fd, &text);
    if (status == OK) status = parse(&r, &text, &root);
    if (status == OK) status = read_object(&r, root, file_fields, &keys);
    if (status == OK && keys) {
        enter(&r, "keys");
        status = read_keys(&r, keys);
    }
    if (root) js_free(root);
    if (text.data) explicit_bzero(text.data, text.size);  // should somebody have put a secret there
    buf_release(&text);
    return status;
}
