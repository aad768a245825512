/* reload.c - everything is read and checked beside what is in use, by a thread of its own, then exchanged. */
#include "server/reload.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "config/json.h"
#include "config/log.h"
#include "config/metrics.h"
#include "config/turn.h"
#include "server/cache_options.h"

struct asker {
    struct reload_wish wish;
    struct asker *next;
};

/* What a start would take, beside what is in use. */
struct fresh {
    struct options options;  // RELOAD_ALL
    struct access *access;
};

struct reload {
    struct reload_setup setup;
    struct reload_counts counts;
    int read_fd;  // rings when a reading is over
    uint64_t watch;
    struct asker *waiting;  // the first to be answered first
    struct asker *reading;  // those whom the reading under way is for; NULL: none is

    /* The thread's, if there is one, until read_fd rings. */
    pthread_t thread;
    bool threaded;
    enum reload_what what;
    char *keys;  // RELOAD_KEYS: the file's path; owned
    struct fresh fresh;
    enum status status;
    struct err err;
};

enum status reload_check_exposure(const struct options *options, bool loopback, struct err *err)
{
    if (loopback || options->keys[0] || options->insecure) return OK;
    return fail(err, BAD_INPUT,
                "listen: %s can be reached from other machines and no keys are set; wanted --keys "
                "FILE, or --insecure",
                options->listen);
}

/* ---- reading: the thread ---- */

static enum status read_access(const char *keys, struct access **access, struct err *err)
{
    return keys[0] ? access_open(keys, access, err) : access_open_to_all(access, err);
}

/* What cannot be checked without the model, its directory among it, was found good at the start, and
 * stays in use. */
static enum status read_all(const struct reload_setup *setup, struct fresh *fresh, struct err *err)
{
    enum status status = options_load(setup->argc, setup->argv, &fresh->options, err);

    if (status != OK) return status;
    status = reload_check_exposure(&fresh->options, setup->loopback, err);
    if (status == OK) status = cache_options_check(&fresh->options, err);
    if (status == OK) status = read_access(fresh->options.keys, &fresh->access, err);
    if (status != OK) options_release(&fresh->options);
    return status;
}

static void *read_fresh(void *context)
{
    struct reload *reload = context;

    turn_be_long();
    reload->status = reload->what == RELOAD_ALL
                         ? read_all(&reload->setup, &reload->fresh, &reload->err)
                         : read_access(reload->keys, &reload->fresh.access, &reload->err);
    must(write(reload->read_fd, &(uint64_t){ 1 }, 8) == 8);
    return NULL;
}

/* ---- taking over: the loop ---- */

static void add_name(struct buf *list, enum option_id id, bool quoted)
{
    if (list->size) buf_add_byte(list, ',');
    if (quoted) buf_add_byte(list, '"');
    option_add_title(id, list);
    if (quoted) buf_add_byte(list, '"');
}

static void log_names(struct log_line *line, const char *key, const struct buf *names)
{
    if (names->size) log_text(line, key, buf_slice(names));
}

/* Nothing here can fail. */
static void swap_all(const struct reload_setup *setup, struct fresh *fresh, struct buf *told)
{
    struct buf changed, restart, list[2];  // for the log; for `told`
    struct log_line line;

    buf_init(&changed, 0);
    buf_init(&restart, 0);
    buf_init(&list[0], 0);
    buf_init(&list[1], 0);
    for (enum option_id id = 0; id < OPTION_COUNT; id++) {
        if (!option_differs(setup->options, &fresh->options, id)) continue;
        bool live = option_is_live(id);
        add_name(live ? &changed : &restart, id, false);
        add_name(&list[live ? 0 : 1], id, true);
        if (live) option_exchange(setup->options, &fresh->options, id);
    }
    access_swap(setup->access, fresh->access);
    log_set_level(setup->options->log_level);
    options_release(&fresh->options);
    log_begin(&line, restart.size ? OPT_LOG_LEVEL_WARN : OPT_LOG_LEVEL_INFO, "reload");
    log_text(&line, "result", SLICE("ok"));
    log_names(&line, "changed", &changed);
    log_names(&line, "restart_needed_for", &restart);
    log_end(&line);
    buf_add_string(told, "{\"changed\":[");
    buf_add_slice(told, buf_slice(&list[0]));
    buf_add_string(told, "],\"restart\":[");
    buf_add_slice(told, buf_slice(&list[1]));
    buf_add_string(told, "]}");
    buf_release(&changed);
    buf_release(&restart);
    buf_release(&list[0]);
    buf_release(&list[1]);
}

static void log_failure(const struct err *err)
{
    struct log_line line;

    log_begin(&line, OPT_LOG_LEVEL_ERROR, "reload");
    log_text(&line, "result", SLICE("failed"));
    log_text(&line, "why", slice_of(err->text));
    log_end(&line);
}

static void take_over(struct reload *reload, struct buf *told)
{
    if (reload->what == RELOAD_KEYS) {
        if (reload->status == OK) access_swap(reload->setup.access, reload->fresh.access);
    } else if (reload->status == OK) {
        swap_all(&reload->setup, &reload->fresh, told);
        reload->counts.done++;
        metric_add(METRIC_reload_ok, 1);
    } else {
        log_failure(&reload->err);
        reload->counts.failed++;
        metric_add(METRIC_reload_failed, 1);
    }
    reload->fresh = (struct fresh){ 0 };
}

/* Takes those that wait first and want the same, and reads for them. */
static void begin(struct reload *reload)
{
    struct asker **end = &reload->waiting;

    if (reload->reading || !reload->waiting) return;
    reload->what = reload->waiting->wish.what;
    while (*end && (*end)->wish.what == reload->what) end = &(*end)->next;
    reload->reading = reload->waiting;
    reload->waiting = *end;
    *end = NULL;
    reload->keys = strdup(reload->setup.options->keys);
    reload->threaded =
        reload->keys && pthread_create(&reload->thread, NULL, read_fresh, reload) == 0;
    if (reload->threaded) return;
    reload->status = fail(&reload->err, NO_MEMORY, "reload: no thread to read with now");
    must(write(reload->read_fd, &(uint64_t){ 1 }, 8) == 8);
}

static void end_thread(struct reload *reload)
{
    if (reload->threaded) pthread_join(reload->thread, NULL);
    reload->threaded = false;
    free(reload->keys);
    reload->keys = NULL;
}

static void on_read(void *context, uint32_t events)
{
    struct reload *reload = context;
    struct asker *asker = reload->reading;
    struct buf told;
    uint64_t rung;
    (void)events;

    if (read(reload->read_fd, &rung, sizeof rung) != sizeof rung) return;
    end_thread(reload);
    buf_init(&told, 0);
    take_over(reload, &told);
    struct err err = reload->err;
    struct reload_answer answer = { reload->status, buf_slice(&told), &err };
    reload->reading = NULL;
    while (asker) {
        struct asker *next = asker->next;
        asker->wish.done(asker->wish.context, asker->wish.number, &answer);
        free(asker);
        asker = next;
    }
    buf_release(&told);
    begin(reload);
}

/* ---- the face ---- */

enum status reload_open(const struct reload_setup *setup, struct reload **reload)
{
    struct reload *made = calloc(1, sizeof *made);

    *reload = NULL;
    if (!made) return NO_MEMORY;
    made->setup = *setup;
    made->read_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    enum status status = made->read_fd < 0 ? IO_FAILED
                                           : loop_watch(setup->loop, made->read_fd, EPOLLIN,
                                                        on_read, made, &made->watch);
    if (status == OK) {
        *reload = made;
        return OK;
    }
    if (made->read_fd >= 0) close(made->read_fd);
    free(made);
    return status;
}

static void free_askers(struct asker *asker)
{
    while (asker) {
        struct asker *next = asker->next;
        free(asker);
        asker = next;
    }
}

void reload_close(struct reload *reload)
{
    if (!reload) return;
    bool found = reload->threaded;
    end_thread(reload);
    if (found && reload->status == OK) {
        if (reload->what == RELOAD_ALL) options_release(&reload->fresh.options);
        access_drop(reload->fresh.access);
    }
    free_askers(reload->reading);
    free_askers(reload->waiting);
    loop_unwatch(reload->setup.loop, reload->watch);
    close(reload->read_fd);
    free(reload);
}

static bool same_wish(const struct reload_wish *a, const struct reload_wish *b)
{
    return a->what == b->what && a->done == b->done && a->context == b->context &&
           a->number == b->number;
}

enum status reload_ask(struct reload *reload, const struct reload_wish *wish)
{
    struct asker **at = &reload->waiting;

    for (; *at; at = &(*at)->next)
        if (same_wish(&(*at)->wish, wish)) return OK;
    *at = malloc(sizeof **at);
    if (!*at) return NO_MEMORY;
    **at = (struct asker){ .wish = *wish };
    begin(reload);
    return OK;
}

struct reload_counts reload_counts(const struct reload *reload)
{
    return reload->counts;
}
