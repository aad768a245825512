/* ctl_show.c - the daemon's numbers as lines for people. */
#include <math.h>
#include <string.h>
#include "config/utf8.h"
#include "server/ctl.h"

#define COLUMNS_MOST 18

const struct ctl_column ctl_request_columns[] = {
    { "ID", "id", true },
    { "TENANT", "tenant", false },
    { "KEY", "key", false },
    { "STAGE", "stage", false },
    { "AGE", "age_s", true },
    { "PROMPT", "prompt_tokens", true },
    { "CACHED", "cached_tokens", true },
    { "OUTPUT", "output_tokens", true },
    { "ROUTE", "route", false },
    { "MODEL", "model", false },
    { "REQUEST", "request_id", false },
    { 0 },
};

const struct ctl_column ctl_tenant_columns[] = {
    { "TENANT", "name", false },
    { "WEIGHT", "weight", true },
    { "RUNNING", "running", true },
    { "OF", "limits.running", true },
    { "WAITING", "waiting", true },
    { "OF", "limits.queued", true },
    { "REQ/MIN", "used.requests_per_minute", true },
    { "OF", "limits.requests_per_minute", true },
    { "IN/MIN", "used.input_tokens_per_minute", true },
    { "OF", "limits.input_tokens_per_minute", true },
    { "OUT/MIN", "used.output_tokens_per_minute", true },
    { "OF", "limits.output_tokens_per_minute", true },
    { "TOKENS", "used.tokens", true },
    { "OF", "limits.budget_tokens", true },
    { "CACHE", "used.cache_bytes", true },
    { "OF", "limits.cache_bytes", true },
    { 0 },
};

const struct ctl_column ctl_key_columns[] = {
    { "ID", "id", false },           { "TENANT", "tenant", false },   { "STATE", "state", false },
    { "CREATED", "created", false }, { "EXPIRES", "expires", false }, { 0 },
};

/* ---- values ---- */

const struct json *ctl_at(const struct json *root, const char *path)
{
    char name[64];

    while (root && *path) {
        size_t size = strcspn(path, ".");
        if (js_kind(root) != JS_OBJECT || size >= sizeof name) return NULL;
        memcpy(name, path, size);
        name[size] = 0;
        root = js_get(root, name);
        path += size + (path[size] == '.');
    }
    return root;
}

int64_t ctl_int(const struct json *root, const char *path)
{
    const struct json *at = ctl_at(root, path);

    return at && js_kind(at) == JS_INT ? js_int(at) : 0;
}

double ctl_real(const struct json *root, const char *path)
{
    const struct json *at = ctl_at(root, path);

    if (!at || (js_kind(at) != JS_INT && js_kind(at) != JS_REAL)) return (double)NAN;
    return js_real(at);
}

struct slice ctl_text(const struct json *root, const char *path)
{
    const struct json *at = ctl_at(root, path);

    return at && js_kind(at) == JS_STRING ? js_string(at) : SLICE("");
}

void ctl_add_text(struct buf *out, struct slice text)
{
    while (text.size) {
        struct utf8_char c = utf8_read(text);
        unsigned char byte = (unsigned char)text.data[0];
        /* U+0080 to U+009F are control characters too, C2 80 to C2 9F. */
        bool control = byte < 0x20 || byte == 0x7f ||
                       (byte == 0xc2 && c.size == 2 && (unsigned char)text.data[1] < 0xa0);
        if (!c.valid || control) buf_add_byte(out, '?');
        else buf_add(out, text.data, c.size);
        text = slice_from(text, c.size);
    }
}

void ctl_add_bytes(struct buf *out, int64_t bytes)
{
    static const char *const units[] = { "B", "KB", "MB", "GB", "TB", "PB" };
    double value = (double)bytes;
    size_t unit = 0;

    for (; value >= 999.5 && unit + 1 < sizeof units / sizeof *units; unit++) value /= 1000;
    buf_addf(out, unit && value < 9.95 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

void ctl_add_wait(struct buf *out, double seconds)
{
    if (isnan(seconds)) buf_add_string(out, "-");
    else if (seconds < 0.00995) buf_addf(out, "%.1f ms", seconds * 1e3);
    else if (seconds < 0.9995) buf_addf(out, "%.0f ms", seconds * 1e3);
    else buf_addf(out, seconds < 99.5 ? "%.1f s" : "%.0f s", seconds);
}

void ctl_add_age(struct buf *out, double seconds)
{
    long long whole = isnan(seconds) ? 0 : (long long)seconds;

    if (whole < 60) buf_addf(out, "%.1f s", seconds);
    else if (whole < 3600) buf_addf(out, "%lld:%02lld min", whole / 60, whole % 60);
    else if (whole < 86400) buf_addf(out, "%lld:%02lld h", whole / 3600, whole / 60 % 60);
    else buf_addf(out, "%lld d %lld h", whole / 86400, whole / 3600 % 24);
}

/* ---- tables ---- */

static bool has_words(const struct json *value)
{
    if (!value) return false;
    enum js_kind kind = js_kind(value);
    if (kind == JS_STRING) return js_string(value).size > 0;
    return kind == JS_INT || kind == JS_REAL || kind == JS_BOOL;
}

static void add_value(struct buf *out, const struct json *row, const struct ctl_column *column)
{
    const struct json *value = ctl_at(row, column->member);
    size_t size = strlen(column->member);

    if (!has_words(value)) return buf_add_byte(out, '-');
    if (size > 2 && strcmp(column->member + size - 2, "_s") == 0)
        return ctl_add_age(out, ctl_real(row, column->member));
    switch (js_kind(value)) {
    case JS_INT:
        return buf_addf(out, "%lld", (long long)js_int(value));
    case JS_REAL:
        return buf_addf(out, "%.6g", js_real(value));
    case JS_BOOL:
        return buf_add_string(out, js_bool(value) ? "yes" : "no");
    default:
        return ctl_add_text(out, js_string(value));
    }
}

/* Characters, taking each as one column wide. */
static size_t width_of(struct slice text)
{
    size_t width = 0;

    for (; text.size; text = slice_from(text, utf8_read(text).size)) width++;
    return width;
}

static void add_cell(struct buf *out, struct slice text, size_t width, bool right, bool last)
{
    size_t pad = width - width_of(text);

    if (right) buf_addf(out, "%*s", (int)pad, "");
    buf_add_slice(out, text);
    if (!right && !last) buf_addf(out, "%*s", (int)pad, "");
    buf_add_string(out, last ? "\n" : "  ");
}

void ctl_add_table(struct buf *out, const struct json *rows, const struct ctl_column *column)
{
    size_t count = js_count(rows), columns = 0, width[COLUMNS_MOST];
    struct buf cell;

    buf_init(&cell, 0);
    for (; column[columns].heading; columns++) {
        must(columns < COLUMNS_MOST);
        width[columns] = strlen(column[columns].heading);
        for (size_t row = 0; row < count; row++) {
            buf_clear(&cell);
            add_value(&cell, js_at(rows, row), &column[columns]);
            size_t found = width_of(buf_slice(&cell));
            if (found > width[columns]) width[columns] = found;
        }
    }
    for (size_t row = 0; row <= count; row++)
        for (size_t c = 0; c < columns; c++) {
            buf_clear(&cell);
            if (row == 0) buf_add_string(&cell, column[c].heading);
            else add_value(&cell, js_at(rows, row - 1), &column[c]);
            add_cell(out, buf_slice(&cell), width[c], column[c].right, c + 1 == columns);
        }
    buf_release(&cell);
}

/* ---- status ---- */

static void add_waits(struct buf *out, const struct json *waits, const char *name)
{
    buf_addf(out, "%s p50 ", name);
    ctl_add_wait(out, ctl_real(waits, "p50_s"));
    buf_add_string(out, ", p99 ");
    ctl_add_wait(out, ctl_real(waits, "p99_s"));
}

static void add_loading(struct buf *out, const struct json *loading)
{
    if (!loading) return;
    buf_add_string(out, "loading   ");
    ctl_add_text(out, ctl_text(loading, "stage"));
    buf_add_string(out, ", ");
    ctl_add_bytes(out, ctl_int(loading, "bytes"));
    buf_add_string(out, " of ");
    ctl_add_bytes(out, ctl_int(loading, "of"));
    buf_add_byte(out, '\n');
}

void ctl_add_status(struct buf *out, const struct json *status)
{
    buf_add_string(out, "fathom ");
    ctl_add_text(out, ctl_text(status, "version"));
    buf_add_string(out, ", ");
    ctl_add_text(out, ctl_text(status, "model"));
    buf_add_string(out, ", ");
    ctl_add_text(out, ctl_text(status, "door"));
    buf_add_string(out, ", up ");
    ctl_add_age(out, ctl_real(status, "uptime_s"));
    buf_add_byte(out, '\n');
    add_loading(out, ctl_at(status, "loading"));
    buf_addf(out, "load      %lld running, %lld waiting; KV %.0f %% of %lld blocks\n",
             (long long)ctl_int(status, "engine.running"),
             (long long)ctl_int(status, "engine.waiting"), 100 * ctl_real(status, "kv.used_ratio"),
             (long long)ctl_int(status, "kv.blocks"));
    buf_addf(out, "tokens    %.0f/s read, %.0f/s written\n",
             ctl_real(status, "recent.prompt_tokens_per_s"),
             ctl_real(status, "recent.output_tokens_per_s"));
    buf_add_string(out, "waits     ");
    add_waits(out, ctl_at(status, "recent.time_to_first_token"), "first token");
    buf_add_string(out, "; ");
    add_waits(out, ctl_at(status, "recent.inter_token"), "then each");
    buf_add_byte(out, '\n');
    ctl_add_cache(out, status);
}

void ctl_add_cache(struct buf *out, const struct json *status)
{
    static const char *const tiers[] = { "device", "host", "disk" };
    char path[64];

    if (!ctl_at(status, "cache.on") || !js_bool(ctl_at(status, "cache.on"))) {
        buf_add_string(out, "cache     off\n");
        return;
    }
    buf_add_string(out, "cache     ");
    for (size_t i = 0; i < sizeof tiers / sizeof *tiers; i++) {
        buf_addf(out, "%s%s ", i ? ", " : "", tiers[i]);
        snprintf(path, sizeof path, "cache.tiers.%s.bytes", tiers[i]);
        ctl_add_bytes(out, ctl_int(status, path));
        snprintf(path, sizeof path, "cache.tiers.%s.room_bytes", tiers[i]);
        buf_add_string(out, " of ");
        ctl_add_bytes(out, ctl_int(status, path));
    }
    struct slice why = ctl_text(status, "cache.disk_why");
    if (why.size) {
        buf_add_string(out, "; ");
        ctl_add_text(out, why);
    }
    buf_add_byte(out, '\n');
}
