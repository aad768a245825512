/* options_live.c - which options a reload may change, and how one value changes its owner. */
#include "config/options_row.h"

static const bool live[OPTION_COUNT] = {
#define GROUP(name)
#define OPTION(kind, field, default_text, range, unit, help)
#define LIVE(field) [OPTION_##field] = true,
#include "config/options.def"
#undef OPTION
#undef GROUP
};

bool option_is_live(enum option_id id)
{
    must(id < OPTION_COUNT);
    return live[id];
}

bool option_differs(const struct options *a, const struct options *b, enum option_id id)
{
    must(id < OPTION_COUNT);
    return strcmp(a->text[id], b->text[id]) != 0;
}

static size_t size_of(enum option_kind kind)
{
    static const size_t size[] = {
        [KIND_TEXT] = sizeof(const char *),
        [KIND_INT] = sizeof(int64_t),
        [KIND_REAL] = sizeof(double),
        [KIND_FLAG] = sizeof(bool),
        [KIND_SIZE] = sizeof(uint64_t),
        [KIND_TIME] = sizeof(uint64_t),
        [KIND_ENUM] = sizeof(enum log_level_option),
    };
    return size[kind];
}

void option_exchange(struct options *to, struct options *from, enum option_id id)
{
    const struct option_row *row = &option_rows[id];
    size_t size = size_of(row->kind);
    char value[sizeof(uint64_t)], *a = (char *)to + row->offset, *b = (char *)from + row->offset;

    memcpy(value, a, size);
    memcpy(a, b, size);
    memcpy(b, value, size);
    char *text = to->text[id];
    to->text[id] = from->text[id];
    from->text[id] = text;
    struct option_origin origin = to->origin[id];
    to->origin[id] = from->origin[id];
    from->origin[id] = origin;
}

void option_add_title(enum option_id id, struct buf *out)
{
    char name[OPTION_NAME_ROOM];

    buf_add_string(out, option_name(&option_rows[id], name));
}
