/* tokenizer.c - cut, split, merge.
 *
 * Most pieces of a text have come before: each thread keeps their ids in a table that is looked up
 * by hash and compared byte by byte. A new short piece is merged in a small array; a long one (a
 * client may send a megabyte of one letter) through lists by rank, in linear time.
 */
#include "engine/text/tokenizer.h"
#include <stdatomic.h>
#include "config/hash.h"
#include "engine/text/split.h"

#define NO_RANK UINT32_MAX
#define SEEN_SLOTS (1u << 14)
#define SEEN_BYTES 28u           // the longest piece kept; one slot is a cache line
#define SEEN_IDS 8u              // the most ids of a piece kept
#define SHORT_PIECE 128u         // bytes; beyond, scanning for the lowest rank would be quadratic
#define KEPT_SYMBOLS (1u << 16)  // a scratch does not keep the room of a rare monster

struct pair_slot {
    uint64_t pair;  // left << 32 | right; an empty slot holds NO_PAIR
    uint32_t rank;  // in vocab->merge: the lowest merges first
};
#define NO_PAIR UINT64_MAX

struct piece_slot {
    uint8_t size;   // bytes; 0 = empty
    uint8_t count;  // ids
    char bytes[SEEN_BYTES];
    uint32_t id[SEEN_IDS];
};

/* One token of a piece under way; a long piece links them. */
struct symbol {
    uint32_t id;
    uint32_t rank;        // of the pair it begins; NO_RANK when they do not merge, or it is gone
    uint32_t prev, next;  // in the piece; the end is the piece's size
    uint32_t up, down;    // in the list of its rank: place + 1; 0 = none
};

/* ---- setting up ---- */

static inline uint64_t pair_hash(uint64_t pair)
{
    return pair * 0x9e3779b97f4a7c15u;
}

/* The place of a pair's bit among `maybe`'s, 8 for each slot of the table. */
static inline uint64_t pair_bit(const struct tokenizer *tokenizer, uint64_t hash)
{
    return hash >> 35 & ((uint64_t)tokenizer->pair_mask << 3 | 7);
}

static struct pair_slot *find_slot(const struct tokenizer *tokenizer, uint64_t pair, uint64_t hash)
{
    uint32_t at = (uint32_t)(hash >> 32) & tokenizer->pair_mask;
    while (tokenizer->pair[at].pair != pair && tokenizer->pair[at].pair != NO_PAIR)
        at = (at + 1) & tokenizer->pair_mask;
    return &tokenizer->pair[at];
}

/* Most neighbours do not merge, and one bit says so without touching the table, which is larger
 * than the near caches. */
static inline uint32_t pair_rank(const struct tokenizer *tokenizer, uint32_t left, uint32_t right)
{
    uint64_t pair = (uint64_t)left << 32 | right, hash = pair_hash(pair);
    uint64_t bit = pair_bit(tokenizer, hash);
    if (!(tokenizer->maybe[bit / 64] >> (bit % 64) & 1)) return NO_RANK;
    return find_slot(tokenizer, pair, hash)->rank;
}

static enum status fill_pairs(struct tokenizer *tokenizer)
{
    const struct vocab *vocab = tokenizer->vocab;
    uint32_t slots = 64;
    while (slots < 2 * vocab->merge_count) slots *= 2;
    tokenizer->pair_mask = slots - 1;
    tokenizer->pair = malloc(slots * sizeof *tokenizer->pair);
    tokenizer->maybe = calloc(slots / 8, sizeof *tokenizer->maybe);
    if (!tokenizer->pair || !tokenizer->maybe) return NO_MEMORY;
    for (uint32_t i = 0; i < slots; i++)
        tokenizer->pair[i] = (struct pair_slot){ .pair = NO_PAIR, .rank = NO_RANK };

    for (uint32_t i = 0; i < vocab->merge_count; i++) {
        const struct vocab_merge *merge = &vocab->merge[i];
        uint64_t pair = (uint64_t)merge->left << 32 | merge->right, hash = pair_hash(pair);
        uint64_t bit = pair_bit(tokenizer, hash);
        *find_slot(tokenizer, pair, hash) = (struct pair_slot){ .pair = pair, .rank = i };
        tokenizer->maybe[bit / 64] |= 1ull << (bit % 64);
    }
    return OK;
}

/* The byte of an added token at a depth that it has. */
static inline uint8_t added_byte(const struct vocab *vocab, uint32_t index, size_t depth)
{
    return (uint8_t)vocab->bytes[vocab->start[vocab->added[index]] + depth];
}

static void fill_added(struct tokenizer *tokenizer)
{
    const struct vocab *vocab = tokenizer->vocab;
    for (uint32_t i = 0; i < vocab->added_count; i++) {
        uint8_t byte = added_byte(vocab, i, 0);
        struct added_range *range = &tokenizer->added_first[byte];
        if (range->from == range->to) range->from = i;
        range->to = i + 1;
    }
}

static size_t longest_token(const struct vocab *vocab)
{
    size_t longest = 1;
    for (uint32_t id = 0; id < vocab->size; id++)
        if (vocab_bytes(vocab, id).size > longest) longest = vocab_bytes(vocab, id).size;
    return longest;
}

enum status tokenizer_init(struct tokenizer *tokenizer, const struct vocab *vocab)
{
    static atomic_uint_fast64_t serial;
    *tokenizer = (struct tokenizer){ .vocab = vocab };
    tokenizer->serial = atomic_fetch_add(&serial, 1) + 1;
    tokenizer->longest = longest_token(vocab);
    fill_added(tokenizer);
    enum status status = fill_pairs(tokenizer);
    if (status == OK) status = char_table_open(&tokenizer->chars);
    if (status != OK) tokenizer_release(tokenizer);
    return status;
}

void tokenizer_release(struct tokenizer *tokenizer)
{
    free(tokenizer->pair);
    free(tokenizer->maybe);
    char_table_close(tokenizer->chars);
    *tokenizer = (struct tokenizer){ 0 };
}

enum status tokenizer_scratch_init(struct tokenizer_scratch *scratch)
{
    *scratch = (struct tokenizer_scratch){ 0 };
    scratch->seen = aligned_alloc(64, SEEN_SLOTS * sizeof *scratch->seen);
    if (!scratch->seen) return NO_MEMORY;
    memset(scratch->seen, 0, SEEN_SLOTS * sizeof *scratch->seen);
    return OK;
}

static void drop_symbols(struct tokenizer_scratch *scratch)
{
    free(scratch->symbol);
    free(scratch->turn);
    scratch->symbol = NULL;
    scratch->turn = NULL;
    scratch->symbol_room = 0;
}

static void drop_ranks(struct tokenizer_scratch *scratch)
{
    free(scratch->waiting);
    free(scratch->filled);
    scratch->waiting = NULL;
    scratch->filled = NULL;
}

void tokenizer_scratch_release(struct tokenizer_scratch *scratch)
{
    drop_symbols(scratch);
    drop_ranks(scratch);
    free(scratch->seen);
    *scratch = (struct tokenizer_scratch){ 0 };
}

/* ---- merging a short piece ---- */

static void merge_short(const struct tokenizer *tokenizer, struct slice piece, struct id_list *out)
{
    uint32_t id[SHORT_PIECE], rank[SHORT_PIECE];  // rank[i]: of id[i] with id[i + 1]
    uint32_t count = (uint32_t)piece.size;
    for (uint32_t i = 0; i < count; i++) id[i] = tokenizer->vocab->byte_id[(uint8_t)piece.data[i]];
    for (uint32_t i = 0; i + 1 < count; i++) rank[i] = pair_rank(tokenizer, id[i], id[i + 1]);

    while (count > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i + 1 < count; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == NO_RANK) break;

        id[best] = tokenizer->vocab->merge[rank[best]].result;
        count--;
        memmove(&id[best + 1], &id[best + 2], (count - best - 1) * sizeof *id);
        if (best + 1 < count) {
            memmove(&rank[best], &rank[best + 1], (count - best - 1) * sizeof *rank);
            rank[best] = pair_rank(tokenizer, id[best], id[best + 1]);
        }
        if (best > 0) rank[best - 1] = pair_rank(tokenizer, id[best - 1], id[best]);
    }
    if (id_list_reserve(out, count))
        for (uint32_t i = 0; i < count; i++) id_list_add(out, id[i]);
}

/* ---- merging a long piece ---- */

/* Pairs wait in one list for each rank. A merge only makes pairs of higher ranks (vocab.c sees to it),
 * so the ranks are gone through once, upwards, and every step costs the same however long the piece. */

static bool reserve_symbols(struct tokenizer_scratch *scratch, size_t count, uint32_t ranks)
{
    if (!scratch->waiting) {
        scratch->waiting = calloc((size_t)ranks + 1, sizeof *scratch->waiting);
        scratch->filled = calloc((size_t)ranks / 64 + 1, sizeof *scratch->filled);
    }
    if (count > scratch->symbol_room) {
        drop_symbols(scratch);
        scratch->symbol = malloc(count * sizeof *scratch->symbol);
        scratch->turn = malloc(count * sizeof *scratch->turn);
        scratch->symbol_room = count;
    }
    if (scratch->waiting && scratch->filled && scratch->symbol && scratch->turn) return true;
    drop_symbols(scratch);
    drop_ranks(scratch);
    return false;
}

/* Lets the pair that begins at `at` wait, when it merges at all. */
static void pair_wait(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                      uint32_t at, uint32_t end)
{
    struct symbol *symbol = scratch->symbol, *first = &symbol[at];

    first->rank =
        first->next == end ? NO_RANK : pair_rank(tokenizer, first->id, symbol[first->next].id);
    if (first->rank == NO_RANK) return;
    first->up = 0;
    first->down = scratch->waiting[first->rank];
    if (first->down) symbol[first->down - 1].up = at + 1;
    scratch->waiting[first->rank] = at + 1;
    scratch->filled[first->rank / 64] |= 1ull << (first->rank % 64);
}

static void pair_leave(struct tokenizer_scratch *scratch, uint32_t at)
{
    struct symbol *symbol = scratch->symbol, *first = &symbol[at];

    if (first->rank == NO_RANK) return;
    if (first->up) symbol[first->up - 1].down = first->down;
    else scratch->waiting[first->rank] = first->down;
    if (first->down) symbol[first->down - 1].up = first->up;
    first->rank = NO_RANK;
}

static void merge_at(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                     uint32_t at, uint32_t end)
{
    struct symbol *symbol = scratch->symbol;
    uint32_t rank = symbol[at].rank, gone = symbol[at].next;

    pair_leave(scratch, at);
    pair_leave(scratch, gone);
    symbol[at].id = tokenizer->vocab->merge[rank].result;
    symbol[at].next = symbol[gone].next;
    if (symbol[at].next != end) symbol[symbol[at].next].prev = at;
    if (at > 0) {
        pair_leave(scratch, symbol[at].prev);
        pair_wait(tokenizer, scratch, symbol[at].prev, end);
    }
    pair_wait(tokenizer, scratch, at, end);
}

static int by_place(const void *one, const void *other)
{
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

/* All pairs of one rank. Only those of twice the same token can overlap, as in `aaa`; there the
 * leftmost comes first. */
static void merge_rank(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                       uint32_t rank, uint32_t end)
{
    const struct vocab_merge *merge = &tokenizer->vocab->merge[rank];
    uint32_t *turn = scratch->turn;
    size_t count = 0;

    for (uint32_t at = scratch->waiting[rank]; at; at = scratch->symbol[at - 1].down)
        turn[count++] = at - 1;
    // They joined in front, most often from left to right, so they stand from right to left.
    bool falling = true;
    for (size_t i = 1; i < count && falling; i++) falling = turn[i] < turn[i - 1];
    if (merge->left == merge->right && !falling) qsort(turn, count, sizeof *turn, by_place);
    for (size_t i = 0; i < count; i++) {
        uint32_t at = falling ? turn[count - 1 - i] : turn[i];
        if (scratch->symbol[at].rank == rank) merge_at(tokenizer, scratch, at, end);
    }
    must(scratch->waiting[rank] == 0);
}

static void merge_long(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                       struct slice piece, struct id_list *out)
{
    uint32_t end = (uint32_t)piece.size, ranks = tokenizer->vocab->merge_count;
    if (!reserve_symbols(scratch, piece.size, ranks)) {
        out->status = NO_MEMORY;
        return;
    }
    struct symbol *symbol = scratch->symbol;
    for (uint32_t i = 0; i < end; i++)
        symbol[i] = (struct symbol){ .id = tokenizer->vocab->byte_id[(uint8_t)piece.data[i]],
                                     .prev = i - 1,  // of the first one never used
                                     .next = i + 1 };
    for (uint32_t i = 0; i < end; i++) pair_wait(tokenizer, scratch, i, end);

    for (uint32_t word = 0; word <= ranks / 64; word++)
        while (scratch->filled[word]) {
            uint32_t bit = (uint32_t)__builtin_ctzll(scratch->filled[word]);
            scratch->filled[word] &= scratch->filled[word] - 1;
            merge_rank(tokenizer, scratch, word * 64 + bit, end);
        }
    for (uint32_t i = 0; i < end; i = symbol[i].next) id_list_add(out, symbol[i].id);
    if (scratch->symbol_room > KEPT_SYMBOLS) drop_symbols(scratch);
}

/* ---- pieces ---- */

static void encode_piece(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                         struct slice piece, struct id_list *out)
{
    if (piece.size == 1) {
        id_list_add(out, tokenizer->vocab->byte_id[(uint8_t)piece.data[0]]);
        return;
    }
    if (piece.size > SHORT_PIECE) {
        merge_long(tokenizer, scratch, piece, out);
        return;
    }
    if (piece.size > SEEN_BYTES) {
        merge_short(tokenizer, piece, out);
        return;
    }
    uint64_t hash = hash64(piece.data, piece.size, 0);
    struct piece_slot *slot = &scratch->seen[hash & (SEEN_SLOTS - 1)];
    if (slot->size == piece.size && memcmp(slot->bytes, piece.data, piece.size) == 0) {
        if (!id_list_reserve(out, slot->count)) return;
        for (uint32_t i = 0; i < slot->count; i++) id_list_add(out, slot->id[i]);
        return;
    }
    size_t before = out->count;
    merge_short(tokenizer, piece, out);
    size_t count = out->count - before;
    if (count == 0 || count > SEEN_IDS) return;
    slot->size = (uint8_t)piece.size;
    slot->count = (uint8_t)count;
    memcpy(slot->bytes, piece.data, piece.size);
    memcpy(slot->id, out->id + before, count * sizeof *slot->id);
}

static void encode_segment(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                           struct slice segment, struct id_list *out)
{
    const char *at = segment.data, *end = segment.data + segment.size;
    while (at < end && out->status == OK) {
        const char *past = split_piece(tokenizer->chars, at, end);
        encode_piece(tokenizer, scratch, (struct slice){ at, (size_t)(past - at) }, out);
        at = past;
    }
}

/* ---- added tokens ---- */

/* The first of the range whose byte at `depth` is at least `byte`; past the end when none is. */
static uint32_t added_from(const struct vocab *vocab, struct added_range range, size_t depth,
                           uint32_t byte)
{
    while (range.from < range.to) {
        uint32_t middle = range.from + (range.to - range.from) / 2;
        if (added_byte(vocab, middle, depth) < byte) range.from = middle + 1;
        else range.to = middle;
    }
    return range.from;
}

/* The longest added token that text starts with, or VOCAB_NONE. The candidates are neighbours in
 * the sorted list; each byte leaves fewer of them. */
static uint32_t added_at(const struct tokenizer *tokenizer, struct slice text)
{
    const struct vocab *vocab = tokenizer->vocab;
    struct added_range range = tokenizer->added_first[(uint8_t)text.data[0]];
    uint32_t best = VOCAB_NONE;
    for (size_t depth = 1; range.from < range.to; depth++) {
        // A name of just these bytes sorts before those that go on.
        uint32_t first = vocab->added[range.from];
        if (vocab_bytes(vocab, first).size == depth) {
            best = first;
            range.from++;
        }
        if (depth == text.size) break;
        uint32_t byte = (uint8_t)text.data[depth];
        range.from = added_from(vocab, range, depth, byte);
        range.to = added_from(vocab, range, depth, byte + 1);
    }
    return best;
}

/* Encodes what lies before each added token of text[from, to), and the token. *done: where the
 * segment not yet encoded begins. */
static void encode_marked_span(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                               struct slice text, struct text_span span, size_t *done,
                               struct id_list *out)
{
    for (size_t at = span.from; at < span.to && out->status == OK;) {
        const struct added_range *range = &tokenizer->added_first[(uint8_t)text.data[at]];
        uint32_t id = VOCAB_NONE;
        if (range->from < range->to)
            id = added_at(tokenizer, (struct slice){ text.data + at, span.to - at });
        if (id == VOCAB_NONE) {
            at++;
            continue;
        }
        encode_segment(tokenizer, scratch, (struct slice){ text.data + *done, at - *done }, out);
        id_list_add(out, id);
        *done = at += vocab_bytes(tokenizer->vocab, id).size;
    }
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                             const struct tokenizer_text *text, struct id_list *out)
{
    if (out->status != OK) return out->status;
    if (text->text.size >= NO_RANK) return TOO_LONG;
    // So many bytes are more tokens than the limit, however they merge.
    if (out->limit && text->text.size / tokenizer->longest > out->limit) return TOO_LONG;
    if (scratch->serial != tokenizer->serial) {
        memset(scratch->seen, 0, SEEN_SLOTS * sizeof *scratch->seen);
        drop_ranks(scratch);
        scratch->serial = tokenizer->serial;
    }
    struct slice all = text->text;
    size_t done = 0, marked_from = 0;
    for (size_t i = 0; i <= text->literal_count; i++) {
        size_t marked_to = i < text->literal_count ? text->literal[i].from : all.size;
        must(marked_from <= marked_to && marked_to <= all.size);
        struct text_span marked = { marked_from, marked_to };
        encode_marked_span(tokenizer, scratch, all, marked, &done, out);
        if (i < text->literal_count) {
            marked_from = text->literal[i].to;
            must(marked_to <= marked_from && marked_from <= all.size);
        }
    }
    encode_segment(tokenizer, scratch, slice_from(all, done), out);
    return id_list_status(out);
}
