#include "feed/tick_vector.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET \
    __attribute__((target("avx512f,avx512bw,avx512ifma,avx512vbmi,avx512vbmi2,bmi,popcnt")))
#define MILLION 1000000
#define PER_MILLION 2361183241434823 /* 2^71 / 10^6, rounded up: exact for what is below 2^40 */
#define WHOLE_DIGITS (0x3fULL << FWS_LINE_PRICE)
#define LAST_WHOLE (1ULL << (FWS_LINE_PRICE + 5)) /* kept, also of 000000 */
#define PART_DIGITS (0x3fULL << (FWS_LINE_PRICE + 7))

bool fws_tick_vector_available(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
           && __builtin_cpu_supports("avx512ifma") && __builtin_cpu_supports("avx512vbmi")
           && __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("bmi")
           && __builtin_cpu_supports("popcnt");
}

/* Of n prices the digits before the point and those behind it, as two numbers each. Whole registers
 * are stored: a masked store is not forwarded to the loads that follow. */
TARGET static inline void split(const uint64_t *micros, uint32_t n, uint64_t *whole, uint64_t *part)
{
    const __m512i zero = _mm512_setzero_si512();
    for (uint32_t i = 0; i < n; i += 8) {
        __mmask8 there = n - i < 8 ? (__mmask8)((1U << (n - i)) - 1) : 0xff;
        __m512i price = _mm512_maskz_loadu_epi64(there, micros + i);
        __m512i high = _mm512_madd52hi_epu64(zero, price, _mm512_set1_epi64(PER_MILLION));
        high = _mm512_maskz_srli_epi64(there, high, 19);
        __m512i low = _mm512_madd52lo_epu64(zero, high, _mm512_set1_epi64(MILLION));
        _mm512_storeu_si512(whole + i, high);
        _mm512_storeu_si512(part + i, _mm512_sub_epi64(price, low));
    }
}

/* The six digits of n < 10^6, each the lowest byte of a lane; then ascii alone. The low 52 bits of
 * n * 2^52 / 10^k are the digits from the k-th on, as a fraction. */
TARGET static inline __m512i digits(uint64_t n, __m512i ascii)
{
    const __m512i scales = _mm512_setr_epi64(4503599628, 45035996274, 450359962738, 4503599627371,
                                             45035996273705, 450359962737050, 0, 0);
    __m512i fraction =
        _mm512_madd52lo_epu64(_mm512_setzero_si512(), _mm512_set1_epi64((long long)n), scales);
    return _mm512_madd52hi_epu64(ascii, fraction, _mm512_set1_epi64(10));
}

/* Which bytes of the price are written: neither leading nor trailing zeros, no trailing point. */
TARGET static inline uint64_t price_kept(uint64_t nonzero)
{
    uint64_t whole = (nonzero & WHOLE_DIGITS) | LAST_WHOLE;
    uint64_t part = (nonzero & PART_DIGITS) | LAST_WHOLE;
    uint64_t from_first = -(whole & -whole);
    uint64_t up_to_last = ~0ULL >> __builtin_clzll(part);
    return from_first & up_to_last;
}

TARGET size_t fws_tick_vector_write(const fws_line *lines, const uint8_t *symbol,
                                    const uint64_t *micros, uint32_t n, uint8_t *out, uint32_t *end,
                                    uint32_t start)
{
    const __m512i whole_ascii = _mm512_setr_epi64('0', '0', '0', '0', '0', '0', '.', 0);
    const __m512i part_ascii = _mm512_setr_epi64('0', '0', '0', '0', '0', '0', 0, 0);
    /* Byte 27 on: every eighth byte of the first operand, then (64 and more) of the second. */
    const __m512i places =
        _mm512_set_epi64(0, 0, 0, 0x6860585048403028, 0x2018100800000000, 0, 0, 0);
    const __mmask64 price = 0x1fffULL << FWS_LINE_PRICE;
    const __m512i zeros = _mm512_set1_epi8('0');
    uint64_t whole[FWS_TICK_BLOCK], part[FWS_TICK_BLOCK];
    uint8_t *at = out;
    split(micros, n, whole, part);
    for (uint32_t i = 0; i < n; i++) {
        const fws_line *line = &lines[symbol[i]];
        __m512i packed = _mm512_permutex2var_epi8(digits(whole[i], whole_ascii), places,
                                                  digits(part[i], part_ascii));
        __m512i text = _mm512_mask_mov_epi8(_mm512_loadu_si512(line->text), price, packed);
        uint64_t kept = line->kept | price_kept(_mm512_cmpneq_epi8_mask(packed, zeros));
        uint64_t size = (uint64_t)__builtin_popcountll(kept);
        _mm512_storeu_si512(at, _mm512_maskz_compress_epi8(kept, text));
        at[1] = (uint8_t)(size - 2); /* RFC 6455 5.2: below 126 the length is the second byte */
        at += size;
        end[i] = start + (uint32_t)(at - out);
    }
    return (size_t)(at - out);
}

#else

bool fws_tick_vector_available(void)
{
    return false;
}

size_t fws_tick_vector_write(const fws_line *lines, const uint8_t *symbol, const uint64_t *micros,
                             uint32_t n, uint8_t *out, uint32_t *end, uint32_t start)
{
    (void)lines, (void)symbol, (void)micros, (void)n, (void)out, (void)end, (void)start;
    return 0;
}

#endif
