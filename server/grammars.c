/* grammars.c - one table of the vocabulary, one store, and what is counted about them. */
#include "server/grammars.h"
#include <pthread.h>
#include "config/clock.h"
#include "config/log.h"
#include "config/metrics.h"

#define STALE_NS (10 * 60 * NS_PER_S)  // an agent's next turn comes sooner

struct grammars {
    struct grammars_setup setup;
    struct grammar_store *store;
    pthread_mutex_t lock;  // of the next two
    bool made;
    struct grammar_vocab vocab;
    struct grammar_store_stats told;  // the loop thread's
};

enum status grammars_open(const struct grammars_setup *setup, struct grammars **grammars)
{
    struct grammars *made = calloc(1, sizeof *made);

    *grammars = NULL;
    if (!made) return NO_MEMORY;
    made->setup = *setup;
    struct grammar_store_setup store = { .most = setup->most, .stale_ns = STALE_NS };
    enum status status = grammar_store_open(&store, &made->store);
    if (status != OK) {
        free(made);
        return status;
    }
    pthread_mutex_init(&made->lock, NULL);
    *grammars = made;
    return OK;
}

void grammars_close(struct grammars *grammars)
{
    if (!grammars) return;
    grammar_store_close(grammars->store);
    if (grammars->made) grammar_vocab_release(&grammars->vocab);
    pthread_mutex_destroy(&grammars->lock);
    free(grammars);
}

/* Whoever comes while they are being made waits for them. */
static enum status make_tables(struct grammars *grammars, struct err *err)
{
    enum status status = OK;

    pthread_mutex_lock(&grammars->lock);
    if (!grammars->made) {
        uint64_t start = now_ns();
        struct log_line line;
        status = grammar_vocab_init(&grammars->vocab, grammars->setup.vocab, err);
        grammars->made = status == OK;
        log_begin(&line, OPT_LOG_LEVEL_INFO, "grammar_tables");
        log_int(&line, "bytes", status == OK ? (int64_t)grammar_vocab_bytes(&grammars->vocab) : 0);
        log_ms(&line, "ms", now_ns() - start);
        log_end(&line);
    }
    pthread_mutex_unlock(&grammars->lock);
    return status;
}

/* The request's field whose grammar it is. */
static const char *field_of(const struct grammar_source *source)
{
    if (source->content != GRAMMAR_CONTENT_FREE && source->schema_field)
        return source->schema_field;
    return source->calls ? "tools" : "response_format";
}

static enum status keep(struct grammars *grammars, const struct grammars_wish *wish,
                        struct grammar **grammar, struct err *err)
{
    struct err why;
    enum status status = grammar_store_put(grammars->store, wish->key, wish->tenant, grammar, &why);
    if (status == OK) return OK;
    grammar_drop(*grammar);
    *grammar = NULL;
    metric_add(status == TOO_LONG ? METRIC_grammars_refused : METRIC_grammars_full, 1);
    return fail(err, status, "%.80s: %.400s", field_of(wish->source), why.text);
}

enum status grammars_get(struct grammars *grammars, const struct grammars_wish *wish,
                         struct grammar **grammar, struct err *err)
{
    *grammar = grammar_store_find(grammars->store, wish->key);
    if (*grammar) {
        metric_add(METRIC_grammars_found, 1);
        return OK;
    }
    enum status status = make_tables(grammars, err);
    if (status != OK) return status;

    struct grammar_source limited = *wish->source;
    uint64_t start = thread_ns();
    limited.compile_ms = grammars->setup.compile_ms;
    status = grammar_compile(&limited, &grammars->vocab, grammar, err);
    metric_observe(METRIC_grammar_compile, thread_ns() - start);
    if (status != OK) {
        metric_add(METRIC_grammars_refused, 1);
        return status;
    }
    status = keep(grammars, wish, grammar, err);
    if (status == OK) metric_add(METRIC_grammars_compiled, 1);
    return status;
}

void grammars_tell(struct grammars *grammars)
{
    struct grammar_store_stats *told = &grammars->told;
    struct grammar_store_stats stats = grammar_store_stats(grammars->store);

    metric_set(METRIC_grammars_kept, stats.count);
    metric_set(METRIC_grammar_bytes_in_use, (int64_t)stats.in_use);
    metric_set(METRIC_grammar_bytes_idle, (int64_t)(stats.bytes - stats.in_use));
    metric_add(METRIC_grammars_evicted, (int64_t)(stats.evicted - told->evicted));
    metric_add(METRIC_grammar_masks_unkept, (int64_t)(stats.unkept - told->unkept));
    *told = stats;
}
