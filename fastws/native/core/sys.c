#define _GNU_SOURCE /* accept4 */
#include "core/sys.h"

#include <linux/sockios.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static uint64_t read_clock(clockid_t which)
{
    struct timespec now;
    clock_gettime(which, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static uint64_t monotonic(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static uint64_t realtime(void)
{
    return read_clock(CLOCK_REALTIME);
}

static int accept_one(int fd, struct sockaddr *address, socklen_t *n, int flags)
{
    return accept4(fd, address, n, flags);
}

static ssize_t send_message(int fd, const struct msghdr *message, int flags)
{
    if (message->msg_iovlen != 1)
        return sendmsg(fd, message, flags);
    return send(fd, message->msg_iov->iov_base, message->msg_iov->iov_len, flags);
}

static int unacknowledged(int fd, int *bytes)
{
    return ioctl(fd, SIOCOUTQ, bytes);
}

static int reset_at_close(int fd)
{
    const struct linger none = {.l_onoff = 1};
    return setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

/* Counted instead of compared process ids: those are used again, and to ask costs a call. */
static uint32_t forks;

static void count_fork(void)
{
    forks++;
}

__attribute__((constructor)) static void watch_forks(void)
{
    (void)pthread_atfork(NULL, NULL, count_fork);
}

const fws_sys fws_sys_linux = {
    .recv = recv,
    .sendmsg = send_message,
    .accept4 = accept_one,
    .epoll_wait = epoll_wait,
    .epoll_ctl = epoll_ctl,
    .shutdown = shutdown,
    .close = close,
    .unacknowledged = unacknowledged,
    .reset_at_close = reset_at_close,
    .monotonic = monotonic,
    .realtime = realtime,
    .forks = &forks,
};
