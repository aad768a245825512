/* open_fds.h - how many descriptors this process has open, for its metrics.
 *
 * The directory of them is opened at the start, since later the sandbox would not let us.
 * Thread: the loop thread.
 */
#ifndef SERVER_OPEN_FDS_H
#define SERVER_OPEN_FDS_H

#include <stdint.h>

/* Without /proc there is nothing to count. Once, at the start. */
void open_fds_watch(void);

/* 0: not known. */
uint64_t open_fds_count(void);

#endif
