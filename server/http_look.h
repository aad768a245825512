/* http_look.h - the first look at a request: its head alone, before a byte of body is read.
 *
 * Finds the route and who asks, and everything about both that is wrong. Thread: the loop thread.
 */
#ifndef SERVER_HTTP_LOOK_H
#define SERVER_HTTP_LOOK_H

#include "server/access.h"
#include "server/header_check.h"
#include "server/routes.h"

struct options;

struct look {
    const struct route *routes;
    const struct options *options;
    struct access *access;  // NULL: no route asks who is there
    const char *method, *path;
    const struct headers *headers;  // without a fault
    uint64_t now_ns;
    bool cross_origin;  // from a web page that may ask
    bool loopback;      // nobody but this machine can ask

    /* What it found. */
    bool timed;  // the answer tells its processing time
    bool body;   // the route takes one
};

/* Fills the request's route, handler, base, tail, caller and deadline_ns; or refuses it: done is set. */
void http_look(struct request *request, struct look *look);

#endif
