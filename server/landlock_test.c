/* landlock_test.c - inside works, outside is refused; each in a process of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "server/apart.h"
#include "server/landlock.h"

static int version;  // of Landlock; 0: none

/* Folders read/, write/ and change/, each holding file, and outside/, not granted; read/link leads to
 * outside/file. */
static int set_up(void **state)
{
    static const char *const folders[] = { "read", "write", "change", "outside" };
    static const char *const files[] = { "read/file", "write/file", "change/file", "outside/file" };
    const char *why = "";
    char target[PATH_ROOM];

    struct room *room = room_make(folders, 4, files, 4);
    if (!room) return -1;
    strcpy(target, at(room, "outside/file"));
    if (symlink(target, at(room, "read/link")) != 0) return -1;
    version = landlock_version(&why);
    if (!version) printf("skipped: %s\n", why);
    *state = room;
    return 0;
}

static int tear_down(void **state)
{
    return room_remove(*state);
}

static int (*tried)(struct room *room);

/* May read read/, write write/ and no more. */
static int restricted(struct room *room)
{
    char read_path[PATH_ROOM], write_path[PATH_ROOM], change_path[PATH_ROOM];
    struct err err;

    strcpy(read_path, at(room, "read"));
    strcpy(write_path, at(room, "write"));
    strcpy(change_path, at(room, "change"));
    struct landlock_grant grant[] = { { read_path, MAY_READ },
                                      { write_path, MAY_READ | MAY_WRITE | MAY_BIND },
                                      { "/no/such/path", MAY_READ },
                                      { "/dev/null", MAY_READ | MAY_CHANGE },
                                      { change_path, MAY_READ | MAY_CHANGE } };
    struct landlock_plan plan = { .grant = grant, .grants = 5 };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return landlock_restrict(&plan, &err) == OK ? tried(room) : 1;
}

static int inside(struct room *room, int (*what)(struct room *room))
{
    tried = what;
    return apart(room, restricted);
}

static bool refuses(bool done)
{
    return !done && errno == EACCES;
}

static int use_files(struct room *room)
{
    char other[PATH_ROOM];

    if (!opens(at(room, "read/file"), O_RDONLY)) return 2;
    if (!refuses(opens(at(room, "read/file"), O_WRONLY))) return 3;
    if (!refuses(writes(at(room, "read/new")))) return 4;
    if (!refuses(opens(at(room, "outside/file"), O_RDONLY))) return 5;
    if (!refuses(opens(at(room, "outside"), O_RDONLY | O_DIRECTORY))) return 6;
    if (!refuses(opens(at(room, "read/link"), O_RDONLY))) return 7;
    if (!refuses(opens(at(room, "read/../outside/file"), O_RDONLY))) return 8;
    if (!refuses(opens("/etc/passwd", O_RDONLY))) return 9;
    if (!refuses(unlink(at(room, "outside/file")) == 0)) return 10;
    if (!refuses(execl("/bin/true", "true", NULL) == 0)) return 11;
    if (!opens("/dev/null", O_RDWR)) return 12;
    if (!opens(at(room, "change/file"), O_WRONLY | O_TRUNC)) return 14;
    if (!refuses(writes(at(room, "change/new")))) return 15;
    strcpy(other, at(room, "outside/file"));
    if (rename(other, at(room, "write/taken")) == 0) return 13;
    return PASSED;
}

static int change_files(struct room *room)
{
    char old[PATH_ROOM];

    if (!writes(at(room, "write/usage.log"))) return 2;
    strcpy(old, at(room, "write/usage.log"));
    if (rename(old, at(room, "write/usage.log.1")) != 0) return 3;  // as rotating does
    if (!writes(old)) return 4;                                     // and opening it again
    if (!opens(old, O_WRONLY | O_TRUNC)) return 5;
    if (mkdir(at(room, "write/g"), 0700) != 0) return 6;
    if (!writes(at(room, "write/g/000000.seg"))) return 7;
    if (unlink(at(room, "write/g/000000.seg")) != 0 || rmdir(at(room, "write/g")) != 0) return 8;
    return PASSED;
}

static int bind_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return bind(fd, (struct sockaddr *)&address, sizeof address);
}

static int use_sockets(struct room *room)
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (bind_unix(at(room, "write/admin.sock")) != 0) return 2;
    if (!refuses(bind_unix(at(room, "read/admin.sock")) == 0)) return 3;
    if (version < 4) return PASSED;
    if (!refuses(bind(fd, (struct sockaddr *)&here, sizeof here) == 0)) return 4;
    here.sin_port = htons(9);
    if (!refuses(connect(fd, (struct sockaddr *)&here, sizeof here) == 0)) return 5;
    if (version < 6) return PASSED;
    return kill(getppid(), 0) != 0 && errno == EPERM ? PASSED : 6;
}

static void *try_outside(void *context)
{
    struct room *room = context;
    bool refused = refuses(opens(at(room, "outside/file"), O_RDONLY));
    return refused ? room : NULL;
}

static int ask_a_thread(struct room *room)
{
    pthread_t thread;
    void *refused = NULL;

    if (pthread_create(&thread, NULL, try_outside, room) != 0) return 2;
    pthread_join(thread, &refused);
    return refused ? PASSED : 3;
}

static void outside_is_refused_however_it_is_named(void **state)
{
    struct room *room = *state;
    if (!version) skip();
    assert_int_equal(inside(room, use_files), PASSED);
}

static void what_may_be_written_can_be_rotated(void **state)
{
    struct room *room = *state;
    if (!version) skip();
    assert_int_equal(inside(room, change_files), PASSED);
}

static void unix_sockets_are_bound_where_granted_and_tcp_is_not(void **state)
{
    struct room *room = *state;
    if (!version) skip();
    assert_int_equal(inside(room, use_sockets), PASSED);
}

static void a_thread_started_later_is_inside_too(void **state)
{
    struct room *room = *state;
    if (!version) skip();
    assert_int_equal(inside(room, ask_a_thread), PASSED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(outside_is_refused_however_it_is_named),
        TEST(what_may_be_written_can_be_rotated),
        TEST(unix_sockets_are_bound_where_granted_and_tcp_is_not),
        TEST(a_thread_started_later_is_inside_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
