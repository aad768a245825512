/* vocab.c - tokenizer.json in four passes: names, bytes, merges, settings.
 *
 *     texts    every id gets the text it has in the file, base tokens and added ones
 *     bytes    base texts are written in an alphabet of 256 visible characters, one for each byte;
 *              they are turned back and laid end to end
 *     merges   each names two tokens and makes a third
 *     settings what the file says about everything else must be what this floor does
 */
#include "engine/text/vocab.h"
#include "config/hash.h"
#include "config/json.h"
#include "config/utf8.h"
#include "engine/text/vocab_settings.h"

#define MOST_FILE_BYTES (256u << 20)
#define MOST_TOKEN_BYTES (1u << 16)
#define SHOWN 48  // bytes of a text that a sentence quotes

/* One file under way. */
struct reading {
    struct vocab *vocab;
    const char *name;  // of the file, for sentences
    struct err *err;
    struct slice *text;  // [room] as the file writes it; data NULL = no token yet; owned
    uint32_t room;       // texts in the file: no id can be as high
    uint32_t *find;      // hash table: bytes of a base token to its id; owned
    uint32_t find_mask;  // slots - 1
    uint32_t *made_by;   // [size] the merge that makes the token, or VOCAB_NONE; owned
};

__attribute__((format(printf, 2, 3))) static enum status refuse(const struct reading *reading,
                                                                const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail(reading->err, BAD_INPUT, "%s: %s", reading->name, text);
}

static enum status no_memory(const struct reading *reading)
{
    return fail(reading->err, NO_MEMORY, "%s: no memory for the vocabulary", reading->name);
}

/* For "%.*s": a text may be long. */
static int shown(struct slice text)
{
    size_t size = text.size < SHOWN ? text.size : SHOWN;
    while (size && size < text.size && (text.data[size] & 0xc0) == 0x80) size--;
    return (int)size;
}
#define SHOW(text) shown(text), (text).data

/* Finds or reserves: the slot that holds the base token of these bytes, or an empty one. */
static uint32_t *find_slot(const struct reading *reading, struct slice bytes)
{
    uint32_t at = (uint32_t)hash64(bytes.data, bytes.size, 0) & reading->find_mask;
    while (reading->find[at] != VOCAB_NONE &&
           !slice_equal(vocab_bytes(reading->vocab, reading->find[at]), bytes))
        at = (at + 1) & reading->find_mask;
    return &reading->find[at];
}

/* ---- texts ---- */

static enum status take_text(struct reading *reading, const char *field, struct slice text,
                             const struct json *id_node)
{
    if (!id_node || js_kind(id_node) != JS_INT)
        return refuse(reading, "%s: the id of \"%.*s\" is %s, wanted an integer", field, SHOW(text),
                      id_node ? js_kind_name(js_kind(id_node)) : "missing");
    int64_t id = js_int(id_node);
    if (id < 0 || id >= reading->room)
        return refuse(reading,
                      "%s: found id %lld for \"%.*s\", wanted 0 to %u as the file names %u tokens",
                      field, (long long)id, SHOW(text), reading->room - 1, reading->room);
    if (text.size > MOST_TOKEN_BYTES)
        return refuse(reading, "%s: id %lld has %zu bytes, wanted at most %u", field, (long long)id,
                      text.size, MOST_TOKEN_BYTES);
    struct slice *slot = &reading->text[id];
    if (slot->data && !slice_equal(*slot, text))
        return refuse(reading, "%s: id %lld is both \"%.*s\" and \"%.*s\"", field, (long long)id,
                      SHOW(*slot), SHOW(text));
    *slot = text;
    return OK;
}

static enum status read_added(struct reading *reading, const struct json *entry, size_t index)
{
    char field[48];
    snprintf(field, sizeof field, "added_tokens[%zu]", index);
    if (js_kind(entry) != JS_OBJECT)
        return refuse(reading, "%s: found %s, wanted an object", field,
                      js_kind_name(js_kind(entry)));
    const struct json *content = js_get(entry, "content");
    if (!content || js_kind(content) != JS_STRING || js_string(content).size == 0)
        return refuse(reading, "%s.content: wanted a string that is not empty", field);

    static const char *const refused[] = { "single_word", "lstrip", "rstrip" };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const struct json *flag = js_get(entry, refused[i]);
        if (flag && (js_kind(flag) != JS_BOOL || js_bool(flag)))
            return refuse(reading, "%s.%s: wanted false", field, refused[i]);
    }
    const struct json *special = js_get(entry, "special");
    if (special && js_kind(special) != JS_BOOL)
        return refuse(reading, "%s.special: found %s, wanted a boolean", field,
                      js_kind_name(js_kind(special)));

    const struct json *id = js_get(entry, "id");
    enum status status = take_text(reading, field, js_string(content), id);
    if (status != OK) return status;
    struct vocab *vocab = reading->vocab;
    uint8_t *flags = &vocab->flags[js_int(id)];
    if (*flags & VOCAB_ADDED)
        return refuse(reading, "%s: id %lld is added twice", field, (long long)js_int(id));
    *flags = VOCAB_ADDED | (special && js_bool(special) ? VOCAB_SPECIAL : 0);
    vocab->added[vocab->added_count++] = (uint32_t)js_int(id);
    return OK;
}

/* Fills text[], flags, added and size. */
static enum status read_texts(struct reading *reading, const struct json *base,
                              const struct json *added)
{
    struct vocab *vocab = reading->vocab;
    size_t added_count = added ? js_count(added) : 0;
    if (js_count(base) + added_count >= 1u << 24)
        return refuse(reading, "model.vocab: found %zu tokens, wanted less than 2^24",
                      js_count(base));
    reading->room = (uint32_t)(js_count(base) + added_count);
    if (reading->room == 0) return refuse(reading, "model.vocab: is empty");
    reading->text = calloc(reading->room, sizeof *reading->text);
    vocab->flags = calloc(reading->room, sizeof *vocab->flags);
    vocab->added = calloc(added_count ? added_count : 1, sizeof *vocab->added);
    if (!reading->text || !vocab->flags || !vocab->added) return no_memory(reading);

    enum status status = OK;
    struct js_member member = { 0 };
    while (status == OK && js_next(base, &member))
        status = take_text(reading, "model.vocab", member.key, member.value);
    for (size_t i = 0; status == OK && i < added_count; i++)
        status = read_added(reading, js_at(added, i), i);
    if (status != OK) return status;

    vocab->size = reading->room;
    while (vocab->size && !reading->text[vocab->size - 1].data) vocab->size--;
    for (uint32_t id = 0; id < vocab->size; id++)
        if (!reading->text[id].data)
            return refuse(reading, "model.vocab: id %u has no token, but id %u has one", id,
                          vocab->size - 1);
    return OK;
}

/* ---- bytes ---- */

/* The alphabet: a byte that prints in Latin-1 is written as itself, and the other 68 in their order
 * as U+0100 to U+0143. -1: not of the alphabet. */
static int byte_of(uint32_t code)
{
    if ((code > 0x20 && code < 0x7f) || (code > 0xa0 && code < 0x100 && code != 0xad))
        return (int)code;
    if (code < 0x100 || code > 0x143) return -1;
    uint32_t index = code - 0x100;
    if (index <= 0x20) return (int)index;
    return index == 67 ? 0xad : (int)(0x7f + index - 0x21);
}

/* Writes the bytes that a base text stands for; false when a character is not of the alphabet. */
static bool write_bytes(struct buf *out, struct slice text)
{
    while (text.size) {
        struct utf8_char next = utf8_read(text);
        int byte = next.valid ? byte_of(next.code) : -1;
        if (byte < 0) return false;
        buf_add_byte(out, (char)byte);
        text = slice_from(text, next.size);
    }
    return true;
}

/* Fills bytes, start and byte_id. */
static enum status lay_out(struct reading *reading)
{
    struct vocab *vocab = reading->vocab;
    struct buf bytes;
    buf_init(&bytes, 0);
    vocab->start = calloc((size_t)vocab->size + 1, sizeof *vocab->start);
    if (!vocab->start) return no_memory(reading);

    memset(vocab->byte_id, 0xff, sizeof vocab->byte_id);  // VOCAB_NONE
    for (uint32_t id = 0; id < vocab->size; id++) {
        struct slice text = reading->text[id];
        vocab->start[id] = (uint32_t)bytes.size;
        if (vocab->flags[id] & VOCAB_ADDED) {
            buf_add_slice(&bytes, text);
        } else if (text.size == 0 || !write_bytes(&bytes, text)) {
            buf_release(&bytes);
            return refuse(reading,
                          "model.vocab: \"%.*s\" (id %u): wanted characters of the byte alphabet",
                          SHOW(text), id);
        } else if (bytes.size - vocab->start[id] == 1) {
            vocab->byte_id[(uint8_t)bytes.data[vocab->start[id]]] = id;
        }
    }
    if (buf_status(&bytes) != OK) {
        buf_release(&bytes);
        return no_memory(reading);
    }
    vocab->start[vocab->size] = (uint32_t)bytes.size;
    vocab->bytes = bytes.data;
    for (uint32_t byte = 0; byte < 256; byte++)
        if (vocab->byte_id[byte] == VOCAB_NONE)
            return refuse(reading, "model.vocab: no token stands for byte 0x%02x alone", byte);
    return OK;
}

/* Base tokens by their bytes. */
static enum status index_bytes(struct reading *reading)
{
    const struct vocab *vocab = reading->vocab;
    uint32_t slots = 512;
    while (slots < 2 * vocab->size) slots *= 2;
    reading->find_mask = slots - 1;
    reading->find = malloc(slots * sizeof *reading->find);
    if (!reading->find) return no_memory(reading);
    memset(reading->find, 0xff, slots * sizeof *reading->find);
    for (uint32_t id = 0; id < vocab->size; id++) {
        if (vocab->flags[id] & VOCAB_ADDED) continue;
        uint32_t *slot = find_slot(reading, vocab_bytes(vocab, id));
        if (*slot != VOCAB_NONE)  // unreachable from a JSON object, whose keys differ
            return refuse(reading, "model.vocab: ids %u and %u are the same bytes", *slot, id);
        *slot = id;
    }
    return OK;
}

static int by_bytes(const void *one, const void *other, void *context)
{
    struct slice a = vocab_bytes(context, *(const uint32_t *)one);
    struct slice b = vocab_bytes(context, *(const uint32_t *)other);
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static enum status sort_added(struct reading *reading)
{
    struct vocab *vocab = reading->vocab;
    if (vocab->added_count)
        qsort_r(vocab->added, vocab->added_count, sizeof *vocab->added, by_bytes, vocab);
    for (uint32_t i = 1; i < vocab->added_count; i++)
        if (by_bytes(&vocab->added[i - 1], &vocab->added[i], vocab) == 0)
            return refuse(reading, "added_tokens: \"%.*s\" is both id %u and id %u",
                          SHOW(reading->text[vocab->added[i]]), vocab->added[i - 1],
                          vocab->added[i]);
    return OK;
}

/* ---- merges ---- */

/* A merge is "left right" or ["left", "right"]. False: it is neither. */
static bool merge_parts(const struct json *node, struct slice part[2])
{
    if (js_kind(node) == JS_STRING) {
        struct slice both = js_string(node);
        const char *space = memchr(both.data, ' ', both.size);
        if (!space) return false;
        part[0] = (struct slice){ both.data, (size_t)(space - both.data) };
        part[1] = slice_from(both, part[0].size + 1);
    } else if (js_kind(node) == JS_ARRAY && js_count(node) == 2) {
        for (size_t i = 0; i < 2; i++) {
            if (js_kind(js_at(node, i)) != JS_STRING) return false;
            part[i] = js_string(js_at(node, i));
        }
    } else {
        return false;
    }
    return part[0].size && part[1].size;
}

static enum status unknown(const struct reading *reading, uint32_t index, struct slice text)
{
    return refuse(reading, "model.merges[%u]: \"%.*s\" is not in model.vocab", index, SHOW(text));
}

/* A token comes from one merge, and its parts were there before: so ranks rise while a text is
 * merged, and the tokenizer relies on it. */
static enum status note_maker(struct reading *reading, uint32_t index)
{
    const struct vocab *vocab = reading->vocab;
    const struct vocab_merge *merge = &vocab->merge[index];
    const uint32_t part[2] = { merge->left, merge->right };

    for (size_t i = 0; i < 2; i++)
        if (vocab_bytes(vocab, part[i]).size > 1 && reading->made_by[part[i]] == VOCAB_NONE)
            return refuse(reading, "model.merges[%u]: no merge before it makes \"%.*s\"", index,
                          SHOW(reading->text[part[i]]));
    if (reading->made_by[merge->result] != VOCAB_NONE)
        return refuse(reading, "model.merges[%u]: \"%.*s\" is made by model.merges[%u] already",
                      index, SHOW(reading->text[merge->result]), reading->made_by[merge->result]);
    reading->made_by[merge->result] = index;
    return OK;
}

static enum status read_merge(struct reading *reading, const struct json *node, uint32_t index,
                              struct buf *bytes)
{
    struct slice part[2];
    if (!merge_parts(node, part))
        return refuse(reading, "model.merges[%u]: wanted \"left right\" or [\"left\", \"right\"]",
                      index);
    size_t cut = 0;
    buf_clear(bytes);
    for (size_t i = 0; i < 2; i++) {
        if (!write_bytes(bytes, part[i])) return unknown(reading, index, part[i]);
        if (i == 0) cut = bytes->size;
    }
    if (buf_status(bytes) != OK) return no_memory(reading);

    struct slice whole = buf_slice(bytes);
    struct vocab_merge merge = {
        .left = *find_slot(reading, (struct slice){ whole.data, cut }),
        .right = *find_slot(reading, slice_from(whole, cut)),
        .result = *find_slot(reading, whole),
    };
    if (merge.left == VOCAB_NONE) return unknown(reading, index, part[0]);
    if (merge.right == VOCAB_NONE) return unknown(reading, index, part[1]);
    if (merge.result == VOCAB_NONE)
        return refuse(reading,
                      "model.merges[%u]: \"%.*s\" + \"%.*s\" makes no token of model.vocab", index,
                      SHOW(part[0]), SHOW(part[1]));
    reading->vocab->merge[index] = merge;
    return note_maker(reading, index);
}

/* Every base token but the bytes comes from a merge, or it could never appear. */
static enum status check_makers(const struct reading *reading)
{
    const struct vocab *vocab = reading->vocab;
    for (uint32_t id = 0; id < vocab->size; id++)
        if (!(vocab->flags[id] & VOCAB_ADDED) && vocab_bytes(vocab, id).size > 1 &&
            reading->made_by[id] == VOCAB_NONE)
            return refuse(reading, "model.merges: none of the %u makes \"%.*s\" (id %u)",
                          vocab->merge_count, SHOW(reading->text[id]), id);
    return OK;
}

static enum status read_merges(struct reading *reading, const struct json *merges)
{
    struct vocab *vocab = reading->vocab;
    if (js_count(merges) >= 1u << 24)
        return refuse(reading, "model.merges: found %zu, wanted less than 2^24", js_count(merges));
    vocab->merge_count = (uint32_t)js_count(merges);
    vocab->merge = calloc((size_t)vocab->merge_count + 1, sizeof *vocab->merge);
    reading->made_by = malloc(vocab->size * sizeof *reading->made_by);
    if (!vocab->merge || !reading->made_by) return no_memory(reading);
    memset(reading->made_by, 0xff, vocab->size * sizeof *reading->made_by);

    enum status status = index_bytes(reading);
    struct buf bytes;
    buf_init(&bytes, 0);
    for (uint32_t i = 0; status == OK && i < vocab->merge_count; i++)
        status = read_merge(reading, js_at(merges, i), i, &bytes);
    buf_release(&bytes);
    return status == OK ? check_makers(reading) : status;
}

/* ---- the whole ---- */

static enum status want_kind(const struct reading *reading, const struct json *node,
                             const char *field, enum js_kind wanted)
{
    if (node && js_kind(node) == wanted) return OK;
    return refuse(reading, "%s: %s%s, wanted %s", field, node ? "found " : "missing",
                  node ? js_kind_name(js_kind(node)) : "", js_kind_name(wanted));
}

static enum status read_document(struct reading *reading, const struct json *root)
{
    struct err inner;
    enum status status = want_kind(reading, root, "the document", JS_OBJECT);
    if (status != OK) return status;
    if (vocab_check_settings(root, &inner) != OK) return refuse(reading, "%s", inner.text);

    const struct json *model = js_get(root, "model"), *added = js_get(root, "added_tokens");
    const struct json *base = js_get(model, "vocab"), *merges = js_get(model, "merges");
    status = want_kind(reading, base, "model.vocab", JS_OBJECT);
    if (status == OK) status = want_kind(reading, merges, "model.merges", JS_ARRAY);
    if (status == OK && added) status = want_kind(reading, added, "added_tokens", JS_ARRAY);
    if (status == OK) status = read_texts(reading, base, added);
    if (status == OK) status = lay_out(reading);
    if (status == OK) status = sort_added(reading);
    if (status == OK) status = read_merges(reading, merges);
    return status;
}

static enum status read_root(struct vocab *vocab, const struct json *root, const char *name,
                             struct err *err)
{
    *vocab = (struct vocab){ 0 };
    struct reading reading = { .vocab = vocab, .name = name, .err = err };
    enum status status = read_document(&reading, root);
    free(reading.text);
    free(reading.find);
    free(reading.made_by);
    if (status != OK) vocab_release(vocab);
    return status;
}

enum status vocab_init(struct vocab *vocab, const char *path, struct err *err)
{
    struct json *root;
    enum status status = js_read_file(path, MOST_FILE_BYTES, &root, err);
    if (status != OK) return status;
    status = read_root(vocab, root, path, err);
    js_free(root);
    return status;
}

enum status vocab_init_text(struct vocab *vocab, char *text, size_t size, const char *name,
                            struct err *err)
{
    struct json *root;
    struct err inner = { "" };
    enum status status = js_parse(text, size, &js_file_limits, &root, &inner);
    if (status != OK) return fail(err, status, "%s: %s", name, inner.text);
    status = read_root(vocab, root, name, err);
    js_free(root);
    return status;
}

void vocab_release(struct vocab *vocab)
{
    free(vocab->bytes);
    free(vocab->start);
    free(vocab->flags);
    free(vocab->merge);
    free(vocab->added);
    *vocab = (struct vocab){ 0 };
}

uint32_t vocab_find(const struct vocab *vocab, struct slice text)
{
    uint32_t from = 0, to = vocab->added_count;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        struct slice found = vocab_bytes(vocab, vocab->added[middle]);
        size_t both = found.size < text.size ? found.size : text.size;
        int order = both ? memcmp(found.data, text.data, both) : 0;
        if (order == 0) order = (found.size > text.size) - (found.size < text.size);
        if (order == 0) return vocab->added[middle];
        if (order < 0) from = middle + 1;
        else to = middle;
    }
    return VOCAB_NONE;
}
