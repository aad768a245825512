/* grammar_in.c - a grammar's source, and the digest that it is known by. */
#include "server/grammar_in.h"
#include "config/sha256.h"
#include "config/utf8.h"
#include "server/grammars.h"

/* What the prompt holds of the answer's content: the last message's, where it is to be continued. */
static struct slice begun_of(const struct chat *chat)
{
    const struct chat_message *last = &chat->message[chat->message_count - 1];
    return last->prefix && last->content.data ? last->content : SLICE("");
}

static bool is_called_for(const struct chat *chat, const struct chat_tool *tool)
{
    return chat->tool_choice != CHAT_TOOLS_NAMED || slice_equal(tool->name, chat->tool_choice_name);
}

/* tool[chat->tool_count] receives those that may be called. */
static void set_calls(const struct chat_request *request, struct grammar_tool *tool,
                      struct grammar_source *source)
{
    const struct chat *chat = &request->chat;

    if (!chat->tool_count || chat->tool_choice == CHAT_TOOLS_NONE) return;
    for (size_t i = 0; i < chat->tool_count; i++) {
        const struct chat_tool *from = &chat->tool[i];
        if (!is_called_for(chat, from)) continue;
        tool[source->tools++] = (struct grammar_tool){ .name = from->name,
                                                       .parameters = from->schema,
                                                       .strict = from->strict,
                                                       .field = from->field };
    }
    source->calls =
        chat->tool_choice == CHAT_TOOLS_AUTO ? GRAMMAR_CALLS_AUTO : GRAMMAR_CALLS_REQUIRED;
    source->tool = tool;
    source->one_call = request->answer.one_call;
}

/* Hundreds of tools with dozens of parameters each pass the limits of a grammar. Where nothing strict is
 * promised, calls are then held to their form and to the tools' names, and parameters may have any. */
static bool let_names_go(struct grammar_tool *tool, const struct grammar_source *source)
{
    for (uint32_t i = 0; i < source->tools; i++)
        if (tool[i].strict) return false;
    for (uint32_t i = 0; i < source->tools; i++) tool[i].parameters = NULL;
    return source->tools > 0;
}

/* ---- the key ---- */

/* Where no keys are asked for, nobody's. */
static const char *tenant_name(const struct request *request)
{
    if (request->caller.access && !access_asks_for_keys(request->caller.access)) return "";
    return request->caller.tenant ? request->caller.tenant->name : "";
}

static void add_part(struct buf *out, struct slice text)
{
    buf_addf(out, "%zu ", text.size);
    buf_add_slice(out, text);
}

/* All that the grammar depends on, each part with its length: no two requests that differ in one spell
 * the same bytes. The texts are those that the prompt shows, written in one way from the schemas. */
static enum status make_key(const struct request *request, const struct chat_request *chat,
                            const struct grammar_source *source, struct grammar_key *key)
{
    struct buf text;

    buf_init(&text, 0);
    add_part(&text, slice_of(tenant_name(request)));
    buf_addf(&text, "%d %d %d %d %u ", source->start, source->content, source->calls,
             source->one_call, source->tools);
    if (source->content == GRAMMAR_CONTENT_SCHEMA) add_part(&text, chat->chat.response_format);
    add_part(&text, source->begun);
    for (size_t i = 0; source->tools && i < chat->chat.tool_count; i++) {
        const struct chat_tool *tool = &chat->chat.tool[i];
        if (!is_called_for(&chat->chat, tool)) continue;
        add_part(&text, tool->name);
        buf_addf(&text, "%d ", tool->strict);
        add_part(&text, tool->parameters);
    }
    enum status status = buf_status(&text);
    struct sha256_part whole = { text.data, text.size };
    if (status == OK) sha256(&whole, 1, key->byte);
    buf_release(&text);
    return status;
}

/* ---- refusals ---- */

/* Names in it may have been cut amid a character. */
static void mend(char *text)
{
    for (struct slice rest = slice_of(text); rest.size;) {
        struct utf8_char c = utf8_read(rest);
        if (!c.valid) text[rest.data - text] = '?';
        rest = slice_from(rest, c.valid ? c.size : 1);
    }
}

/* The sentence begins with the field: "FIELD: ..." or "FIELD at /POINTER: ...". */
static enum status refuse(enum status status, struct refused *refused)
{
    refused->refusal = status == NO_MEMORY   ? REFUSE_FULL
                       : status == BUSY      ? REFUSE_RATE
                       : status == BAD_INPUT ? REFUSE_UNSUPPORTED
                                             : REFUSE_BAD_REQUEST;
    mend(refused->err.text);
    size_t size = strcspn(refused->err.text, " :");
    const char *rest = refused->err.text + size;
    bool named = *rest == ':' || strncmp(rest, " at /", 5) == 0;
    if (!named || size >= sizeof refused->param) size = 0;
    memcpy(refused->param, refused->err.text, size);
    refused->param[size] = '\0';
    return status;
}

enum status grammar_of_request(const struct request *request, const struct chat_request *chat,
                               enum prompt_end end, struct grammar **grammar,
                               struct refused *refused)
{
    static const enum grammar_start start[] = { [PROMPT_IN_CONTENT] = GRAMMAR_IN_CONTENT,
                                                [PROMPT_IN_REASONING] = GRAMMAR_IN_REASONING,
                                                [PROMPT_IN_CALLS] = GRAMMAR_IN_BLOCK,
                                                [PROMPT_COMPLETE] = GRAMMAR_IN_CONTENT };
    struct grammar_source source = { .start = start[end],
                                     .content = chat->form.content,
                                     .schema = chat->form.schema,
                                     .schema_field = chat->form.field,
                                     .dialect = request->service->format->dialect };
    struct grammar_key key;
    const struct grammars_wish wish = { &key, tenant_name(request), &source };
    struct grammar_tool *tool = calloc(chat->chat.tool_count + 1, sizeof *tool);
    enum status status = tool ? OK : NO_MEMORY;

    *grammar = NULL;
    refused->err.text[0] = '\0';
    if (status == OK) set_calls(chat, tool, &source);
    bool json = source.content != GRAMMAR_CONTENT_FREE;
    if (json && end == PROMPT_IN_CONTENT) source.begun = begun_of(&chat->chat);
    struct grammars *grammars = request->service->grammars;
    if (status == OK && (source.calls || json)) {
        status = make_key(request, chat, &source, &key);
        if (status == OK) status = grammars_get(grammars, &wish, grammar, &refused->err);
        if (status == TOO_LONG && let_names_go(tool, &source))
            status = grammars_get(grammars, &wish, grammar, &refused->err);
    }
    free(tool);
    if (status == NO_MEMORY && !refused->err.text[0])
        fail(&refused->err, status, "no memory for this request now");
    return status == OK ? OK : refuse(status, refused);
}
