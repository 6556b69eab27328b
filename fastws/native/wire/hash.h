/* A hash of names that others choose. Layer 0: pure. */
#ifndef FWS_HASH_H
#define FWS_HASH_H

#include <stddef.h>
#include <stdint.h>

/* FNV-1a with a seed that is secret, so that nobody makes names collide, and a last mix: the low
 * bits of FNV say little. */
static inline uint32_t fws_hash(uint64_t seed, const void *name, size_t n)
{
    const uint8_t *bytes = name;
    uint64_t hash = seed ^ 0xCBF29CE484222325ULL;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ bytes[i]) * 0x100000001B3ULL;
    hash = (hash ^ (hash >> 32)) * 0x9E3779B97F4A7C15ULL;
    return (uint32_t)(hash >> 32);
}

#endif
