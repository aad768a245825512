/* vocab_fuzz.c - no tokenizer.json breaks the reader, and one that it accepts can be used.
 *
 * Input that begins with '{' is a whole file; other input edits the tiny one: a place, a length to
 * cut there, and the rest to put in its stead. So mutations get past the settings. */
#include "engine/text/tiny_vocab.h"
#include "engine/text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct vocab *vocab)
{
    static const char text[] = "lower <bos>newaaaa xyz <｜User｜> \xff 123";
    struct tokenizer tokenizer;
    struct tokenizer_scratch scratch;
    struct id_list ids;
    id_list_init(&ids, 0);
    must(tokenizer_init(&tokenizer, vocab) == OK);
    must(tokenizer_scratch_init(&scratch) == OK);
    must(tokenizer_encode_marked(&tokenizer, &scratch, slice_of(text), &ids) == OK);
    size_t bytes = 0;
    for (size_t i = 0; i < ids.count; i++) bytes += vocab_bytes(vocab, ids.id[i]).size;
    must(bytes == sizeof text - 1);
    id_list_release(&ids);
    tokenizer_scratch_release(&scratch);
    tokenizer_release(&tokenizer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf file;
    struct vocab vocab;
    struct err err;
    buf_init(&file, 0);
    if (size >= 3 && data[0] != '{') {
        static struct buf good;
        if (!good.size) tiny_add_file(&good);
        size_t at = (data[0] << 8 | data[1]) % good.size, cut = data[2] % 64;
        if (cut > good.size - at) cut = good.size - at;
        buf_add(&file, good.data, at);
        buf_add(&file, data + 3, size - 3);
        buf_add(&file, good.data + at + cut, good.size - at - cut);
    } else {
        buf_add(&file, data, size);
    }
    // Making a tokenizer asks PCRE2 for all characters, so only a few of the accepted files are used.
    if (vocab_init_text(&vocab, file.data, file.size, "fuzz", &err) == OK) {
        static unsigned accepted;
        if (accepted++ % 64 == 0) use(&vocab);
        vocab_release(&vocab);
    }
    buf_release(&file);
    return 0;
}
