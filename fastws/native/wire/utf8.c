#include "wire/utf8.h"

#include <endian.h>
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

/* Bytes of the valid character at data, of which four bytes can be read; 0 when there is none:
 * then the state machine finds out where it breaks. Each line tests the fixed bits of all its
 * bytes, then those that tell overlong forms, surrogates and what lies above U+10FFFF. */
static inline size_t whole_character(const uint8_t *data)
{
    uint32_t word;

    memcpy(&word, data, 4);
    word = be32toh(word);
    if (word < 0x80000000U)
        return 1;
    if ((word & 0xE0C00000U) == 0xC0800000U)
        return word & 0x1E000000U ? 2 : 0;
    if ((word & 0xF0C0C000U) == 0xE0808000U) {
        uint32_t top = word & 0x0F200000U;
        return top != 0 && top != 0x0D200000U ? 3 : 0;
    }
    if ((word & 0xF8C0C0C0U) == 0xF0808080U) {
        uint32_t top = word & 0x07300000U;
        return top != 0 && top <= 0x04000000U ? 4 : 0;
    }
    return 0;
}

/* How many bytes from a character's start on are valid and whole, as far as it is quick to
 * say: the rest is for the state machine. */
static size_t whole_characters(const uint8_t *data, size_t n)
{
    size_t i = 0;

    for (;;) {
        while (n - i >= 32 && all_ascii(data + i, 4))
            i += 32;
        while (n - i >= 8 && all_ascii(data + i, 1))
            i += 8;
        if (n - i < 8) /* the last eight bytes, though some were seen before */
            return n >= 8 && all_ascii(data + n - 8, 1) ? n : i;
        for (int k = 0; k < 8; k++) { /* what is not ASCII seldom stands alone */
            size_t size = n - i >= 4 ? whole_character(data + i) : 0;
            if (size == 0)
                return i;
            i += size;
        }
    }
}

uint32_t fws_utf8_feed(uint32_t state, const uint8_t *data, size_t n)
{
    size_t i = 0;

    while (i < n && state != FWS_UTF8_REJECT) {
        if (state == FWS_UTF8_ACCEPT) {
            i += whole_characters(data + i, n - i);
            while (i < n && data[i] < 0x80)
                i++;
            if (i < n)
                state = after_lead(data[i++]);
        } else {
            state = after_continuation(state, data[i++]);
        }
    }
    return state;
}
