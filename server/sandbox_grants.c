/* sandbox_grants.c - a table for the system, and a few lines for each option that names a file. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "server/sandbox_grants.h"

/* What libraries open late: themselves, the time zone, the shape of the machine. A thread's name is a
 * file below /proc/self/task, which whoever starts the thread writes. */
static const struct landlock_grant SYSTEM[] = {
    // clang-format off
    { "/usr", MAY_READ },
    { "/lib", MAY_READ },
    { "/lib64", MAY_READ },
    { "/etc/ld.so.cache", MAY_READ },
    { "/etc/localtime", MAY_READ },
    { "/sys", MAY_READ },
    { "/proc/self", MAY_READ },
    { "/proc/self/task", MAY_READ | MAY_CHANGE },
    { "/proc/cpuinfo", MAY_READ },
    { "/proc/meminfo", MAY_READ },
    { "/proc/stat", MAY_READ },
    { "/proc/sys/vm", MAY_READ },
    { "/dev/null", MAY_READ | MAY_CHANGE },
    { "/dev/zero", MAY_READ },
    { "/dev/urandom", MAY_READ },
    // clang-format on
};

/* What the CUDA driver opens, or would with other releases and settings than were seen (580). Its
 * compiler cache is left out: our kernels come compiled. */
static const struct landlock_grant CUDA[] = {
    // clang-format off
    { "/dev/nvidiactl", MAY_DRIVE },
    { "/dev/nvidia-uvm", MAY_DRIVE },
    { "/dev/nvidia-uvm-tools", MAY_DRIVE },
    { "/dev/nvidia-modeset", MAY_DRIVE },
    { "/dev/nvidia-caps", MAY_DRIVE },
    { "/dev/shm", MAY_READ | MAY_WRITE },
    { "/proc/driver/nvidia", MAY_READ },
    { "/proc/driver/nvidia-caps", MAY_READ },
    { "/proc/devices", MAY_READ },
    { "/proc/modules", MAY_READ },
    { "/proc/version", MAY_READ },
    { "/etc/nvidia", MAY_READ },
    { "/run/nvidia-persistenced", MAY_READ },
    // clang-format on
};

enum { CARDS_MOST = 16 };

static enum status add(struct sandbox_grants *grants, const char *path, unsigned rights)
{
    struct slice copy = arena_copy(grants->arena, slice_of(path));

    if (!copy.data) return NO_MEMORY;
    if (grants->count == SANDBOX_GRANTS_MOST) return TOO_LONG;
    grants->grant[grants->count++] = (struct landlock_grant){ copy.data, rights };
    return OK;
}

static enum status add_table(struct sandbox_grants *grants, const struct landlock_grant *table,
                             size_t count)
{
    enum status status = OK;

    for (size_t i = 0; i < count && status == OK; i++)
        status = add(grants, table[i].path, table[i].rights);
    return status;
}

/* The folder of a path as it is written. */
static enum status add_folder(struct sandbox_grants *grants, const char *path, unsigned rights)
{
    struct slice copy = arena_copy(grants->arena, slice_of(path));
    char *slash;

    if (!copy.data) return NO_MEMORY;
    slash = strrchr((char *)copy.data, '/');
    if (!slash) return add(grants, ".", rights);
    slash[slash == copy.data] = 0;  // the root keeps its slash
    return add(grants, copy.data, rights);
}

/* A file that may be replaced, by renaming another to its name, or by turning the link that it is. */
static enum status add_file(struct sandbox_grants *grants, const char *path, unsigned rights)
{
    char real[PATH_MAX];

    if (!path || !path[0]) return OK;
    enum status status = add_folder(grants, path, rights);
    if (status == OK && realpath(path, real)) status = add_folder(grants, real, rights);
    return status;
}

/* A hub's cache holds links to files that lie beside the folder. */
static enum status add_model(struct sandbox_grants *grants, const char *dir)
{
    enum status status = add(grants, dir, MAY_READ);
    DIR *list = opendir(dir);
    struct dirent *entry;
    char path[PATH_MAX], real[PATH_MAX];
    struct stat about;

    if (!list) return status;
    while (status == OK && (entry = readdir(list))) {
        if (fstatat(dirfd(list), entry->d_name, &about, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (!S_ISLNK(about.st_mode)) continue;
        if (snprintf(path, sizeof path, "%s/%s", dir, entry->d_name) >= (int)sizeof path) continue;
        if (realpath(path, real)) status = add(grants, real, MAY_READ);
    }
    closedir(list);
    return status;
}

/* Libraries of a bundle lie beside it; those of a driver where its container put them. */
static enum status add_libraries(struct sandbox_grants *grants)
{
    char path[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - sizeof "/../lib");
    const char *listed = getenv("LD_LIBRARY_PATH");
    enum status status = OK;

    if (size > 0) {
        path[size] = 0;
        char *slash = strrchr(path, '/');
        strcpy(slash ? slash : path, "/../lib");
        status = add(grants, path, MAY_READ);
    }
    while (status == OK && listed && *listed) {
        size_t length = strcspn(listed, ":");
        if (length && length < sizeof path) {
            memcpy(path, listed, length);
            path[length] = 0;
            status = add(grants, path, MAY_READ);
        }
        listed += length + (listed[length] == ':');
    }
    return status;
}

static enum status add_cuda(struct sandbox_grants *grants)
{
    enum status status = add_table(grants, CUDA, sizeof CUDA / sizeof *CUDA);
    char path[32];

    for (int card = 0; card < CARDS_MOST && status == OK; card++) {
        snprintf(path, sizeof path, "/dev/nvidia%d", card);
        status = add(grants, path, MAY_DRIVE);
    }
    return status;
}

static enum status add_options(struct sandbox_grants *grants, const struct options *options)
{
    enum status status = add_model(grants, options->model);

    if (status == OK) status = add_file(grants, options->config_path, MAY_READ);
    bool admin = options->admin_socket[0];  // makes and revokes keys, and takes its socket away
    if (status == OK) status = add_file(grants, options->keys, MAY_READ | (admin ? MAY_WRITE : 0));
    if (status == OK && admin) status = add_folder(grants, options->admin_socket, MAY_BIND);
    if (status == OK) status = add_file(grants, options->usage_log, MAY_READ | MAY_WRITE);
    if (status == OK) status = add_file(grants, options->usage_log, MAY_READ | MAY_WRITE);
    if (status == OK && options->script[0]) status = add(grants, options->script, MAY_READ);
    if (status == OK && options->cache_dir[0]) {
        (void)mkdir(options->cache_dir, 0700);  // who opens it says why not
        status = add(grants, options->cache_dir, MAY_READ | MAY_WRITE);
    }
    return status;
}

enum status sandbox_grants_make(struct sandbox_grants *grants, const struct options *options,
                                struct err *err)
{
    enum status status = add_table(grants, SYSTEM, sizeof SYSTEM / sizeof *SYSTEM);

    if (status == OK) status = add_libraries(grants);
    if (status == OK && options->backend != OPT_BACKEND_CPU &&
        options->backend != OPT_BACKEND_SCRIPTED)
        status = add_cuda(grants);
    if (status == OK) status = add_options(grants, options);
    if (status == TOO_LONG)
        return fail(err, TOO_LONG, "sandbox: found more than %d links in %s, wanted fewer",
                    SANDBOX_GRANTS_MOST, options->model);
    if (status != OK) return fail(err, status, "sandbox: no memory");
    return OK;
}
