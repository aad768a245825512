/* prep.c - two queues, and threads that carry from one to the other. */
#include <pthread.h>
#include <string.h>
#include "config/queue.h"
#include "config/turn.h"
#include "server/prep.h"

struct prep {
    struct queue todo, done;
    uint32_t out, room;  // tasks submitted and not taken back, and the most of them
    uint32_t thread_count;
    pthread_t thread[];
};

static void *worker(void *context)
{
    struct prep *prep = context;
    struct prep_task *task;

    turn_be_long();
    while ((task = queue_wait(&prep->todo))) {
        task->work(task);
        must(queue_push(&prep->done, task) == OK);  // its room is counted in `out`
    }
    return NULL;
}

enum status prep_open(uint32_t threads, uint32_t room, struct prep **prep, struct err *err)
{
    struct prep *made = calloc(1, sizeof *made + threads * sizeof made->thread[0]);
    enum status status = NO_MEMORY;

    if (!made) return fail(err, status, "prep threads: no memory");
    made->room = room;
    status = queue_init(&made->todo, room);
    if (status != OK) goto free_made;
    status = queue_init(&made->done, room);
    if (status != OK) goto release_todo;
    for (; made->thread_count < threads; made->thread_count++) {
        int failed = pthread_create(&made->thread[made->thread_count], NULL, worker, made);
        if (!failed) continue;
        prep_close(made);
        return fail(err, IO_FAILED, "prep threads: %s", strerror(failed));
    }
    *prep = made;
    return OK;

release_todo:
    queue_release(&made->todo);
free_made:
    free(made);
    return fail(err, status, "prep threads: no memory or no descriptor for their queues");
}

void prep_close(struct prep *prep)
{
    if (!prep) return;
    must(prep->out == 0);
    queue_close(&prep->todo);
    for (uint32_t i = 0; i < prep->thread_count; i++) pthread_join(prep->thread[i], NULL);
    queue_release(&prep->done);
    queue_release(&prep->todo);
    free(prep);
}

enum status prep_submit(struct prep *prep, struct prep_task *task)
{
    if (prep->out == prep->room) return BUSY;
    prep->out++;
    must(queue_push(&prep->todo, task) == OK);
    return OK;
}

int prep_event_fd(const struct prep *prep)
{
    return queue_event_fd(&prep->done);
}

struct prep_task *prep_take_done(struct prep *prep)
{
    void *task;

    if (queue_take(&prep->done, &task, 1) == 0) return NULL;
    prep->out--;
    return task;
}
