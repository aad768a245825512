/* load_report.h - how far the model is loaded, told while it is: on a terminal one line that renews
 * itself, else a log line every 5 s; and to the service manager, which then waits longer.
 *
 * Thread: the loop thread.
 */
#ifndef SERVER_LOAD_REPORT_H
#define SERVER_LOAD_REPORT_H

#include "config/buf.h"
#include "server/service.h"

struct load_report {
    uint64_t weights_ns;   // since when weights come; 0: not yet
    uint64_t first_bytes;  // that were there then
    uint64_t said_ns;      // the last log line, or datagram
    bool drawn;            // a line stands on the terminal
};

struct load_look {
    const char *stage;
    uint64_t done, total;  // bytes
    double bytes_s;        // 0: not known yet
    double left_s;         // negative: not known
};

/* What it comes to at this moment. */
struct load_look load_look(struct load_report *report, const struct load_progress *progress,
                           uint64_t now_ns);

/* "weights 1.2 of 4.8 GB, 25 %, 2.1 GB/s, 2 s left" */
void load_look_add(struct buf *out, const struct load_look *look);

/* Tells whoever is due. To be called a few times a second. */
void load_report(struct load_report *report, const struct load_progress *progress, uint64_t now_ns);

/* Takes the line away. */
void load_report_end(struct load_report *report);

#endif
