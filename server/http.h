/* http.h - HTTP/1.1 over the loop; libmicrohttpd's one door.
 *
 * The library runs without a thread of its own: its epoll descriptor sits in our loop, and only the
 * loop thread calls it. A connection whose request waits is suspended; the library does not notice a
 * client that leaves a suspended connection, so our loop watches its socket for the hang-up.
 *
 *     accept -> HEADERS -> BODY -> WAITING (suspended) <-> SENDING -> IDLE -> HEADERS ...
 *                  |         |
 *                  +---------+-> LINGER: refused while the body still comes; the answer was written
 *                                past the library, the rest of the body is read and dropped
 *
 * HEADERS, BODY, IDLE and LINGER have absolute deadlines of their own, since the library's timeout
 * starts anew with every byte.
 *
 * Thread: the loop thread makes every call.
 */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include "server/loop.h"
#include "server/request.h"
#include "server/requests.h"
#include "server/routes.h"

struct http;

struct http_setup {
    struct loop *loop;
    struct requests *requests;
    const struct options *options;
    const struct route *routes;
    const struct access_slot *access;  // whose keys are asked for; NULL: none, nor who is there
    int listen_fd;                     // bound and listening, not blocking; the library closes it
    bool loopback;                     // only this machine can connect: no limit per address
    bool owner_only;       // a unix socket, for processes of our own user and of root alone
    unsigned connections;  // at most; 0: as the options say
};

CHECKED enum status http_open(const struct http_setup *setup, struct http **http, struct err *err);

/* Accepts no more connections; each answer from now on closes its own. */
void http_quiesce(struct http *http);

/* Ends every connection, whatever it does; each request is left. */
void http_close(struct http *http);

/* The library's version, for --version and /version. */
const char *http_library_version(void);

#endif
