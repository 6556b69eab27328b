#include "utf8.h"

#include <stdbool.h>
#include <string.h>

/* An incomplete character is described by what may follow: how many continuation bytes are
 * due, and the bounds of the next one. Only the first of them is ever narrower than 80..BF
 * (Unicode table 3-7), so no table is needed. The number is at least 1 << 16, which keeps
 * these states apart from ACCEPT and REJECT. */
#define DUE(count, low, high) ((uint32_t)(count) << 16 | (uint32_t)(low) << 8 | (uint32_t)(high))

static inline uint32_t after_lead(uint8_t byte)
{
    if (byte < 0x80)
        return FWS_UTF8_ACCEPT;
    if (byte < 0xC2) /* a continuation, or an overlong form of ASCII */
        return FWS_UTF8_REJECT;
    if (byte < 0xE0)
        return DUE(1, 0x80, 0xBF);
    if (byte < 0xF0) {
        if (byte == 0xE0)
            return DUE(2, 0xA0, 0xBF);
        return byte == 0xED ? DUE(2, 0x80, 0x9F) : DUE(2, 0x80, 0xBF); /* no surrogates */
    }
    if (byte == 0xF0)
        return DUE(3, 0x90, 0xBF);
    if (byte < 0xF4)
        return DUE(3, 0x80, 0xBF);
    return byte == 0xF4 ? DUE(3, 0x80, 0x8F) : FWS_UTF8_REJECT; /* up to U+10FFFF */
}

static inline uint32_t after_continuation(uint32_t state, uint8_t byte)
{
    uint32_t low = state >> 8 & 0xFF, high = state & 0xFF, due = (state >> 16) - 1;

    if (byte < low || byte > high)
        return FWS_UTF8_REJECT;
    return due == 0 ? FWS_UTF8_ACCEPT : DUE(due, 0x80, 0xBF);
}

static inline bool all_ascii(const uint8_t *data, size_t words)
{
    uint64_t any = 0;

    for (size_t i = 0; i < words; i++) {
        uint64_t word;
        memcpy(&word, data + i * 8, 8);
        any |= word;
    }
    return (any & 0x8080808080808080ULL) == 0;
}

uint32_t fws_utf8_feed(uint32_t state, const uint8_t *data, size_t n)
{
    size_t i = 0;

    while (i < n && state != FWS_UTF8_REJECT) {
        if (state != FWS_UTF8_ACCEPT) {
            state = after_continuation(state, data[i++]);
            continue;
        }
        while (n - i >= 32 && all_ascii(data + i, 4))
            i += 32;
        while (n - i >= 8 && all_ascii(data + i, 1))
            i += 8;
        if (i < n)
            state = after_lead(data[i++]);
    }
    return state;
}
