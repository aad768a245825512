/* turn.h - a thread's place among others on the same cores.
 *
 * Thread: each call is about the thread that makes it. An older kernel, or a container that forbids it,
 * leaves things as they are.
 */
#ifndef CONFIG_TURN_H
#define CONFIG_TURN_H

/* For one that works for microseconds at a time and sleeps between: whoever waits for it would wait
 * behind whoever computes. A short slice lets it in at once where the kernel knows such (6.12). */
void turn_be_short(void);

/* For one that computes for long: it is never in the way of one that wakes. */
void turn_be_long(void);

#endif
