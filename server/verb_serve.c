/* verb_serve.c - the daemon: start in order, run, stop in reverse.
 *
 *   options -> text side -> socket -> loop -> requests -> http -> loader ... engine -> ready
 *
 *   LOADING -> OPEN --SIGTERM--> LEAVING --drain_delay--> DRAINING --idle, or drain_timeout--> out
 *                \--SIGINT---------------------------------^  (a person at a terminal waits for
 *                                                              no balancer)
 *   A second signal cuts the running requests short at once.
 *
 * Exit codes: 0 clean, 1 failed while running, 2 wrong use or configuration, 75 the device is busy.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/hash.h"
#include "config/log.h"
#include "server/access.h"
#include "server/admin.h"
#include "server/asked.h"
#include "server/budget.h"
#include "server/cache_report.h"
#include "server/cache_options.h"
#include "server/cache_quotas.h"
#include "server/grammars.h"
#include "server/http.h"
#include "server/key_guard.h"
#include "server/limits.h"
#include "server/listen.h"
#include "server/load_report.h"
#include "server/loader.h"
#include "server/notify.h"
#include "server/open_fds.h"
#include "server/privileges.h"
#include "server/routes.h"
#include "server/sandbox.h"
#include "server/text_alias.h"
#include "server/text_side.h"
#include "server/tool_memory.h"
#include "server/usage_log.h"
#include "server/verbs.h"
#include "server/watchdog.h"

#define TOOL_MEMORY_BYTES ((size_t)64 << 20)
#define TICK_NS (250 * (uint64_t)NS_PER_MS)
#define DRAIN_TICK_NS (10 * (uint64_t)NS_PER_MS)
#define CUT_WAIT_NS (5 * NS_PER_S)  // for replies that were cut short to reach their readers

struct daemon {
    int argc;
    char **argv;
    struct options options;
    struct sandbox sandbox;
    struct text_side text;
    struct listening listening;
    struct access_slot access;
    struct loop *loop;
    struct load_progress progress;
    struct service service;
    struct requests *requests;
    struct http *http;
    struct reload *reload;
    struct admin *admin;    // NULL: no socket for the operator
    struct loader *loader;  // NULL once it is done
    struct load_report load_report;
    struct watchdog watchdog;
    int signal_fd;
    uint64_t signal_watch, loader_watch;
    struct timer tick;
    uint64_t started_ns;
    uint64_t phase_ns;           // when the present phase of stopping ends
    enum cache_disk_state disk;  // as it was last told
    unsigned signals;
    bool cut;
    int code;
};

/* ---- stopping ---- */

static void next_tick(struct daemon *daemon, uint64_t after_ns)
{
    must(loop_timer_set(daemon->loop, &daemon->tick, loop_now_ns(daemon->loop) + after_ns) == OK);
}

static void drain(struct daemon *daemon)
{
    log_say(OPT_LOG_LEVEL_INFO, "draining", "no new work; %u requests may finish",
            requests_count(daemon->requests).work);
    requests_set_door(daemon->requests, DOOR_DRAINING);
    http_quiesce(daemon->http);
    daemon->phase_ns = loop_now_ns(daemon->loop) + daemon->options.drain_timeout_ns;
}

static void cut(struct daemon *daemon)
{
    log_say(OPT_LOG_LEVEL_WARN, "cutting", "%u requests are cut short",
            requests_count(daemon->requests).work);
    daemon->cut = true;
    requests_cut(daemon->requests);
    daemon->phase_ns = loop_now_ns(daemon->loop) + CUT_WAIT_NS;
}

static void begin_to_stop(struct daemon *daemon, bool at_once)
{
    notify("STOPPING=1");
    if (!daemon->service.engine) return loop_stop(daemon->loop);  // nothing runs yet
    next_tick(daemon, 0);
    if (requests_door(daemon->requests) == DOOR_CLOSED) return drain(daemon);  // balancers know
    requests_set_door(daemon->requests, DOOR_LEAVING);
    daemon->phase_ns = loop_now_ns(daemon->loop) + (at_once ? 0 : daemon->options.drain_delay_ns);
}

static void on_reloaded(void *context, uint64_t number, const struct reload_answer *answer)
{
    (void)context;
    (void)number;
    if (answer->status == OK) notify("STATUS=ready; the configuration was read again");
}

/* What is wrong is in the log, and what was right before stays. */
static void reload(struct daemon *daemon)
{
    struct reload_wish wish = { RELOAD_ALL, on_reloaded, daemon, 0 };

    if (reload_ask(daemon->reload, &wish) != OK)
        log_say(OPT_LOG_LEVEL_ERROR, "reload", "no memory to read the configuration again");
}

static void on_signal(void *context, uint32_t events)
{
    struct daemon *daemon = context;
    struct signalfd_siginfo info;
    (void)events;

    if (read(daemon->signal_fd, &info, sizeof info) != sizeof info) return;
    log_say(OPT_LOG_LEVEL_INFO, "signal", "%s", strsignal((int)info.ssi_signo));
    if (info.ssi_signo == SIGUSR1) return usage_log_reopen(daemon->service.usage_log);
    if (info.ssi_signo == SIGHUP) return reload(daemon);
    if (daemon->signals++ == 0) return begin_to_stop(daemon, info.ssi_signo == SIGINT);
    if (requests_door(daemon->requests) == DOOR_LEAVING) drain(daemon);
    if (!daemon->cut) cut(daemon);
}

/* Moves the stop along; true while there is something to wait for. */
static bool stopping_goes_on(struct daemon *daemon)
{
    uint64_t now = loop_now_ns(daemon->loop);
    enum requests_door door = requests_door(daemon->requests);

    if (door == DOOR_LEAVING && now >= daemon->phase_ns) drain(daemon);
    else if (door == DOOR_LEAVING) return true;
    if (requests_count(daemon->requests).taken == 0) return false;
    if (now < daemon->phase_ns) return true;
    if (daemon->cut) return false;
    cut(daemon);
    return true;
}

/* The daemon serves on without its disk tier; whoever runs it is told once, and when it is back. */
static void watch_disk(struct daemon *daemon, const struct cache_stats *cache)
{
    struct log_line line;

    if (cache->disk == daemon->disk) return;
    daemon->disk = cache->disk;
    bool degraded = cache_disk_degraded(cache);
    log_begin(&line, degraded ? OPT_LOG_LEVEL_WARN : OPT_LOG_LEVEL_INFO, "cache_disk");
    log_text(&line, "state", slice_of(cache_disk_word(cache->disk)));
    if (degraded) log_text(&line, "why", slice_of(cache->disk_why));
    log_end(&line);
}

static void on_tick(void *context)
{
    struct daemon *daemon = context;
    struct engine_stats stats = { 0 };

    if (daemon->service.engine) engine_stats(daemon->service.engine, &stats);
    else load_report(&daemon->load_report, &daemon->progress, now_ns());
    if (watchdog_is_well(&daemon->watchdog, &stats, now_ns())) notify("WATCHDOG=1");
    watch_disk(daemon, &stats.cache);
    if (stats.failed && requests_door(daemon->requests) != DOOR_FAILED) {
        log_say(OPT_LOG_LEVEL_ERROR, "engine", "the engine has failed; the daemon ends");
        daemon->code = 1;
        requests_set_door(daemon->requests, DOOR_FAILED);
        daemon->signals++;
        daemon->phase_ns = loop_now_ns(daemon->loop) + CUT_WAIT_NS;  // balancers see it in /ready
    }
    if (daemon->code && loop_now_ns(daemon->loop) >= daemon->phase_ns)
        return loop_stop(daemon->loop);
    if (daemon->signals && !daemon->code) {
        if (!stopping_goes_on(daemon)) return loop_stop(daemon->loop);
        return next_tick(daemon, DRAIN_TICK_NS);
    }
    next_tick(daemon, TICK_NS);
}

/* ---- starting ---- */

static void say_ready(struct daemon *daemon)
{
    struct engine_stats stats;
    struct log_line line;

    engine_stats(daemon->service.engine, &stats);
    daemon->service.context_tokens = stats.context;
    log_begin(&line, OPT_LOG_LEVEL_INFO, "ready");
    log_text(&line, "url", slice_of(daemon->listening.url));
    log_text(&line, "model", slice_of(daemon->service.model_name));
    log_int(&line, "context", stats.context);
    log_int(&line, "kv_blocks", stats.blocks);
    log_ms(&line, "ms", now_ns() - daemon->started_ns);
    log_end(&line);
    notify("READY=1\nSTATUS=ready");
}

static void tell_quotas(void *context)
{
    struct daemon *daemon = context;

    cache_quotas_tell(daemon->service.engine, daemon->access.now);
}

static void on_loaded(void *context, uint32_t events)
{
    struct daemon *daemon = context;
    struct err err = { "" };
    (void)events;

    loop_unwatch(daemon->loop, daemon->loader_watch);
    load_report_end(&daemon->load_report);
    enum status status = loader_close(daemon->loader, &daemon->service.engine, &err);
    daemon->loader = NULL;
    if (status == OK) status = sandbox_seal(&daemon->sandbox, &err);
    if (status == OK) tell_quotas(daemon);
    if (status == OK) status = requests_begin(daemon->requests, &err);
    if (status == OK) return say_ready(daemon);
    log_say(OPT_LOG_LEVEL_ERROR, "model", "%s", err.text);
    daemon->code = status == BUSY ? 75 : status == BAD_INPUT || status == TOO_LONG ? 2 : 1;
    loop_stop(daemon->loop);
}

/* Same binary, same checkpoint, same options: the same answers. */
static void set_fingerprint(struct daemon *daemon)
{
    struct buf text;

    buf_init(&text, 0);
    buf_add_string(&text, FATHOM_VERSION " ");
    buf_add_string(&text, daemon->options.model);
    buf_addf(&text, " %d %d %d", daemon->options.backend, daemon->options.numerics,
             daemon->text.format.policy);
    snprintf(daemon->service.fingerprint, sizeof daemon->service.fingerprint, "fp_%016llx",
             (unsigned long long)hash64(text.data, text.size, daemon->text.vocab.size));
    buf_release(&text);
}

static enum status set_service(struct daemon *daemon, struct err *err)
{
    daemon->service.options = &daemon->options;
    daemon->service.loading = &daemon->progress;
    daemon->service.tokenizer = &daemon->text.tokenizer;
    daemon->service.vocab = &daemon->text.vocab;
    daemon->service.format = &daemon->text.format;
    daemon->service.generation = &daemon->text.generation;
    daemon->service.model_name = daemon->text.model_name;
    daemon->service.started_unix_s = (uint64_t)time(NULL);
    daemon->service.context_tokens = daemon->text.model_context;
    daemon->service.page = daemon->options.ui == OPT_UI_AUTO ? daemon->listening.loopback
                                                             : daemon->options.ui == OPT_UI_ON;
    set_fingerprint(daemon);
    enum status status =
        limits_open((uint32_t)daemon->options.limit_users, daemon->options.tenant_bodies_bytes,
                    &daemon->service.limits, err);
    if (status == OK)
        status =
            budget_read(daemon->options.usage_log, daemon->access.now, daemon->service.limits, err);
    if (status == OK && daemon->options.wrong_keys_per_minute)
        status = key_guard_open((uint32_t)daemon->options.wrong_keys_per_minute,
                                &daemon->service.guard, err);
    if (status == OK) status = tool_memory_open(TOOL_MEMORY_BYTES, &daemon->service.tool_memory);
    if (status == OK && daemon->options.text_alias_bytes)
        status = text_alias_open(daemon->options.text_alias_bytes, &daemon->service.text_alias);
    struct grammars_setup grammars = {
        .vocab = &daemon->text.vocab,
        .most = daemon->options.grammar_memory_bytes,
        .compile_ms = (uint32_t)(daemon->options.grammar_time_ns / NS_PER_MS),
    };
    if (status == OK) status = grammars_open(&grammars, &daemon->service.grammars);
    return status;
}

/* What the process takes from itself before it listens to anybody. Signals are blocked here, before
 * the first thread, so that only signalfd sees them. */
static enum status harden(struct daemon *daemon, struct err *err)
{
    sigset_t set;

    enum status status = privileges_check(&daemon->options, err);
    if (status != OK) return status;
    privileges_harden(daemon->options.allow_core);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);  // a file at its limit is a disk that is full
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    daemon->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return daemon->signal_fd < 0 ? fail(err, IO_FAILED, "signalfd: %s", strerror(errno)) : OK;
}

static enum status start_loading(struct daemon *daemon, struct err *err)
{
    struct loader_setup setup = { .options = &daemon->options,
                                  .model_context = daemon->text.model_context,
                                  .progress = &daemon->progress,
                                  .tokenizer = &daemon->text.tokenizer };
    enum status status = loader_open(&setup, &daemon->loader, err);

    if (status != OK) return status;
    load_report(&daemon->load_report, &daemon->progress, now_ns());
    return loop_watch(daemon->loop, loader_event_fd(daemon->loader), EPOLLIN, on_loaded, daemon,
                      &daemon->loader_watch);
}

static enum status start_admin(struct daemon *daemon, struct err *err)
{
    struct admin_setup setup = { .path = daemon->options.admin_socket,
                                 .loop = daemon->loop,
                                 .requests = daemon->requests,
                                 .service = &daemon->service,
                                 .reload = daemon->reload,
                                 .access = &daemon->access };

    if (!setup.path[0]) return OK;
    enum status status = admin_open(&setup, &daemon->admin, err);
    daemon->service.admin = daemon->admin;
    return status;
}

static enum status start_front(struct daemon *daemon, struct err *err)
{
    struct requests_setup requests = { .loop = daemon->loop, .service = &daemon->service };
    enum status status = requests_open(&requests, &daemon->requests, err);

    if (status != OK) return status;
    daemon->service.requests = daemon->requests;
    struct http_setup http = { .loop = daemon->loop,
                               .requests = daemon->requests,
                               .options = &daemon->options,
                               .routes = routes,
                               .access = &daemon->access,
                               .listen_fd = daemon->listening.fd,
                               .loopback = daemon->listening.loopback };
    if ((status = http_open(&http, &daemon->http, err)) != OK) return status;
    struct reload_setup reload = { .loop = daemon->loop,
                                   .argc = daemon->argc,
                                   .argv = daemon->argv,
                                   .options = &daemon->options,
                                   .access = &daemon->access,
                                   .loopback = daemon->listening.loopback };
    daemon->access.user = daemon;
    daemon->access.swapped = tell_quotas;
    status = reload_open(&reload, &daemon->reload);
    if (status != OK) return fail(err, status, "reload: no memory");
    return start_admin(daemon, err);
}

static void stop(struct daemon *daemon)
{
    loop_timer_clear(daemon->loop, &daemon->tick);
    load_report_end(&daemon->load_report);
    http_close(daemon->http);
    reload_close(daemon->reload);  // before those whom it would tell
    admin_close(daemon->admin);
    requests_close(daemon->requests);
    if (daemon->loader) {
        /* Still loading: nobody was served and nothing is held, so there is nothing to wait for. */
        log_say(OPT_LOG_LEVEL_INFO, "stopped", "while the model was being loaded");
        usage_log_close(daemon->service.usage_log);
        log_flush();
        _exit(daemon->code);
    }
    if (daemon->service.engine) engine_close(daemon->service.engine);
}

static int serve(struct daemon *daemon)
{
    struct err err = { "" };
    enum status status;

    daemon->code = 2;
    if ((status = harden(daemon, &err)) != OK) goto say;
    if ((status = cache_options_check(&daemon->options, &err)) != OK) goto say;
    if ((status = text_side_open(&daemon->text, &daemon->options, &err)) != OK) goto say;
    status = daemon->options.keys[0] ? access_open(daemon->options.keys, &daemon->access.now, &err)
                                     : access_open_to_all(&daemon->access.now, &err);
    if (status != OK) goto release_text;
    if ((status = listen_open(daemon->options.listen, &daemon->listening, &err)) != OK)
        goto drop_access;
    if ((status = reload_check_exposure(&daemon->options, daemon->listening.loopback, &err)) != OK)
        goto drop_access;
    open_fds_watch();
    if ((status = sandbox_enter(&daemon->sandbox, &daemon->options, &err)) != OK) goto drop_access;
    log_start();  // the first thread, and so inside
    if (daemon->options.usage_log[0] &&
        (status = usage_log_open(daemon->options.usage_log, &daemon->service.usage_log, &err)) !=
            OK)
        goto drop_access;
    if ((status = loop_open(&daemon->loop, &err)) != OK) goto drop_access;
    daemon->code = 1;
    if ((status = set_service(daemon, &err)) != OK) goto close_loop;
    status = loop_watch(daemon->loop, daemon->signal_fd, EPOLLIN, on_signal, daemon,
                        &daemon->signal_watch);
    if (status == OK) status = start_front(daemon, &err);
    if (status == OK) status = start_loading(daemon, &err);
    if (status == OK) {
        daemon->code = 0;
        daemon->tick = (struct timer){ .due = on_tick, .context = daemon };
        next_tick(daemon, TICK_NS);
        loop_run(daemon->loop);
    }
    stop(daemon);
    grammars_close(daemon->service.grammars);
    text_alias_close(daemon->service.text_alias);
    tool_memory_close(daemon->service.tool_memory);
    key_guard_close(daemon->service.guard);
    limits_close(daemon->service.limits);
close_loop:
    loop_close(daemon->loop);
drop_access:
    usage_log_close(daemon->service.usage_log);
    access_swap(&daemon->access, NULL);
release_text:
    text_side_release(&daemon->text);
say:
    if (status != OK) log_say(OPT_LOG_LEVEL_ERROR, "start", "%s", err.text);
    else log_say(OPT_LOG_LEVEL_INFO, "stopped", "exit code %d", daemon->code);
    log_stop();
    return daemon->code;
}

int verb_serve(int argc, char **argv)
{
    struct daemon *daemon = calloc(1, sizeof *daemon);  // large; the requests point into it
    struct err err = { "" };
    int code;

    if (!daemon) return 1;
    daemon->started_ns = now_ns();
    daemon->argc = argc;
    daemon->argv = argv;
    if (options_load(argc, argv, &daemon->options, &err) != OK) {
        fprintf(stderr, "fathomd: %s\nTry `fathomd --help`.\n", err.text);
        free(daemon);
        return 2;
    }
    if (daemon->options.rest_count) {  // such as the `false` of --some-flag false
        fprintf(stderr,
                "fathomd: found \"%s\" behind the options, wanted none: a flag is said as --flag, "
                "--no-flag or --flag=false\n",
                daemon->options.rest[0]);
        options_release(&daemon->options);
        free(daemon);
        return 2;
    }
    if (daemon->options.ask != ASK_RUN) {
        code = asked(&daemon->options);
    } else {
        log_open(daemon->options.log_level, daemon->options.log_format, STDERR_FILENO);
        code = serve(daemon);
    }
    options_release(&daemon->options);
    free(daemon);
    return code;
}
