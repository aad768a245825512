/* cores.c - hwloc says what there is and what is allowed; the cgroup says how much of it. */
#include "config/cores.h"
#include <hwloc.h>
#include <stdbool.h>
#include <unistd.h>

struct cores {
    hwloc_topology_t topology;
    hwloc_cpuset_t *core;  // [count]; owned; the allowed hardware threads of each core
    uint32_t count;        // cores with at least one allowed hardware thread
    uint32_t quota;        // cores' worth of time the cgroup grants; UINT32_MAX = no limit
};

/* Two numbers of one small file, "200000 100000"; false for "max ..." or no file. */
static bool read_pair(const char *path, double *first, double *second)
{
    FILE *file = fopen(path, "r");
    if (!file) return false;
    int found = fscanf(file, "%lf %lf", first, second);
    fclose(file);
    return found == 2;
}

static bool read_one(const char *path, double *value)
{
    FILE *file = fopen(path, "r");
    if (!file) return false;
    int found = fscanf(file, "%lf", value);
    fclose(file);
    return found == 1;
}

/* Inside a container its own cgroup is mounted at the root, in version 2 and in version 1. */
static uint32_t cgroup_quota(void)
{
    double quota, period;
    bool found = read_pair("/sys/fs/cgroup/cpu.max", &quota, &period) ||
                 (read_one("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota) &&
                  read_one("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period));
    if (!found || quota <= 0 || period <= 0 || quota / period > 1e6) return UINT32_MAX;
    uint32_t whole = (uint32_t)(quota / period);
    return whole + (whole < quota / period);
}

/* The allowed part of every core that has one. */
static enum status find_cores(struct cores *cores)
{
    hwloc_topology_t topology = cores->topology;
    int all = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
    hwloc_obj_type_t type = all > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;  // some machines tell no cores
    if (all <= 0) all = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
    if (all <= 0) return IO_FAILED;

    hwloc_cpuset_t bound = hwloc_bitmap_alloc();
    cores->core = calloc((size_t)all, sizeof *cores->core);
    if (!bound || !cores->core) {
        hwloc_bitmap_free(bound);
        return NO_MEMORY;
    }
    if (hwloc_get_cpubind(topology, bound, HWLOC_CPUBIND_PROCESS)) hwloc_bitmap_fill(bound);
    for (unsigned i = 0; i < (unsigned)all; i++) {
        hwloc_cpuset_t part = hwloc_bitmap_dup(hwloc_get_obj_by_type(topology, type, i)->cpuset);
        if (!part) break;
        hwloc_bitmap_and(part, part, bound);
        if (hwloc_bitmap_iszero(part)) hwloc_bitmap_free(part);
        else cores->core[cores->count++] = part;
    }
    hwloc_bitmap_free(bound);
    return cores->count ? OK : IO_FAILED;
}

enum status cores_open(struct cores **cores, struct err *err)
{
    struct cores *found = calloc(1, sizeof *found);
    *cores = NULL;
    if (!found) return fail(err, NO_MEMORY, "no memory to look at the machine's cores");
    if (hwloc_topology_init(&found->topology)) {
        free(found);
        return fail(err, NO_MEMORY, "no memory to look at the machine's cores");
    }
    enum status status = IO_FAILED;
    if (hwloc_topology_load(found->topology) == 0) status = find_cores(found);
    if (status != OK) {
        cores_close(found);
        return fail(err, status, "hwloc cannot tell which cores this process may use");
    }
    found->quota = cgroup_quota();
    *cores = found;
    return OK;
}

void cores_close(struct cores *cores)
{
    if (!cores) return;
    for (uint32_t i = 0; i < cores->count; i++) hwloc_bitmap_free(cores->core[i]);
    hwloc_topology_destroy(cores->topology);
    free(cores->core);
    free(cores);
}

uint32_t cores_count(const struct cores *cores)
{
    return cores->count < cores->quota ? cores->count : cores->quota;
}

enum status cores_pin(const struct cores *cores, uint32_t index)
{
    must(index < cores->count);
    int refused = hwloc_set_cpubind(cores->topology, cores->core[index], HWLOC_CPUBIND_THREAD);
    return refused ? IO_FAILED : OK;
}

uint64_t cores_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    double all = pages > 0 ? (double)pages * (double)page : 0, limit;
    bool found = read_one("/sys/fs/cgroup/memory.max", &limit) ||
                 read_one("/sys/fs/cgroup/memory/memory.limit_in_bytes", &limit);
    return (uint64_t)(found && limit > 0 && (limit < all || all <= 0) ? limit : all);
}
