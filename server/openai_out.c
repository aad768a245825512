/* openai_out.c - fixed text, escaped strings and numbers. */
#include "server/openai_out.h"
#include <inttypes.h>
#include <math.h>
#include "config/json.h"
#include "config/utf8.h"

void out_head(struct buf *out, const struct out_head *head)
{
    buf_addf(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", head->id,
             head->object, head->created);
    js_add_string(out, head->model);
    buf_add_string(out, ",\"system_fingerprint\":");
    js_add_string(out, slice_of(head->fingerprint));
}

void out_usage(struct buf *out, const struct out_usage *u)
{
    must(u->cached_tokens <= u->prompt_tokens && u->reasoning_tokens <= u->completion_tokens);
    buf_addf(out,
             "{\"prompt_tokens\":%" PRIu64 ",\"completion_tokens\":%" PRIu64
             ",\"total_tokens\":%" PRIu64 ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRIu64
             "},\"prompt_cache_hit_tokens\":%" PRIu64 ",\"prompt_cache_miss_tokens\":%" PRIu64
             ",\"completion_tokens_details\":{\"reasoning_tokens\":%" PRIu64 "}}",
             u->prompt_tokens, u->completion_tokens, u->prompt_tokens + u->completion_tokens,
             u->cached_tokens, u->cached_tokens, u->prompt_tokens - u->cached_tokens,
             u->reasoning_tokens);
}

void out_function_begin(struct buf *out, struct slice name)
{
    buf_add_string(out, "{\"name\":");
    js_add_string(out, name);
    buf_add_string(out, ",\"arguments\":\"");
}

void out_function_end(struct buf *out)
{
    buf_add_string(out, "\"}");
}

void out_call_begin(struct buf *out, int64_t index, struct slice id, struct slice name)
{
    buf_add_byte(out, '{');
    if (index >= 0) buf_addf(out, "\"index\":%" PRId64 ",", index);
    buf_add_string(out, "\"id\":");
    js_add_string(out, id);
    buf_add_string(out, ",\"type\":\"function\",\"function\":");
    out_function_begin(out, name);
}

void out_call_end(struct buf *out)
{
    buf_add_string(out, "\"}}");
}

/* ---- log-probabilities ---- */

/* JSON has no infinity; clients know -9999 as "as good as never". */
static void add_logprob(struct buf *out, float logprob)
{
    bool never = isnan(logprob) || logprob < -9999.0f;
    buf_addf(out, "%.7g", never ? -9999.0 : logprob >= 0 ? 0.0 : (double)logprob);
}

/* A token's bytes as a JSON string; parts of characters become U+FFFD. */
static void add_token(struct buf *out, struct slice bytes)
{
    struct buf mended;

    if (utf8_valid(bytes)) {
        js_add_string(out, bytes);
        return;
    }
    buf_init(&mended, 0);
    utf8_mend(&mended, bytes);
    js_add_string(out, buf_slice(&mended));
    if (mended.status != OK) out->status = mended.status;
    buf_release(&mended);
}

/* "token":...,"logprob":...,"bytes":[...] */
static void add_entry(struct buf *out, const struct vocab *vocab, uint32_t id, float logprob)
{
    struct slice bytes = vocab_bytes(vocab, id);

    buf_add_string(out, "\"token\":");
    add_token(out, bytes);
    buf_add_string(out, ",\"logprob\":");
    add_logprob(out, logprob);
    buf_add_string(out, ",\"bytes\":[");
    for (size_t i = 0; i < bytes.size; i++)
        buf_addf(out, i ? ",%u" : "%u", (unsigned)(unsigned char)bytes.data[i]);
    buf_add_byte(out, ']');
}

void out_logprob(struct buf *out, const struct vocab *vocab, const struct sample_out *sample,
                 uint32_t top)
{
    must(top <= TOP_LOGPROBS);
    buf_add_byte(out, '{');
    add_entry(out, vocab, sample->id, sample->logprob);
    buf_add_string(out, ",\"top_logprobs\":[");
    for (uint32_t i = 0; i < top; i++) {
        buf_add_string(out, i ? ",{" : "{");
        add_entry(out, vocab, sample->top_id[i], sample->top_logprob[i]);
        buf_add_byte(out, '}');
    }
    buf_add_string(out, "]}");
}

static struct buf *legacy_array(struct out_legacy_logprobs *legacy, size_t index)
{
    struct buf *array[] = { &legacy->tokens, &legacy->token_logprobs, &legacy->top_logprobs,
                            &legacy->text_offset };
    return array[index];
}

void out_legacy_init(struct out_legacy_logprobs *legacy)
{
    for (size_t i = 0; i < 4; i++) buf_init(legacy_array(legacy, i), 0);
    legacy->offset = 0;
}

void out_legacy_release(struct out_legacy_logprobs *legacy)
{
    for (size_t i = 0; i < 4; i++) buf_release(legacy_array(legacy, i));
}

/* Characters that begin in these bytes. */
static uint64_t characters(struct slice bytes)
{
    uint64_t count = 0;
    for (size_t i = 0; i < bytes.size; i++) count += ((unsigned char)bytes.data[i] & 0xc0) != 0x80;
    return count;
}

void out_legacy_add(struct out_legacy_logprobs *legacy, const struct vocab *vocab, uint32_t id,
                    const struct sample_out *sample, uint32_t top)
{
    struct slice bytes = vocab_bytes(vocab, id);

    must(top <= TOP_LOGPROBS);
    for (size_t i = 0; legacy->tokens.size && i < 4; i++)
        buf_add_byte(legacy_array(legacy, i), ',');
    add_token(&legacy->tokens, bytes);
    buf_addf(&legacy->text_offset, "%" PRIu64, legacy->offset);
    legacy->offset += characters(bytes);
    if (!sample) {
        buf_add_string(&legacy->token_logprobs, "null");
        buf_add_string(&legacy->top_logprobs, "null");
        return;
    }
    add_logprob(&legacy->token_logprobs, sample->logprob);
    buf_add_byte(&legacy->top_logprobs, '{');
    for (uint32_t i = 0; i < top; i++) {
        if (i) buf_add_byte(&legacy->top_logprobs, ',');
        add_token(&legacy->top_logprobs, vocab_bytes(vocab, sample->top_id[i]));
        buf_add_byte(&legacy->top_logprobs, ':');
        add_logprob(&legacy->top_logprobs, sample->top_logprob[i]);
    }
    buf_add_byte(&legacy->top_logprobs, '}');
}

void out_legacy_take(struct out_legacy_logprobs *legacy, struct buf *out)
{
    static const char *const name[] = { "{\"tokens\":[", "],\"token_logprobs\":[",
                                        "],\"top_logprobs\":[", "],\"text_offset\":[" };
    for (size_t i = 0; i < 4; i++) {
        struct buf *array = legacy_array(legacy, i);
        buf_add_string(out, name[i]);
        buf_add_slice(out, buf_slice(array));
        if (array->status != OK) out->status = array->status;
        buf_clear(array);
    }
    buf_add_string(out, "]}");
}
