/* requests.h - the requests under way: from a complete body to the engine's last event.
 *
 *     take -> READING --run--> PREPARING --> RUNNING --leave--> (freed)
 *                 \               |             |
 *                  \--leave-------+--leave------+--> LEFT --> (freed)
 *
 * LEFT is a request whose client is gone while a worker still has it or the engine has not yet
 * ended its jobs: they are cancelled, and the last END frees it. So no job runs that no request
 * here owns. Job ids carry slot and request number; an id of the past finds nobody.
 *
 * Thread: the loop thread makes every call.
 */
#ifndef SERVER_REQUESTS_H
#define SERVER_REQUESTS_H

#include "server/loop.h"
#include "server/request.h"

struct requests;

struct requests_setup {
    struct loop *loop;
    const struct service *service;  // its engine may still be NULL: loading
};

/* Whether new work is welcome. LEAVING: still, but /ready says no, so that balancers go elsewhere.
 * CLOSED: an operator sends none here for now. */
enum requests_door {
    DOOR_LOADING,
    DOOR_OPEN,
    DOOR_CLOSED,
    DOOR_LEAVING,
    DOOR_DRAINING,
    DOOR_FAILED,
};

CHECKED enum status requests_open(const struct requests_setup *setup, struct requests **requests,
                                  struct err *err);

/* Who is told that a request has something for its client: begun, out, done or broken. It must not
 * call back into requests from there. Before the first requests_take. */
void requests_on_wake(struct requests *requests,
                      void (*wake)(void *context, struct request *request), void *context);

/* Who gets the engine's EVENT_PURGED. */
void requests_on_purged(struct requests *requests,
                        void (*purged)(void *context, const struct event *event), void *context);

/* Every request must have been left. Waits for the workers and takes the engine's last events. */
void requests_close(struct requests *requests);

/* The model is there: service->engine is set, its events are watched, and the door opens. */
CHECKED enum status requests_begin(struct requests *requests, struct err *err);

void requests_set_door(struct requests *requests, enum requests_door door);
enum requests_door requests_door(const struct requests *requests);
const char *requests_door_word(enum requests_door door);

/* A new request, READING, with its number; NULL: no memory. End it with requests_leave. */
struct request *requests_take(struct requests *requests);

/* Handler and body are there: true when it is answered at once (request->done). Else a worker has the
 * request, and wake tells when it is back. */
bool requests_run(struct requests *requests, struct request *request);

/* The transport sent `size` bytes from the front of out. */
void requests_sent(struct requests *requests, struct request *request, size_t size);

/* The transport lets go of the request: its answer is whole (`whole`), or its connection is gone. */
void requests_leave(struct requests *requests, struct request *request, bool whole);

/* The rest of an answer that is `later` is there: http_status and out. */
void requests_answer(struct requests *requests, struct request *request);

/* Cuts every running job short; their replies end with what they have. */
void requests_cut(struct requests *requests);

struct requests_count {
    uint32_t taken;  // requests not yet freed
    uint32_t work;   // of them, those with work in prep or in the engine
};
struct requests_count requests_count(const struct requests *requests);

#endif
