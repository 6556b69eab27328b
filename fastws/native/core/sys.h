/* The system calls of the core, as a table. Layer 3.
 *
 * Everything that can fail from outside goes through here, so that a test can return
 * short counts, EAGAIN, EPIPE and the rest at every step. Each member behaves as
 * its namesake in section 2 of the manual.
 */
#ifndef FWS_SYS_H
#define FWS_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

typedef struct fws_sys {
    ssize_t (*recv)(int fd, void *room, size_t n, int flags);
    /* One piece goes by send(2), which spares the kernel two headers: 0.2 of 7 us. */
    ssize_t (*sendmsg)(int fd, const struct msghdr *message, int flags);
    int (*accept4)(int fd, struct sockaddr *address, socklen_t *n, int flags);
    int (*epoll_wait)(int epoll, struct epoll_event *events, int n, int timeout_ms);
    int (*epoll_ctl)(int epoll, int what, int fd, struct epoll_event *event);
    int (*shutdown)(int fd, int how);
    int (*close)(int fd);
    int (*unacknowledged)(int fd, int *bytes); /* ioctl(SIOCOUTQ) */
    int (*reset_at_close)(int fd);             /* setsockopt(SO_LINGER), for no time */
    uint64_t (*monotonic)(void);               /* CLOCK_MONOTONIC, ns */
    uint64_t (*realtime)(void);                /* CLOCK_REALTIME, ns since the Unix epoch */
    const uint32_t *forks;                     /* grows by one in the child of each fork(2) */
} fws_sys;

extern const fws_sys fws_sys_linux;

#endif
