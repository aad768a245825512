/* key_guard.c - a table of buckets, each the time at which it is full again (limits.c). */
#include "server/key_guard.h"
#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>
#include "config/clock.h"
#include "config/hash.h"

#define MINUTE_NS (60 * NS_PER_S)

enum { SETS = 1024, WAYS = 4 };

struct address {
    uint64_t hash;     // 0: nobody
    uint64_t full_ns;  // when all of its wrong keys are forgiven
};

struct key_guard {
    uint64_t salt;  // so that nobody can choose whom to share a place with
    uint64_t cost_ns;
    struct address address[SETS][WAYS];
};

enum status key_guard_open(uint32_t wrong_a_minute, struct key_guard **guard, struct err *err)
{
    struct key_guard *made = calloc(1, sizeof *made);

    must(wrong_a_minute > 0);
    if (!made) return fail(err, NO_MEMORY, "key guard: no memory");
    must(getrandom(&made->salt, sizeof made->salt, 0) == (ssize_t)sizeof made->salt);
    made->cost_ns = MINUTE_NS / wrong_a_minute;
    *guard = made;
    return OK;
}

void key_guard_close(struct key_guard *guard)
{
    free(guard);
}

static uint64_t hash_of(const struct key_guard *guard, const char *peer)
{
    struct in6_addr wide;
    struct in_addr narrow;
    uint64_t hash;

    if (inet_pton(AF_INET, peer, &narrow) == 1) {
        hash = hash64(&narrow, sizeof narrow, guard->salt);
    } else if (inet_pton(AF_INET6, peer, &wide) == 1) {
        bool mapped = IN6_IS_ADDR_V4MAPPED(&wide);  // as a socket for both kinds tells of IPv4
        hash = mapped ? hash64(&wide.s6_addr[12], sizeof narrow, guard->salt)
                      : hash64(&wide, 8, guard->salt);
    } else hash = hash64(peer, strlen(peer), guard->salt);
    return hash ? hash : 1;
}

static struct address *find(struct key_guard *guard, uint64_t hash)
{
    struct address *set = guard->address[hash % SETS], *calmest = set;

    for (int i = 0; i < WAYS; i++) {
        if (set[i].hash == hash) return &set[i];
        if (set[i].full_ns < calmest->full_ns) calmest = &set[i];
    }
    *calmest = (struct address){ .hash = hash };
    return calmest;
}

uint64_t key_guard_wrong(struct key_guard *guard, const char *peer, uint64_t now_ns)
{
    struct address *address = find(guard, hash_of(guard, peer));
    uint64_t used = address->full_ns > now_ns ? address->full_ns - now_ns : 0;

    if (used + guard->cost_ns > MINUTE_NS) return used + guard->cost_ns - MINUTE_NS;
    address->full_ns = now_ns + used + guard->cost_ns;
    return 0;
}
