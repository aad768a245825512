/* log.c - lines are built on the stack and leave whole, or not at all. */
#include "config/log.h"
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/utf8.h"
#include "config/writer.h"

#define WAITING_BYTES ((size_t)1 << 20)  // of lines, for a reader that has stopped
#define FLUSH_NS (2 * NS_PER_S)

static _Atomic int log_level = OPT_LOG_LEVEL_INFO;
static enum log_format_option log_format = OPT_LOG_FORMAT_JSON;
static int log_fd = STDERR_FILENO;
static _Atomic(struct writer *) log_writer;  // NULL: the caller writes
static _Atomic uint64_t dropped;             // by callers, and by writers that are closed

enum { TAIL_ROOM = 2 };  // bytes kept for the closing brace and the newline

static const char *const level_name[] = {
    [OPT_LOG_LEVEL_ERROR] = "error",
    [OPT_LOG_LEVEL_WARN] = "warn",
    [OPT_LOG_LEVEL_INFO] = "info",
    [OPT_LOG_LEVEL_DEBUG] = "debug",
};

void log_open(enum log_level_option level, enum log_format_option format, int fd)
{
    log_format = format;
    log_fd = fd;
    log_set_level(level);
}

/* A line that says why is worth more than any other. */
static void on_crash(int number)
{
    struct writer *writer = atomic_load(&log_writer);
    if (writer) writer_spill(writer);
    raise(number);  // for good: the handler was for one time
}

/* Where nobody else, such as a sanitizer, waits for them. */
static void catch_crashes(void)
{
    static const int numbers[] = { SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE };
    struct sigaction now, ours = { .sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND };

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler == SIG_DFL)
            sigaction(numbers[i], &ours, NULL);
}

void log_start(void)
{
    struct writer *writer;
    struct err err = { "" };
    struct writer_setup setup = { .fd = log_fd, .room_bytes = WAITING_BYTES, .name = "log" };

    if (atomic_load(&log_writer)) return;
    if (writer_open(&setup, &writer, &err) != OK)
        return log_say(OPT_LOG_LEVEL_WARN, "log", "%s; lines are written as they come", err.text);
    atomic_store(&log_writer, writer);
    catch_crashes();
}

void log_flush(void)
{
    struct writer *writer = atomic_load(&log_writer);
    if (writer) writer_flush(writer, FLUSH_NS);
}

void log_stop(void)
{
    struct writer *writer = atomic_exchange(&log_writer, NULL);
    if (!writer) return;
    writer_flush(writer, FLUSH_NS);
    uint64_t lost = writer_count(writer).dropped;
    writer_close(writer, 0);
    atomic_fetch_add_explicit(&dropped, lost, memory_order_relaxed);
}

void log_set_level(enum log_level_option level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

enum log_level_option log_level_now(void)
{
    return (enum log_level_option)atomic_load_explicit(&log_level, memory_order_relaxed);
}

/* Appends, or changes nothing when it does not fit. */
static bool put(struct log_line *line, const char *data, size_t size)
{
    if (size > sizeof line->text - TAIL_ROOM - line->size) return false;
    memcpy(line->text + line->size, data, size);
    line->size += size;
    return true;
}

__attribute__((format(printf, 2, 3))) static bool putf(struct log_line *line, const char *format,
                                                       ...)
{
    char text[160];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return size >= 0 && (size_t)size < sizeof text && put(line, text, (size_t)size);
}

void log_begin(struct log_line *line, enum log_level_option level, const char *event)
{
    line->wanted = (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
    line->size = 0;
    if (!line->wanted) return;

    struct timespec now;
    struct tm utc;
    char time[40];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t size = strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(time + size, sizeof time - size, ".%03dZ", (int)(now.tv_nsec / 1000000));
    if (log_format == OPT_LOG_FORMAT_JSON)
        putf(line, "{\"ts\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", time, level_name[level],
             event);
    else putf(line, "%s %s %s", time, level_name[level], event);
}

static bool put_key(struct log_line *line, const char *key)
{
    return putf(line, log_format == OPT_LOG_FORMAT_JSON ? ",\"%s\":" : " %s=", key);
}

/* One character: itself, or what stands for it between quotes. */
static bool put_char(struct log_line *line, struct slice text, struct utf8_char c)
{
    unsigned char byte = (unsigned char)text.data[0];
    if (!c.valid) return put(line, "\xef\xbf\xbd", 3);
    if (byte == '"' || byte == '\\') return put(line, "\\", 1) && put(line, text.data, 1);
    if (byte == '\n') return put(line, "\\n", 2);
    if (byte < 0x20 || byte == 0x7f) return putf(line, "\\u%04x", byte);
    return put(line, text.data, c.size);
}

static bool put_quoted(struct log_line *line, struct slice text)
{
    bool cut = text.size > LOG_TEXT_MOST;
    if (cut) text.size = LOG_TEXT_MOST;
    if (!put(line, "\"", 1)) return false;
    while (text.size) {
        struct utf8_char c = utf8_read(text);
        if (cut && c.cut) break;
        if (!put_char(line, text, c)) return false;
        text = slice_from(text, c.size);
    }
    return (!cut || put(line, "...", 3)) && put(line, "\"", 1);
}

void log_text(struct log_line *line, const char *key, struct slice text)
{
    if (!line->wanted) return;
    size_t before = line->size;
    if (!put_key(line, key) || !put_quoted(line, text)) line->size = before;
}

void log_int(struct log_line *line, const char *key, int64_t value)
{
    if (!line->wanted) return;
    size_t before = line->size;
    if (!put_key(line, key) || !putf(line, "%lld", (long long)value)) line->size = before;
}

void log_real(struct log_line *line, const char *key, double value)
{
    if (!line->wanted) return;
    size_t before = line->size;
    bool finite = value - value == 0;  // JSON has no words for the others
    if (!put_key(line, key) || !(finite ? putf(line, "%.6g", value) : put(line, "null", 4)))
        line->size = before;
}

void log_bool(struct log_line *line, const char *key, bool value)
{
    if (!line->wanted) return;
    size_t before = line->size;
    if (!put_key(line, key) || !putf(line, "%s", value ? "true" : "false")) line->size = before;
}

void log_ms(struct log_line *line, const char *key, uint64_t ns)
{
    if (!line->wanted) return;
    size_t before = line->size;
    if (!put_key(line, key) || !putf(line, "%.3f", (double)ns / 1e6)) line->size = before;
}

void log_end(struct log_line *line)
{
    if (!line->wanted) return;
    if (log_format == OPT_LOG_FORMAT_JSON) line->text[line->size++] = '}';
    line->text[line->size++] = '\n';

    struct writer *writer = atomic_load_explicit(&log_writer, memory_order_acquire);
    if (writer) {
        writer_add(writer, line->text, line->size);
        return;
    }
    /* A pipe that is ready takes PIPE_BUF bytes whole; files are always ready. */
    struct pollfd ready = { .fd = log_fd, .events = POLLOUT };
    bool written = poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) &&
                   write(log_fd, line->text, line->size) == (ssize_t)line->size;
    if (!written) atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
}

void log_say(enum log_level_option level, const char *event, const char *format, ...)
{
    struct log_line line;
    char text[LOG_TEXT_MOST];
    va_list args;
    log_begin(&line, level, event);
    if (!line.wanted) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_text(&line, "message", slice_of(text));
    log_end(&line);
}

uint64_t log_dropped(void)
{
    struct writer *writer = atomic_load_explicit(&log_writer, memory_order_acquire);
    uint64_t lines = atomic_load_explicit(&dropped, memory_order_relaxed);
    return lines + (writer ? writer_count(writer).dropped : 0);
}
