/* loop.c - epoll, a table of watches, and a binary heap of timers. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "config/clock.h"
#include "config/turn.h"
#include "server/loop.h"

#define EVENTS_A_TURN 256

struct watch {
    int fd;               // -1 = free
    uint32_t generation;  // counts uses of this slot; part of the watch's number
    uint32_t next_free;   // slot + 1; 0 = last
    loop_ready *ready;
    void *context;
};

struct loop {
    int epoll_fd;
    struct watch *watch;  // [watch_room]; owned
    uint32_t watch_room;
    uint32_t first_free;   // slot + 1; 0 = none
    struct timer **timer;  // [timer_count], a heap by due_ns; the timers are their owners'
    uint32_t timer_count, timer_room;
    struct turn *turns;  // their owners'
    uint64_t now_ns;
    bool stopped;
};

enum status loop_open(struct loop **loop, struct err *err)
{
    struct loop *made = calloc(1, sizeof *made);

    if (!made) return fail(err, NO_MEMORY, "event loop: no memory");
    made->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (made->epoll_fd < 0) {
        free(made);
        return fail(err, IO_FAILED, "epoll_create1: %s", strerror(errno));
    }
    made->now_ns = now_ns();
    *loop = made;
    return OK;
}

void loop_close(struct loop *loop)
{
    if (!loop) return;
    close(loop->epoll_fd);
    free(loop->watch);
    free(loop->timer);
    free(loop);
}

static bool watches_grow(struct loop *loop)
{
    uint32_t room = loop->watch_room ? loop->watch_room * 2 : 64;
    struct watch *grown = realloc(loop->watch, room * sizeof *grown);

    if (!grown) return false;
    for (uint32_t slot = loop->watch_room; slot < room; slot++)
        grown[slot] = (struct watch){ .fd = -1, .next_free = slot + 1 < room ? slot + 2 : 0 };
    loop->first_free = loop->watch_room + 1;
    loop->watch = grown;
    loop->watch_room = room;
    return true;
}

static uint64_t watch_number(const struct loop *loop, uint32_t slot)
{
    return (uint64_t)loop->watch[slot].generation << 32 | (slot + 1);
}

/* The watch of that number, or NULL when it has ended. */
static struct watch *watch_find(struct loop *loop, uint64_t number)
{
    uint32_t slot = (uint32_t)number - 1;

    if (number == 0 || slot >= loop->watch_room) return NULL;
    struct watch *watch = &loop->watch[slot];
    return watch->fd >= 0 && watch->generation == number >> 32 ? watch : NULL;
}

enum status loop_watch(struct loop *loop, int fd, uint32_t events, loop_ready *ready, void *context,
                       uint64_t *number)
{
    if (!loop->first_free && !watches_grow(loop)) return NO_MEMORY;
    uint32_t slot = loop->first_free - 1;
    struct watch *watch = &loop->watch[slot];
    struct epoll_event event = { .events = events, .data.u64 = watch_number(loop, slot) };

    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event)) return IO_FAILED;
    loop->first_free = watch->next_free;
    watch->fd = fd;
    watch->ready = ready;
    watch->context = context;
    *number = event.data.u64;
    return OK;
}

void loop_unwatch(struct loop *loop, uint64_t number)
{
    struct watch *watch = watch_find(loop, number);

    if (!watch) return;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->fd = -1;
    watch->generation++;
    watch->next_free = loop->first_free;
    loop->first_free = (uint32_t)(watch - loop->watch) + 1;
}

static void heap_put(struct loop *loop, uint32_t at, struct timer *timer)
{
    loop->timer[at] = timer;
    timer->heap_at = at + 1;
}

/* Moves the timer from the hole at `at` to where it belongs. */
static void heap_settle(struct loop *loop, uint32_t at, struct timer *timer)
{
    while (at > 0 && loop->timer[(at - 1) / 2]->due_ns > timer->due_ns) {
        heap_put(loop, at, loop->timer[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= loop->timer_count) break;
        if (child + 1 < loop->timer_count &&
            loop->timer[child + 1]->due_ns < loop->timer[child]->due_ns)
            child++;
        if (loop->timer[child]->due_ns >= timer->due_ns) break;
        heap_put(loop, at, loop->timer[child]);
        at = child;
    }
    heap_put(loop, at, timer);
}

enum status loop_timer_set(struct loop *loop, struct timer *timer, uint64_t due_ns)
{
    if (!timer->heap_at) {
        if (loop->timer_count == loop->timer_room) {
            uint32_t room = loop->timer_room ? loop->timer_room * 2 : 64;
            struct timer **grown = realloc(loop->timer, room * sizeof(struct timer *));
            if (!grown) return NO_MEMORY;
            loop->timer = grown;
            loop->timer_room = room;
        }
        timer->heap_at = ++loop->timer_count;
    }
    timer->due_ns = due_ns;
    heap_settle(loop, timer->heap_at - 1, timer);
    return OK;
}

void loop_timer_clear(struct loop *loop, struct timer *timer)
{
    if (!timer->heap_at) return;
    uint32_t at = timer->heap_at - 1;
    struct timer *last = loop->timer[--loop->timer_count];

    timer->heap_at = 0;
    if (last != timer) heap_settle(loop, at, last);
}

void loop_turn_add(struct loop *loop, struct turn *turn)
{
    turn->next = loop->turns;
    loop->turns = turn;
}

void loop_turn_remove(struct loop *loop, struct turn *turn)
{
    struct turn **at = &loop->turns;

    while (*at && *at != turn) at = &(*at)->next;
    if (*at) *at = turn->next;
}

static uint64_t run_turns(struct loop *loop)
{
    uint64_t most_ns = UINT64_MAX;

    for (struct turn *turn = loop->turns, *next; turn; turn = next) {
        next = turn->next;
        uint64_t ns = turn->run(turn->context);
        if (ns < most_ns) most_ns = ns;
    }
    return most_ns;
}

static int wait_ms(const struct loop *loop, uint64_t most_ns)
{
    if (loop->timer_count) {
        uint64_t due_ns = loop->timer[0]->due_ns, now = now_ns();
        uint64_t left_ns = due_ns > now ? due_ns - now : 0;
        if (left_ns < most_ns) most_ns = left_ns;
    }
    if (most_ns == UINT64_MAX) return -1;
    uint64_t ms = (most_ns + NS_PER_MS - 1) / NS_PER_MS;  // rounded up: no spinning before a timer
    return ms > 60000 ? 60000 : (int)ms;
}

static void call_due_timers(struct loop *loop)
{
    /* One that sets itself again for a time already past waits for the next turn. */
    for (uint32_t most = loop->timer_count; most > 0 && loop->timer_count > 0; most--) {
        if (loop->timer[0]->due_ns > loop->now_ns) break;
        struct timer *timer = loop->timer[0];
        loop_timer_clear(loop, timer);
        timer->due(timer->context);
    }
}

void loop_run(struct loop *loop)
{
    struct epoll_event event[EVENTS_A_TURN];

    turn_be_short();
    loop->stopped = false;
    while (!loop->stopped) {
        uint64_t most_ns = run_turns(loop);
        if (loop->stopped) break;
        int count = epoll_wait(loop->epoll_fd, event, EVENTS_A_TURN, wait_ms(loop, most_ns));
        must(count >= 0 || errno == EINTR);
        loop->now_ns = now_ns();
        for (int i = 0; i < count; i++) {
            struct watch *watch = watch_find(loop, event[i].data.u64);
            if (watch) watch->ready(watch->context, event[i].events);
        }
        call_due_timers(loop);
    }
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}

uint64_t loop_now_ns(const struct loop *loop)
{
    return loop->now_ns;
}
