/* ctl_screen.h - the terminal as a page that is drawn again and again, and given back as it was.
 *
 * Between open and close it is raw, on its alternate screen, without a cursor. Whatever ends the
 * process, exit, a signal or an abort, puts it back first.
 * Thread: the main one; one screen a process.
 */
#ifndef SERVER_CTL_SCREEN_H
#define SERVER_CTL_SCREEN_H

#include <stdbool.h>
#include "config/buf.h"

enum line_style { LINE_PLAIN, LINE_STRONG, LINE_HEADING, LINE_WARNING };

struct screen {
    int rows, columns;
    bool color;  // NO_COLOR is not set
};

enum screen_event { SCREEN_TIME, SCREEN_KEY, SCREEN_RESIZED, SCREEN_ENDED };

/* False: input or output is no terminal. */
bool screen_open(struct screen *screen);
void screen_close(void);

/* A key, the time, another size, or the end of the terminal or by a signal, whichever comes first. */
enum screen_event screen_wait(struct screen *screen, int ms, char *key);

/* A page of `rows` lines at most, each cut to `columns` characters; the last line begun stays open. */
void page_begin(struct buf *page);
void page_line(struct buf *page, const struct screen *screen, enum line_style style,
               struct slice text);

/* Shows it in place of the one before. */
void screen_show(const struct buf *page);

#endif
