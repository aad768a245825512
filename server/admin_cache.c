/* admin_cache.c - the prefix cache forgets: what was asked, until the engine says that it is done. */
#include <string.h>
#include "config/log.h"
#include "engine/engine.h"
#include "server/admin_parts.h"
#include "server/cache_tenant.h"
#include "server/errors.h"
#include "server/requests_look.h"
#include "server/text_alias.h"
#include "server/tool_memory.h"

/* The answer comes with admin_purged; it is found by the request's number. */
static void begin(struct request *request, struct engine_purge *purge)
{
    struct engine *engine = request->service->engine;

    if (!engine)
        return request_refuse(request, REFUSE_LOADING, NULL, "the model is still being loaded");
    /* Neither of these is filed by tenant, and both grow again by themselves. */
    tool_memory_flush(request->service->tool_memory);
    if (request->service->text_alias) text_alias_flush(request->service->text_alias);
    purge->id = request->number;
    enum status status = engine_purge(engine, purge);
    if (status == BUSY)
        return request_refuse(request, REFUSE_FULL, NULL, "other purges are still under way");
    if (status != OK)
        return request_refuse(request, refusal_of(status), NULL, "the engine takes no purge now");
    request->later = true;
}

void admin_purged(void *context, const struct event *event)
{
    struct admin *admin = context;
    struct request *request = requests_find(admin->setup.requests, event->job);
    struct log_line line;

    log_begin(&line, event->finish == FINISH_STOP ? OPT_LOG_LEVEL_INFO : OPT_LOG_LEVEL_ERROR,
              "admin");
    log_text(&line, "action", SLICE("purged"));
    log_int(&line, "scopes", event->count);
    log_bool(&line, "disk_failed", event->finish != FINISH_STOP);
    log_end(&line);
    if (!request) return;  // its client did not wait
    if (event->finish == FINISH_STOP)
        buf_addf(&request->out, "{\"purged_scopes\":%u}", event->count);
    else
        request_refuse(request, REFUSE_INTERNAL, NULL,
                       "gone from memory, but the disk could not erase all of it: see the log");
    requests_answer(admin->setup.requests, request);
}

static void answer_flush(struct request *request)
{
    struct engine_purge purge = { .all = true };

    admin_log("flush", NULL);
    begin(request, &purge);
}

/* A user's scope is of tenant and user together; where users share what was computed, there is none. */
static bool set_user(struct request *request, const struct tenant *tenant, struct slice user,
                     struct engine_purge *purge)
{
    uint8_t digest[SHA256_BYTES] = { 0 };

    if (user.size && !tenant->isolate_users) {
        request_refuse(request, REFUSE_BAD_REQUEST, "user",
                       "the users of this tenant share what was computed (isolate_users is "
                       "false): only the whole tenant can be purged");
        return false;
    }
    cache_user_of(user, digest);
    purge->whole = user.size == 0;
    memcpy(purge->cache_owner, tenant->owner, sizeof purge->cache_owner);
    cache_tenant_of(tenant->owner, digest, purge->cache_tenant);
    return true;
}

static const struct tenant *find_tenant(const struct access *access, struct slice name)
{
    const struct tenant *tenant;

    for (uint32_t i = 0; (tenant = access_tenant(access, i)); i++)
        if (slice_equal(slice_of(tenant->name), name)) return tenant;
    return NULL;
}

static void answer_purge(struct request *request)
{
    struct admin_member member[] = { { "tenant", JS_STRING, true, NULL },
                                     { "user", JS_STRING, false, NULL },
                                     { 0 } };
    struct json *root = admin_body(request, member);
    struct engine_purge purge = { 0 };

    if (!root) return;
    struct slice name = js_string(member[0].value);
    struct slice user = member[1].value ? js_string(member[1].value) : SLICE("");
    const struct tenant *tenant = find_tenant(request->service->admin->setup.access->now, name);
    if (!tenant) {
        request_refuse(request, REFUSE_PATH, "tenant", "there is no tenant of this name");
    } else if (set_user(request, tenant, user, &purge)) {
        admin_log("purge", tenant->name);
        begin(request, &purge);
    }
    js_free(root);
}

const struct handler admin_flush_handler = { .answer = answer_flush };
const struct handler admin_purge_handler = { .answer = answer_purge };
