/* tiny_vocab.h - a tokenizer.json small enough to read, for tests: the 256 bytes, some merges, some
 * added tokens. Ids: bytes 0 to 255 by value, then the merges' results, then the added tokens. */
#ifndef ENGINE_TEXT_TINY_VOCAB_H
#define ENGINE_TEXT_TINY_VOCAB_H

#include "config/buf.h"
#include "config/json.h"
#include "engine/text/split.h"
#include "engine/text/vocab.h"

struct tiny_merge {
    const char *left, *right;  // ASCII without white space
};
struct tiny_added {
    const char *text;
    bool special;
};

static const struct tiny_merge tiny_merges[] = { { "l", "o" },    { "lo", "w" }, { "e", "r" },
                                                 { "low", "er" }, { "a", "a" },  { "aa", "aa" },
                                                 { "n", "e" },    { "ne", "w" }, { "x", "y" },
                                                 { "y", "z" } };
static const struct tiny_added tiny_added[] = {
    { "<bos>", true }, { "<｜User｜>", false }, { "<｜User｜><", false }, { "</think>", false }
};
#define TINY_MERGES (sizeof tiny_merges / sizeof *tiny_merges)
#define TINY_ADDED (sizeof tiny_added / sizeof *tiny_added)
#define TINY_FIRST_ADDED (256 + (uint32_t)TINY_MERGES)

/* The byte alphabet, from its description rather than from the code under test. */
static void tiny_add_alphabet(struct buf *out, unsigned byte)
{
    unsigned code = byte, hidden = 0;
    bool prints = false;
    for (unsigned b = 0; b <= byte; b++) {
        prints = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
        if (!prints) hidden++;
    }
    if (!prints) code = 0x100 + hidden - 1;
    if (code == '"' || code == '\\') buf_addf(out, "\\%c", code);
    else if (code < 0x80) buf_add_byte(out, (char)code);
    else buf_addf(out, "%c%c", (int)(0xc0 | code >> 6), (int)(0x80 | (code & 0x3f)));
}

static void tiny_add_pretokenizer(struct buf *out)
{
    buf_add_string(out, "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [");
    for (size_t i = 0; i < SPLIT_PATTERNS; i++) {
        buf_add_string(out, "{\"type\": \"Split\", \"pattern\": {\"Regex\": ");
        js_add_string(out, split_pattern[i]);
        buf_add_string(out, "}, \"behavior\": \"Isolated\", \"invert\": false}, ");
    }
    buf_add_string(out, "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                        "\"use_regex\": false}]},\n");
}

/* Appends the whole file. */
static void tiny_add_file(struct buf *out)
{
    buf_add_string(out, "{\"truncation\": null, \"normalizer\": {\"type\": \"Sequence\", "
                        "\"normalizers\": []},\n");
    tiny_add_pretokenizer(out);
    buf_add_string(out, "\"decoder\": {\"type\": \"ByteLevel\"},\n\"added_tokens\": [");
    for (uint32_t i = 0; i < TINY_ADDED; i++)
        buf_addf(out, "%s{\"id\": %u, \"content\": \"%s\", \"lstrip\": false, \"special\": %s}",
                 i ? ",\n" : "", TINY_FIRST_ADDED + i, tiny_added[i].text,
                 tiny_added[i].special ? "true" : "false");
    buf_add_string(out, "],\n\"model\": {\"type\": \"BPE\", \"dropout\": null, \"vocab\": {");
    for (unsigned byte = 0; byte < 256; byte++) {
        buf_add_byte(out, '"');
        tiny_add_alphabet(out, byte);
        buf_addf(out, "\": %u, ", byte);
    }
    for (unsigned i = 0; i < TINY_MERGES; i++)
        buf_addf(out, "%s\"%s%s\": %u", i ? ", " : "", tiny_merges[i].left, tiny_merges[i].right,
                 256 + i);
    buf_add_string(out, "},\n\"merges\": [");
    for (unsigned i = 0; i < TINY_MERGES; i++)
        buf_addf(out, i % 2 ? "%s[\"%s\", \"%s\"]" : "%s\"%s %s\"", i ? ", " : "",
                 tiny_merges[i].left, tiny_merges[i].right);
    buf_add_string(out, "]}}\n");
}

__attribute__((unused)) static void tiny_vocab_init(struct vocab *vocab)
{
    struct buf file;
    struct err err = { "" };
    buf_init(&file, 0);
    tiny_add_file(&file);
    enum status status = vocab_init_text(vocab, file.data, file.size, "tiny", &err);
    if (status != OK) fprintf(stderr, "%s\n", err.text);
    must(status == OK);
    buf_release(&file);
}

#endif
