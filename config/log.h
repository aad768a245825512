/* log.h - what happens, one event a line on stderr.
 *
 *     {"ts":"2026-01-31T12:00:00.123Z","level":"info","event":"spill","blocks":12,"ms":4.1}
 *     2026-01-31T12:00:00.123Z info spill blocks=12 ms=4.1
 *
 * A line is built on the stack. Between log_start and log_stop a thread of its own writes it
 * (config/writer.h), else the caller, and then only when that cannot block: a reader of stderr that
 * has stopped costs lines (log_dropped counts them) and never time. Text is escaped, cut at
 * LOG_TEXT_MOST bytes, and bytes that are no UTF-8 become U+FFFD, so that what clients send cannot
 * forge a line.
 * Threads: any; log_open, log_start and log_stop when there are no others.
 */
#ifndef CONFIG_LOG_H
#define CONFIG_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include "config/options.h"
#include "config/slice.h"

#define LOG_LINE_MOST 4096  // bytes; what a pipe takes whole (PIPE_BUF)
#define LOG_TEXT_MOST 512   // bytes of one text

/* Before it, events of level info and above go out as JSON. */
void log_open(enum log_level_option level, enum log_format_option format, int fd);

/* Lines go through a thread from here on; without memory for it, as before. Should the process abort
 * or fault, the lines that wait go out first. */
void log_start(void);

/* Everything logged so far is written, or a reader that has stopped was waited for long enough. */
void log_flush(void);
void log_stop(void);

/* The level alone, as a reload changes it. */
void log_set_level(enum log_level_option level);
enum log_level_option log_level_now(void);

/* One event under way. */
struct log_line {
    bool wanted;  // its level is logged
    size_t size;
    char text[LOG_LINE_MOST];
};

/* struct log_line line;
 * log_begin(&line, OPT_LOG_LEVEL_INFO, "spill");
 * log_int(&line, "blocks", 12);
 * log_end(&line);
 * Keys and the event are our own words, [a-z0-9_]. A field that no longer fits is left out. */
void log_begin(struct log_line *line, enum log_level_option level, const char *event);
void log_text(struct log_line *line, const char *key, struct slice text);
void log_int(struct log_line *line, const char *key, int64_t value);
void log_real(struct log_line *line, const char *key, double value);
void log_bool(struct log_line *line, const char *key, bool value);
void log_ms(struct log_line *line, const char *key, uint64_t ns);  // written as milliseconds
void log_end(struct log_line *line);

/* An event with one sentence: log_say(OPT_LOG_LEVEL_WARN, "model", "no GPU here, using the CPU"). */
__attribute__((format(printf, 3, 4))) void log_say(enum log_level_option level, const char *event,
                                                   const char *format, ...);

uint64_t log_dropped(void);  // lines so far

#endif
