/* options_row.c - the table of options.def as data, and how one value is read. */
#include "config/options_row.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include "config/clock.h"

#define STORED_TEXT(field) field
#define STORED_INT(field) field
#define STORED_REAL(field) field
#define STORED_FLAG(field) field
#define STORED_SIZE(field) field##_bytes
#define STORED_TIME(field) field##_ns
#define STORED_ENUM(field) field

const struct option_row option_rows[OPTION_COUNT] = {
#define GROUP(name)
#define OPTION(kind_, field_, default_, range_, unit_, help_)                                      \
    [OPTION_##field_] = { .kind = KIND_##kind_,                                                    \
                          .field = #field_,                                                        \
                          .default_text = default_,                                                \
                          .range = range_,                                                         \
                          .unit = unit_,                                                           \
                          .help = help_,                                                           \
                          .offset = offsetof(struct options, STORED_##kind_(field_)) },
#include "config/options.def"
#undef OPTION
#undef GROUP
};

/* A number of units, as sizes and times are written. */
struct unit {
    const char *suffix;
    uint64_t worth;
};

static const struct unit size_units[] = {
    { "", 1 },
    { "B", 1 },
    { "K", 1ull << 10 },
    { "KB", 1ull << 10 },
    { "KiB", 1ull << 10 },
    { "M", 1ull << 20 },
    { "MB", 1ull << 20 },
    { "MiB", 1ull << 20 },
    { "G", 1ull << 30 },
    { "GB", 1ull << 30 },
    { "GiB", 1ull << 30 },
    { "T", 1ull << 40 },
    { "TB", 1ull << 40 },
    { "TiB", 1ull << 40 },
    { 0 },
};

static const struct unit time_units[] = {
    { "", NS_PER_S },
    { "ns", 1 },
    { "us", 1000 },
    { "ms", NS_PER_MS },
    { "s", NS_PER_S },
    { "m", 60 * NS_PER_S },
    { "min", 60 * NS_PER_S },
    { "h", 3600 * NS_PER_S },
    { 0 },
};

const char *option_name(const struct option_row *row, char name[OPTION_NAME_ROOM])
{
    size_t size = strlen(row->field);
    must(size < OPTION_NAME_ROOM);
    for (size_t i = 0; i <= size; i++) name[i] = row->field[i] == '_' ? '-' : row->field[i];
    return name;
}

static char folded(char c)
{
    return c == '-' ? '_' : (char)tolower((unsigned char)c);
}

const struct option_row *option_find(struct slice name)
{
    for (size_t row = 0; row < OPTION_COUNT; row++) {
        const char *field = option_rows[row].field;
        size_t same = 0;
        while (same < name.size && field[same] &&
               (name.data[same] == '-' ? '_' : name.data[same]) == field[same])
            same++;
        if (same == name.size && !field[same]) return &option_rows[row];
    }
    return NULL;
}

/* Insertions, deletions and replacements that turn one name into the other. */
static size_t edit_distance(struct slice a, const char *b)
{
    size_t row[OPTION_NAME_ROOM];
    size_t size = strlen(b);
    for (size_t j = 0; j <= size; j++) row[j] = j;
    for (size_t i = 0; i < a.size; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < size; j++) {
            size_t replaced = diagonal + (folded(a.data[i]) != folded(b[j]));
            size_t least = row[j] < row[j + 1] ? row[j] + 1 : row[j + 1] + 1;
            diagonal = row[j + 1];
            row[j + 1] = replaced < least ? replaced : least;
        }
    }
    return row[size];
}

const struct option_row *option_nearest(struct slice name)
{
    const struct option_row *nearest = NULL;
    size_t least = name.size / 3 + 2;  // further away is another word, not a slip
    for (size_t row = 0; row < OPTION_COUNT && name.size < 2 * OPTION_NAME_ROOM; row++) {
        size_t distance = edit_distance(name, option_rows[row].field);
        if (distance >= least) continue;
        least = distance;
        nearest = &option_rows[row];
    }
    return nearest;
}

static bool is_auto(const struct option_row *row)
{
    return strcmp(row->default_text, "auto") == 0;
}

static bool read_int(const char *text, int64_t *value)
{
    char *end;
    errno = 0;
    long long found = strtoll(text, &end, 10);
    if (end == text || *end || errno || isspace((unsigned char)*text)) return false;
    *value = found;
    return true;
}

static bool read_real(const char *text, double *value)
{
    char *end;
    double found = strtod(text, &end);
    if (end == text || *end || !isfinite(found) || isspace((unsigned char)*text)) return false;
    *value = found;
    return true;
}

/* Whole digits and then one of the suffixes, in any case. */
static bool read_units(const char *text, const struct unit *units, uint64_t *value)
{
    char *end;
    if (!isdigit((unsigned char)*text)) return false;
    errno = 0;
    unsigned long long count = strtoull(text, &end, 10);
    if (errno) return false;
    while (*end == ' ') end++;
    for (; units->suffix; units++)
        if (strcasecmp(units->suffix, end) == 0)
            return !__builtin_mul_overflow(count, units->worth, value);
    return false;
}

static bool read_flag(const char *text, bool *value)
{
    static const char *const words[] = { "false", "true", "no", "yes", "off", "on", "0", "1" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcasecmp(text, words[i])) continue;
        *value = i % 2;
        return true;
    }
    return false;
}

static bool read_enum(const char *text, const char *range, unsigned *value)
{
    size_t size = strlen(text);
    for (unsigned index = 0;; index++) {
        size_t word = strcspn(range, "|");
        if (word == size && memcmp(range, text, size) == 0) {
            *value = index;
            return true;
        }
        if (!range[word]) return false;
        range += word + 1;
    }
}

/* The two ends of "least..most" as texts of their own. */
struct ends {
    char least[24], most[24];
};

static struct ends ends_of(const char *range)
{
    struct ends ends;
    const char *dots = strstr(range, "..");
    must(dots && strlen(dots + 2) < sizeof ends.most);
    snprintf(ends.least, sizeof ends.least, "%.*s", (int)(dots - range), range);
    snprintf(ends.most, sizeof ends.most, "%s", dots + 2);
    return ends;
}

static bool read_int_within(const struct option_row *row, const char *text, int64_t *value)
{
    struct ends ends = ends_of(row->range);
    int64_t found, least, most;
    must(read_int(ends.least, &least) && read_int(ends.most, &most));
    if (!read_int(text, &found)) return false;
    if ((found < least || found > most) && !(found == 0 && is_auto(row))) return false;
    *value = found;
    return true;
}

static bool read_real_within(const struct option_row *row, const char *text, double *value)
{
    struct ends ends = ends_of(row->range);
    double found, least, most;
    must(read_real(ends.least, &least) && read_real(ends.most, &most));
    if (!read_real(text, &found) || found < least || found > most) return false;
    *value = found;
    return true;
}

static bool read_units_within(const struct option_row *row, const char *text, uint64_t *value)
{
    const struct unit *units = row->kind == KIND_SIZE ? size_units : time_units;
    struct ends ends = ends_of(row->range);
    uint64_t found, least, most;
    must(read_units(ends.least, units, &least) && read_units(ends.most, units, &most));
    if (!read_units(text, units, &found)) return false;
    if ((found < least || found > most) && !(found == 0 && is_auto(row))) return false;
    *value = found;
    return true;
}

static bool read_auto(const struct option_row *row, void *field)
{
    if (row->kind == KIND_INT) *(int64_t *)field = 0;
    else if (row->kind == KIND_REAL) *(double *)field = (double)NAN;
    else if (row->kind == KIND_SIZE || row->kind == KIND_TIME) *(uint64_t *)field = 0;
    else return false;
    return true;
}

static bool read_value(const struct option_row *row, const char *text, void *field)
{
    if (is_auto(row) && strcmp(text, "auto") == 0 && read_auto(row, field)) return true;
    switch (row->kind) {
    case KIND_TEXT:
        *(const char **)field = text;
        return true;
    case KIND_INT:
        return read_int_within(row, text, field);
    case KIND_REAL:
        return read_real_within(row, text, field);
    case KIND_FLAG:
        return read_flag(text, field);
    case KIND_SIZE:
    case KIND_TIME:
        return read_units_within(row, text, field);
    case KIND_ENUM:
        return read_enum(text, row->range, field);
    }
    return false;
}

enum status option_read(const struct option_row *row, const char *text, struct options *options,
                        struct err *err)
{
    if (read_value(row, text, (char *)options + row->offset)) return OK;

    struct buf wanted;
    char name[OPTION_NAME_ROOM];
    buf_init(&wanted, 0);
    option_add_wanted(row, &wanted);
    enum status status = fail(err, BAD_INPUT, "%s: found \"%.80s\", wanted %.*s",
                              option_name(row, name), text, (int)wanted.size, wanted.data);
    buf_release(&wanted);
    return status;
}

void option_add_wanted(const struct option_row *row, struct buf *out)
{
    static const char *const article[] = {
        [KIND_TEXT] = "text",          [KIND_INT] = "a whole number", [KIND_REAL] = "a number",
        [KIND_FLAG] = "true or false", [KIND_SIZE] = "a size",        [KIND_TIME] = "a time",
        [KIND_ENUM] = "one of",
    };
    buf_add_string(out, article[row->kind]);
    if (row->kind == KIND_ENUM) {
        buf_add_byte(out, ' ');
        for (const char *c = row->range; *c; c++)
            if (*c == '|') buf_add_string(out, ", ");
            else buf_add_byte(out, *c);
    } else if (*row->range) {
        struct ends ends = ends_of(row->range);
        buf_addf(out, " from %s to %s", ends.least, ends.most);
        if (is_auto(row)) buf_add_string(out, ", or auto");
    }
}
