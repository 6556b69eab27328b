/* What the load clients have in common: how they end when something is wrong, and their clocks. */
#ifndef FWS_BENCH_PROGRAM_H
#define FWS_BENCH_PROGRAM_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Says why on stderr, with the error of the last system call where there is one, and ends the program. */
static inline void die(int status, const char *why)
{
    fprintf(stderr, "%s%s%s\n", why, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(status);
}

/* That clock, in ns. */
static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

#endif
