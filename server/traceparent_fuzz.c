/* traceparent_fuzz.c - whatever is taken is spelled out again byte by byte, and nothing is half taken. */
#include "server/traceparent.h"
#include <stdint.h>
#include "config/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct traceparent trace;
    char again[64], *exact = malloc(size ? size : 1);  // so that a byte too far is seen
    must(exact);
    if (size) memcpy(exact, data, size);
    bool valid = traceparent_read((struct slice){ exact, size }, &trace);
    must(valid == (trace.trace_id[0] != 0) && valid == (trace.span_id[0] != 0));
    must(strlen(trace.trace_id) == (valid ? TRACE_ID_SIZE : 0));
    if (valid) {
        snprintf(again, sizeof again, "00-%s-%s-%c%c", trace.trace_id, trace.parent_id,
                 exact[size - 2], exact[size - 1]);
        must(strlen(again) == size && memcmp(again, exact, size) == 0);
        must(trace.sampled == (strtol(again + size - 2, NULL, 16) & 1));
    }
    free(exact);
    return 0;
}
