/* grammars.c - one table of the vocabulary, one store, and what is counted about them. */
#include "server/grammars.h"
#include <pthread.h>
#include "config/clock.h"
#include "config/log.h"
#include "config/metrics.h"

struct grammars {
    struct grammars_setup setup;
    struct grammar_store *store;
    pthread_mutex_t lock;  // of the next two
    bool made;
    struct grammar_vocab vocab;
};

enum status grammars_open(const struct grammars_setup *setup, struct grammars **grammars)
{
    struct grammars *made = calloc(1, sizeof *made);

    *grammars = NULL;
    if (!made) return NO_MEMORY;
    made->setup = *setup;
    enum status status = grammar_store_open(setup->most, &made->store);
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

enum status grammars_get(struct grammars *grammars, const struct grammar_key *key,
                         const struct grammar_source *source, struct grammar **grammar,
                         struct err *err)
{
    *grammar = grammar_store_find(grammars->store, key);
    if (*grammar) {
        metric_add(METRIC_grammars_found, 1);
        return OK;
    }
    enum status status = make_tables(grammars, err);
    if (status != OK) return status;

    struct grammar_source limited = *source;
    uint64_t start = thread_ns();
    limited.compile_ms = grammars->setup.compile_ms;
    status = grammar_compile(&limited, &grammars->vocab, grammar, err);
    metric_observe(METRIC_grammar_compile, thread_ns() - start);
    metric_add(status == OK ? METRIC_grammars_compiled : METRIC_grammars_refused, 1);
    if (status == OK) grammar_store_put(grammars->store, key, *grammar);
    return status;
}

uint32_t grammars_kept(struct grammars *grammars)
{
    return grammar_store_stats(grammars->store).count;
}
