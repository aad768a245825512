/* disk.c - the disk thread: commands in, the store, answers out. */
#include "cache/disk.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/queue.h"
#include "config/turn.h"

#define CODEC_THREADS_MOST 16
#define CODING_MOST 256  // operations with the codec threads
#define STAGES 8u        // encodings on their way to the device
#define HOUSEKEEPING_MS 200
#define WRITE_PATIENCE_NS (250 * (uint64_t)NS_PER_MS)

enum command_kind { DO_OP, DO_FORGET, DO_ERASE, DO_TOUCH, DO_FLUSH };

struct command {
    enum command_kind kind;
    uint32_t slot;
    struct disk_op *op;
};

struct list {
    struct disk_op *first, **end;
    uint32_t count;
};

struct disk {
    struct disk_config config;
    pthread_t thread;
    pthread_mutex_t lock;  // of what is below, up to the line
    pthread_cond_t opened;
    struct command *command;  // [commands]
    uint32_t commands, commands_room;
    struct list done;
    struct disk_lost *lost;  // [lost_count]
    uint32_t lost_count, lost_room;
    struct disk_stats shown;
    enum status open_status;
    bool is_open, stop, clean;
    int close_ms;
    int event_fd, wake_fd;

    /* ---- the disk thread's own */
    struct err *err;
    struct store *store;
    struct list reads, writes;                        // waiting
    struct list fetched;                              // read, not yet checked
    struct list unpacked;                             // to write, not yet packed
    struct disk_op *under_way[STORE_UNDER_WAY_MOST];  // by the store's tag
    uint32_t free_tag[STORE_UNDER_WAY_MOST], free_tags;
    struct codec *codec;
    struct codec_gauge gauge[RECORD_OBJECTS];
    uint8_t *stage[STAGES];
    bool stage_busy[STAGES];
    struct disk_stats stats;

    struct queue to_code, coded;  // disk_ops, with codec threads
    pthread_t coder[CODEC_THREADS_MOST];
    struct codec *coder_codec[CODEC_THREADS_MOST];
    uint32_t coders, coding_writes;  // with the codec threads, as are
    _Atomic uint32_t coding_reads;
};

struct coder_start {
    struct disk *disk;
    struct codec *codec;
};

static void ring(int fd)
{
    uint64_t one = 1;
    if (write(fd, &one, sizeof one) < 0) must(errno == EAGAIN);
}

static void hush(int fd)
{
    uint64_t rung;
    if (read(fd, &rung, sizeof rung) < 0) must(errno == EAGAIN || errno == EINTR);
}

static void append(struct list *list, struct disk_op *op)
{
    if (!list->first) list->end = &list->first;
    op->next = NULL;
    *list->end = op;
    list->end = &op->next;
    list->count++;
}

static struct disk_op *pop(struct list *list)
{
    struct disk_op *op = list->first;
    if (!op) return NULL;
    list->first = op->next;
    list->count--;
    return op;
}

/* ---- the disk thread: answers */

static void give_stage(struct disk *disk, struct disk_op *op)
{
    for (uint32_t i = 0; i < STAGES; i++)
        if (disk->stage[i] && disk->stage[i] == op->packed) disk->stage_busy[i] = false;
    op->packed = NULL;
}

/* On any thread. */
static void hand_over(struct disk *disk, struct disk_op *op, enum status status)
{
    op->status = status;
    op->took_ns = now_ns() - op->since_ns;
    pthread_mutex_lock(&disk->lock);
    bool first = !disk->done.first;
    append(&disk->done, op);
    pthread_mutex_unlock(&disk->lock);
    if (first) ring(disk->event_fd);
}

static void answer(struct disk *disk, struct disk_op *op, enum status status)
{
    give_stage(disk, op);
    hand_over(disk, op, status);
}

static void note_lost(void *user, uint32_t slot, uint64_t owner)
{
    struct disk *disk = user;

    pthread_mutex_lock(&disk->lock);
    if (disk->lost_count == disk->lost_room) {
        uint32_t room = disk->lost_room ? disk->lost_room * 2 : 256;
        struct disk_lost *more = realloc(disk->lost, room * sizeof *more);
        must(more);  // a few KB; without it the engine would believe in what is gone for ever
        disk->lost = more;
        disk->lost_room = room;
    }
    disk->lost[disk->lost_count++] = (struct disk_lost){ slot, owner };
    pthread_mutex_unlock(&disk->lock);
    ring(disk->event_fd);
}

static uint64_t found(void *user, uint32_t slot, const struct record_id *id)
{
    struct disk *disk = user;
    const struct store_config *config = &disk->config.store;
    return config->found ? config->found(config->user, slot, id) : 0;
}

/* ---- packing and unpacking, on any thread */

static void code(struct disk *disk, struct codec *codec, struct disk_op *op)
{
    uint32_t object = op->id.object;
    uint32_t image_bytes = disk->config.store.image_bytes[object];
    const struct codec_map *map = disk->config.map[object];

    if (op->kind == DISK_READ) {
        op->status = record_unpack(codec, map, op->memory, image_bytes) ? OK : IO_FAILED;
        return;
    }
    if (op->try_encode && record_encode(codec, map, op->memory, op->packed)) return;
    op->try_encode = false;
    record_pack(op->memory, image_bytes);
}

static void *coder_main(void *context)
{
    struct coder_start start = *(struct coder_start *)context;
    struct disk_op *op;

    free(context);
    while ((op = queue_wait(&start.disk->to_code))) {
        code(start.disk, start.codec, op);
        if (op->kind == DISK_READ && op->status == OK) {  // nothing is left for the disk thread
            hand_over(start.disk, op, OK);
            atomic_fetch_sub(&start.disk->coding_reads, 1);
        } else {
            must(queue_push(&start.disk->coded, op) == OK);  // room for all that are under way
        }
    }
    return NULL;
}

static void after_code(struct disk *disk, struct disk_op *op)
{
    if (op->kind == DISK_READ) {
        if (op->status != OK) {
            disk->stats.undecodable++;
            store_wrong(disk->store, op->slot);
        }
        answer(disk, op, op->status);
        return;
    }
    if (op->packed) {  // it was tried
        uint32_t object = op->id.object, raw = store_slot_bytes(disk->store, object);
        uint32_t stored = 0;
        if (op->try_encode)
            stored = ((const struct record_head *)(const void *)op->packed)->pages * RECORD_PAGE;
        codec_gauge_saw(&disk->gauge[object], raw, stored);
        if (!op->try_encode) give_stage(disk, op);
        if (op->try_encode) disk->stats.encoded++;
        disk->stats.encoded_bytes += stored;
        disk->stats.raw_bytes += stored ? raw : 0;
    }
    append(&disk->writes, op);
}

static void start_code(struct disk *disk, struct disk_op *op)
{
    bool is_read = op->kind == DISK_READ;
    if (disk->coders && disk->coding_writes + disk->coding_reads < CODING_MOST) {
        if (is_read) atomic_fetch_add(&disk->coding_reads, 1);
        else disk->coding_writes++;
        must(queue_push(&disk->to_code, op) == OK);
        return;
    }
    code(disk, disk->codec, op);
    after_code(disk, op);
}

static void take_coded(struct disk *disk)
{
    void *item[32];
    uint32_t got;
    while (disk->coders && (got = queue_take(&disk->coded, item, 32))) {
        for (uint32_t i = 0; i < got; i++) {
            struct disk_op *op = item[i];
            if (op->kind == DISK_READ) atomic_fetch_sub(&disk->coding_reads, 1);
            else disk->coding_writes--;
            after_code(disk, op);
        }
    }
}

static uint8_t *take_stage(struct disk *disk)
{
    uint32_t bytes = 0;
    for (uint32_t o = 0; o < RECORD_OBJECTS; o++)
        if (store_slot_bytes(disk->store, o) > bytes) bytes = store_slot_bytes(disk->store, o);
    for (uint32_t i = 0; i < STAGES; i++) {
        if (disk->stage_busy[i]) continue;
        if (!disk->stage[i]) disk->stage[i] = aligned_alloc(RECORD_PAGE, bytes);
        disk->stage_busy[i] = disk->stage[i] != NULL;
        return disk->stage[i];
    }
    return NULL;
}

/* ---- the disk thread: commands */

static uint32_t writes_most(const struct disk *disk)
{
    return disk->config.writes_most ? disk->config.writes_most : 64;
}

static void begin_write(struct disk *disk, struct disk_op *op)
{
    enum store_state state = store_state(disk->store, NULL);

    if (state != STORE_ON) {
        answer(disk, op, IO_FAILED);
        return;
    }
    if (disk->unpacked.count + disk->writes.count + disk->coding_writes >= writes_most(disk)) {
        answer(disk, op, BUSY);
        return;
    }
    append(&disk->unpacked, op);
}

static void pack(struct disk *disk, struct disk_op *op)
{
    uint32_t object = op->id.object;

    if (disk->config.map[object] && codec_gauge_wants(&disk->gauge[object]))
        op->packed = take_stage(disk);
    op->try_encode = op->packed != NULL;
    start_code(disk, op);
}

/* Takes writes that are no longer wanted out of a queue: of one number, or those a purge means. */
static void cancel_in(struct disk *disk, struct list *list, uint32_t slot,
                      const struct disk_op *purge)
{
    struct list all = *list;
    struct disk_op *op;

    *list = (struct list){ 0 };
    while ((op = pop(&all))) {
        if (purge ? memcmp(op->id.scope, purge->id.scope, purge->scope_bytes) == 0
                  : op->slot == slot)
            answer(disk, op, CANCELLED);
        else append(list, op);
    }
}

static void cancel_writes(struct disk *disk, uint32_t slot, const struct disk_op *purge)
{
    cancel_in(disk, &disk->unpacked, slot, purge);
    cancel_in(disk, &disk->writes, slot, purge);
}

/* No write is with the codec threads any more. */
static void drain_coders(struct disk *disk)
{
    while (disk->coding_writes) {
        struct pollfd ready = { .fd = queue_event_fd(&disk->coded), .events = POLLIN };
        poll(&ready, 1, 100);
        take_coded(disk);
    }
}

static void purge(struct disk *disk, struct disk_op *op)
{
    drain_coders(disk);
    cancel_writes(disk, 0, op);
    answer(disk, op, store_purge(disk->store, op->id.scope, op->scope_bytes));
}

static void obey(struct disk *disk, const struct command *command)
{
    switch (command->kind) {
    case DO_FORGET:
    case DO_ERASE:
        if (disk->unpacked.count || disk->writes.count || disk->coding_writes) {
            drain_coders(disk);
            cancel_writes(disk, command->slot, NULL);
        }
        if (command->kind == DO_ERASE) store_erase(disk->store, command->slot);
        else store_forget(disk->store, command->slot);
        break;
    case DO_TOUCH:
        store_touch(disk->store, command->slot);
        break;
    case DO_FLUSH:
        store_flush(disk->store);
        break;
    case DO_OP:
        if (command->op->kind == DISK_READ) append(&disk->reads, command->op);
        else if (command->op->kind == DISK_WRITE) begin_write(disk, command->op);
        else purge(disk, command->op);
        break;
    }
}

/* False: the disk is to close. */
static bool obey_all(struct disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    struct command *command = disk->command;
    uint32_t commands = disk->commands;
    bool stop = disk->stop;
    disk->command = NULL;
    disk->commands = disk->commands_room = 0;
    pthread_mutex_unlock(&disk->lock);

    for (uint32_t i = 0; i < commands; i++) obey(disk, &command[i]);
    free(command);
    return !stop;
}

/* ---- the disk thread: the store */

static void issue_reads(struct disk *disk)
{
    struct disk_op *op;
    while ((op = disk->reads.first) && disk->free_tags) {
        uint32_t tag = disk->free_tag[disk->free_tags - 1];
        struct store_read read = { .key = op->id.key,
                                   .object = op->id.object,
                                   .slot = op->slot,
                                   .memory = op->memory,
                                   .tag = tag };
        enum status status = store_read(disk->store, &read);
        if (status == BUSY) return;
        pop(&disk->reads);
        if (status == OK) {
            disk->under_way[tag] = op;
            disk->free_tags--;
        } else {
            answer(disk, op, IO_FAILED);
        }
    }
}

static void issue_writes(struct disk *disk, uint32_t most)
{
    struct disk_op *op;
    for (; (op = disk->writes.first) && disk->free_tags && most; most--) {
        uint32_t tag = disk->free_tag[disk->free_tags - 1];
        struct store_write write = { .id = op->id,
                                     .slot = op->slot,
                                     .packed = op->packed ? op->packed : op->memory,
                                     .owner = op->owner,
                                     .tag = tag };
        enum status status = store_write(disk->store, &write);
        if (status == BUSY) return;
        pop(&disk->writes);
        if (status == OK) {
            disk->under_way[tag] = op;
            disk->free_tags--;
        } else {
            answer(disk, op, IO_FAILED);
        }
    }
}

/* While reads wait, a write goes only when it has waited long enough itself. */
static uint32_t late_writes(const struct disk *disk)
{
    const struct disk_op *op = disk->writes.first;
    return op && now_ns() - op->since_ns > WRITE_PATIENCE_NS;
}

/* A device that does not answer now is a miss now. */
static void fail_waiting(struct disk *disk)
{
    struct disk_op *op;
    while ((op = pop(&disk->reads))) answer(disk, op, IO_FAILED);
    while ((op = pop(&disk->writes))) answer(disk, op, IO_FAILED);
    while ((op = pop(&disk->unpacked))) answer(disk, op, IO_FAILED);
}

static void take_done(struct disk *disk)
{
    struct store_done done[32];
    uint32_t got;

    while ((got = store_take(disk->store, done, 32))) {
        for (uint32_t i = 0; i < got; i++) {
            struct disk_op *op = disk->under_way[done[i].tag];
            disk->under_way[done[i].tag] = NULL;
            disk->free_tag[disk->free_tags++] = (uint32_t)done[i].tag;
            enum status status = done[i].status;
            uint64_t owner;
            /* Lost again, or forgotten, before it could be told. */
            if (status == OK && op->kind == DISK_WRITE &&
                (!store_holds(disk->store, op->slot, &owner) || owner != op->owner))
                status = IO_FAILED;
            if (status == OK && op->kind == DISK_READ) append(&disk->fetched, op);
            else answer(disk, op, status);
        }
    }
}

static void show_stats(struct disk *disk)
{
    const char *why;
    struct disk_stats *stats = &disk->stats;

    store_stats(disk->store, &stats->store);
    (void)store_state(disk->store, &why);
    snprintf(stats->why, sizeof stats->why, "%s", why);
    stats->waiting_reads = disk->reads.count;
    stats->waiting_writes = disk->unpacked.count + disk->writes.count;
    pthread_mutex_lock(&disk->lock);
    disk->shown = *stats;
    pthread_mutex_unlock(&disk->lock);
}

static void wait_for_work(struct disk *disk)
{
    struct pollfd ready[3] = {
        { .fd = store_event_fd(disk->store), .events = POLLIN },
        { .fd = disk->wake_fd, .events = POLLIN },
        { .fd = disk->coders ? queue_event_fd(&disk->coded) : -1, .events = POLLIN },
    };
    /* Writes that wait for the budget are tried again by the clock. */
    poll(ready, 3, disk->writes.count ? 5 : HOUSEKEEPING_MS);
    if (ready[1].revents) hush(disk->wake_fd);
}

/* Checking or packing costs a core as much time as a good device needs for the next block, so the
 * device gets its work first, and without codec threads only one block of each kind is done between
 * two looks at it. */
static void check_and_pack(struct disk *disk)
{
    struct disk_op *op;
    do {
        op = pop(&disk->fetched);
        if (op) start_code(disk, op);
    } while (op && disk->coders);
    do {
        op = pop(&disk->unpacked);
        if (op) pack(disk, op);
    } while (op && disk->coders);
}

static void run(struct disk *disk)
{
    for (;;) {
        bool going = obey_all(disk);
        take_coded(disk);
        take_done(disk);
        enum store_state state = store_state(disk->store, NULL);
        if (state == STORE_STALLED || state == STORE_OFF) fail_waiting(disk);
        issue_reads(disk);
        issue_writes(disk, disk->reads.first ? late_writes(disk) : UINT32_MAX);
        check_and_pack(disk);
        show_stats(disk);
        if (!going) return;
        if (!disk->fetched.first && !disk->unpacked.first) wait_for_work(disk);
    }
}

static void finish_all(struct disk *disk)
{
    struct disk_op *op;
    uint64_t end = now_ns() + (uint64_t)disk->close_ms * NS_PER_MS;

    while (disk->fetched.first || disk->unpacked.first) check_and_pack(disk);
    drain_coders(disk);
    while (disk->coding_reads) {
        usleep(1000);
        take_coded(disk);
    }
    while ((op = pop(&disk->reads))) answer(disk, op, CANCELLED);
    while (disk->writes.first && now_ns() < end) {  // what was handed over in time is written
        issue_writes(disk, UINT32_MAX);
        /* What is left waits for the budget, and the time is wanted for closing. */
        if (disk->free_tags == STORE_UNDER_WAY_MOST && !disk->coding_writes) break;
        store_wait(disk->store, 5);
        take_done(disk);
        check_and_pack(disk);
        drain_coders(disk);
        enum store_state state = store_state(disk->store, NULL);
        if (state != STORE_ON) break;
    }
    while ((op = pop(&disk->writes))) answer(disk, op, CANCELLED);
    while ((op = pop(&disk->fetched))) answer(disk, op, CANCELLED);
    uint64_t now = now_ns();
    disk->clean = store_close(disk->store, now < end ? (int)((end - now) / NS_PER_MS) : 0);
}

static void *disk_main(void *context)
{
    struct disk *disk = context;
    struct store_config config = disk->config.store;

    turn_be_short();
    config.user = disk;
    config.found = found;
    config.lost = note_lost;
    enum status status = store_open(&config, &disk->store, disk->err);
    if (status == OK) show_stats(disk);
    pthread_mutex_lock(&disk->lock);
    disk->open_status = status;
    disk->is_open = true;
    pthread_cond_signal(&disk->opened);
    pthread_mutex_unlock(&disk->lock);
    if (status != OK) return NULL;
    run(disk);
    finish_all(disk);
    return NULL;
}

/* ---- the engine's calls */

static void stop_coders(struct disk *disk)
{
    queue_close(&disk->to_code);
    for (uint32_t i = 0; i < disk->coders; i++) {
        pthread_join(disk->coder[i], NULL);
        codec_close(disk->coder_codec[i]);
    }
    disk->coders = 0;
    queue_release(&disk->to_code);
    queue_release(&disk->coded);
}

static void start_coders(struct disk *disk, uint32_t image_most)
{
    uint32_t want = disk->config.codec_threads;
    if (want > CODEC_THREADS_MOST) want = CODEC_THREADS_MOST;
    while (disk->coders < want) {
        struct coder_start *start = malloc(sizeof *start);
        struct codec *codec = codec_open(image_most);
        if (start) *start = (struct coder_start){ disk, codec };
        if (!start || !codec ||
            pthread_create(&disk->coder[disk->coders], NULL, coder_main, start) != 0) {
            free(start);
            codec_close(codec);
            return;  // fewer do, and without any the disk thread does it
        }
        disk->coder_codec[disk->coders++] = codec;
    }
}

static void release(struct disk *disk)
{
    for (uint32_t i = 0; i < STAGES; i++) free(disk->stage[i]);
    codec_close(disk->codec);
    free(disk->command);
    free(disk->lost);
    if (disk->event_fd >= 0) close(disk->event_fd);
    if (disk->wake_fd >= 0) close(disk->wake_fd);
    pthread_cond_destroy(&disk->opened);
    pthread_mutex_destroy(&disk->lock);
    free(disk);
}

enum status disk_open(const struct disk_config *config, struct disk **out, struct err *err)
{
    struct err ignored;
    if (!err) err = &ignored;
    err->text[0] = 0;

    struct disk *disk = calloc(1, sizeof *disk);
    if (!disk) return fail(err, NO_MEMORY, "no memory for the disk cache");
    disk->config = *config;
    disk->err = err;
    pthread_mutex_init(&disk->lock, NULL);
    pthread_cond_init(&disk->opened, NULL);
    disk->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    disk->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    for (uint32_t i = 0; i < STORE_UNDER_WAY_MOST; i++) disk->free_tag[disk->free_tags++] = i;

    const uint32_t *image = config->store.image_bytes;
    uint32_t most = image[RECORD_G] > image[RECORD_W] ? image[RECORD_G] : image[RECORD_W];
    enum status status = NO_MEMORY;
    disk->codec = codec_open(most);
    if (!disk->codec || disk->event_fd < 0 || disk->wake_fd < 0) goto release_disk;
    status = queue_init(&disk->to_code, CODING_MOST);
    if (status != OK) goto release_disk;
    status = queue_init(&disk->coded, CODING_MOST);
    if (status != OK) {
        queue_release(&disk->to_code);
        goto release_disk;
    }
    start_coders(disk, most);
    status = NO_MEMORY;
    if (pthread_create(&disk->thread, NULL, disk_main, disk) != 0) goto stop_all;
    pthread_mutex_lock(&disk->lock);
    while (!disk->is_open) pthread_cond_wait(&disk->opened, &disk->lock);
    status = disk->open_status;
    pthread_mutex_unlock(&disk->lock);
    if (status == OK) {
        *out = disk;
        return OK;
    }
    pthread_join(disk->thread, NULL);

stop_all:
    stop_coders(disk);
release_disk:
    if (!err->text[0]) (void)fail(err, status, "no memory or threads for the disk cache");
    release(disk);
    return status;
}

bool disk_close(struct disk *disk, int timeout_ms)
{
    pthread_mutex_lock(&disk->lock);
    disk->stop = true;
    disk->close_ms = timeout_ms;
    pthread_mutex_unlock(&disk->lock);
    ring(disk->wake_fd);
    pthread_join(disk->thread, NULL);
    stop_coders(disk);
    bool clean = disk->clean;
    if (clean) release(disk);  // else the device may still read what we would free
    return clean;
}

uint32_t disk_slots(const struct disk *disk)
{
    return store_slots(disk->store);
}

uint32_t disk_first_slot(const struct disk *disk, uint32_t object)
{
    return store_first_slot(disk->store, object);
}

uint32_t disk_slot_bytes(const struct disk *disk, uint32_t object)
{
    return record_slot_bytes(disk->config.store.image_bytes[object]);
}

int disk_event_fd(const struct disk *disk)
{
    return disk->event_fd;
}

static void command(struct disk *disk, struct command what)
{
    pthread_mutex_lock(&disk->lock);
    if (disk->commands == disk->commands_room) {
        uint32_t room = disk->commands_room ? disk->commands_room * 2 : 64;
        struct command *more = realloc(disk->command, room * sizeof *more);
        must(more);
        disk->command = more;
        disk->commands_room = room;
    }
    disk->command[disk->commands++] = what;
    bool first = disk->commands == 1;
    pthread_mutex_unlock(&disk->lock);
    if (first) ring(disk->wake_fd);
}

void disk_submit(struct disk *disk, struct disk_op *op)
{
    must(op->kind == DISK_PURGE || op->slot < disk_slots(disk));
    op->since_ns = now_ns();
    op->packed = NULL;
    op->try_encode = false;
    command(disk, (struct command){ .kind = DO_OP, .op = op });
}

void disk_forget(struct disk *disk, uint32_t slot)
{
    command(disk, (struct command){ .kind = DO_FORGET, .slot = slot });
}

void disk_erase(struct disk *disk, uint32_t slot)
{
    command(disk, (struct command){ .kind = DO_ERASE, .slot = slot });
}

void disk_touch(struct disk *disk, const uint32_t *slot, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        command(disk, (struct command){ .kind = DO_TOUCH, .slot = slot[i] });
}

void disk_flush(struct disk *disk)
{
    command(disk, (struct command){ .kind = DO_FLUSH });
}

/* The event falls silent once both lists are empty. */
static void hush_if_empty(struct disk *disk)
{
    if (!disk->done.first && disk->lost_count == 0) hush(disk->event_fd);
}

uint32_t disk_take(struct disk *disk, struct disk_op **op, uint32_t most)
{
    uint32_t got = 0;
    pthread_mutex_lock(&disk->lock);
    while (got < most && disk->done.first) op[got++] = pop(&disk->done);
    hush_if_empty(disk);
    pthread_mutex_unlock(&disk->lock);
    return got;
}

uint32_t disk_lost(struct disk *disk, struct disk_lost *lost, uint32_t most)
{
    pthread_mutex_lock(&disk->lock);
    uint32_t got = disk->lost_count < most ? disk->lost_count : most;
    if (disk->done.first) got = 0;
    if (got) memcpy(lost, disk->lost, got * sizeof *lost);
    disk->lost_count -= got;
    if (disk->lost_count) memmove(disk->lost, disk->lost + got, disk->lost_count * sizeof *lost);
    hush_if_empty(disk);
    pthread_mutex_unlock(&disk->lock);
    return got;
}

void disk_stats(struct disk *disk, struct disk_stats *stats)
{
    pthread_mutex_lock(&disk->lock);
    *stats = disk->shown;
    pthread_mutex_unlock(&disk->lock);
}
