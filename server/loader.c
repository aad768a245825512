/* loader.c - options to engine options, and the thread that waits for the weights. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "config/cores.h"
#include "engine/scripted.h"
#include "server/loader.h"
#include "server/cache_options.h"

struct loader {
    struct loader_setup setup;
    pthread_t thread;
    int done_fd;
    struct engine *engine;  // the thread's until done_fd rings, as are the next two
    enum status status;
    struct err err;
};

/* From the loading thread, at every few tensors; load_report.c tells of it. */
static void note_progress(void *user, uint64_t done, uint64_t total)
{
    struct loader *loader = user;
    struct load_progress *progress = loader->setup.progress;

    atomic_store(&progress->total, total);
    atomic_store(&progress->done, done);
    atomic_store(&progress->stage, done < total ? "weights" : "warm-up");
}

static enum status open_scripted(struct loader *loader)
{
    const struct options *options = loader->setup.options;
    struct scripted_options scripted = {
        .script = options->script,
        .context = options->context ? (uint32_t)options->context : loader->setup.model_context,
        .most_seqs = (uint32_t)options->max_seqs,
        .queue = (uint32_t)options->queue_length,
    };
    return scripted_open(&scripted, &loader->engine, &loader->err);
}

/* "checkpoint" or "random:SEED". */
static enum status read_weights(const char *text, struct engine_options *engine, struct err *err)
{
    static const char random[] = "random:";
    char *end = NULL;

    if (strcmp(text, "checkpoint") == 0) return OK;
    errno = 0;
    if (strncmp(text, random, sizeof random - 1) == 0)
        engine->random_seed = strtoull(text + sizeof random - 1, &end, 10);
    if (!end || end == text + sizeof random - 1 || *end || errno)
        return fail(err, BAD_INPUT, "weights: found \"%s\", wanted checkpoint or random:SEED",
                    text);
    engine->random_weights = true;
    return OK;
}

static struct engine_cache cache_of(const struct options *options)
{
    uint64_t ram = cores_memory();
    return (struct engine_cache){
        .off = !options->prefix_cache,
        .no_replay = options->cache_replay == OPT_CACHE_REPLAY_OFF,
        .host_bytes = cache_options_host_bytes(options, false, ram),
        .host_bytes_gpu = cache_options_host_bytes(options, true, ram),
        .dir = options->cache_dir,
        .disk_bytes = options->cache_size_bytes,
        .write_bytes_s = options->cache_write_rate_bytes,
        .write_bytes_day = options->cache_write_day_bytes,
        .disk_after_ns = options->cache_disk_after_ns,
        .window_ttl_ns = options->cache_window_ttl_ns,
        .verify = (uint32_t)options->cache_verify,
    };
}

static enum status open_model(struct loader *loader)
{
    const struct options *options = loader->setup.options;
    static const enum isa isas[] = { [OPT_ISA_AUTO] = ISA_AUTO,
                                     [OPT_ISA_PLAIN] = ISA_PLAIN,
                                     [OPT_ISA_AVX2] = ISA_AVX2,
                                     [OPT_ISA_AVX512] = ISA_AVX512 };
    static const char *const backends[] = {
        [OPT_BACKEND_AUTO] = "auto", [OPT_BACKEND_CPU] = "cpu", [OPT_BACKEND_CUDA] = "cuda"
    };
    struct engine_options engine = {
        .model = options->model,
        .backend = backends[options->backend],
        .dev = { .index = (int)options->gpu,
                 .numerics =
                     options->numerics == OPT_NUMERICS_EXACT ? NUMERICS_EXACT : NUMERICS_OFFICIAL,
                 .threads = (uint32_t)options->threads,
                 .isa = isas[options->isa] },
        .context = (uint32_t)options->context,
        .shared_step_ns = options->shared_step_ns,
        .step_tokens = (uint32_t)options->max_batch_tokens,
        .most_seqs = (uint32_t)options->max_seqs,
        .queue = (uint32_t)options->queue_length,
        .kv_bytes = options->kv_memory_bytes,
        .cache = cache_of(options),
        .tokenizer = loader->setup.tokenizer,
        .mask_threads = (uint32_t)options->mask_threads,
        .progress = note_progress,
        .user = loader,
    };
    enum status status = read_weights(options->weights, &engine, &loader->err);
    return status == OK ? engine_open(&engine, &loader->engine, &loader->err) : status;
}

static void *load(void *context)
{
    struct loader *loader = context;

    loader->status = loader->setup.options->backend == OPT_BACKEND_SCRIPTED ? open_scripted(loader)
                                                                            : open_model(loader);
    must(write(loader->done_fd, &(uint64_t){ 1 }, 8) == 8);
    return NULL;
}

enum status loader_open(const struct loader_setup *setup, struct loader **loader, struct err *err)
{
    struct loader *made = calloc(1, sizeof *made);

    if (!made) return fail(err, NO_MEMORY, "loader: no memory");
    made->setup = *setup;
    made->done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (made->done_fd < 0) {
        free(made);
        return fail(err, IO_FAILED, "eventfd: %s", strerror(errno));
    }
    int failed = pthread_create(&made->thread, NULL, load, made);
    if (failed) {
        close(made->done_fd);
        free(made);
        return fail(err, IO_FAILED, "loader thread: %s", strerror(failed));
    }
    *loader = made;
    return OK;
}

int loader_event_fd(const struct loader *loader)
{
    return loader->done_fd;
}

enum status loader_close(struct loader *loader, struct engine **engine, struct err *err)
{
    pthread_join(loader->thread, NULL);
    enum status status = loader->status;
    *engine = loader->engine;
    if (err) *err = loader->err;
    close(loader->done_fd);
    free(loader);
    return status;
}
