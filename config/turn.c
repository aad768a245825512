/* turn.c - the kernel's scheduling attributes, whose header does not go with libc's. */
#include "config/turn.h"
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLICE_NS 100000u

struct scheduling {  // the kernel's struct sched_attr
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

void turn_be_short(void)
{
    struct scheduling now = { .size = sizeof now };

    if (syscall(SYS_sched_getattr, 0, &now, sizeof now, 0u) < 0) return;
    now.runtime = SLICE_NS;
    (void)syscall(SYS_sched_setattr, 0, &now, 0u);
}

void turn_be_long(void)
{
    (void)sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 });
}
