/* syscall_filter.c - a seccomp program, written from a table.
 *
 *   architecture is not ours, or the number is of the x32 set      kill
 *   number is in the table                                         kill (or log)
 *   number has a rule about its arguments                          error number (or log)
 *   anything else                                                  allow
 *
 * Kernels from 5.11 on remember which numbers are always allowed, so that the length of the table costs
 * those nothing.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "server/syscall_filter.h"

#ifdef __x86_64__

#define X32_BIT 0x40000000u
#define NEW_NAMESPACES                                                                             \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)
#define ROW(call)                                                                                  \
    {                                                                                              \
        SYS_##call, #call, ALWAYS                                                                  \
    }

static const struct syscall_row ROWS[] = {
    /* other programs, other processes */
    ROW(execve),
    ROW(execveat),
    { SYS_ptrace, "ptrace", WITHOUT_CHECKER },
    ROW(process_vm_readv),
    ROW(process_vm_writev),
    ROW(process_madvise),
    ROW(pidfd_getfd),
    ROW(kcmp),
    /* where files are */
    ROW(mount),
    ROW(umount2),
    ROW(pivot_root),
    ROW(chroot),
    ROW(open_tree),
    ROW(move_mount),
    ROW(fsopen),
    ROW(fsconfig),
    ROW(fsmount),
    ROW(fspick),
    ROW(mount_setattr),
    ROW(open_by_handle_at),
    ROW(swapon),
    ROW(swapoff),
    ROW(quotactl),
    ROW(quotactl_fd),
    ROW(acct),
    /* namespaces */
    ROW(unshare),
    ROW(setns),
    /* the kernel and the machine */
    ROW(init_module),
    ROW(finit_module),
    ROW(delete_module),
    ROW(kexec_load),
    ROW(kexec_file_load),
    ROW(reboot),
    ROW(iopl),
    ROW(ioperm),
    ROW(modify_ldt),
    ROW(settimeofday),
    ROW(clock_settime),
    ROW(adjtimex),
    ROW(clock_adjtime),
    ROW(sethostname),
    ROW(setdomainname),
    ROW(syslog),
    ROW(vhangup),
    /* ways into the kernel that no server needs */
    ROW(bpf),
    ROW(perf_event_open),
    ROW(userfaultfd),
    ROW(keyctl),
    ROW(add_key),
    ROW(request_key),
    ROW(uselib),
    ROW(io_uring_setup),
    { SYS_io_uring_enter, "io_uring_enter", WITHOUT_RING },
    { SYS_io_uring_register, "io_uring_register", WITHOUT_RING },
};

enum { ROW_COUNT = sizeof ROWS / sizeof *ROWS, PROGRAM_MOST = 2 * ROW_COUNT + 40 };

struct program {
    struct sock_filter step[PROGRAM_MOST];
    unsigned short steps;
    uint32_t kill;  // what a forbidden call comes to
    bool log_only;
};

/* ---- the program's sentences */

static void add(struct program *p, struct sock_filter step)
{
    must(p->steps < PROGRAM_MOST);
    p->step[p->steps++] = step;
}

static void load(struct program *p, size_t offset)
{
    add(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void answer(struct program *p, uint32_t action)
{
    add(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* Unless what is loaded compares to `value` as `test` says, the next `skip` steps are passed over. */
static void unless(struct program *p, unsigned test, uint32_t value, uint8_t skip)
{
    add(p, (struct sock_filter)BPF_JUMP((unsigned short)(BPF_JMP | test | BPF_K), value, 0, skip));
}

static uint32_t refusal(const struct program *p, unsigned number)
{
    return p->log_only ? SECCOMP_RET_LOG : SECCOMP_RET_ERRNO | number;
}

static void refuse(struct program *p, int number, unsigned error)
{
    unless(p, BPF_JEQ, (uint32_t)number, 1);
    answer(p, refusal(p, error));
}

#define ARGUMENT(n) (offsetof(struct seccomp_data, args) + (n) * sizeof(uint64_t))

/* Threads are started, processes and namespaces are not. */
static void add_clone(struct program *p, bool checked)
{
    if (!checked) {
        refuse(p, SYS_fork, EPERM);
        refuse(p, SYS_vfork, EPERM);
    }
    refuse(p, SYS_clone3, ENOSYS);  // its flags lie in memory; libc then uses clone
    unless(p, BPF_JEQ, SYS_clone, checked ? 4 : 6);
    load(p, ARGUMENT(0));
    unless(p, BPF_JSET, NEW_NAMESPACES, 1);
    answer(p, refusal(p, EPERM));
    if (!checked) {
        add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0));
        answer(p, refusal(p, EPERM));
    }
    answer(p, SECCOMP_RET_ALLOW);
}

/* Nothing goes out: the one socket made later is a unix datagram to the service manager. */
static void add_sockets(struct program *p)
{
    refuse(p, SYS_connect, EACCES);
    unless(p, BPF_JEQ, SYS_socket, 4);
    load(p, ARGUMENT(0));
    unless(p, BPF_JEQ, AF_UNIX, 1);
    answer(p, SECCOMP_RET_ALLOW);
    answer(p, refusal(p, EACCES));
}

/* Typing into the terminal that the daemon was started from. */
static void add_terminal(struct program *p)
{
    unless(p, BPF_JEQ, SYS_ioctl, 4);
    load(p, ARGUMENT(1));
    unless(p, BPF_JEQ, TIOCSTI, 1);
    answer(p, refusal(p, EPERM));
    answer(p, SECCOMP_RET_ALLOW);
}

static void write_program(struct program *p, const struct syscall_filter *filter)
{
    p->log_only = filter->log_only;
    p->kill = filter->log_only ? SECCOMP_RET_LOG : SECCOMP_RET_KILL_PROCESS;
    load(p, offsetof(struct seccomp_data, arch));
    add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
    answer(p, p->kill);
    load(p, offsetof(struct seccomp_data, nr));
    unless(p, BPF_JGE, X32_BIT, 1);
    answer(p, p->kill);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (ROWS[i].when == WITHOUT_RING && filter->ring) continue;
        if (ROWS[i].when == WITHOUT_CHECKER && filter->checked) continue;
        unless(p, BPF_JEQ, (uint32_t)ROWS[i].number, 1);
        answer(p, p->kill);
    }
    add_clone(p, filter->checked);
    add_sockets(p);
    add_terminal(p);
    answer(p, SECCOMP_RET_ALLOW);
}

/* ---- the calls */

bool syscall_filter_possible(const char **why)
{
    uint32_t action = SECCOMP_RET_KILL_PROCESS;

    if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) return true;
    *why = errno == ENOSYS ? "this kernel has no seccomp" : "seccomp is not granted here";
    return false;
}

enum status syscall_filter_install(const struct syscall_filter *filter, struct err *err)
{
    struct program program = { .steps = 0 };

    write_program(&program, filter);
    struct sock_fprog given = { .len = program.steps, .filter = program.step };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail(err, IO_FAILED, "no_new_privs: %s", strerror(errno));
    /* No code of others runs here, so that the processor may go on guessing: on older kernels a
     * filter would otherwise slow the arithmetic down. */
    long done = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                        SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW, &given);
    if (done == 0) return OK;
    if (done > 0) return fail(err, IO_FAILED, "seccomp: thread %ld has a filter of its own", done);
    return fail(err, IO_FAILED, "seccomp: %s", strerror(errno));
}

const struct syscall_row *syscall_filter_rows(size_t *count)
{
    *count = ROW_COUNT;
    return ROWS;
}

#else

bool syscall_filter_possible(const char **why)
{
    *why = "there is no filter for this processor";
    return false;
}

enum status syscall_filter_install(const struct syscall_filter *filter, struct err *err)
{
    (void)filter;
    return fail(err, IO_FAILED, "seccomp: there is no filter for this processor");
}

const struct syscall_row *syscall_filter_rows(size_t *count)
{
    *count = 0;
    return NULL;
}

#endif
