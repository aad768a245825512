/* notify.h - tells systemd how far we are: one datagram to the socket it names in NOTIFY_SOCKET.
 * Without one, nothing happens. Thread: any. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

/* "READY=1", "STOPPING=1", "STATUS=...", "WATCHDOG=1"; several with newlines between them. */
void notify(const char *state);

#endif
