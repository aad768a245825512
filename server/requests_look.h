/* requests_look.h - the requests under way, for whoever runs the daemon: to see, and to end them.
 *
 * Thread: the loop thread makes every call.
 */
#ifndef SERVER_REQUESTS_LOOK_H
#define SERVER_REQUESTS_LOOK_H

#include "server/requests.h"

/* One request; its texts live as long as the call that hands it out. */
struct request_look {
    uint64_t number;            // never reused
    const char *id;             // x-request-id; a client may use one twice
    const char *tenant, *key;   // names; "": none
    const char *route, *model;  // "": not known yet
    const char *stage;          // reading, preparing, queued, running, sending, leaving
    uint64_t age_ns;
    uint32_t prompt_tokens, cached_tokens, output_tokens;  // so far
    bool stream;
};

/* In no particular order. Requests that need no engine are not among them. */
void requests_each(const struct requests *requests,
                   void (*each)(void *context, const struct request_look *look), void *context);

/* Whom to cancel: the first field that is set decides. */
struct requests_choice {
    const char *id;   // every request of this id
    const char *key;  // every request that was let in by this key, by its id
    uint64_t number;  // this one
};

/* Ends them; each client is told. Returns how many there were. */
uint32_t requests_cancel(struct requests *requests, const struct requests_choice *choice);

/* The request of that number while its client waits, or NULL. */
struct request *requests_find(struct requests *requests, uint64_t number);

#endif
