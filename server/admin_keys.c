/* admin_keys.c - the key file: listed from the table in use, edited by a thread of its own.
 *
 *     POST -> thread: access_edit (the disk may take its time) -> loop: reload_ask -> thread: read the file
 *          -> loop: swap, answer
 *
 * One edit at a time. A new key is told once, in its answer, and kept nowhere.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "config/log.h"
#include "server/access_edit.h"
#include "server/admin_parts.h"
#include "server/errors.h"
#include "server/requests_look.h"

struct key_edit {
    struct admin *admin;
    uint64_t request;  // who waits for it, by number
    pthread_t thread;
    bool joined;
    int done_fd;
    uint64_t watch;
    char path[4096];
    char tenant[ACCESS_NAME_MOST + 1];  // of a new key; "": revoke
    char id[ACCESS_NAME_MOST + 1];      // of the key to be revoked
    struct access_wish wish;
    bool now;  // and its requests end

    /* The thread's until done_fd rings. */
    char key[ACCESS_KEY_SIZE];
    enum status status;
    struct err err;
};

static void *edit_file(void *context)
{
    struct key_edit *edit = context;

    if (edit->tenant[0])
        edit->status = access_edit_add(edit->path, &edit->wish, edit->key, &edit->err);
    else edit->status = access_edit_revoke(edit->path, edit->id, &edit->err);
    must(write(edit->done_fd, &(uint64_t){ 1 }, 8) == 8);
    return NULL;
}

static void edit_free(struct key_edit *edit)
{
    struct admin *admin = edit->admin;

    loop_unwatch(admin->setup.loop, edit->watch);
    close(edit->done_fd);
    explicit_bzero(edit->key, sizeof edit->key);
    free(edit);
    admin->edit = NULL;
}

static void tell(struct key_edit *edit, struct request *request, uint32_t cancelled)
{
    struct buf *out = &request->out;

    request->secret = edit->tenant[0];
    if (edit->status == BAD_INPUT)
        request_refuse(request, REFUSE_BAD_REQUEST, NULL, edit->err.text);
    else if (edit->status != OK) request_refuse(request, REFUSE_FULL, NULL, edit->err.text);
    else if (edit->tenant[0]) buf_addf(out, "{\"key\":\"%s\"}", edit->key);
    else buf_addf(out, "{\"revoked\":\"%s\",\"cancelled\":%u}", edit->id, cancelled);
}

static void finish(struct key_edit *edit)
{
    struct requests *requests = edit->admin->setup.requests;
    struct request *request = requests_find(requests, edit->request);
    uint32_t cancelled = 0;

    if (edit->status == OK && edit->now)
        cancelled = requests_cancel(requests, &(struct requests_choice){ .key = edit->id });
    if (edit->status == OK)
        admin_log(edit->tenant[0] ? "new key" : "revoke",
                  edit->tenant[0] ? edit->tenant : edit->id);
    if (request) {
        tell(edit, request, cancelled);
        requests_answer(requests, request);
    }
    edit_free(edit);
}

static void on_reread(void *context, uint64_t number, const struct reload_answer *answer)
{
    struct key_edit *edit = context;
    (void)number;

    edit->status = answer->status;
    edit->err = *answer->err;
    finish(edit);
}

static void on_edited(void *context, uint32_t events)
{
    struct key_edit *edit = context;
    struct admin *admin = edit->admin;
    struct reload_wish wish = { RELOAD_KEYS, on_reread, edit, edit->request };
    (void)events;

    pthread_join(edit->thread, NULL);
    edit->joined = true;
    loop_unwatch(admin->setup.loop, edit->watch);
    if (edit->status == OK) {
        edit->status = reload_ask(admin->setup.reload, &wish);
        if (edit->status == OK) return;
        fail(&edit->err, edit->status, "no memory to read the key file again");
    }
    finish(edit);
}

void admin_keys_close(struct admin *admin)
{
    if (!admin->edit) return;
    if (!admin->edit->joined) pthread_join(admin->edit->thread, NULL);
    edit_free(admin->edit);
}

static bool start(struct key_edit *edit)
{
    struct admin *admin = edit->admin;

    edit->done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (edit->done_fd < 0) return false;
    admin->edit = edit;
    if (loop_watch(admin->setup.loop, edit->done_fd, EPOLLIN, on_edited, edit, &edit->watch) != OK)
        return false;
    return pthread_create(&edit->thread, NULL, edit_file, edit) == 0;
}

/* Takes the edit over; the answer comes with on_edited. */
static void begin(struct request *request, struct key_edit *edit)
{
    edit->request = request->number;
    edit->wish.tenant = edit->tenant;
    if (start(edit)) {
        request->later = true;
        return;
    }
    request_refuse(request, REFUSE_FULL, NULL, "no thread for the edit now");
    edit_free(edit);
}

/* NULL: refused. */
static struct key_edit *edit_new(struct request *request)
{
    struct admin *admin = request->service->admin;
    const char *path = admin->setup.service->options->keys;
    struct key_edit *edit;

    if (!path[0]) {
        request_refuse(request, REFUSE_CONFLICT, NULL,
                       "the daemon has no key file: wanted the option keys");
        return NULL;
    }
    if (admin->edit || strlen(path) >= sizeof edit->path || !(edit = calloc(1, sizeof *edit))) {
        request_refuse(request, REFUSE_FULL, NULL, "the key file is being edited");
        return NULL;
    }
    edit->admin = admin;
    edit->done_fd = -1;
    strcpy(edit->path, path);
    return edit;
}

static bool copy_name(struct request *request, const struct json *value, const char *field,
                      char name[ACCESS_NAME_MOST + 1])
{
    struct slice text = js_string(value);

    if (text.size > 0 && text.size <= ACCESS_NAME_MOST && !memchr(text.data, 0, text.size)) {
        memcpy(name, text.data, text.size);
        name[text.size] = 0;
        return true;
    }
    request_refuse(request, REFUSE_BAD_REQUEST, field, "wanted a name of 1 to 64 bytes");
    return false;
}

/* scopes and expires, where they are given. */
static bool read_wish(struct request *request, const struct admin_member *member,
                      struct access_wish *wish)
{
    char when[32];

    wish->scopes = ACCESS_API;
    if (member[1].value && !access_scopes_read(js_string(member[1].value), &wish->scopes)) {
        request_refuse(request, REFUSE_BAD_REQUEST, "scopes",
                       "scopes: wanted api, metrics or both with a comma between them");
        return false;
    }
    if (!member[2].value) return true;
    struct slice text = js_string(member[2].value);
    snprintf(when, sizeof when, "%.*s", (int)(text.size < 31 ? text.size : 31), text.data);
    if (access_expiry_read(when, (int64_t)time(NULL), &wish->expires)) return true;
    request_refuse(request, REFUSE_BAD_REQUEST, "expires",
                   "expires: wanted such as 90d, 12h or 2027-01-31, and to come");
    return false;
}

static void answer_new_key(struct request *request)
{
    struct admin_member member[] = { { "tenant", JS_STRING, true, NULL },
                                     { "scopes", JS_STRING, false, NULL },
                                     { "expires", JS_STRING, false, NULL },
                                     { 0 } };
    struct json *root = admin_body(request, member);

    if (!root) return;
    struct key_edit *edit = edit_new(request);
    if (edit && copy_name(request, member[0].value, "tenant", edit->tenant) &&
        read_wish(request, member, &edit->wish))
        begin(request, edit);
    else free(edit);
    js_free(root);
}

static void answer_revoke(struct request *request)
{
    struct admin_member member[] = { { "id", JS_STRING, true, NULL },
                                     { "now", JS_BOOL, false, NULL },
                                     { 0 } };
    struct json *root = admin_body(request, member);

    if (!root) return;
    struct key_edit *edit = edit_new(request);
    if (edit) edit->now = member[1].value && js_bool(member[1].value);
    if (edit && copy_name(request, member[0].value, "id", edit->id)) begin(request, edit);
    else free(edit);
    js_free(root);
}

static void answer_keys(struct request *request)
{
    const struct access *access = request->service->admin->setup.access->now;
    struct buf *out = &request->out, lines;

    buf_init(&lines, 0);
    access_list(access, (int64_t)time(NULL), true, &lines);
    buf_addf(out, "{\"asked_for\":%s,\"keys\":[", access_asks_for_keys(access) ? "true" : "false");
    for (size_t i = 0; i < lines.size; i++) {
        char c = lines.data[i];
        if (c != '\n') buf_add_byte(out, c);
        else if (i + 1 < lines.size) buf_add_byte(out, ',');
    }
    buf_add_string(out, "]}");
    if (buf_status(&lines) != OK)
        request_refuse(request, REFUSE_FULL, NULL, "no memory for the list");
    buf_release(&lines);
}

const struct handler admin_keys_handler = { .answer = answer_keys };
const struct handler admin_new_key_handler = { .answer = answer_new_key };
const struct handler admin_revoke_handler = { .answer = answer_revoke };
