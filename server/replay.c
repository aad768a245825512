/* replay.c - the block is read again by the parser that read it first, and compared as trees. */
#include "server/replay.h"
#include "engine/text/py_json.h"
#include "engine/text/reply.h"

enum { STEPS_MOST = 1 << 20 };  // members looked at

struct comparing {
    uint32_t steps;
};

static bool same_node(struct comparing *c, const struct py_node *a, const struct py_node *b);

/* strtod wants its NUL; what the model may say is far shorter (JSON_TEXT_NUMBER). */
static double number_of(const struct py_node *node)
{
    char text[400] = "";
    size_t size = node->text.size < sizeof text ? node->text.size : sizeof text - 1;
    memcpy(text, node->text.data, size);
    return strtod(text, NULL);
}

static bool is_number(const struct py_node *node)
{
    return node->kind == JS_INT || node->kind == JS_REAL;
}

static bool same_array(struct comparing *c, const struct py_node *a, const struct py_node *b)
{
    const struct py_node *x = a->first, *y = b->first;
    for (; x && y; x = x->next, y = y->next)
        if (!same_node(c, x, y)) return false;
    return !x && !y;
}

/* The member with this key, most likely the one that `from` says; NULL: none, or it took too long. */
static const struct py_node *member(struct comparing *c, const struct py_node *object,
                                    const struct py_node *from, struct slice key)
{
    if (from && slice_equal(from->key, key)) return from;
    for (const struct py_node *m = object->first; m && c->steps < STEPS_MOST; m = m->next) {
        c->steps++;
        if (slice_equal(m->key, key)) return m;
    }
    return NULL;
}

static bool same_object(struct comparing *c, const struct py_node *a, const struct py_node *b)
{
    size_t more = 0;
    const struct py_node *y = b->first;
    for (const struct py_node *x = a->first; x; x = x->next, more++) {
        const struct py_node *found = member(c, b, y, x->key);
        if (!found || !same_node(c, x, found)) return false;
        if (y) y = y->next;
    }
    for (y = b->first; y; y = y->next) more--;
    return more == 0;  // keys are distinct
}

static bool same_node(struct comparing *c, const struct py_node *a, const struct py_node *b)
{
    /* Two integers are ids as often as numbers: each digit counts. */
    if (is_number(a) && is_number(b) && a->kind != b->kind) return number_of(a) == number_of(b);
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case JS_STRING:
    case JS_INT:
    case JS_REAL:  // as Python spells it: one text, one value
        return slice_equal(a->text, b->text);
    case JS_BOOL:
        return a->truth == b->truth;
    case JS_ARRAY:
        return same_array(c, a, b);
    case JS_OBJECT:
        return same_object(c, a, b);
    default:
        return true;
    }
}

bool replay_same_json(struct slice a, struct slice b)
{
    struct arena arena;
    struct py_node *x, *y;
    struct comparing comparing = { 0 };

    arena_init(&arena, 0);
    bool same = py_json_parse(&arena, a, &x, NULL) == OK &&
                py_json_parse(&arena, b, &y, NULL) == OK && same_node(&comparing, x, y);
    arena_release(&arena);
    return same;
}

/* ---- the block ---- */

struct reading {
    const struct chat_call *call;
    size_t count, at;
    bool same;
    struct buf arguments;  // of the call that is read
};

/* No arguments at all are those of an empty object (chat-encoding 4). */
static struct slice arguments_of(const struct chat_call *call)
{
    bool none = !call->arguments.size || slice_equal(call->arguments, SLICE("null"));
    return none ? SLICE("{}") : call->arguments;
}

static void take(void *owner, const struct reply_part *part)
{
    struct reading *r = owner;

    if (!r->same || part->kind < REPLY_CALL_START) return;
    if (part->kind == REPLY_CALL_START) {
        r->same = r->at < r->count && slice_equal(part->text, r->call[r->at].name);
        r->arguments.size = 0;
    } else if (part->kind == REPLY_CALL_ARGS) {
        buf_add_slice(&r->arguments, part->text);
    } else {
        r->same = r->arguments.status == OK &&
                  replay_same_json(buf_slice(&r->arguments), arguments_of(&r->call[r->at]));
        r->at++;
    }
}

bool replay_says(struct slice block, const struct reply_tools *tools, const struct chat_call *call,
                 size_t count)
{
    /* Without a tool nothing would be read as a call; an opened block takes any name. */
    static const struct reply_tool any = { .name = { "", 0 } };
    static const struct reply_tools some = { &any, 1 };
    struct reading reading = { .call = call, .count = count, .same = true };
    struct reply_options options = { .start = REPLY_IN_CONTENT,
                                     .tools = tools->count ? tools : &some,
                                     .sink = { take, &reading } };
    struct reply *reply;
    enum reply_finish finish;

    if (reply_open(&options, &reply) != OK) return false;
    buf_init(&reading.arguments, 0);
    bool read = reply_feed(reply, block) == OK && reply_finish(reply, false, &finish) == OK;
    reply_close(reply);
    buf_release(&reading.arguments);
    return read && reading.same && reading.at == count;
}
