/* key_guard.h - how many wrong keys an address may send in a minute before it is told to wait.
 *
 * A right key is always let in, from wherever: behind a proxy or in one office all clients have one
 * address, and one of them with an old key must not lock out the others. What the guard saves is log
 * lines and patience; the keys themselves cannot be guessed.
 *
 * An IPv6 address stands for its /64. The table is bounded: of the four addresses that one place has room
 * for, the one that has waited off most is forgotten. Thread: the loop thread.
 */
#ifndef SERVER_KEY_GUARD_H
#define SERVER_KEY_GUARD_H

#include <stdint.h>
#include "config/status.h"

struct key_guard;

CHECKED enum status key_guard_open(uint32_t wrong_a_minute, struct key_guard **guard,
                                   struct err *err);
void key_guard_close(struct key_guard *guard);

/* A wrong key came from `peer`, as inet_ntop writes it. 0: it may be told so; else how long until the next
 * may, in ns. */
uint64_t key_guard_wrong(struct key_guard *guard, const char *peer, uint64_t now_ns);

#endif
