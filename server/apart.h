/* apart.h - for tests: a process of its own that tries what it may still do in a folder of its own, and its
 * verdict.
 */
#ifndef SERVER_APART_H
#define SERVER_APART_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PASSED = 42, PATH_ROOM = 200 };

struct room {
    char dir[PATH_ROOM / 4];
    char path[PATH_ROOM];  // what `at` said last
};

static inline char *at(struct room *room, const char *name)
{
    snprintf(room->path, sizeof room->path, "%s/%s", room->dir, name);
    return room->path;
}

static inline bool opens(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static inline bool reads(const char *path)
{
    return opens(path, O_RDONLY);
}

/* Or makes it. */
static inline bool writes(const char *path)
{
    return opens(path, O_RDWR | O_CREAT);
}

/* Below /tmp, with these folders and files; NULL where they cannot be made. Pair with room_remove. */
static inline struct room *room_make(const char *const folder[], size_t folders,
                                     const char *const file[], size_t files)
{
    struct room *room = calloc(1, sizeof *room);
    if (!room) return NULL;
    strcpy(room->dir, "/tmp/fathom-room-XXXXXX");
    bool made = mkdtemp(room->dir);
    for (size_t i = 0; made && i < folders; i++) made = mkdir(at(room, folder[i]), 0700) == 0;
    for (size_t i = 0; made && i < files; i++) made = writes(at(room, file[i]));
    if (made) return room;
    free(room);
    return NULL;
}

static inline int room_remove(struct room *room)
{
    char command[PATH_ROOM];

    snprintf(command, sizeof command, "rm -rf %s", room->dir);
    int failed = system(command);
    free(room);
    return failed;
}

/* What `what` returns, called by a process of its own. */
static inline int apart(struct room *room, int (*what)(struct room *room))
{
    int status = 0;

    fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) _exit(what(room));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#endif
