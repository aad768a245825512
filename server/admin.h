/* admin.h - the operator's side of a running daemon: HTTP over a unix socket, with routes of its own.
 *
 *     GET  /status /requests /tenants /keys /log-level /metrics
 *     POST /cancel {"id": 12} or {"request_id": "req-..."}       /drain /undrain /reload
 *     POST /log-level {"level": "debug"}
 *     POST /keys {"tenant", "scopes"?, "models"?, "expires"?}    /keys/revoke {"id", "now"?}
 *     POST /cache/flush                                          /cache/purge {"tenant", "user"?}
 *
 * Answers are JSON; errors are those of the public side. Whoever may open the socket may do
 * everything: it has mode 0600, and a peer of another user than ours or root gets no answer. Prompts
 * and answers are never shown here. None of this is ever served over TCP.
 *
 * Thread: the loop thread makes every call.
 */
#ifndef SERVER_ADMIN_H
#define SERVER_ADMIN_H

#include "server/loop.h"
#include "server/reload.h"
#include "server/requests.h"
#include "server/service.h"

struct admin;

struct admin_setup {
    const char *path;  // of the socket
    struct loop *loop;
    struct requests *requests;
    const struct service *service;
    struct reload *reload;
    struct access_slot *access;
};

/* Listens. BAD_INPUT, IO_FAILED, NO_MEMORY: err says why, and nothing is left. */
CHECKED enum status admin_open(const struct admin_setup *setup, struct admin **admin,
                               struct err *err);

/* Also takes the socket's name away. NULL: nothing. */
void admin_close(struct admin *admin);

#endif
