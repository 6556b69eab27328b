/* The smallest harness that tells where and why: CHECK, CHECK_EQ, RUN, and inputs
 * that end at a page which must not be touched. */
#ifndef FWS_CHECK_H
#define FWS_CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHECK(condition)                                                               \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "%s:%d: %s: not true: %s\n", __FILE__, __LINE__, __func__, \
                    #condition);                                                       \
            exit(1);                                                                   \
        }                                                                              \
    } while (0)

#define CHECK_EQ(left, right)                                                                 \
    do {                                                                                      \
        int64_t left_ = (int64_t)(left), right_ = (int64_t)(right);                           \
        if (left_ != right_) {                                                                \
            fprintf(stderr, "%s:%d: %s: %s is %" PRId64 ", not %s = %" PRId64 "\n", __FILE__, \
                    __LINE__, __func__, #left, left_, #right, right_);                        \
            exit(1);                                                                          \
        }                                                                                     \
    } while (0)

/* main() is a list of these. */
#define RUN(test)                 \
    do {                          \
        test();                   \
        printf("ok %s\n", #test); \
    } while (0)

/* Room of n bytes (at most 1 MiB) whose end touches a page without access: one byte too
 * far is a crash. Lives until the process ends; each call gives fresh room. */
static inline uint8_t *guarded(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = (n + page - 1) / page + 1;
    uint8_t *base =
        mmap(NULL, (pages + 1) * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(base != MAP_FAILED);
    CHECK(mprotect(base + pages * page, page, PROT_NONE) == 0);
    return base + pages * page - n;
}

static inline uint8_t *guarded_copy(const void *data, size_t n)
{
    uint8_t *room = guarded(n);
    if (n > 0)
        memcpy(room, data, n);
    return room;
}

/* A small seeded generator for tests (splitmix64). */
static inline uint64_t test_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

#endif
