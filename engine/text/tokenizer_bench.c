/* tokenizer_bench.c - megabytes a second on one core, by kind of text and at the worst.
 *
 *     build/engine/text/tokenizer_bench TOKENIZER.JSON
 *
 * Every text is made here from a fixed seed: words of a Zipf-like frequency, as in prose and code,
 * so that the table of seen pieces is asked for new ones at the rate of real text.
 */
#include <string.h>
#include <time.h>
#include "config/buf.h"
#include "config/clock.h"
#include "config/utf8.h"
#include "engine/text/detok.h"
#include "engine/text/tokenizer.h"

#define TEXT_BYTES (4u << 20)
#define LEAST_NS (NS_PER_S / 2)

/* Time of this thread alone, so that company on the machine counts less. */
static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

struct random {
    uint64_t state;
};

static uint64_t draw(struct random *random)
{
    random->state ^= random->state << 13;
    random->state ^= random->state >> 7;
    random->state ^= random->state << 17;
    return random->state * 0x2545f4914f6cdd1du;
}

static uint32_t below(struct random *random, uint32_t bound)
{
    return (uint32_t)(draw(random) >> 33) % bound;
}

/* One of `count`, the first ones far oftener: uniform in its logarithm. */
static uint32_t zipf(struct random *random, uint32_t count)
{
    uint32_t bits = 0;
    while ((1u << bits) < count) bits++;
    uint32_t index = below(random, 2u << below(random, bits));
    return index < count ? index : below(random, count);
}

/* Word `number` of a language of 2^16: always the same letters. */
static void add_word(struct buf *out, uint32_t number)
{
    static const char *const syllable[] = { "the", "in",   "er", "on", "re", "a",  "ing", "to",
                                            "st",  "al",   "en", "it", "de", "or", "com", "pro",
                                            "ver", "ti",   "is", "an", "ch", "le", "se",  "pre",
                                            "con", "ment", "un", "ed", "ly", "ar", "ou",  "ight" };
    struct random random = { number * 0x9e3779b97f4a7c15u + 1 };
    uint32_t count = 1 + below(&random, number > 1024 ? 4 : number > 16 ? 3 : 2);
    while (count--) buf_add_string(out, syllable[below(&random, 32)]);
}

static void add_code(struct buf *out, uint32_t code)
{
    char bytes[4];
    buf_add(out, bytes, utf8_write(bytes, code));
}

static void add_english(struct buf *out, struct random *random)
{
    static const char *const after[] = { " ", " ", " ", " ", " ", " ", " ", ", ", ". ", ".\n\n" };
    add_word(out, zipf(random, 1 << 16));
    buf_add_string(out, after[below(random, 10)]);
}

static void add_c(struct buf *out, struct random *random)
{
    static const char *const form[] = {
        "if (", ") {\n        ", "->",   " = ",   "[i];\n    ", "_",   "(&",
        ", ",   ");\n\t",        " += ", "}\n\n", "\"",         "/* ", " */\n"
    };
    add_word(out, zipf(random, 4096));
    buf_add_string(out, form[below(random, 14)]);
    if (below(random, 8) == 0) buf_addf(out, "%u", below(random, 5000));
}

static void add_chinese(struct buf *out, struct random *random)
{
    uint32_t count = 2 + below(random, 14);
    while (count--) add_code(out, 0x4e00 + zipf(random, 4096) * 5 % 0x51a5);
    buf_add_string(out, below(random, 3) ? "，" : "。");
}

static void add_numbers(struct buf *out, struct random *random)
{
    buf_addf(out, "%u.%02u,%u\t", below(random, 100000), below(random, 100),
             below(random, 9999999));
}

static void add_emoji(struct buf *out, struct random *random)
{
    add_code(out, 0x1f600 + below(random, 256));
    if (below(random, 3) == 0) buf_add_byte(out, ' ');
}

static void add_mixed(struct buf *out, struct random *random)
{
    static void (*const part[])(struct buf *, struct random *) = { add_english, add_c, add_chinese,
                                                                   add_numbers, add_emoji };
    static const uint32_t length[] = { 400, 400, 40, 20, 10 };
    uint32_t which = below(random, 5);
    for (uint32_t i = 0; i < length[which]; i++) part[which](out, random);
}

static void add_letter(struct buf *out, struct random *random)
{
    (void)random;
    buf_add_byte(out, 'a');
}

static void add_letters(struct buf *out, struct random *random)
{
    buf_add_byte(out, (char)('a' + below(random, 26)));
}

static void add_han(struct buf *out, struct random *random)
{
    add_code(out, 0x4e00 + below(random, 0x51a5));
}

static void add_spaces(struct buf *out, struct random *random)
{
    (void)random;
    buf_add_byte(out, ' ');
}

static void add_bytes(struct buf *out, struct random *random)
{
    buf_add_byte(out, (char)below(random, 256));
}

static void add_openers(struct buf *out, struct random *random)
{
    static const char *const near[] = { "<｜place▁holder▁no▁", "<", "｜DSML", "<｜User｜", "</" };
    buf_add_string(out, near[below(random, 5)]);
}

static const struct row {
    const char *name;
    void (*add)(struct buf *out, struct random *random);
} rows[] = {
    { "mixed", add_mixed },
    { "English", add_english },
    { "code", add_c },
    { "Chinese", add_chinese },
    { "numbers", add_numbers },
    { "emoji", add_emoji },
    { "one run of one letter", add_letter },
    { "one run of random letters", add_letters },
    { "one run of random Han", add_han },
    { "one run of spaces", add_spaces },
    { "random bytes", add_bytes },
    { "halves of added tokens", add_openers },
};

static void run_row(const struct row *row, const struct tokenizer *tokenizer)
{
    struct tokenizer_scratch scratch;
    struct random random = { 88172645463325252u };
    struct id_list ids;
    struct buf text, back;
    struct detok detok;
    buf_init(&text, 0);
    buf_init(&back, 0);
    id_list_init(&ids, 0);
    must(tokenizer_scratch_init(&scratch) == OK);
    while (text.size < TEXT_BYTES) row->add(&text, &random);

    uint64_t encode_ns = 0, decode_ns = 0, runs = 0;
    for (; encode_ns < LEAST_NS; runs++) {
        id_list_clear(&ids);
        uint64_t start = cpu_ns();
        must(tokenizer_encode_marked(tokenizer, &scratch, buf_slice(&text), &ids) == OK);
        encode_ns += cpu_ns() - start;
    }
    detok_init(&detok, tokenizer->vocab, DETOK_SHOW_SPECIAL);
    decode_ns = cpu_ns();
    for (size_t i = 0; i < ids.count; i++) detok_add(&detok, ids.id[i], &back);
    detok_finish(&detok, &back);
    decode_ns = cpu_ns() - decode_ns;

    double megabytes = (double)text.size / 1e6;
    printf("%-27s %7.1f MB/s %7.1f Mtok/s %5.2f bytes/token, back %7.1f MB/s\n", row->name,
           megabytes * (double)runs / ((double)encode_ns / 1e9),
           (double)(ids.count * runs) / 1e6 / ((double)encode_ns / 1e9),
           (double)text.size / (double)ids.count, megabytes / ((double)decode_ns / 1e9));
    tokenizer_scratch_release(&scratch);
    id_list_release(&ids);
    buf_release(&back);
    buf_release(&text);
}

int main(int argc, char **argv)
{
    struct vocab vocab;
    struct tokenizer tokenizer;
    struct err err;
    if (argc != 2) {
        fputs("usage: tokenizer_bench TOKENIZER.JSON\n", stderr);
        return 2;
    }
    uint64_t start = cpu_ns();
    if (vocab_init(&vocab, argv[1], &err) != OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    uint64_t read = cpu_ns();
    must(tokenizer_init(&tokenizer, &vocab) == OK);
    printf("%u tokens, %u merges: read in %.1f ms, ready in %.1f ms more\n", vocab.size,
           vocab.merge_count, (double)(read - start) / 1e6, (double)(cpu_ns() - read) / 1e6);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) run_row(&rows[i], &tokenizer);
    tokenizer_release(&tokenizer);
    vocab_release(&vocab);
    return 0;
}
