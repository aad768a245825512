/* admin_parts.h - what the files of the admin side share; private to admin*.c. */
#ifndef SERVER_ADMIN_PARTS_H
#define SERVER_ADMIN_PARTS_H

#include "config/json.h"
#include "server/access.h"
#include "server/admin.h"
#include "server/http.h"
#include "server/recent.h"

#define ADMIN_BODY_MOST (64 << 10)  // bytes

struct admin {
    struct admin_setup setup;
    struct access_slot no_keys;  // the socket has rules of its own
    struct http *http;
    struct recent *recent;
    uint64_t opened_ns;
    struct key_edit *edit;  // admin_keys.c; NULL: none is under way
};

extern const struct handler admin_status_handler;     // admin_status.c
extern const struct handler admin_tenants_handler;    // admin_tenants.c
extern const struct handler admin_requests_handler;   // admin_requests.c
extern const struct handler admin_cancel_handler;     // admin_requests.c
extern const struct handler admin_drain_handler;      // admin_control.c
extern const struct handler admin_undrain_handler;    // admin_control.c
extern const struct handler admin_reload_handler;     // admin_control.c
extern const struct handler admin_level_handler;      // admin_control.c
extern const struct handler admin_set_level_handler;  // admin_control.c
extern const struct handler admin_flush_handler;      // admin_cache.c
extern const struct handler admin_purge_handler;      // admin_cache.c
extern const struct handler admin_keys_handler;       // admin_keys.c
extern const struct handler admin_new_key_handler;    // admin_keys.c
extern const struct handler admin_revoke_handler;     // admin_keys.c

/* Waits for an edit of the key file that is under way; admin_keys.c. */
void admin_keys_close(struct admin *admin);

/* The engine's answer to a purge; admin_cache.c. */
void admin_purged(void *context, const struct event *event);

/* One member that a body may have. */
struct admin_member {
    const char *name;
    enum js_kind kind;
    bool wanted;               // it must be there
    const struct json *value;  // filled: NULL when it is not there
};

/* Reads the body as an object of these members and no others; the list ends with a NULL name. NULL:
 * the request is refused. The caller frees the root with js_free. */
struct json *admin_body(struct request *request, struct admin_member *member);

/* One log line for whatever an operator does: who asked is known from the socket alone. */
void admin_log(const char *action, const char *about);

#endif
