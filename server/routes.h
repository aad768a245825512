/* routes.h - which handler a method and a path lead to, and what the path asks of the request.
 *
 * A path is taken as it came, without decoding, up to its `?`. Base paths (api.md 1) are cut off its
 * front: /v1, none, /beta, /anthropic, and /beta/v1 and /anthropic/v1 too; a slash at its end is
 * one too many and ignored.
 *
 * Thread: any; the table is constant.
 */
#ifndef SERVER_ROUTES_H
#define SERVER_ROUTES_H

#include "server/request.h"

enum method {
    METHOD_GET = 1,
    METHOD_POST = 2,
    METHOD_OPTIONS = 4,
    METHOD_OTHER = 8,
};  // HEAD comes as GET

enum route_scope { SCOPE_OPEN = 1, SCOPE_API, SCOPE_METRICS };  // a row without a scope is refused

struct route {
    const char *path;  // from behind the base path; a `*` at its end matches the rest, not empty
    enum method method;
    enum route_scope scope;
    const struct handler *handler;
    bool body;  // takes one, of JSON, up to the option body_limit
};

extern const struct route routes[];  // ends with a NULL path

struct route_match {
    const struct route *route;  // NULL: no such path, or not by this method
    uint16_t allow;             // the methods that the path has; 0 = no such path
    enum base_path base;
    struct slice tail;  // what `*` matched, still encoded
};

/* Why nothing is served under a path that other servers have, or that has no row at all. */
const char *route_refusal(struct slice path);

struct route_match route_find(const struct route *table, enum method method, struct slice path);

#endif
