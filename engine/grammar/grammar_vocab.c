/* grammar_vocab.c - sorts the tokens, draws the tree, and walks it once for each text state. */
#include "engine/grammar/grammar_vocab.h"
#include "engine/text/dialect.h"

/* ---- the tree ---- */

static int by_bytes(const void *a, const void *b, void *context)
{
    const struct vocab *vocab = context;
    struct slice left = vocab_bytes(vocab, *(const uint32_t *)a);
    struct slice right = vocab_bytes(vocab, *(const uint32_t *)b);
    size_t size = left.size < right.size ? left.size : right.size;
    int order = memcmp(left.data, right.data, size);
    return order ? order : (left.size > right.size) - (left.size < right.size);
}

/* Ordinary tokens of more than so many bytes in order of their bytes; how many. */
static uint32_t sort_tokens(const struct vocab *vocab, size_t longer_than, uint32_t *id)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < vocab->size; i++) {
        size_t size = vocab_bytes(vocab, i).size;
        if (size > longer_than && size <= TOKEN_BYTES_MOST && !vocab_is_added(vocab, i))
            id[count++] = i;
    }
    qsort_r(id, count, sizeof *id, by_bytes, (void *)(uintptr_t)vocab);
    return count;
}

static bool tree_take(struct token_tree *tree, size_t nodes)
{
    tree->byte = malloc(nodes);
    tree->depth = malloc(nodes);
    tree->token = malloc(nodes * sizeof *tree->token);
    tree->end = malloc(nodes * sizeof *tree->end);
    return tree->byte && tree->depth && tree->token && tree->end;
}

static bool tree_init(struct token_tree *tree, const struct vocab *vocab, size_t longer_than)
{
    uint32_t open[TOKEN_BYTES_MOST + 1];  // the nodes on the way to the last one, by depth - 1
    size_t depth = 0, nodes = 1;
    uint32_t *id = malloc(vocab->size * sizeof *id);
    uint32_t count = id ? sort_tokens(vocab, longer_than, id) : 0;
    for (uint32_t i = 0; i < count; i++) nodes += vocab_bytes(vocab, id[i]).size;
    if (!id || !tree_take(tree, nodes)) {
        free(id);
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct slice bytes = vocab_bytes(vocab, id[i]);
        size_t common = 0;
        while (common < depth && common < bytes.size &&
               tree->byte[open[common]] == (uint8_t)bytes.data[common])
            common++;
        while (depth > common) tree->end[open[--depth]] = tree->count;
        if (common == bytes.size) continue;  // a second token of the same bytes
        for (; depth < bytes.size; depth++) {
            uint32_t node = open[depth] = tree->count++;
            tree->byte[node] = (uint8_t)bytes.data[depth];
            tree->depth[node] = (uint8_t)(depth + 1);
            tree->token[node] = VOCAB_NONE;
        }
        tree->token[open[depth - 1]] = id[i];
    }
    while (depth > 0) tree->end[open[--depth]] = tree->count;
    free(id);
    return true;
}

static void tree_release(struct token_tree *tree)
{
    free(tree->byte);
    free(tree->depth);
    free(tree->token);
    free(tree->end);
}

/* ---- text states ---- */

static bool leave_add(struct grammar_vocab *gv, uint32_t id)
{
    if (gv->leave_ids == gv->leave_room) {
        uint32_t room = gv->leave_room ? 2 * gv->leave_room : 4096;
        uint32_t *bigger = realloc(gv->leave_id, room * sizeof *bigger);
        if (!bigger) return false;
        gv->leave_id = bigger;
        gv->leave_room = room;
    }
    gv->leave_id[gv->leave_ids++] = id;
    return true;
}

/* All tokens below a node leave the text, whatever follows the exit. */
static bool leave_subtree(struct grammar_vocab *gv, uint32_t node)
{
    for (uint32_t i = node; i < gv->tree.end[node]; i++)
        if (gv->tree.token[i] != VOCAB_NONE && !leave_add(gv, gv->tree.token[i])) return false;
    return true;
}

static bool walk_state(struct grammar_vocab *gv, enum text_kind kind, uint16_t state)
{
    const struct token_tree *tree = &gv->tree;
    const struct text_rule *rule = &gv->text[kind];
    uint32_t *stay = gv->stay[kind] + (size_t)state * gv->words;
    uint16_t at[TOKEN_BYTES_MOST + 1] = { state };

    gv->leave[kind][state].from = gv->leave_ids;
    for (uint32_t node = 0; node < tree->count;) {
        unsigned depth = tree->depth[node];
        uint16_t next = rule->next[at[depth - 1]][tree->byte[node]];
        if (next < rule->count) {
            at[depth] = next;
            if (tree->token[node] != VOCAB_NONE) {
                bool closes = next == rule->after_open || next == rule->after_open_slash;
                bit_put(stay, tree->token[node]);
                if (kind == TEXT_RAW && closes && !leave_add(gv, tree->token[node])) return false;
            }
            node++;
            continue;
        }
        if (next == TEXT_EXIT && !leave_subtree(gv, node)) return false;
        node = tree->end[node];
    }
    gv->leave[kind][state].count = gv->leave_ids - gv->leave[kind][state].from;
    return true;
}

static bool walk_texts(struct grammar_vocab *gv)
{
    for (enum text_kind kind = 0; kind < TEXT_KINDS; kind++) {
        if (text_rule_init(&gv->text[kind], kind) != OK) return false;
        uint16_t count = gv->text[kind].count;
        gv->stay[kind] = calloc((size_t)count * gv->words, sizeof *gv->stay[kind]);
        gv->leave[kind] = calloc(count, sizeof *gv->leave[kind]);
        if (!gv->stay[kind] || !gv->leave[kind]) return false;
        for (uint16_t state = 0; state < count; state++)
            if (!walk_state(gv, kind, state)) return false;
    }
    return true;
}

/* ---- characters ---- */

/* Characters that a token begins, read from between two of them. */
static uint32_t count_chars(const struct text_rule *rule, struct slice bytes)
{
    uint32_t chars = 0;
    uint16_t state = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        chars += rule->boundary[state];
        state = rule->next[state][(uint8_t)bytes.data[i]];
        if (state >= rule->count) break;
    }
    return chars;
}

static bool count_all(struct grammar_vocab *gv, enum text_kind kind)
{
    struct token_chars *out = &gv->chars[kind];
    const struct vocab *vocab = gv->vocab;
    out->up_to = calloc((size_t)TOKEN_CHARS_SHORT * gv->words, sizeof *out->up_to);
    uint8_t *chars = calloc(vocab->size, 1);
    out->longer = malloc(vocab->size * sizeof *out->longer);
    out->chars = malloc(vocab->size);
    if (!out->up_to || !chars || !out->longer || !out->chars) {
        free(chars);
        return false;
    }
    for (uint32_t id = 0; id < vocab->size; id++) {
        uint32_t count = count_chars(&gv->text[kind], vocab_bytes(vocab, id));
        chars[id] = (uint8_t)(count < UINT8_MAX ? count : UINT8_MAX);
        for (uint32_t most = count; most < TOKEN_CHARS_SHORT; most++)
            bit_put(out->up_to + (size_t)most * gv->words, id);
    }
    for (unsigned count = UINT8_MAX; count >= TOKEN_CHARS_SHORT; count--)
        for (uint32_t id = 0; id < vocab->size; id++)
            if (chars[id] == count) {
                out->chars[out->longers] = chars[id];
                out->longer[out->longers++] = id;
            }
    free(chars);
    return true;
}

/* ---- the whole ---- */

static bool mark_tokens(struct grammar_vocab *gv)
{
    const struct vocab *vocab = gv->vocab;
    gv->spaced = calloc(gv->words, sizeof *gv->spaced);
    gv->added = calloc(gv->words, sizeof *gv->added);
    if (!gv->spaced || !gv->added) return false;
    gv->dsml = vocab_find(vocab, SLICE(DSML_TEXT));
    gv->think_end = vocab_find(vocab, SLICE(THINK_CLOSE_TEXT));
    gv->eos = vocab_find(vocab, SLICE(EOS_TEXT));
    for (uint32_t id = 0; id < vocab->size; id++) {
        struct slice bytes = vocab_bytes(vocab, id);
        if (vocab_is_added(vocab, id)) {
            bool named = id == gv->dsml || id == gv->think_end || id == gv->eos;
            if (!named) bit_put(gv->added, id);
        } else if (bytes.size && *bytes.data && strchr(" \t\n\r", *bytes.data)) {
            bit_put(gv->spaced, id);
        }
    }
    return true;
}

enum status grammar_vocab_init(struct grammar_vocab *gv, const struct vocab *vocab, struct err *err)
{
    *gv = (struct grammar_vocab){ .vocab = vocab, .words = (vocab->size + 31) / 32 };
    if (tree_init(&gv->tree, vocab, 0) && tree_init(&gv->long_tree, vocab, TOKEN_BYTES_LONG) &&
        mark_tokens(gv) && walk_texts(gv) && count_all(gv, TEXT_JSON) && count_all(gv, TEXT_RAW))
        return OK;
    grammar_vocab_release(gv);
    return fail(err, NO_MEMORY, "no memory for the vocabulary's masks");
}

void grammar_vocab_release(struct grammar_vocab *gv)
{
    tree_release(&gv->tree);
    tree_release(&gv->long_tree);
    for (enum text_kind kind = 0; kind < TEXT_KINDS; kind++) {
        text_rule_release(&gv->text[kind]);
        free(gv->stay[kind]);
        free(gv->leave[kind]);
    }
    for (size_t i = 0; i < 2; i++) {
        free(gv->chars[i].up_to);
        free(gv->chars[i].longer);
        free(gv->chars[i].chars);
    }
    free(gv->leave_id);
    free(gv->spaced);
    free(gv->added);
    *gv = (struct grammar_vocab){ 0 };
}

size_t grammar_vocab_bytes(const struct grammar_vocab *gv)
{
    size_t bytes = (size_t)gv->tree.count * (2 + 2 * sizeof(uint32_t));
    for (enum text_kind kind = 0; kind < TEXT_KINDS; kind++)
        bytes +=
            gv->text[kind].count * (sizeof *gv->text[kind].next + gv->words * sizeof(uint32_t));
    for (size_t i = 0; i < 2; i++)
        bytes +=
            (size_t)TOKEN_CHARS_SHORT * gv->words * sizeof(uint32_t) + gv->chars[i].longers * 5;
    return bytes + gv->leave_ids * sizeof(uint32_t) + 2 * gv->words * sizeof(uint32_t);
}
