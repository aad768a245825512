/* traceparent.h - W3C trace context: whose trace a request belongs to, for its log line.
 *
 *     traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
 *                  |  trace id, not all zero           parent id, likewise   flags
 *                  version
 *
 * Version 00 alone and exactly so; anything else is as if the header were absent, as the standard
 * demands of what cannot be read. tracestate is not looked at. Thread: any.
 */
#ifndef SERVER_TRACEPARENT_H
#define SERVER_TRACEPARENT_H

#include <stdbool.h>
#include "config/slice.h"

enum { TRACE_ID_SIZE = 32, SPAN_ID_SIZE = 16 };  // hexadecimal digits

struct traceparent {
    char trace_id[TRACE_ID_SIZE + 1];  // "": the request belongs to none
    char parent_id[SPAN_ID_SIZE + 1];  // the client's span
    char span_id[SPAN_ID_SIZE + 1];    // this request's own
    bool sampled;
};

/* Reads the header into *trace and draws a span id. False: it is not valid, and *trace is empty. */
bool traceparent_read(struct slice header, struct traceparent *trace);

#endif
