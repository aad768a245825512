/* weights_digest.c - pieces of all files are one list that threads take from. */
#include "engine/weights_digest.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/cores.h"
#include "config/hash.h"
#include "config/log.h"
#include "engine/safetensors.h"

#define PIECE (4u << 20)          // bytes
#define YOUNG_NS (NS_PER_S / 10)  // more than a clock tick of any kernel
#define RANDOM_VERSION 1          // one more when a seed comes to mean other weights
#define THREADS_MOST 64u
#define ENTRIES_MOST 4096u
#define MEMORY_MOST ((size_t)4 << 20)  // bytes
#define HEX_ROOM (2 * SHA256_BYTES + 1)

static const char FIRST_LINE[] = "fathom weights 1 %016" PRIx64 "\n";

/* ---- what is remembered */

struct entry {
    uint8_t digest[SHA256_BYTES];
    uint64_t size, mtime_ns, ctime_ns, inode;
    const char *name;
};

struct memory {
    struct buf text;  // names point into it
    struct entry *entry;
    uint32_t entries;
    uint8_t model[WEIGHTS_MODELS_MOST][SHA256_BYTES];
    uint32_t models;
};

static void add_hex(struct buf *out, const uint8_t digest[SHA256_BYTES])
{
    for (size_t i = 0; i < SHA256_BYTES; i++) buf_addf(out, "%02x", digest[i]);
}

static bool read_hex(const char *text, uint8_t digest[SHA256_BYTES])
{
    if (strlen(text) != 2 * SHA256_BYTES) return false;
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1) return false;
        digest[i] = (uint8_t)byte;
    }
    return true;
}

static bool read_line(struct memory *memory, char *line)
{
    char hex[HEX_ROOM];
    struct entry e;
    int name = 0;

    if (sscanf(line, "model %64[0-9a-f]", hex) == 1)
        return memory->models < WEIGHTS_MODELS_MOST &&
               read_hex(hex, memory->model[memory->models++]);
    if (sscanf(line, "file %64[0-9a-f] %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 "%n", hex,
               &e.size, &e.mtime_ns, &e.ctime_ns, &e.inode, &name) != 5 ||
        line[name] != ' ' || !read_hex(hex, e.digest) || memory->entries == ENTRIES_MOST)
        return false;
    e.name = line + name + 1;
    memory->entry[memory->entries++] = e;
    return true;
}

static bool parse(struct memory *memory)
{
    uint64_t sum;

    buf_add_byte(&memory->text, 0);
    memory->entry = calloc(ENTRIES_MOST, sizeof *memory->entry);
    if (buf_status(&memory->text) != OK || !memory->entry) return false;
    char *line = memory->text.data, *end = strchr(line, '\n');
    if (!end) return false;
    *end = 0;
    if (sscanf(line, "fathom weights 1 %" SCNx64, &sum) != 1) return false;
    line = end + 1;
    size_t rest = memory->text.size - 1 - (size_t)(line - memory->text.data);
    if (strlen(line) != rest || hash64(line, rest, 0) != sum) return false;
    for (; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        if (!read_line(memory, line)) return false;
    }
    return true;
}

static void memory_release(struct memory *memory)
{
    buf_release(&memory->text);
    free(memory->entry);
    *memory = (struct memory){ 0 };
}

/* What is there and whole; otherwise nothing. */
static enum status memory_read(const struct private_file *file, struct memory *memory,
                               struct err *err)
{
    bool found;
    *memory = (struct memory){ 0 };
    buf_init(&memory->text, MEMORY_MOST);
    enum status status = private_file_read(file, &memory->text, &found, err);
    if (status == OK && found && !parse(memory)) memory->entries = memory->models = 0;
    if (status != OK) memory_release(memory);
    return status;
}

/* ---- the files */

struct subject {
    const char *path, *name;
    int fd;
    struct stat stat;
    uint64_t first_piece;
    bool known;  // its digest was remembered
    bool young;
    uint8_t digest[SHA256_BYTES];
};

struct reading {
    const struct weights_digest_options *options;
    struct st_set set;
    char config[4096], index[4096];  // paths
    struct subject *subject;         // [subjects], by name
    uint32_t subjects;
    uint64_t pieces, bytes, hashed_bytes;
    uint8_t (*piece)[SHA256_BYTES];  // [pieces]

    atomic_ulong next, done_bytes;
    atomic_bool failed;
    pthread_mutex_t lock;
    enum status status;  // under the lock
    struct err *err;
};

static uint64_t ns_of(struct timespec t)
{
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct subject *)a)->name, ((const struct subject *)b)->name);
}

static enum status open_subject(struct subject *subject, struct err *err)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    subject->fd = open(subject->path, O_RDONLY | O_CLOEXEC);
    if (subject->fd < 0 || fstat(subject->fd, &subject->stat) < 0)
        return fail(err, IO_FAILED, "%s: %s", subject->path, strerror(errno));
    if (!S_ISREG(subject->stat.st_mode))
        return fail(err, BAD_INPUT, "%s: found something else, wanted a plain file", subject->path);
    subject->young = ns_of(subject->stat.st_ctim) + YOUNG_NS > ns_of(now);
    return OK;
}

/* Which files there are, open, in the order of their names. */
static enum status find_files(struct reading *r, struct err *err)
{
    const char *dir = r->options->model;
    enum status status = OK;

    if (!r->options->random_weights) status = st_open_dir(dir, &r->set, err);
    if (status != OK) return status;
    r->subject = calloc((size_t)r->set.files + 2, sizeof *r->subject);
    if (!r->subject) return fail(err, NO_MEMORY, "no memory for the list of weight files");
    for (uint32_t i = 0; i < r->set.files + 2; i++) r->subject[i].fd = -1;

    snprintf(r->config, sizeof r->config, "%s/config.json", dir);
    snprintf(r->index, sizeof r->index, "%s/model.safetensors.index.json", dir);
    r->subject[r->subjects++] = (struct subject){ .path = r->config, .name = "config.json" };
    if (!r->options->random_weights && access(r->index, F_OK) == 0)
        r->subject[r->subjects++] =
            (struct subject){ .path = r->index, .name = "model.safetensors.index.json" };
    for (uint32_t i = 0; i < r->set.files; i++)
        r->subject[r->subjects++] =
            (struct subject){ .path = r->set.file[i].path, .name = r->set.file[i].name };
    qsort(r->subject, r->subjects, sizeof *r->subject, compare_names);
    for (uint32_t i = 0; i < r->subjects; i++) r->subject[i].fd = -1;
    for (uint32_t i = 0; i < r->subjects && status == OK; i++)
        status = open_subject(&r->subject[i], err);
    return status;
}

static void recall(struct reading *r, const struct memory *memory)
{
    for (uint32_t i = 0; i < r->subjects; i++) {
        struct subject *s = &r->subject[i];
        for (uint32_t k = 0; k < memory->entries && !s->known; k++) {
            const struct entry *e = &memory->entry[k];
            if (strcmp(e->name, s->name) != 0 || e->size != (uint64_t)s->stat.st_size ||
                e->mtime_ns != ns_of(s->stat.st_mtim) || e->ctime_ns != ns_of(s->stat.st_ctim) ||
                e->inode != s->stat.st_ino)
                continue;
            memcpy(s->digest, e->digest, SHA256_BYTES);
            s->known = true;
        }
        r->bytes += (uint64_t)s->stat.st_size;
    }
}

/* ---- reading them */

static void note_failure(struct reading *r, const struct subject *s, const char *what)
{
    pthread_mutex_lock(&r->lock);
    if (r->status == OK) r->status = fail(r->err, IO_FAILED, "%s: %s", s->path, what);
    pthread_mutex_unlock(&r->lock);
    atomic_store(&r->failed, true);
}

static void read_piece(struct reading *r, uint64_t piece, uint8_t *memory)
{
    uint32_t i = 0;
    while (i + 1 < r->subjects && r->subject[i + 1].first_piece <= piece) i++;
    const struct subject *s = &r->subject[i];
    uint64_t from = (piece - s->first_piece) * PIECE, left = (uint64_t)s->stat.st_size - from;
    size_t bytes = left < PIECE ? (size_t)left : PIECE, have = 0;

    while (have < bytes) {
        ssize_t got = pread(s->fd, memory + have, bytes - have, (off_t)(from + have));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return note_failure(r, s, strerror(errno));
        if (got == 0) return note_failure(r, s, "became shorter while it was read");
        have += (size_t)got;
    }
    sha256(&(struct sha256_part){ memory, bytes }, 1, r->piece[piece]);
    atomic_fetch_add(&r->done_bytes, bytes);
}

static void take_pieces(struct reading *r, bool tell)
{
    uint8_t *memory = malloc(PIECE);
    uint64_t piece;

    if (!memory) return note_failure(r, &r->subject[0], "no memory to read it");
    while (!atomic_load(&r->failed) && (piece = atomic_fetch_add(&r->next, 1)) < r->pieces) {
        read_piece(r, piece, memory);
        if (tell && r->options->progress)
            r->options->progress(r->options->user, atomic_load(&r->done_bytes), r->hashed_bytes);
    }
    free(memory);
}

static void *helper(void *user)
{
    take_pieces(user, false);
    return NULL;
}

static uint32_t threads_wanted(const struct reading *r)
{
    uint32_t threads = r->options->threads;
    struct cores *cores;

    if (!threads) {
        threads = 1;
        if (cores_open(&cores, NULL) == OK) {
            threads = cores_count(cores);
            cores_close(cores);
        }
    }
    if (threads > THREADS_MOST) threads = THREADS_MOST;
    return threads < r->pieces ? threads : (uint32_t)r->pieces;
}

static enum status digest_subject(struct reading *r, struct subject *s, uint64_t pieces)
{
    struct stat now;

    if (fstat(s->fd, &now) < 0 || now.st_size != s->stat.st_size ||
        ns_of(now.st_mtim) != ns_of(s->stat.st_mtim) ||
        ns_of(now.st_ctim) != ns_of(s->stat.st_ctim))
        return fail(r->err, IO_FAILED, "%s: changed while it was read", s->path);
    sha256(&(struct sha256_part){ r->piece + s->first_piece, pieces * SHA256_BYTES }, 1, s->digest);
    return OK;
}

static enum status read_unknown(struct reading *r)
{
    pthread_t thread[THREADS_MOST];
    uint32_t started = 0;

    for (uint32_t i = 0; i < r->subjects; i++) {
        struct subject *s = &r->subject[i];
        s->first_piece = r->pieces;
        if (s->known) continue;
        r->pieces += ((uint64_t)s->stat.st_size + PIECE - 1) / PIECE;
        r->hashed_bytes += (uint64_t)s->stat.st_size;
    }
    r->piece = malloc((r->pieces + 1) * sizeof *r->piece);
    if (!r->piece) return fail(r->err, NO_MEMORY, "no memory for digests of the weights");
    /* The calling thread is one of them, so a thread that cannot be had costs only time. */
    for (uint32_t i = 1, want = threads_wanted(r); i < want; i++)
        if (pthread_create(&thread[started], NULL, helper, r) == 0) started++;
    take_pieces(r, true);
    while (started) pthread_join(thread[--started], NULL);

    for (uint32_t i = 0; i < r->subjects && r->status == OK; i++) {
        uint64_t end = i + 1 < r->subjects ? r->subject[i + 1].first_piece : r->pieces;
        if (!r->subject[i].known)
            r->status = digest_subject(r, &r->subject[i], end - r->subject[i].first_piece);
    }
    return r->status;
}

static enum status digest_model(const struct reading *r, uint8_t digest[SHA256_BYTES],
                                struct err *err)
{
    struct buf text;

    buf_init(&text, 0);
    for (uint32_t i = 0; i < r->subjects; i++) {
        const struct subject *s = &r->subject[i];
        buf_add(&text, s->name, strlen(s->name) + 1);
        buf_add(&text, &(uint64_t){ (uint64_t)s->stat.st_size }, 8);
        buf_add(&text, s->digest, SHA256_BYTES);
    }
    if (r->options->random_weights)
        buf_addf(&text, "random %d %" PRIu64, RANDOM_VERSION, r->options->random_seed);
    enum status status = buf_status(&text);
    static const char tag[] = "fathom model 1";
    sha256((const struct sha256_part[]){ { tag, sizeof tag }, { text.data, text.size } }, 2,
           digest);
    buf_release(&text);
    return status == OK ? OK : fail(err, status, "no memory for the model's digest");
}

/* ---- remembering */

static void add_entry(struct buf *out, const struct entry *e)
{
    buf_add_string(out, "file ");
    add_hex(out, e->digest);
    buf_addf(out, " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", e->size, e->mtime_ns,
             e->ctime_ns, e->inode, e->name);
}

static bool is_among(const struct reading *r, const char *name, uint64_t inode)
{
    for (uint32_t i = 0; i < r->subjects; i++)
        if (strcmp(r->subject[i].name, name) == 0 && r->subject[i].stat.st_ino == inode)
            return true;
    return false;
}

static void add_memory(struct buf *out, const struct reading *r, const struct memory *memory,
                       const uint8_t model[SHA256_BYTES])
{
    uint32_t entries = 0;

    buf_add_string(out, "model ");
    add_hex(out, model);
    buf_add_byte(out, '\n');
    for (uint32_t i = 0, models = 1; i < memory->models && models < WEIGHTS_MODELS_MOST; i++) {
        if (memcmp(memory->model[i], model, SHA256_BYTES) == 0) continue;
        buf_add_string(out, "model ");
        add_hex(out, memory->model[i]);
        buf_add_byte(out, '\n');
        models++;
    }
    for (uint32_t i = 0; i < r->subjects && entries < ENTRIES_MOST; i++) {
        const struct subject *s = &r->subject[i];
        if ((s->young && !s->known) || strchr(s->name, '\n')) continue;
        struct entry e = { .size = (uint64_t)s->stat.st_size,
                           .mtime_ns = ns_of(s->stat.st_mtim),
                           .ctime_ns = ns_of(s->stat.st_ctim),
                           .inode = s->stat.st_ino,
                           .name = s->name };
        memcpy(e.digest, s->digest, SHA256_BYTES);
        add_entry(out, &e);
        entries++;
    }
    for (uint32_t i = 0; i < memory->entries && entries < ENTRIES_MOST; i++)
        if (!is_among(r, memory->entry[i].name, memory->entry[i].inode)) {
            add_entry(out, &memory->entry[i]);
            entries++;
        }
}

static void remember(const struct reading *r, const struct memory *memory,
                     const uint8_t model[SHA256_BYTES])
{
    const struct private_file *file = r->options->memory;
    struct buf rest, text;
    struct err err;
    enum status status = NO_MEMORY;

    if (r->hashed_bytes == 0 && memory->models &&
        memcmp(memory->model[0], model, SHA256_BYTES) == 0)
        return;
    buf_init(&rest, MEMORY_MOST - 64);
    buf_init(&text, 0);
    add_memory(&rest, r, memory, model);
    if (buf_status(&rest) == OK) {
        buf_addf(&text, FIRST_LINE, hash64(rest.data, rest.size, 0));
        buf_add(&text, rest.data, rest.size);
        if (buf_status(&text) == OK) {
            private_file_lock(file->dir_fd);
            status = private_file_write(file, buf_slice(&text), &err);
            private_file_unlock(file->dir_fd);
        }
    }
    if (status != OK)
        log_say(OPT_LOG_LEVEL_WARN, "cache", "the digest of the weights is not remembered: %s",
                status == NO_MEMORY ? "no memory" : err.text);
    buf_release(&rest);
    buf_release(&text);
}

static void close_files(struct reading *r)
{
    for (uint32_t i = 0; r->subject && i < r->subjects; i++)
        if (r->subject[i].fd >= 0) close(r->subject[i].fd);
    free(r->subject);
    free(r->piece);
    if (r->set.file) st_close(&r->set);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

enum status weights_digest(const struct weights_digest_options *options,
                           uint8_t digest[SHA256_BYTES], struct weights_digest_cost *cost,
                           struct err *err)
{
    struct reading *r = calloc(1, sizeof *r);
    struct memory memory;

    if (!r) return fail(err, NO_MEMORY, "no memory to read the weights");
    r->options = options;
    r->err = err;
    pthread_mutex_init(&r->lock, NULL);
    enum status status = memory_read(options->memory, &memory, err);
    if (status == OK) status = find_files(r, err);
    if (status == OK) {
        recall(r, &memory);
        status = read_unknown(r);
    }
    if (status == OK) status = digest_model(r, digest, err);
    if (status == OK) {
        *cost = (struct weights_digest_cost){ r->subjects, r->bytes, r->hashed_bytes };
        remember(r, &memory, digest);
    }
    memory_release(&memory);
    close_files(r);
    return status;
}

uint32_t weights_digest_known(const struct private_file *file,
                              uint8_t model[WEIGHTS_MODELS_MOST][SHA256_BYTES])
{
    struct memory memory;
    if (memory_read(file, &memory, NULL) != OK) return 0;
    uint32_t models = memory.models;
    memcpy(model, memory.model, sizeof memory.model);
    memory_release(&memory);
    return models;
}
