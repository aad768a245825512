/* admin_requests.c - what is under way, oldest first, and how it is ended. */
#include <stdlib.h>
#include "config/clock.h"
#include "server/admin_parts.h"
#include "server/errors.h"
#include "server/requests_look.h"

#define SHOWN_MOST 1000  // more would hold the loop up for milliseconds

struct list {
    struct request_look *look;  // [count]
    uint32_t count, room;
};

static void put(void *context, const struct request_look *look)
{
    struct list *list = context;

    if (list->count < list->room) list->look[list->count++] = *look;
}

static int by_age(const void *a, const void *b)
{
    const struct request_look *x = a, *y = b;

    return x->number < y->number ? -1 : x->number > y->number;
}

static void add_text(struct buf *out, const char *name, const char *text)
{
    buf_addf(out, ",\"%s\":", name);
    js_add_string(out, slice_of(text));
}

static void add_look(struct buf *out, const struct request_look *look)
{
    buf_addf(out, "{\"id\":%llu", (unsigned long long)look->number);
    add_text(out, "request_id", look->id);
    add_text(out, "tenant", look->tenant);
    add_text(out, "key", look->key);
    add_text(out, "route", look->route);
    add_text(out, "model", look->model);
    add_text(out, "stage", look->stage);
    buf_addf(out, ",\"age_s\":%.3f", (double)look->age_ns / (double)NS_PER_S);
    buf_addf(out, ",\"prompt_tokens\":%u,\"cached_tokens\":%u,\"output_tokens\":%u,\"stream\":%s}",
             look->prompt_tokens, look->cached_tokens, look->output_tokens,
             look->stream ? "true" : "false");
}

static void answer_requests(struct request *request)
{
    struct requests *requests = request->service->requests;
    struct buf *out = &request->out;
    struct list list = { .room = requests_count(requests).taken };

    list.look = calloc(list.room ? list.room : 1, sizeof *list.look);
    if (!list.look) return request_refuse(request, REFUSE_FULL, NULL, "no memory for the list");
    requests_each(requests, put, &list);
    qsort(list.look, list.count, sizeof *list.look, by_age);
    buf_add_string(out, "{\"requests\":[");
    for (uint32_t i = 0; i < list.count && i < SHOWN_MOST; i++) {
        if (i) buf_add_byte(out, ',');
        add_look(out, &list.look[i]);
    }
    buf_addf(out, "],\"total\":%u}", list.count);
    free(list.look);
}

static void cancel(struct request *request, const struct admin_member *member)
{
    const struct json *number = member[0].value, *id = member[1].value;
    struct requests_choice choice = { 0 };
    char about[REQUEST_ID_MOST + 1];

    if (!number == !id)
        return request_refuse(request, REFUSE_BAD_REQUEST, NULL,
                              "wanted either id, a number of /requests, or request_id");
    if (number) choice.number = js_int(number) > 0 ? (uint64_t)js_int(number) : 0;
    if (number) snprintf(about, sizeof about, "%lld", (long long)js_int(number));
    else snprintf(about, sizeof about, "%.*s", (int)js_string(id).size, js_string(id).data);
    if (id) choice.id = about;
    uint32_t count = requests_cancel(request->service->requests, &choice);
    if (!count)
        return request_refuse(request, REFUSE_PATH, number ? "id" : "request_id",
                              "no request of this id is under way");
    admin_log("cancel", about);
    buf_addf(&request->out, "{\"cancelled\":%u}", count);
}

static void answer_cancel(struct request *request)
{
    struct admin_member member[] = { { "id", JS_INT, false, NULL },
                                     { "request_id", JS_STRING, false, NULL },
                                     { 0 } };
    struct json *root = admin_body(request, member);

    if (!root) return;
    cancel(request, member);
    js_free(root);
}

const struct handler admin_requests_handler = { .answer = answer_requests };
const struct handler admin_cancel_handler = { .answer = answer_cancel };
