/* ctl_top.c - `fathomctl top`: one page, read anew every second.
 *
 *     WATCHING --c--> ASKING --digits, Enter--> WATCHING, with what came of it in the last line
 *                           --Esc------------->
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "config/clock.h"
#include "server/ctl.h"
#include "server/ctl_screen.h"

#define RENEW_NS NS_PER_S
#define BAR 20
#define ID_MOST 18

struct top {
    const struct ctl *ctl;
    struct screen screen;
    struct buf page, text;
    int left;              // lines
    char id[ID_MOST + 1];  // being typed
    bool asking;
    char note[160];  // the last line
    uint64_t renewed_ns;
    struct json *status, *tenants, *requests;  // of the last reading; NULL: not to be had
    struct err err;
};

/* ---- reading ---- */

static enum status read_one(struct top *top, const char *path, struct json **root)
{
    struct ctl_answer answer;
    enum status status =
        ctl_exchange(top->ctl, &(struct ctl_ask){ "GET", path, NULL }, &answer, &top->err);

    if (status != OK) return status;
    if (answer.status != 200)
        status = fail(&top->err, IO_FAILED, "%s: status %d", path, answer.status);
    else status = js_parse(answer.body.data, answer.body.size, &js_file_limits, root, &top->err);
    buf_release(&answer.body);
    return status;
}

static void forget(struct top *top)
{
    js_free(top->status);
    js_free(top->tenants);
    js_free(top->requests);
    top->status = top->tenants = top->requests = NULL;
}

static enum status read_all(struct top *top)
{
    forget(top);
    enum status status = read_one(top, "/status", &top->status);
    if (status == OK) status = read_one(top, "/tenants", &top->tenants);
    if (status == OK) status = read_one(top, "/requests", &top->requests);
    return status;
}

/* ---- the page ---- */

static void put(struct top *top, enum line_style style, struct slice text)
{
    if (top->left-- > 0) page_line(&top->page, &top->screen, style, text);
}

/* What was gathered in text, line by line, at most so many; the first one in a style of its own. */
static void put_text(struct top *top, enum line_style first, int most)
{
    struct slice rest = buf_slice(&top->text);

    for (int line = 0; rest.size && line < most; line++) {
        const char *end = memchr(rest.data, '\n', rest.size);
        size_t size = end ? (size_t)(end - rest.data) : rest.size;
        put(top, line ? LINE_PLAIN : first, (struct slice){ rest.data, size });
        rest = slice_from(rest, end ? size + 1 : size);
    }
    buf_clear(&top->text);
}

static void put_kv(struct top *top)
{
    double used = ctl_real(top->status, "kv.used_ratio");
    int full = (int)(used * BAR + 0.5);

    buf_add_string(&top->text, "KV        [");
    for (int i = 0; i < BAR; i++) buf_add_byte(&top->text, i < full ? '#' : '.');
    buf_addf(&top->text, "] %.0f %%, %lld of %lld blocks\n", 100 * used,
             (long long)ctl_int(top->status, "kv.blocks_used"),
             (long long)ctl_int(top->status, "kv.blocks"));
    put_text(top, used > 0.95 ? LINE_WARNING : LINE_PLAIN, 1);
}

static void put_tables(struct top *top)
{
    ctl_add_table(&top->text, ctl_at(top->tenants, "tenants"), ctl_tenant_columns);
    put(top, LINE_PLAIN, SLICE(""));
    put_text(top, LINE_HEADING, 1 + top->left / 3);
    put(top, LINE_PLAIN, SLICE(""));
    ctl_add_table(&top->text, ctl_at(top->requests, "requests"), ctl_request_columns);
    put_text(top, LINE_HEADING, top->left - 1);
}

static void put_last_line(struct top *top)
{
    char line[256];

    while (top->left > 1) put(top, LINE_PLAIN, SLICE(""));
    if (top->asking) snprintf(line, sizeof line, "cancel which id? %s_", top->id);
    else snprintf(line, sizeof line, "%s", top->note[0] ? top->note : "c cancels, q quits");
    put(top, LINE_STRONG, slice_of(line));
}

static void draw(struct top *top)
{
    page_begin(&top->page);
    top->left = top->screen.rows;
    if (top->requests) {
        struct slice door = ctl_text(top->status, "door");
        ctl_add_status(&top->text, top->status);
        put_text(top, slice_equal(door, SLICE("open")) ? LINE_STRONG : LINE_WARNING,
                 top->screen.rows);
        put_kv(top);
        put_tables(top);
    } else {
        put(top, LINE_WARNING, slice_of(top->err.text));
    }
    put_last_line(top);
    screen_show(&top->page);
}

/* ---- keys ---- */

static void cancel(struct top *top)
{
    struct ctl_answer answer;
    char body[64];
    struct json *root = NULL;
    struct err err;

    snprintf(body, sizeof body, "{\"id\":%s}", top->id);
    const struct ctl_ask ask = { "POST", "/cancel", body };
    if (ctl_exchange(top->ctl, &ask, &answer, &err) != OK) {
        snprintf(top->note, sizeof top->note, "%.150s", err.text);
        return;
    }
    if (answer.status == 200) snprintf(top->note, sizeof top->note, "%s is cancelled", top->id);
    else if (js_parse(answer.body.data, answer.body.size, &js_file_limits, &root, &err) == OK) {
        struct slice why = ctl_text(root, "error.message");
        snprintf(top->note, sizeof top->note, "%s: %.*s", top->id, (int)why.size, why.data);
    }
    js_free(root);
    buf_release(&answer.body);
}

static void take_digit(struct top *top, char key)
{
    size_t size = strlen(top->id);

    if (key == '\r' || key == '\n') {
        top->asking = false;
        if (size) cancel(top);
        top->renewed_ns = 0;
    } else if (key == 0x1b || key == 3) {
        top->asking = false;
    } else if ((key == 0x7f || key == '\b') && size) {
        top->id[size - 1] = 0;
    } else if (isdigit((unsigned char)key) && size < ID_MOST && (size || key != '0')) {
        top->id[size] = key;
        top->id[size + 1] = 0;
    }
}

/* False: the user leaves. */
static bool take_key(struct top *top, char key)
{
    if (top->asking) {
        take_digit(top, key);
        return true;
    }
    top->note[0] = 0;
    if (key == 'c') {
        top->asking = true;
        top->id[0] = 0;
    }
    return key != 'q' && key != 3 && key != 4;  // Ctrl-C and Ctrl-D come as they are
}

static int watch(struct top *top)
{
    for (;;) {
        uint64_t now = now_ns();
        char key = 0;

        if (!top->renewed_ns || now - top->renewed_ns >= RENEW_NS) {
            if (read_all(top) != OK) forget(top);
            top->renewed_ns = now;
        }
        draw(top);
        uint64_t rest_ns = top->renewed_ns + RENEW_NS - now;
        switch (screen_wait(&top->screen, (int)(rest_ns / NS_PER_MS) + 1, &key)) {
        case SCREEN_KEY:
            if (!take_key(top, key)) return CTL_DONE;
            break;
        case SCREEN_ENDED:
            return CTL_DONE;
        case SCREEN_TIME:
        case SCREEN_RESIZED:
            break;
        }
    }
}

/* ---- one look ---- */

static int print_json(const struct ctl *ctl)
{
    static const char *const names[] = { "status", "tenants", "requests" };
    struct ctl_answer answer;
    struct err err;
    struct buf out;
    char path[32];
    enum status status = OK;

    buf_init(&out, 0);
    for (size_t i = 0; i < 3 && status == OK; i++) {
        snprintf(path, sizeof path, "/%s", names[i]);
        status = ctl_exchange(ctl, &(struct ctl_ask){ "GET", path, NULL }, &answer, &err);
        if (status != OK) break;
        if (answer.status != 200 || answer.body.size < 2)
            status = fail(&err, IO_FAILED, "%s: status %d", path, answer.status);
        /* The other two are {"NAME": [...]}: their braces go. */
        struct slice body = buf_slice(&answer.body);
        buf_add_byte(&out, i ? ',' : '{');
        if (i == 0) buf_addf(&out, "\"%s\":", names[i]);
        else if (status == OK) body = (struct slice){ body.data + 1, body.size - 2 };
        buf_add_slice(&out, body);
        buf_release(&answer.body);
    }
    buf_add_string(&out, "}\n");
    if (status == OK && buf_status(&out) == OK) fwrite(out.data, 1, out.size, stdout);
    else fprintf(stderr, "fathomctl: %s\n", err.text);
    buf_release(&out);
    return status == OK ? CTL_DONE : ctl_code(status);
}

static int print_once(struct top *top)
{
    enum status status = read_all(top);

    if (status != OK) {
        fprintf(stderr, "fathomctl: %s\n", top->err.text);
        return ctl_code(status);
    }
    ctl_add_status(&top->text, top->status);
    buf_add_byte(&top->text, '\n');
    ctl_add_table(&top->text, ctl_at(top->tenants, "tenants"), ctl_tenant_columns);
    buf_add_byte(&top->text, '\n');
    ctl_add_table(&top->text, ctl_at(top->requests, "requests"), ctl_request_columns);
    fwrite(top->text.data, 1, top->text.size, stdout);
    return CTL_DONE;
}

int ctl_top(const struct ctl *ctl)
{
    struct top top = { .ctl = ctl };
    int code = CTL_WRONG_USE;

    if (ctl->once && ctl->json) return print_json(ctl);
    buf_init(&top.page, 0);
    buf_init(&top.text, 0);
    if (ctl->once) {
        code = print_once(&top);
    } else if (ctl->json) {
        fputs("fathomctl: top --json: wanted --once with it\n", stderr);
    } else if (screen_open(&top.screen)) {
        code = watch(&top);
        screen_close();
    } else {
        fputs("fathomctl: top: wanted a terminal, or --once\n", stderr);
    }
    forget(&top);
    buf_release(&top.page);
    buf_release(&top.text);
    return code;
}
