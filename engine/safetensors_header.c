/* safetensors_header.c - a cursor over JSON of one known form, then the sums. */
#include "engine/safetensors_header.h"
#include "config/utf8.h"

struct reader {
    const char *path;
    const char *at, *end;
    const char *start;  // of the JSON
    struct arena *arena;
    struct slice tensor;  // being read; empty outside of one
    struct err *err;
};

/* Types that a file may hold beside ours; their tensors can be skipped but not used. */
static const struct other_type {
    const char *name;
    uint32_t bytes;
} other_types[] = {
    { "BOOL", 1 }, { "F8_E5M2", 1 }, { "I16", 2 }, { "U16", 2 },
    { "F16", 2 },  { "U32", 4 },     { "F64", 8 }, { "U64", 8 },
};

static enum status refuse(struct reader *r, const char *wanted)
{
    long long byte = (long long)(r->at - r->start) + 8;
    const char *in = r->tensor.size ? " in tensor " : "";

    if (r->at >= r->end)
        return fail(r->err, BAD_INPUT, "%s: the header ends%s%.*s, wanted %s", r->path, in,
                    (int)r->tensor.size, r->tensor.data, wanted);
    char found[8];
    unsigned char c = (unsigned char)*r->at;
    if (c >= 0x20 && c < 0x7f) snprintf(found, sizeof found, "'%c'", c);
    else snprintf(found, sizeof found, "0x%02x", c);
    return fail(r->err, BAD_INPUT, "%s: header byte %lld%s%.*s: found %s, wanted %s", r->path, byte,
                in, (int)r->tensor.size, r->tensor.data, found, wanted);
}

static void skip_blanks(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
        r->at++;
}

/* Takes c after blanks, if it is next. */
static bool take(struct reader *r, char c)
{
    skip_blanks(r);
    if (r->at >= r->end || *r->at != c) return false;
    r->at++;
    return true;
}

static int hex4(const char *at)
{
    int unit = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

static char *put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 63));
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 63));
        *to++ = (char)(0x80 | (code & 63));
    } else {
        *to++ = (char)(0xf0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 63));
        *to++ = (char)(0x80 | (code >> 6 & 63));
        *to++ = (char)(0x80 | (code & 63));
    }
    return to;
}

/* The code point of a \u escape whose digits are at `at`, surrogate pairs joined; -1: malformed.
 * *used: bytes after the u. */
static int32_t escaped_code(const char *at, const char *end, size_t *used)
{
    if (end - at < 4) return -1;
    int high = hex4(at);
    *used = 4;
    if (high < 0xd800 || high > 0xdfff) return high;
    if (high > 0xdbff || end - at < 10 || at[4] != '\\' || at[5] != 'u') return -1;
    int low = hex4(at + 6);
    if (low < 0xdc00 || low > 0xdfff) return -1;
    *used = 10;
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

/* Writes the string without its escapes into the arena; text holds the bytes between the quotes. */
static enum status unescape(struct reader *r, struct slice text, struct slice *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *at = text.data, *end = text.data + text.size;
    char *data = arena_take(r->arena, text.size), *put = data;

    if (!data) return fail(r->err, NO_MEMORY, "%s: no memory to read the header", r->path);
    while (at < end) {
        if (*at != '\\') {
            *put++ = *at++;
            continue;
        }
        at++;  // the scan for the closing quote saw that a character follows
        const char *plain = *at ? strchr(from, *at) : NULL;
        if (plain) {
            *put++ = to[plain - from];
            at++;
            continue;
        }
        size_t used = 0;
        int32_t code = *at == 'u' ? escaped_code(at + 1, end, &used) : -1;
        if (code < 0) {
            r->at = at;
            return refuse(r, "an escape of JSON");
        }
        put = put_utf8(put, (uint32_t)code);
        at += 1 + used;
    }
    *out = (struct slice){ data, (size_t)(put - data) };
    return OK;
}

static enum status read_string(struct reader *r, const char *wanted, struct slice *out)
{
    if (!take(r, '"')) return refuse(r, wanted);
    const char *from = r->at;
    bool escaped = false, ascii = true;

    for (;; r->at++) {
        if (r->at >= r->end) return refuse(r, "the string's closing quote");
        unsigned char c = (unsigned char)*r->at;
        if (c == '"') break;
        if (c < 0x20) return refuse(r, "a string without control characters");
        if (c >= 0x80) ascii = false;
        if (c == '\\') {
            escaped = true;
            if (++r->at >= r->end) return refuse(r, "the rest of an escape");
        }
    }
    *out = (struct slice){ from, (size_t)(r->at - from) };
    r->at++;
    if (!ascii && !utf8_valid(*out)) return refuse(r, "UTF-8 in the string before");
    return escaped ? unescape(r, *out, out) : OK;
}

static enum status read_number(struct reader *r, uint64_t *out)
{
    skip_blanks(r);
    const char *from = r->at;
    uint64_t value = 0;

    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
        uint64_t digit = (uint64_t)(*r->at - '0');
        if (value > (UINT64_MAX - digit) / 10) return refuse(r, "a number below 2^64");
        value = value * 10 + digit;
        r->at++;
    }
    if (r->at == from || (*from == '0' && r->at - from > 1)) {
        r->at = from;
        return refuse(r, "a whole number");
    }
    *out = value;
    return OK;
}

/* A JSON array of at most `most` numbers. */
static enum status read_numbers(struct reader *r, uint64_t *number, uint32_t most, uint32_t *count)
{
    enum status status;

    *count = 0;
    if (!take(r, '[')) return refuse(r, "'['");
    if (take(r, ']')) return OK;
    do {
        if (*count == most) return refuse(r, "fewer numbers in the list");
        status = read_number(r, &number[(*count)++]);
        if (status != OK) return status;
    } while (take(r, ','));
    return take(r, ']') ? OK : refuse(r, "',' or ']'");
}

static enum status read_metadata(struct reader *r)
{
    struct slice key, value;
    enum status status;

    if (!take(r, '{')) return refuse(r, "'{'");
    if (take(r, '}')) return OK;
    do {
        status = read_string(r, "a key in quotes", &key);
        if (status != OK) return status;
        if (!take(r, ':')) return refuse(r, "':'");
        status = read_string(r, "a string", &value);
        if (status != OK) return status;
    } while (take(r, ','));
    return take(r, '}') ? OK : refuse(r, "',' or '}'");
}

/* Bytes of one element, or 0 when no reader of the format knows the type. */
static uint32_t element_bytes(struct st_tensor *tensor)
{
    if (dtype_parse(tensor->type_name.data, tensor->type_name.size, &tensor->type))
        return (uint32_t)dtype_size(tensor->type);
    tensor->type = DT_COUNT;
    for (size_t i = 0; i < sizeof other_types / sizeof *other_types; i++)
        if (slice_equal(tensor->type_name, slice_of(other_types[i].name)))
            return other_types[i].bytes;
    return 0;
}

/* The type is known, and the bytes are the product of the shape and lie inside the data. */
static enum status check_extent(struct reader *r, struct st_tensor *tensor,
                                const uint64_t offset[2], uint64_t data_bytes)
{
    uint64_t bytes = element_bytes(tensor);
    char text[160];

    if (bytes == 0)
        return fail(r->err, BAD_INPUT, "%s: tensor %.*s: found dtype %.*s, which is not known",
                    r->path, (int)tensor->name.size, tensor->name.data, (int)tensor->type_name.size,
                    tensor->type_name.data);
    st_describe(text, tensor->type_name, tensor->shape, tensor->dims);
    for (uint32_t i = 0; i < tensor->dims; i++)
        if (__builtin_mul_overflow(bytes, tensor->shape[i], &bytes))
            return fail(r->err, BAD_INPUT, "%s: tensor %.*s: %s has more than 2^64 bytes", r->path,
                        (int)tensor->name.size, tensor->name.data, text);
    if (offset[0] > offset[1] || offset[1] > data_bytes)
        return fail(r->err, BAD_INPUT,
                    "%s: tensor %.*s: found data_offsets [%llu, %llu], wanted them inside the "
                    "file's %llu bytes of data",
                    r->path, (int)tensor->name.size, tensor->name.data,
                    (unsigned long long)offset[0], (unsigned long long)offset[1],
                    (unsigned long long)data_bytes);
    tensor->bytes = offset[1] - offset[0];
    if (tensor->bytes != bytes)
        return fail(r->err, BAD_INPUT,
                    "%s: tensor %.*s: found %llu bytes in data_offsets, wanted %llu for %s",
                    r->path, (int)tensor->name.size, tensor->name.data,
                    (unsigned long long)tensor->bytes, (unsigned long long)bytes, text);
    return OK;
}

/* { "dtype": ..., "shape": ..., "data_offsets": ... }, in any order; tensor->begin counts from the
 * start of the data. */
static enum status read_tensor(struct reader *r, struct st_tensor *tensor, uint64_t data_bytes)
{
    enum { TYPE = 1, SHAPE = 2, OFFSETS = 4 };
    uint64_t offset[2] = { 0, 0 };
    uint32_t seen = 0, offsets = 0;
    enum status status;

    if (!take(r, '{')) return refuse(r, "'{'");
    do {
        struct slice key;
        status = read_string(r, "dtype, shape or data_offsets", &key);
        if (status != OK) return status;
        uint32_t field = slice_equal(key, SLICE("dtype"))          ? TYPE
                         : slice_equal(key, SLICE("shape"))        ? SHAPE
                         : slice_equal(key, SLICE("data_offsets")) ? OFFSETS
                                                                   : 0;
        if (field == 0 || (seen & field)) return refuse(r, "dtype, shape and data_offsets, once");
        seen |= field;
        if (!take(r, ':')) return refuse(r, "':'");
        if (field == TYPE) status = read_string(r, "a dtype in quotes", &tensor->type_name);
        if (field == SHAPE) status = read_numbers(r, tensor->shape, ST_MOST_DIMS, &tensor->dims);
        if (field == OFFSETS) status = read_numbers(r, offset, 2, &offsets);
        if (status != OK) return status;
    } while (take(r, ','));
    if (!take(r, '}')) return refuse(r, "',' or '}'");
    if (seen != (TYPE | SHAPE | OFFSETS) || offsets != 2)
        return fail(r->err, BAD_INPUT,
                    "%s: tensor %.*s: wanted a dtype, a shape and two data_offsets", r->path,
                    (int)tensor->name.size, tensor->name.data);
    tensor->begin = offset[0];
    return check_extent(r, tensor, offset, data_bytes);
}

static int by_begin(const void *a, const void *b)
{
    const struct st_tensor *const *x = a, *const *y = b;
    if ((*x)->begin != (*y)->begin) return (*x)->begin < (*y)->begin ? -1 : 1;
    return ((*x)->bytes > (*y)->bytes) - ((*x)->bytes < (*y)->bytes);
}

/* `sorted` runs through the tensors by their place. */
static enum status check_cover(struct reader *r, struct st_tensor *const *sorted, uint32_t count,
                               uint64_t data_bytes)
{
    uint64_t at = 0;

    for (uint32_t i = 0; i < count; i++) {
        const struct st_tensor *tensor = sorted[i];
        if (tensor->begin < at)
            return fail(r->err, BAD_INPUT,
                        "%s: tensor %.*s: begins at byte %llu of the data, inside %.*s, which ends "
                        "at %llu",
                        r->path, (int)tensor->name.size, tensor->name.data,
                        (unsigned long long)tensor->begin, (int)sorted[i - 1]->name.size,
                        sorted[i - 1]->name.data, (unsigned long long)at);
        if (tensor->begin > at)
            return fail(r->err, BAD_INPUT,
                        "%s: tensor %.*s: begins at byte %llu of the data, and bytes from %llu on "
                        "belong to no tensor",
                        r->path, (int)tensor->name.size, tensor->name.data,
                        (unsigned long long)tensor->begin, (unsigned long long)at);
        at += tensor->bytes;
    }
    if (at != data_bytes)
        return fail(r->err, BAD_INPUT,
                    "%s: found %llu bytes of data, wanted the %llu that its tensors have", r->path,
                    (unsigned long long)data_bytes, (unsigned long long)at);
    return OK;
}

static enum status check_places(struct reader *r, struct st_header *header, uint64_t data_bytes)
{
    struct st_tensor **sorted = malloc((header->count + 1) * sizeof *sorted);
    bool ascending = true;

    if (!sorted) return fail(r->err, NO_MEMORY, "%s: no memory to read the header", r->path);
    for (uint32_t i = 0; i < header->count; i++) {
        sorted[i] = &header->tensor[i];
        if (i > 0 && by_begin(&sorted[i - 1], &sorted[i]) > 0) ascending = false;
    }
    if (!ascending) qsort(sorted, header->count, sizeof *sorted, by_begin);
    enum status status = check_cover(r, sorted, header->count, data_bytes);
    free(sorted);
    return status;
}

static enum status add_tensor(struct reader *r, struct st_header *header, uint32_t *room,
                              uint64_t data_bytes)
{
    struct slice name = { NULL, 0 };
    enum status status = read_string(r, "a tensor's name in quotes", &name);

    if (status != OK) return status;
    if (!take(r, ':')) return refuse(r, "':'");
    if (slice_equal(name, SLICE("__metadata__"))) return read_metadata(r);
    if (name.size == 0 || name.size > ST_MOST_NAME || memchr(name.data, 0, name.size))
        return fail(r->err, BAD_INPUT,
                    "%s: found a tensor's name of %zu bytes, wanted 1 to %d, none zero", r->path,
                    name.size, ST_MOST_NAME);
    if (header->count == *room) {
        *room = *room ? *room * 2 : 1024;
        struct st_tensor *more = realloc(header->tensor, *room * sizeof *more);
        if (!more) return fail(r->err, NO_MEMORY, "%s: no memory to read the header", r->path);
        header->tensor = more;
    }
    r->tensor = name;
    struct st_tensor *tensor = &header->tensor[header->count++];
    *tensor = (struct st_tensor){ .name = name };
    status = read_tensor(r, tensor, data_bytes);
    r->tensor = (struct slice){ NULL, 0 };
    return status;
}

static enum status read_all(struct reader *r, struct st_header *header, uint64_t data_bytes)
{
    uint32_t room = 0;

    if (!take(r, '{')) return refuse(r, "'{'");
    if (!take(r, '}')) {
        do {
            enum status status = add_tensor(r, header, &room, data_bytes);
            if (status != OK) return status;
        } while (take(r, ','));
        if (!take(r, '}')) return refuse(r, "',' or '}'");
    }
    skip_blanks(r);
    if (r->at < r->end) return refuse(r, "nothing after the header's object");
    return check_places(r, header, data_bytes);
}

enum status st_header_read(const char *path, struct slice file, struct arena *arena,
                           struct st_header *header, struct err *err)
{
    *header = (struct st_header){ 0 };
    if (file.size < 8)
        return fail(err, BAD_INPUT, "%s: found %zu bytes, wanted at least the 8 of a header's size",
                    path, file.size);
    uint64_t size = 0;
    for (int i = 7; i >= 0; i--) size = size << 8 | (unsigned char)file.data[i];
    if (size > ST_MOST_HEADER)
        return fail(err, BAD_INPUT, "%s: found a header of %llu bytes, wanted at most %d", path,
                    (unsigned long long)size, ST_MOST_HEADER);
    if (size > file.size - 8)
        return fail(err, BAD_INPUT,
                    "%s: found %zu bytes after the header's size, wanted the %llu of the header",
                    path, file.size - 8, (unsigned long long)size);

    const char *json = file.data + 8;
    struct reader r = {
        .path = path, .at = json, .start = json, .end = json + size, .arena = arena, .err = err
    };
    enum status status = read_all(&r, header, file.size - 8 - size);
    if (status != OK) {
        free(header->tensor);
        *header = (struct st_header){ 0 };
        return status;
    }
    for (uint32_t i = 0; i < header->count; i++) header->tensor[i].begin += 8 + size;
    return OK;
}

void st_describe(char text[160], struct slice type_name, const uint64_t *shape, uint32_t dims)
{
    int at = snprintf(text, 160, "%.*s [", type_name.size > 16 ? 16 : (int)type_name.size,
                      type_name.data);
    for (uint32_t i = 0; i < dims && at < 140; i++)
        at += snprintf(text + at, 160 - (size_t)at, "%s%llu", i ? ", " : "",
                       (unsigned long long)shape[i]);
    if (at < 159) snprintf(text + at, 160 - (size_t)at, "]");
}
