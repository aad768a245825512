/* admin.c - the socket, its routes, and how bodies are read. */
#include <string.h>
#include <unistd.h>
#include "config/log.h"
#include "server/admin_parts.h"
#include "server/errors.h"
#include "server/handlers.h"
#include "server/listen_unix.h"
#include "server/routes.h"

#define CONNECTIONS 32

static const struct route admin_routes[] = {
    { "/status", METHOD_GET, SCOPE_OPEN, &admin_status_handler, false },
    { "/requests", METHOD_GET, SCOPE_OPEN, &admin_requests_handler, false },
    { "/tenants", METHOD_GET, SCOPE_OPEN, &admin_tenants_handler, false },
    { "/metrics", METHOD_GET, SCOPE_OPEN, &metrics_handler, false },
    { "/cancel", METHOD_POST, SCOPE_OPEN, &admin_cancel_handler, true },
    { "/drain", METHOD_POST, SCOPE_OPEN, &admin_drain_handler, false },
    { "/undrain", METHOD_POST, SCOPE_OPEN, &admin_undrain_handler, false },
    { "/reload", METHOD_POST, SCOPE_OPEN, &admin_reload_handler, false },
    { "/log-level", METHOD_GET, SCOPE_OPEN, &admin_level_handler, false },
    { "/log-level", METHOD_POST, SCOPE_OPEN, &admin_set_level_handler, true },
    { "/keys", METHOD_GET, SCOPE_OPEN, &admin_keys_handler, false },
    { "/keys", METHOD_POST, SCOPE_OPEN, &admin_new_key_handler, true },
    { "/keys/revoke", METHOD_POST, SCOPE_OPEN, &admin_revoke_handler, true },
    { "/cache/flush", METHOD_POST, SCOPE_OPEN, &admin_flush_handler, false },
    { "/cache/purge", METHOD_POST, SCOPE_OPEN, &admin_purge_handler, true },
    { NULL, 0, 0, NULL, false },
};

/* ---- bodies ---- */

static bool refuse(struct request *request, const char *name, const char *sentence)
{
    request_refuse(request, REFUSE_BAD_REQUEST, name, sentence);
    return false;
}

static bool take_member(struct request *request, struct admin_member *member,
                        const struct js_member *found)
{
    char sentence[160];

    while (member->name && !slice_equal(slice_of(member->name), found->key)) member++;
    if (!member->name) {
        snprintf(sentence, sizeof sentence, "%.*s: there is no such field here",
                 (int)(found->key.size < 80 ? found->key.size : 80), found->key.data);
        return refuse(request, NULL, sentence);
    }
    if (js_kind(found->value) != member->kind) {
        snprintf(sentence, sizeof sentence, "%s: found %s, wanted %s", member->name,
                 js_kind_name(js_kind(found->value)), js_kind_name(member->kind));
        return refuse(request, member->name, sentence);
    }
    member->value = found->value;
    return true;
}

static bool take_members(struct request *request, struct admin_member *member,
                         const struct json *root)
{
    struct js_member found = { 0 };
    char sentence[160];

    if (js_kind(root) != JS_OBJECT) return refuse(request, NULL, "the body: wanted a JSON object");
    while (js_next(root, &found))
        if (!take_member(request, member, &found)) return false;
    for (; member->name; member++) {
        if (member->value || !member->wanted) continue;
        snprintf(sentence, sizeof sentence, "%s: it is missing, wanted %s", member->name,
                 js_kind_name(member->kind));
        return refuse(request, member->name, sentence);
    }
    return true;
}

struct json *admin_body(struct request *request, struct admin_member *member)
{
    struct json *root = NULL;
    struct err err = { "" };

    if (request->body_size == 0 || request->body_size > ADMIN_BODY_MOST) {
        refuse(request, NULL, "the body: wanted a JSON object of at most 64 KiB");
        return NULL;
    }
    if (js_parse(request->body, request->body_size, &js_request_limits, &root, &err) != OK) {
        refuse(request, NULL, err.text);
        return NULL;
    }
    if (take_members(request, member, root)) return root;
    js_free(root);
    return NULL;
}

void admin_log(const char *action, const char *about)
{
    struct log_line line;

    log_begin(&line, OPT_LOG_LEVEL_INFO, "admin");
    log_text(&line, "action", slice_of(action));
    if (about) log_text(&line, "about", slice_of(about));
    log_end(&line);
}

/* ---- open and close ---- */

enum status admin_open(const struct admin_setup *setup, struct admin **admin, struct err *err)
{
    struct admin *made = calloc(1, sizeof *made);
    struct http_setup http = { .loop = setup->loop,
                               .requests = setup->requests,
                               .options = setup->service->options,
                               .routes = admin_routes,
                               .loopback = true,
                               .owner_only = true,
                               .connections = CONNECTIONS };

    if (!made) return fail(err, NO_MEMORY, "admin: no memory");
    made->setup = *setup;
    made->opened_ns = loop_now_ns(setup->loop);
    http.access = &made->no_keys;
    enum status status = listen_unix(setup->path, &http.listen_fd, err);
    if (status != OK) goto free_made;
    status = recent_open(setup->loop, setup->service, &made->recent);
    if (status != OK) {
        fail(err, status, "admin: no memory");
        goto close_socket;
    }
    status = http_open(&http, &made->http, err);
    if (status != OK) goto close_recent;
    requests_on_purged(setup->requests, admin_purged, made);
    log_say(OPT_LOG_LEVEL_INFO, "admin", "listening at %s", setup->path);
    *admin = made;
    return OK;

close_recent:
    recent_close(made->recent);
close_socket:
    close(http.listen_fd);
    unlink(setup->path);
free_made:
    free(made);
    return status;
}

void admin_close(struct admin *admin)
{
    if (!admin) return;
    requests_on_purged(admin->setup.requests, NULL, NULL);
    admin_keys_close(admin);
    unlink(admin->setup.path);
    http_close(admin->http);
    recent_close(admin->recent);
    free(admin);
}
