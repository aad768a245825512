/* admin_control.c - whether work is taken, what is logged, and reading the configuration again. */
#include <string.h>
#include "config/log.h"
#include "server/admin_parts.h"
#include "server/errors.h"
#include "server/notify.h"
#include "server/requests_look.h"

static const char *const level_name[] = { [OPT_LOG_LEVEL_ERROR] = "error",
                                          [OPT_LOG_LEVEL_WARN] = "warn",
                                          [OPT_LOG_LEVEL_INFO] = "info",
                                          [OPT_LOG_LEVEL_DEBUG] = "debug" };

/* The door moves between open and closed alone: nobody opens what is shutting down. */
static void move_door(struct request *request, enum requests_door door)
{
    struct requests *requests = request->service->requests;
    enum requests_door now = requests_door(requests);

    if (now != DOOR_OPEN && now != DOOR_CLOSED)
        return request_refuse(request, REFUSE_CONFLICT, NULL,
                              now == DOOR_LOADING ? "the model is still being loaded"
                                                  : "the server is shutting down");
    requests_set_door(requests, door);
    admin_log(door == DOOR_CLOSED ? "drain" : "undrain", NULL);
    notify(door == DOOR_CLOSED ? "STATUS=drained by the operator" : "STATUS=ready");
    buf_addf(&request->out, "{\"door\":\"%s\",\"work\":%u}", requests_door_word(door),
             requests_count(requests).work);
}

static void answer_drain(struct request *request)
{
    move_door(request, DOOR_CLOSED);
}

static void answer_undrain(struct request *request)
{
    move_door(request, DOOR_OPEN);
}

static void on_reloaded(void *context, uint64_t number, const struct reload_answer *answer)
{
    struct admin *admin = context;
    struct request *request = requests_find(admin->setup.requests, number);

    if (!request) return;  // its client did not wait
    if (answer->status == OK) buf_add_slice(&request->out, answer->told);
    else
        request_refuse(request, answer->status == NO_MEMORY ? REFUSE_FULL : REFUSE_BAD_REQUEST,
                       NULL, answer->err->text);
    requests_answer(admin->setup.requests, request);
}

static void answer_reload(struct request *request)
{
    struct admin *admin = request->service->admin;
    struct reload_wish wish = { RELOAD_ALL, on_reloaded, admin, request->number };

    admin_log("reload", NULL);
    if (reload_ask(admin->setup.reload, &wish) == OK) request->later = true;
    else request_refuse(request, REFUSE_FULL, NULL, "no memory for this request now");
}

static void answer_level(struct request *request)
{
    buf_addf(&request->out, "{\"level\":\"%s\"}", level_name[log_level_now()]);
}

static void set_level(struct request *request, struct slice word)
{
    for (enum log_level_option level = 0; level < sizeof level_name / sizeof *level_name; level++) {
        if (!slice_equal(slice_of(level_name[level]), word)) continue;
        admin_log("log-level", level_name[level]);
        log_set_level(level);
        return answer_level(request);
    }
    request_refuse(request, REFUSE_BAD_REQUEST, "level",
                   "level: wanted error, warn, info or debug");
}

static void answer_set_level(struct request *request)
{
    struct admin_member member[] = { { "level", JS_STRING, true, NULL }, { 0 } };
    struct json *root = admin_body(request, member);

    if (!root) return;
    set_level(request, js_string(member[0].value));
    js_free(root);
}

const struct handler admin_drain_handler = { .answer = answer_drain };
const struct handler admin_undrain_handler = { .answer = answer_undrain };
const struct handler admin_reload_handler = { .answer = answer_reload };
const struct handler admin_level_handler = { .answer = answer_level };
const struct handler admin_set_level_handler = { .answer = answer_set_level };
