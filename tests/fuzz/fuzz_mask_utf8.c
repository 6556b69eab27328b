/* Masking and UTF-8 against slow ways of doing the same, at every alignment and any cutting. */
#include "fuzz.h"
#include "wire/mask.h"
#include "wire/utf8.h"

#define ROOM 4096U

/* Unicode table 3-7: the bytes that may follow, by the first one. */
typedef struct lead {
    uint8_t first, last, low, high, more; /* second byte in low..high, then more of 80..BF */
} lead;

static const lead LEADS[] = {
    {0xC2, 0xDF, 0x80, 0xBF, 0}, {0xE0, 0xE0, 0xA0, 0xBF, 1}, {0xE1, 0xEC, 0x80, 0xBF, 1},
    {0xED, 0xED, 0x80, 0x9F, 1}, {0xEE, 0xEF, 0x80, 0xBF, 1}, {0xF0, 0xF0, 0x90, 0xBF, 2},
    {0xF1, 0xF3, 0x80, 0xBF, 2}, {0xF4, 0xF4, 0x80, 0x8F, 2},
};

/* The number of bytes of the character at data[0..n), 0 when it is cut short, -1 when bad. */
static int character(const uint8_t *data, size_t n)
{
    if (data[0] < 0x80)
        return 1;
    for (size_t i = 0; i < sizeof LEADS / sizeof *LEADS; i++) {
        const lead *what = &LEADS[i];
        if (data[0] < what->first || data[0] > what->last)
            continue;
        for (size_t k = 1; k < 2U + what->more; k++) {
            if (k == n)
                return 0;
            if (data[k] < (k == 1 ? what->low : 0x80) || data[k] > (k == 1 ? what->high : 0xBF))
                return -1;
        }
        return 2 + what->more;
    }
    return -1;
}

/* 0: whole characters, 1: not UTF-8, 2: the last one is not whole. */
static int slow_utf8(const uint8_t *data, size_t n)
{
    while (n > 0) {
        int size = character(data, n);
        if (size <= 0)
            return size == 0 ? 2 : 1;
        data += size;
        n -= (size_t)size;
    }
    return 0;
}

static int verdict(uint32_t state)
{
    return state == FWS_UTF8_ACCEPT ? 0 : state == FWS_UTF8_REJECT ? 1 : 2;
}

static void check_utf8(const uint8_t *data, size_t n, fuzz_cuts cuts)
{
    uint32_t state = FWS_UTF8_ACCEPT;
    for (size_t at = 0; at < n;) {
        size_t piece = fuzz_cut(&cuts, n - at);
        state = fws_utf8_feed(state, data + at, piece);
        at += piece;
        CHECK_EQ(verdict(state), slow_utf8(data, at));
    }
    CHECK_EQ(verdict(state), slow_utf8(data, n));
}

static void check_mask(uint8_t *edge, const uint8_t *data, size_t n, const uint8_t key[4],
                       unsigned phase, fuzz_cuts cuts)
{
    uint8_t *masked = memcpy(edge - n, data, n);
    unsigned now = phase;
    for (size_t at = 0; at < n;) {
        size_t piece = fuzz_cut(&cuts, n - at);
        now = fws_mask(masked + at, piece, key, now);
        at += piece;
    }
    CHECK_EQ(now, (phase + n) % 4);
    for (size_t i = 0; i < n; i++)
        CHECK_EQ(masked[i], data[i] ^ key[(phase + i) % 4]);
    fws_mask(masked, n, key, phase);
    CHECK(memcmp(masked, data, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static uint8_t *end;
    fuzz_input input = {data, n};
    uint8_t shift = fuzz_byte(&input) % 64, key[4];
    for (int i = 0; i < 4; i++)
        key[i] = fuzz_byte(&input);
    fuzz_cuts cuts[] = {FUZZ_WHOLE, fuzz_take_cuts(&input), FUZZ_BYTEWISE};
    if (input.n > ROOM - 64)
        return 0;
    if (end == NULL)
        end = guarded(ROOM) + ROOM;
    for (int i = 0; i < 3; i++) {
        check_mask(end - shift, input.at, input.n, key, key[0] % 4, cuts[i]);
        check_utf8(memcpy(end - input.n, input.at, input.n), input.n, cuts[i]);
    }
    return 0;
}
