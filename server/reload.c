/* reload.c - everything is read and checked beside what is in use, then exchanged. */
#include "server/reload.h"
#include "config/json.h"
#include "config/log.h"
#include "config/metrics.h"
#include "server/cache_options.h"

/* What a start would take, beside what is in use. */
struct fresh {
    struct options options;
    struct access *access;
};

enum status reload_check_exposure(const struct options *options, bool loopback, struct err *err)
{
    if (loopback || options->keys[0] || options->insecure) return OK;
    return fail(err, BAD_INPUT,
                "listen: %s can be reached from other machines and no keys are set; wanted --keys "
                "FILE, or --insecure",
                options->listen);
}

static enum status read_access(const struct options *options, struct access **access,
                               struct err *err)
{
    if (options->keys[0]) return access_open(options->keys, access, err);
    return access_open_to_all(access, err);
}

enum status reload_keys(struct reload *reload, struct err *err)
{
    struct access *access;
    enum status status = read_access(reload->options, &access, err);

    if (status == OK) access_swap(reload->access, access);
    return status;
}

/* What cannot be checked without the model, its directory among it, was found good at the start, and
 * stays in use. */
static enum status read_fresh(const struct reload *reload, struct fresh *fresh, struct err *err)
{
    enum status status = options_load(reload->argc, reload->argv, &fresh->options, err);

    if (status != OK) return status;
    status = reload_check_exposure(&fresh->options, reload->loopback, err);
    if (status == OK) status = cache_options_check(&fresh->options, err);
    if (status == OK) status = read_access(&fresh->options, &fresh->access, err);
    if (status != OK) options_release(&fresh->options);
    return status;
}

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
static void swap(struct reload *reload, struct fresh *fresh, struct buf *told)
{
    struct buf changed, restart, list[2];  // for the log; for `told`
    struct log_line line;

    buf_init(&changed, 0);
    buf_init(&restart, 0);
    buf_init(&list[0], 0);
    buf_init(&list[1], 0);
    for (enum option_id id = 0; id < OPTION_COUNT; id++) {
        if (!option_differs(reload->options, &fresh->options, id)) continue;
        bool live = option_is_live(id);
        add_name(live ? &changed : &restart, id, false);
        add_name(&list[live ? 0 : 1], id, true);
        if (live) option_exchange(reload->options, &fresh->options, id);
    }
    access_swap(reload->access, fresh->access);
    log_set_level(reload->options->log_level);
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

enum status reload_run(struct reload *reload, struct buf *told, struct err *err)
{
    struct fresh fresh = { 0 };
    enum status status = read_fresh(reload, &fresh, err);

    if (status == OK) {
        swap(reload, &fresh, told);
        reload->done++;
        metric_add(METRIC_reload_ok, 1);
        return OK;
    }
    struct log_line line;
    log_begin(&line, OPT_LOG_LEVEL_ERROR, "reload");
    log_text(&line, "result", SLICE("failed"));
    log_text(&line, "why", slice_of(err->text));
    log_end(&line);
    reload->failed++;
    metric_add(METRIC_reload_failed, 1);
    return status;
}
