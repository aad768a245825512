/* ctl_screen.c - termios, a handful of ANSI sequences, and the ways in which a process ends. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include "config/utf8.h"
#include "server/ctl_screen.h"

#define ENTER "\x1b[?1049h\x1b[?25l"
#define LEAVE "\x1b[?25h\x1b[?1049l"

static struct termios before;
static volatile sig_atomic_t is_open, ended, resized;
static sigset_t waited_with;  // the signals' mask while we wait, and only then

static void write_all(const char *text, size_t size)
{
    while (size) {
        ssize_t written = write(STDOUT_FILENO, text, size);
        if (written < 0 && errno != EINTR) return;  // the terminal has gone
        if (written < 0) continue;
        text += written;
        size -= (size_t)written;
    }
}

/* Safe in a signal handler. */
void screen_close(void)
{
    if (!is_open) return;
    is_open = 0;
    write_all(LEAVE, sizeof LEAVE - 1);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
}

static void on_end(int number)
{
    (void)number;
    ended = 1;
}

static void on_resize(int number)
{
    (void)number;
    resized = 1;
}

/* A fault of ours: the terminal first, then what was to come. */
static void on_fault(int number)
{
    screen_close();
    signal(number, SIG_DFL);
    raise(number);
}

static void set_signals(void)
{
    static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE };
    static const int faults[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
    sigset_t held;

    sigemptyset(&held);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        sigaction(ends[i], &(struct sigaction){ .sa_handler = on_end }, NULL);
        sigaddset(&held, ends[i]);
    }
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigaction(faults[i], &(struct sigaction){ .sa_handler = on_fault }, NULL);
    sigaction(SIGWINCH, &(struct sigaction){ .sa_handler = on_resize }, NULL);
    sigaddset(&held, SIGWINCH);
    sigprocmask(SIG_BLOCK, &held, &waited_with);
}

static void read_size(struct screen *screen)
{
    struct winsize size = { 0 };

    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    screen->rows = size.ws_row > 0 ? size.ws_row : 24;
    screen->columns = size.ws_col > 0 ? size.ws_col : 80;
}

bool screen_open(struct screen *screen)
{
    const char *no_color = getenv("NO_COLOR");

    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return false;
    if (tcgetattr(STDIN_FILENO, &before)) return false;
    struct termios raw = before;
    cfmakeraw(&raw);
    set_signals();
    atexit(screen_close);
    is_open = 1;
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw)) return false;
    write_all(ENTER, sizeof ENTER - 1);
    screen->color = !no_color || !*no_color;
    read_size(screen);
    return true;
}

enum screen_event screen_wait(struct screen *screen, int ms, char *key)
{
    struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
    const struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };
    int ready = ended || resized ? 0 : ppoll(&input, 1, ms < 0 ? NULL : &time, &waited_with);

    if (ended) return SCREEN_ENDED;
    if (resized) {
        resized = 0;
        read_size(screen);
        return SCREEN_RESIZED;
    }
    if (ready <= 0) return SCREEN_TIME;
    return read(STDIN_FILENO, key, 1) == 1 ? SCREEN_KEY : SCREEN_ENDED;
}

void page_begin(struct buf *page)
{
    buf_clear(page);
    buf_add_string(page, "\x1b[H");
}

void page_line(struct buf *page, const struct screen *screen, enum line_style style,
               struct slice text)
{
    static const char *const begins[] = {
        [LINE_PLAIN] = "",
        [LINE_STRONG] = "\x1b[1m",
        [LINE_HEADING] = "\x1b[7m",
        [LINE_WARNING] = "\x1b[1;31m",
    };
    bool styled = screen->color && style != LINE_PLAIN;

    if (styled) buf_add_string(page, begins[style]);
    for (int column = 0; column < screen->columns && text.size; column++) {
        struct utf8_char c = utf8_read(text);
        buf_add(page, text.data, c.size);
        text = slice_from(text, c.size);
    }
    if (styled) buf_add_string(page, "\x1b[0m");
    buf_add_string(page, "\x1b[K\r\n");
}

void screen_show(const struct buf *page)
{
    size_t size = page->size;

    if (buf_status(page) != OK) return;
    if (size >= 2 && memcmp(page->data + size - 2, "\r\n", 2) == 0) size -= 2;  // would scroll
    write_all(page->data, size);
    write_all("\x1b[J", 3);
}
