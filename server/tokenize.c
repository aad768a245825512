/* tokenize.c - POST /tokenize and /detokenize: what the model would read, and what ids say.
 *
 *     {"prompt"}    -> {"count", "max_model_len", "tokens", "token_strs"?}   BOS in front
 *     {"content"}   -> the same, no BOS; with_pieces: tokens are {"id", "piece"}
 *     {"messages"}  -> the same for a whole chat request, and its text as "prompt"
 *     {"tokens"}    -> {"prompt", "content"}: twice the same text, under both names in use
 *
 * The first form is vLLM's, the second llama.cpp's.
 */
#include "config/utf8.h"
#include "engine/text/detok.h"
#include "engine/text/dialect.h"
#include "server/chat.h"
#include "server/handlers.h"
#include "server/jobs.h"
#include "server/models.h"
#include "server/openai_completion.h"
#include "config/options.h"

/* One request under way. */
struct tokenizing {
    struct request *request;
    struct fields top;
    struct refused refused;
    struct id_list ids;
    struct slice text;  // what was tokenized, of messages; else data NULL
    bool strings;       // return_token_strs
    bool pieces;        // with_pieces
};

static enum status no_memory(struct tokenizing *t)
{
    t->refused.refusal = REFUSE_FULL;
    return fail(&t->refused.err, NO_MEMORY, "no memory for this request now");
}

static enum status check_model(struct tokenizing *t)
{
    struct slice name = slice_of(t->request->service->model_name);
    enum status status = field_text(&t->top, "model", 0, &name);
    if (status != OK) return status;
    if (t->request->service->options->accept_any_model || models_served(t->request->service, name))
        return models_check_caller(t->request, name, &t->refused);
    return refuse_field_as(&t->top, REFUSE_MODEL, "model",
                           "found a model that is not served here, wanted one of GET /v1/models");
}

/* ---- answers ---- */

static void add_token_string(struct buf *out, struct slice bytes)
{
    struct buf mended;
    buf_init(&mended, 0);
    utf8_mend(&mended, bytes);
    if (buf_status(&mended) == OK) js_add_string(out, buf_slice(&mended));
    else out->status = NO_MEMORY;
    buf_release(&mended);
}

/* llama.cpp's piece: a string, or the bytes when they are no text by themselves. */
static void add_piece(struct buf *out, uint32_t id, struct slice bytes)
{
    buf_addf(out, "{\"id\":%u,\"piece\":", id);
    if (utf8_valid(bytes)) {
        js_add_string(out, bytes);
    } else {
        for (size_t i = 0; i < bytes.size; i++)
            buf_addf(out, "%c%u", i ? ',' : '[', (uint8_t)bytes.data[i]);
        buf_add_byte(out, ']');
    }
    buf_add_byte(out, '}');
}

static void answer_ids(const struct tokenizing *t)
{
    const struct service *service = t->request->service;
    struct buf *out = &t->request->out;

    buf_addf(out, "{\"count\":%zu,\"max_model_len\":%u,\"tokens\":[", t->ids.count,
             service->context_tokens);
    for (size_t i = 0; i < t->ids.count; i++) {
        if (i) buf_add_byte(out, ',');
        if (t->pieces) add_piece(out, t->ids.id[i], vocab_bytes(service->vocab, t->ids.id[i]));
        else buf_addf(out, "%u", t->ids.id[i]);
    }
    buf_add_byte(out, ']');
    if (t->strings) {
        buf_add_string(out, ",\"token_strs\":[");
        for (size_t i = 0; i < t->ids.count; i++) {
            if (i) buf_add_byte(out, ',');
            add_token_string(out, vocab_bytes(service->vocab, t->ids.id[i]));
        }
        buf_add_byte(out, ']');
    }
    if (t->text.data) {
        buf_add_string(out, ",\"prompt\":");
        js_add_string(out, t->text);
    }
    buf_add_byte(out, '}');
}

/* ---- the two handlers' work ---- */

static enum status too_long(struct tokenizing *t, const char *key)
{
    return refuse_field_as(&t->top, REFUSE_CONTEXT, key,
                           "found more than %u tokens, wanted at most "
                           "as many as the context",
                           t->request->service->context_tokens);
}

static enum status tokenize_text(struct tokenizing *t)
{
    const struct service *service = t->request->service;
    struct slice text = { 0 }, content = { 0 };
    bool bos = true, add = false, parse = true;
    enum status status = field_text(&t->top, "prompt", 0, &text);

    if (status == OK) status = field_text(&t->top, "content", 0, &content);
    if (status == OK) status = field_bool(&t->top, "add_special_tokens", &bos);
    if (status == OK) status = field_bool(&t->top, "add_special", &add);
    if (status == OK) status = field_bool(&t->top, "parse_special", &parse);
    if (status != OK) return status;
    bool llama = !text.data;
    if (llama && !content.data)
        return refuse_field(&t->top, "prompt", "missing, wanted a string, or messages");

    struct tokenizer_scratch *scratch = jobs_scratch();
    if (!scratch) return no_memory(t);
    struct slice whole = llama ? content : text;
    uint32_t id = vocab_find(service->vocab, SLICE(BOS_TEXT));
    if ((llama ? add : bos) && id != VOCAB_NONE && !slice_starts(whole, SLICE(BOS_TEXT)))
        id_list_add(&t->ids, id);
    status = parse ? tokenizer_encode_marked(service->tokenizer, scratch, whole, &t->ids)
                   : tokenizer_encode_literal(service->tokenizer, scratch, whole, &t->ids);
    if (status == TOO_LONG) return too_long(t, llama ? "content" : "prompt");
    return status == OK ? OK : no_memory(t);
}

/* The body is read again, as the chat request that it is. */
static enum status tokenize_messages(struct tokenizing *t)
{
    struct request *request = t->request;
    struct slice body = { request->body, request->body_size };
    struct chat_request chat;
    struct prompt prompt = { 0 };
    struct prompt_ends ends;

    enum status status = openai_chat_read(request->service, request->base, body, &request->arena,
                                          &chat, &t->refused);
    if (status != OK) return status;
    status = chat_tokens(request, &chat, &prompt, &t->ids, &ends, &t->refused);
    if (status == OK) t->text = arena_copy(&request->arena, buf_slice(&prompt.text));
    prompt_release(&prompt);
    openai_chat_release(&chat);
    return status == OK && !t->text.data ? no_memory(t) : status;
}

static enum status tokenize(struct tokenizing *t)
{
    const struct json *messages = js_get(t->top.object, "messages");
    enum status status = field_bool(&t->top, "return_token_strs", &t->strings);

    if (status == OK) status = field_bool(&t->top, "with_pieces", &t->pieces);
    if (status == OK) status = check_model(t);
    if (status == OK)
        status = messages && js_kind(messages) != JS_NULL ? tokenize_messages(t) : tokenize_text(t);
    if (status == OK) answer_ids(t);
    return status;
}

static enum status detokenize(struct tokenizing *t)
{
    const struct vocab *vocab = t->request->service->vocab;
    const struct json *list;
    const uint32_t *id;
    uint32_t tokens;
    struct detok detok;
    struct buf text;

    enum status status = check_model(t);
    if (status == OK) status = field_get(&t->top, "tokens", JS_ARRAY, &list);
    if (status != OK) return status;
    if (!list) return refuse_field(&t->top, "tokens", "missing, wanted token ids");
    status = openai_read_ids(&t->top, "tokens", list, vocab, &t->request->arena, &id, &tokens);
    if (status != OK) return status;

    buf_init(&text, 0);
    detok_init(&detok, vocab, DETOK_SHOW_SPECIAL);
    for (uint32_t i = 0; i < tokens; i++) detok_add(&detok, id[i], &text);
    detok_finish(&detok, &text);
    if (buf_status(&text) == OK) {
        static const char *const name[] = { "{\"prompt\":", ",\"content\":" };
        for (size_t i = 0; i < 2; i++) {
            buf_add_string(&t->request->out, name[i]);
            js_add_string(&t->request->out, buf_slice(&text));
        }
        buf_add_byte(&t->request->out, '}');
    } else {
        status = no_memory(t);
    }
    buf_release(&text);
    return status;
}

static void run(struct request *request, enum status (*work)(struct tokenizing *t))
{
    struct tokenizing t = { .request = request };
    struct js_limits limits = openai_ids_limits(request->service);
    struct json *root;

    id_list_init(&t.ids, request->service->context_tokens);
    enum status status =
        js_parse(request->body, request->body_size, &limits, &root, &t.refused.err);
    if (status == OK) {
        t.top = (struct fields){ root, "", &t.refused };
        status = js_kind(root) == JS_OBJECT
                     ? work(&t)
                     : refuse_field(&t.top, NULL, "found %s, wanted a JSON object",
                                    js_kind_name(js_kind(root)));
        js_free(root);
    } else {
        t.refused.refusal = status == NO_MEMORY ? REFUSE_FULL : REFUSE_BAD_REQUEST;
    }
    if (status == OK && buf_status(&request->out) != OK) status = no_memory(&t);
    id_list_release(&t.ids);
    if (status != OK)
        request_refuse(request, t.refused.refusal, t.refused.param[0] ? t.refused.param : NULL,
                       t.refused.err.text);
    request->done = true;
}

static void prep_tokenize(struct request *request)
{
    run(request, tokenize);
}

static void prep_detokenize(struct request *request)
{
    run(request, detokenize);
}

const struct handler tokenize_handler = { .prep = prep_tokenize };
const struct handler detokenize_handler = { .prep = prep_detokenize };
