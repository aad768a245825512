/* responses_items.c - instructions and input, item by item (api.md 5).
 *
 *     reasoning, message, function_call, custom_tool_call -> one assistant turn with its neighbours
 *     ..._output                                          -> right behind the turn of its call
 *
 * Outputs are found by their call's id, wherever they stand behind it: agents put other items between.
 */
#include "server/responses_parts.h"
#include "server/sealed_text.h"
#include "server/turns.h"

enum { ITEMS_MOST = 32768 };

enum item {
    ITEM_MESSAGE,
    ITEM_CALL,
    ITEM_OUTPUT,
    ITEM_CUSTOM_CALL,
    ITEM_CUSTOM_OUTPUT,
    ITEM_REASONING,
    ITEM_PASSED_OVER,  // traces of tools that the hosted services run
    ITEM_REFERENCE,
    ITEM_OTHER,
};

static const struct item_row {
    const char *type;
    enum item item;
} item_rows[] = {
    { "message", ITEM_MESSAGE },
    { "function_call", ITEM_CALL },
    { "function_call_output", ITEM_OUTPUT },
    { "custom_tool_call", ITEM_CUSTOM_CALL },
    { "custom_tool_call_output", ITEM_CUSTOM_OUTPUT },
    { "reasoning", ITEM_REASONING },
    { "web_search_call", ITEM_PASSED_OVER },
    { "file_search_call", ITEM_PASSED_OVER },
    { "image_generation_call", ITEM_PASSED_OVER },
    { "code_interpreter_call", ITEM_PASSED_OVER },
    { "item_reference", ITEM_REFERENCE },
    { NULL, ITEM_OTHER },
};

/* A call or an output, by its call's id. */
struct known_id {
    struct slice id;
    size_t item;
    bool output;
};

struct reading {
    struct openai_reader *r;
    struct turns turns;
    const struct json *list;  // the items
    size_t *call_item;        // [turns.calls]; where each call stands
    struct known_id *known;   // [known_count]; sorted by id, calls before outputs
    size_t known_count;
    char path[32];  // "input[32767]."
    struct fields at;
};

static void look_at(struct reading *m, size_t index)
{
    snprintf(m->path, sizeof m->path, "input[%zu].", index);
    m->at.object = js_at(m->list, index);
}

/* ---- text ---- */

/* Part `index` of a list: text under whichever of its names. */
static enum status read_part(const struct fields *at, struct slice *text)
{
    static const char *const types[] = {
        "input_text",     "output_text", "text",       "summary_text", "refusal",
        "reasoning_text", "input_image", "input_file", "input_audio",  NULL
    };
    int type = -1;

    if (js_kind(at->object) != JS_OBJECT)
        return refuse_field(at, NULL, "found %s, wanted an object",
                            js_kind_name(js_kind(at->object)));
    enum status status = field_word(at, "type", types, &type);
    if (status != OK) return status;
    if (type < 0) return refuse_field(at, "type", "found nothing, wanted input_text");
    if (type > 5)
        return refuse_field_as(at, REFUSE_UNSUPPORTED, "type",
                               "found %s, wanted text: this model reads nothing else", types[type]);
    const char *key = type == 4 ? "refusal" : "text";
    if ((status = field_text(at, key, 0, text)) != OK) return status;
    if (!text->data) return refuse_field(at, key, "found nothing, wanted a string");
    return openai_check_text(at, key, *text);
}

/* A string or a list of parts; absent stays absent. */
static enum status read_texts(struct reading *m, const char *key, struct slice *text)
{
    const struct json *node = js_get(m->at.object, key);
    char path[FIELDS_PATH_MOST];
    enum status status;

    if (!node || js_kind(node) == JS_NULL) return OK;
    if (js_kind(node) == JS_STRING) {
        *text = js_string(node);
        return openai_check_text(&m->at, key, *text);
    }
    if (js_kind(node) != JS_ARRAY)
        return refuse_field(&m->at, key, "found %s, wanted a string or an array of parts",
                            js_kind_name(js_kind(node)));
    struct slice *part = arena_array(m->r->arena, js_count(node) + 1, sizeof *part);
    if (!part) return refuse_memory(m->at.refused);
    for (size_t i = 0; i < js_count(node); i++) {
        snprintf(path, sizeof path, "%s%s[%zu].", m->path, key, i);
        struct fields at = { js_at(node, i), path, m->at.refused };
        if ((status = read_part(&at, &part[i])) != OK) return status;
    }
    if ((status = turns_join(&m->turns, part, js_count(node), text)) != OK) return status;
    if (!text->data) *text = SLICE("");
    return OK;
}

/* ---- kinds and ids ---- */

static enum status read_type(struct reading *m, enum item *item)
{
    struct slice type = SLICE("message");
    const struct item_row *row = item_rows;

    if (js_kind(m->at.object) != JS_OBJECT)
        return refuse_field(&m->at, NULL, "found %s, wanted an object",
                            js_kind_name(js_kind(m->at.object)));
    enum status status = field_text(&m->at, "type", 0, &type);
    if (status != OK) return status;
    while (row->type && !slice_equal(type, slice_of(row->type))) row++;
    *item = row->item;
    if (row->item == ITEM_REFERENCE)
        return refuse_field_as(&m->at, REFUSE_UNSUPPORTED, "type",
                               "found item_reference, wanted the item itself: this server keeps "
                               "nothing between requests");
    if (row->item == ITEM_OTHER)
        return refuse_field_as(&m->at, REFUSE_UNSUPPORTED, "type",
                               "found another type, wanted message, reasoning, function_call, "
                               "custom_tool_call or the output of one");
    return OK;
}

static bool is_call(enum item item)
{
    return item == ITEM_CALL || item == ITEM_CUSTOM_CALL;
}

static bool is_output(enum item item)
{
    return item == ITEM_OUTPUT || item == ITEM_CUSTOM_OUTPUT;
}

static int by_id(const void *a, const void *b)
{
    const struct known_id *x = a, *y = b;
    size_t size = x->id.size < y->id.size ? x->id.size : y->id.size;
    int order = memcmp(x->id.data, y->id.data, size);

    if (order) return order;
    if (x->id.size != y->id.size) return x->id.size < y->id.size ? -1 : 1;
    if (x->output != y->output) return x->output ? 1 : -1;
    return (x->item > y->item) - (x->item < y->item);
}

/* Of one id there is one call and, behind it, one output. */
static enum status check_ids(struct reading *m)
{
    for (size_t i = 0; i < m->known_count; i++) {
        const struct known_id *id = &m->known[i];
        const struct known_id *next = i + 1 < m->known_count ? id + 1 : NULL;
        const char *fault = NULL;

        if (next && !slice_equal(next->id, id->id)) next = NULL;
        look_at(m, next ? next->item : id->item);
        if (next && next->output == id->output) fault = "found an id again, wanted each once";
        else if (id->output) fault = "found the output of no call, wanted the call in this input";
        else if (!next) fault = "found a call without its output, wanted one in this input";
        else if (next->item < id->item) fault = "found an output before its call";
        if (fault) return refuse_field(&m->at, "call_id", "%s", fault);
        i++;  // past the output
    }
    return OK;
}

static enum status gather_ids(struct reading *m)
{
    enum item item = ITEM_OTHER;
    enum status status;

    for (size_t i = 0; i < js_count(m->list); i++) {
        look_at(m, i);
        if ((status = read_type(m, &item)) != OK) return status;
        if (!is_call(item) && !is_output(item)) continue;
        struct known_id *id = &m->known[m->known_count++];
        *id = (struct known_id){ .item = i, .output = is_output(item) };
        if ((status = field_text(&m->at, "call_id", 0, &id->id)) != OK) return status;
        if (!id->id.size) return refuse_field(&m->at, "call_id", "found nothing, wanted an id");
    }
    qsort(m->known, m->known_count, sizeof *m->known, by_id);
    return check_ids(m);
}

/* Where the output of the call stands; check_ids knows that it does. */
static size_t output_of(const struct reading *m, const struct chat_call *call, size_t item)
{
    struct known_id key = { .id = call->id, .item = item };
    const struct known_id *found = bsearch(&key, m->known, m->known_count, sizeof key, by_id);
    must(found && !found->output);
    return found[1].item;
}

/* ---- items ---- */

/* The turn is over: its message, and a result for each of its calls. */
static enum status end_turn(struct reading *m)
{
    size_t first = m->turns.first_call;
    struct chat_message *turn, *result;
    enum status status = turns_end(&m->turns, &turn);

    if (status != OK || !turn) return status;
    for (size_t i = 0; i < turn->call_count && status == OK; i++) {
        struct slice text = SLICE("");
        look_at(m, output_of(m, &turn->call[i], m->call_item[first + i]));
        status = read_texts(m, "output", &text);
        if (status == OK) status = turns_add(&m->turns, CHAT_TOOL, text, &result);
        if (status == OK) result->tool_call_id = turn->call[i].id;
    }
    return status;
}

static enum status read_message(struct reading *m)
{
    static const char *const roles[] = { "user", "assistant", "system", "developer", NULL };
    static const enum chat_role role_of[] = { CHAT_USER, CHAT_ASSISTANT, CHAT_SYSTEM, CHAT_SYSTEM };
    struct chat_message *message;
    struct slice text = { 0 };
    int role = -1;
    enum status status = field_word(&m->at, "role", roles, &role);

    if (status != OK) return status;
    if (role < 0) return refuse_field(&m->at, "role", "found nothing, wanted a role");
    if ((status = read_texts(m, "content", &text)) != OK) return status;
    if (!text.data)
        return refuse_field(&m->at, "content",
                            "found nothing, wanted a string or an array of parts");
    if (role_of[role] == CHAT_ASSISTANT) {
        turns_say(&m->turns, text);
        return OK;
    }
    if ((status = end_turn(m)) != OK) return status;
    return turns_add(&m->turns, role_of[role], text, &message);
}

/* The text itself, or the copy that was sent with it; a copy of somebody else's is passed over. */
static enum status read_reasoning(struct reading *m)
{
    struct slice text = { 0 }, sealed = { 0 };
    enum status status = read_texts(m, "content", &text);

    if (status == OK) status = field_text(&m->at, "encrypted_content", 0, &sealed);
    if (status != OK) return status;
    if (!text.size && sealed.size) {
        status = sealed_text_open(m->r->arena, sealed, &text);
        if (status == NO_MEMORY) return refuse_memory(m->at.refused);
        if (status != OK) return OK;
        if ((status = openai_check_text(&m->at, "encrypted_content", text)) != OK) return status;
    }
    if (text.size) turns_think(&m->turns, text);
    return OK;
}

/* A custom tool's text is the one argument of the function that stands for it. */
static struct slice input_as_arguments(struct arena *arena, struct slice input)
{
    struct buf text;
    struct slice copy = { NULL, 0 };

    buf_init(&text, 0);
    buf_add_string(&text, "{\"" CUSTOM_INPUT "\": ");
    js_add_string(&text, input);
    buf_add_byte(&text, '}');
    if (buf_status(&text) == OK) copy = arena_copy(arena, buf_slice(&text));
    buf_release(&text);
    return copy;
}

static enum status read_call(struct reading *m, size_t index, bool custom)
{
    const char *key = custom ? "input" : "arguments";
    struct slice space = { 0 }, name = { 0 }, text = SLICE("");
    m->call_item[m->turns.calls] = index;
    struct chat_call *call = turns_call(&m->turns);
    enum status status = field_text(&m->at, "call_id", 0, &call->id);

    if (status == OK) status = field_text(&m->at, "name", 0, &name);
    if (status == OK) status = field_text(&m->at, "namespace", 0, &space);
    if (status == OK) status = field_text(&m->at, key, 0, &text);
    if (status == OK) status = openai_check_text(&m->at, key, text);
    if (status != OK) return status;
    if (!name.size) return refuse_field(&m->at, "name", "found nothing, wanted a name");
    call->name = responses_full_name(m->r->arena, space, name);
    call->arguments = custom ? input_as_arguments(m->r->arena, text) : text;
    return call->name.data && call->arguments.data ? OK : refuse_memory(m->at.refused);
}

static enum status read_item(struct reading *m, size_t index)
{
    enum item item = ITEM_OTHER;

    look_at(m, index);
    enum status status = read_type(m, &item);
    if (status != OK) return status;
    switch (item) {
    case ITEM_MESSAGE:
        return read_message(m);
    case ITEM_REASONING:
        return read_reasoning(m);
    case ITEM_CALL:
    case ITEM_CUSTOM_CALL:
        return read_call(m, index, item == ITEM_CUSTOM_CALL);
    case ITEM_OUTPUT:
    case ITEM_CUSTOM_OUTPUT:
        return end_turn(m);
    default:
        return OK;
    }
}

static enum status read_list(struct reading *m)
{
    enum status status = gather_ids(m);

    for (size_t i = 0; i < js_count(m->list) && status == OK; i++) status = read_item(m, i);
    if (status != OK) return status;
    bool open = turns_open(&m->turns);
    if ((status = end_turn(m)) != OK) return status;
    const struct chat *chat = m->turns.chat;
    if (open && chat->message[chat->message_count - 1].role == CHAT_ASSISTANT)
        return refuse_field(
            &m->r->top, "input",
            "found an assistant's message at the end, wanted a user's or the output "
            "of a call");
    return OK;
}

enum status responses_read_items(struct openai_reader *r)
{
    struct reading m = { .r = r, .at = { .path = m.path, .refused = r->top.refused } };
    const struct json *input = js_get(r->top.object, "input");
    struct slice instructions = { 0 };
    struct chat_message *message;
    enum status status = field_text(&r->top, "instructions", 0, &instructions);

    if (status != OK) return status;
    if (input && js_kind(input) == JS_NULL) input = NULL;
    bool list = input && js_kind(input) == JS_ARRAY;
    if (input && !list && js_kind(input) != JS_STRING)
        return refuse_field(&r->top, "input", "found %s, wanted a string or an array of items",
                            js_kind_name(js_kind(input)));
    size_t count = list ? js_count(input) : 1;
    if (count > ITEMS_MOST)
        return refuse_field(&r->top, "input", "found %zu items, wanted at most %d", count,
                            ITEMS_MOST);
    m.list = input;
    m.known = arena_array(r->arena, count + 1, sizeof *m.known);
    m.call_item = arena_array(r->arena, count + 1, sizeof *m.call_item);
    if (!m.known || !m.call_item) return refuse_memory(r->top.refused);
    // calls and their outputs are a piece and a message each, and so are instructions
    if ((status = turns_init(&m.turns, r, 2 * count + 1)) != OK) return status;

    if ((status = openai_check_text(&r->top, "instructions", instructions)) != OK) return status;
    if (instructions.size) status = turns_add(&m.turns, CHAT_SYSTEM, instructions, &message);
    if (status == OK && list) {
        status = read_list(&m);
    } else if (status == OK && input) {
        status = openai_check_text(&r->top, "input", js_string(input));
        if (status == OK) status = turns_add(&m.turns, CHAT_USER, js_string(input), &message);
    }
    if (status != OK) return status;
    if (!r->out->chat.message_count)
        return refuse_field(&r->top, "input", "found nothing, wanted input or instructions");
    return openai_check_reasoning(r, "input");
}
