/* listen.h - the listening socket: an address from the options, or one that systemd opened. */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include <stdbool.h>
#include "config/status.h"

struct addrinfo;

struct listening {
    int fd;         // listening, not blocking; the caller's
    bool loopback;  // only this machine can connect
    char url[80];   // http://127.0.0.1:8000
};

/* Binds `address` ("127.0.0.1:8000", "[::1]:0", "localhost:8000"), or takes the one listening socket
 * that systemd passed (LISTEN_FDS), whatever the address says. BAD_INPUT, IO_FAILED: err names
 * what was found. */
CHECKED enum status listen_open(const char *address, struct listening *listening, struct err *err);

/* The socket addresses of `address`, with getaddrinfo's flags; *list is for freeaddrinfo. BAD_INPUT: it is no
 * host:port, or the host is not known. */
CHECKED enum status listen_resolve(const char *address, int flags, struct addrinfo **list,
                                   struct err *err);

#endif
