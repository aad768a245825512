/* ctl.h - `fathomctl`: what the operator's socket says, for people and for scripts.
 *
 *     verb_ctl.c   the commands: words to requests
 *     ctl_client.c one HTTP exchange over the unix socket
 *     ctl_show.c   answers as text
 *     ctl_top.c    the screen that renews itself, on ctl_screen.h
 *
 * Exit codes: 0 done; 1 the daemon refused, or the answer could not be had; 2 wrong use; 3 nobody
 * listens at the socket. Thread: the main one.
 */
#ifndef SERVER_CTL_H
#define SERVER_CTL_H

#include "config/buf.h"
#include "config/json.h"

enum { CTL_DONE, CTL_FAILED, CTL_WRONG_USE, CTL_NOBODY };

struct ctl {
    const char *socket;
    bool json;  // answers as they came
    bool once;  // top: one look
};

/* ---- ctl_client.c */

struct ctl_ask {
    const char *method, *path;
    const char *body;  // JSON, or NULL
};

struct ctl_answer {
    int status;       // of HTTP
    struct buf body;  // NUL behind it
};

/* Sends and waits. IO_FAILED: nobody listens, or the connection broke (BUSY: nobody listens); err says
 * which. OK: release answer->body. */
CHECKED enum status ctl_exchange(const struct ctl *ctl, const struct ctl_ask *ask,
                                 struct ctl_answer *answer, struct err *err);

/* The exit code of an outcome that is not OK. */
int ctl_code(enum status status);

/* ---- ctl_show.c */

/* The value at "engine.running", or NULL. */
const struct json *ctl_at(const struct json *root, const char *path);

/* Numbers and texts by their path; 0, NaN and "" where there are none. */
int64_t ctl_int(const struct json *root, const char *path);
double ctl_real(const struct json *root, const char *path);
struct slice ctl_text(const struct json *root, const char *path);

/* Texts of the daemon as a terminal may see them: no control characters. */
void ctl_add_text(struct buf *out, struct slice text);

/* "1.5 GB", "12 ms", "1 h 02 min". */
void ctl_add_bytes(struct buf *out, int64_t bytes);
void ctl_add_wait(struct buf *out, double seconds);
void ctl_add_age(struct buf *out, double seconds);

/* Rows of an array of objects under headings: each column is a member. */
struct ctl_column {
    const char *heading, *member;
    bool right;  // a number; seconds where the member ends in _s
};
void ctl_add_table(struct buf *out, const struct json *rows, const struct ctl_column *column);

extern const struct ctl_column ctl_request_columns[], ctl_tenant_columns[], ctl_key_columns[];

void ctl_add_status(struct buf *out, const struct json *status);
void ctl_add_cache(struct buf *out, const struct json *status);

/* ---- ctl_top.c */
int ctl_top(const struct ctl *ctl);

#endif
