/* load_report.c - one look, told in three ways. */
#include <stdatomic.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/log.h"
#include "server/load_report.h"
#include "server/notify.h"

#define SAY_NS (5 * NS_PER_S)
#define PATIENCE_US 30000000  // what the service manager is asked for, each time

struct load_look load_look(struct load_report *report, const struct load_progress *progress,
                           uint64_t now_ns)
{
    const char *stage = atomic_load(&progress->stage);
    struct load_look look = { .stage = stage ? stage : "starting",
                              .done = atomic_load(&progress->done),
                              .total = atomic_load(&progress->total),
                              .left_s = -1 };

    if (look.done && !report->weights_ns) {
        report->weights_ns = now_ns;
        report->first_bytes = look.done;
    }
    if (look.done <= report->first_bytes || look.done >= look.total) return look;
    look.bytes_s = (double)(look.done - report->first_bytes) * NS_PER_S /
                   (double)(now_ns - report->weights_ns + 1);
    look.left_s = (double)(look.total - look.done) / look.bytes_s;
    return look;
}

void load_look_add(struct buf *out, const struct load_look *look)
{
    buf_addf(out, "%s", look->stage);
    if (!look->total) return;
    buf_addf(out, " %.1f of %.1f GB, %.0f %%", (double)look->done / 1e9, (double)look->total / 1e9,
             100 * (double)look->done / (double)look->total);
    if (look->bytes_s > 0) buf_addf(out, ", %.1f GB/s", look->bytes_s / 1e9);
    if (look->left_s >= 0) buf_addf(out, ", %.0f s left", look->left_s);
}

/* The cursor stays at the line's begin, so that a log line writes over it. */
static void draw(struct load_report *report, const struct buf *text)
{
    report->drawn = true;
    dprintf(STDERR_FILENO, "\r\x1b[Kloading: %.*s\r", (int)text->size, text->data);
}

static void say(const struct load_look *look)
{
    struct log_line line;

    log_begin(&line, OPT_LOG_LEVEL_INFO, "loading");
    log_text(&line, "stage", slice_of(look->stage));
    log_int(&line, "bytes", (int64_t)look->done);
    log_int(&line, "of", (int64_t)look->total);
    if (look->bytes_s > 0) log_real(&line, "gb_per_s", look->bytes_s / 1e9);
    if (look->left_s >= 0) log_real(&line, "left_s", look->left_s);
    log_end(&line);
}

void load_report(struct load_report *report, const struct load_progress *progress, uint64_t now_ns)
{
    struct load_look look = load_look(report, progress, now_ns);
    bool terminal = isatty(STDERR_FILENO);
    struct buf text;

    buf_init(&text, 0);
    load_look_add(&text, &look);
    if (terminal) draw(report, &text);
    if (!report->said_ns || now_ns - report->said_ns >= SAY_NS) {
        char state[256];
        if (report->said_ns && !terminal) say(&look);
        report->said_ns = now_ns;
        snprintf(state, sizeof state, "EXTEND_TIMEOUT_USEC=%d\nSTATUS=loading: %.*s", PATIENCE_US,
                 (int)text.size, text.data);
        notify(state);
    }
    buf_release(&text);
}

void load_report_end(struct load_report *report)
{
    if (report->drawn) dprintf(STDERR_FILENO, "\r\x1b[K");
    report->drawn = false;
}
