/* tokenizer_fuzz.c - any bytes become tokens whose bytes they are, and whole UTF-8 on the way back.
 *
 * The first byte chooses literal spans; the rest is the text. */
#include "config/utf8.h"
#include "engine/text/detok.h"
#include "engine/text/tiny_vocab.h"
#include "engine/text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vocab vocab;
static struct tokenizer tokenizer;
static struct tokenizer_scratch scratch;

static void check_back(const struct id_list *ids, struct slice text)
{
    struct detok detok;
    struct buf raw, back, mended;
    buf_init(&raw, 0);
    buf_init(&back, 0);
    buf_init(&mended, 0);
    detok_init(&detok, &vocab, DETOK_SHOW_SPECIAL);
    for (size_t i = 0; i < ids->count; i++) {
        buf_add_slice(&raw, vocab_bytes(&vocab, ids->id[i]));
        detok_add(&detok, ids->id[i], &back);
    }
    detok_finish(&detok, &back);
    utf8_mend(&mended, text);
    must(slice_equal(buf_slice(&raw), text));
    must(slice_equal(buf_slice(&back), buf_slice(&mended)));
    must(utf8_valid(buf_slice(&back)));
    buf_release(&raw);
    buf_release(&back);
    buf_release(&mended);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!vocab.size) {
        tiny_vocab_init(&vocab);
        must(tokenizer_init(&tokenizer, &vocab) == OK);
        must(tokenizer_scratch_init(&scratch) == OK);
    }
    if (size == 0) return 0;
    struct slice all = { (const char *)data + 1, size - 1 };
    struct text_span span[2] = { { 0, all.size * (data[0] & 7) / 16 },
                                 { all.size * (8 + (data[0] >> 3 & 7)) / 16, all.size } };
    struct tokenizer_text text = { all, span, data[0] >> 6 };
    if (text.literal_count > 2) text.literal_count = 0;

    struct id_list ids;
    id_list_init(&ids, 0);
    must(tokenizer_encode(&tokenizer, &scratch, &text, &ids) == OK);
    check_back(&ids, all);
    id_list_release(&ids);
    return 0;
}
