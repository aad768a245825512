/* detok.c - at most three bytes of memory. */
#include "engine/text/detok.h"
#include "config/utf8.h"

void detok_init(struct detok *detok, const struct vocab *vocab, enum detok_special special)
{
    *detok = (struct detok){ .vocab = vocab, .special = special };
}

/* Bytes at the end of text that more bytes may still complete: 0 to 3. */
static size_t unfinished(struct slice text)
{
    size_t most = text.size < 3 ? text.size : 3;
    for (size_t back = 1; back <= most; back++) {
        struct slice tail = slice_from(text, text.size - back);
        struct utf8_char last = utf8_read(tail);
        if (last.cut && last.size == back) return back;
    }
    return 0;
}

void detok_add(struct detok *detok, uint32_t id, struct buf *out)
{
    if (detok->special == DETOK_SKIP_SPECIAL && vocab_is_special(detok->vocab, id)) return;
    struct slice bytes = vocab_bytes(detok->vocab, id);
    if (bytes.size == 0) return;

    // A held tail and the first bytes that may complete it, so that what follows starts clean.
    size_t used = 0;
    while (detok->held && used < bytes.size) {
        detok->tail[detok->held] = bytes.data[used];
        struct slice tail = { detok->tail, (size_t)detok->held + 1 };
        struct utf8_char next = utf8_read(tail);
        if (next.cut) {
            detok->held++;
            used++;
        } else {
            if (next.valid) used++;
            utf8_mend(out, (struct slice){ detok->tail, next.size });
            detok->held = 0;
        }
    }
    bytes = slice_from(bytes, used);
    if (bytes.size == 0) return;

    size_t held = unfinished(bytes);
    utf8_mend(out, (struct slice){ bytes.data, bytes.size - held });
    memcpy(detok->tail, bytes.data + bytes.size - held, held);
    detok->held = (uint8_t)held;
}

void detok_finish(struct detok *detok, struct buf *out)
{
    utf8_mend(out, (struct slice){ detok->tail, detok->held });
    detok->held = 0;
}
