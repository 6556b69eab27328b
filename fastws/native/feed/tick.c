#include "feed/tick.h"

#include "wire/frame.h"

#include <endian.h>
#include <string.h>

#define MS_NS 1000000ULL
#define MICROS 1000000ULL
#define PRICE_FLOOR 0.0001
#define PRICE_CEILING 999999.999999 /* six digits before the point keep a tick below 60 bytes */
#define STEP (0.002 / 4294967296.0) /* of a draw in -2^31..2^31-1 */
#define REVERSION 1e-5
#define HALF_SPREAD 20000 /* a bid is that part below the price, and a millionth */
#define THOUSANDTH 1000   /* in millionths */
#define VOLUMES 100000    /* thousandths; a volume has 1 to so many */
#define ASCII_ZEROS 0x303030303030ULL
#define FIN 0x80U

/* Frame header and the text up to the price: copied whole, whatever its size. */
static const struct {
    uint8_t text[32];
    double start;
    size_t size;
} symbols[FWS_TICK_SYMBOLS] = {
    {"\x81\0{\"symbol\":\"BTC\",\"price\":", 50000, 26},
    {"\x81\0{\"symbol\":\"ETH\",\"price\":", 3000, 26},
    {"\x81\0{\"symbol\":\"SOL\",\"price\":", 100, 26},
    {"\x81\0{\"symbol\":\"DOGE\",\"price\":", 0.1, 27},
    {"\x81\0{\"symbol\":\"XRP\",\"price\":", 0.5, 26},
};

/* "000" to "999", each as a little-endian number with its first digit lowest. */
#define T1(n) (0x303030U + (n) / 100 + ((n) / 10 % 10 << 8) + ((n) % 10 << 16))
#define T10(n)                                                                                     \
    T1(n), T1(n + 1), T1(n + 2), T1(n + 3), T1(n + 4), T1(n + 5), T1(n + 6), T1(n + 7), T1(n + 8), \
        T1(n + 9)
#define T100(n)                                                                           \
    T10(n), T10(n + 10), T10(n + 20), T10(n + 30), T10(n + 40), T10(n + 50), T10(n + 60), \
        T10(n + 70), T10(n + 80), T10(n + 90)
static const uint32_t triples[1000] = {
    T100(0U),   T100(100U), T100(200U), T100(300U), T100(400U),
    T100(500U), T100(600U), T100(700U), T100(800U), T100(900U),
};

static inline void put_le64(uint8_t *out, uint64_t value)
{
    value = htole64(value);
    memcpy(out, &value, sizeof value);
}

/* Six digits of n < 10^6, the first one in the lowest byte. */
static inline uint64_t six_digits(uint32_t n)
{
    return triples[n / 1000] | (uint64_t)triples[n % 1000] << 24;
}

/* At most FWS_PRICE_MAX bytes. Sizes come from bit counts: which symbol's turn it is, is
 * random, so a branch on the number of digits would mispredict. */
static inline size_t put_price(uint8_t *out, uint64_t micros)
{
    uint64_t whole = six_digits((uint32_t)(micros / MICROS));
    uint64_t part = six_digits((uint32_t)(micros % MICROS));
    /* The bit in the sixth byte keeps the last digit of 000000. */
    unsigned zeros = (unsigned)__builtin_ctzll((whole ^ ASCII_ZEROS) | 1ULL << 40) / 8;
    put_le64(out, whole >> (8 * zeros));
    uint64_t kept = (part ^ ASCII_ZEROS) << 8; /* byte 0 is the point */
    size_t part_size = 8 - (unsigned)__builtin_clzll(kept | 1) / 8 - (kept == 0);
    put_le64(out + 6 - zeros, '.' | part << 8);
    return 6 - zeros + part_size;
}

/* Any number, at most 20 bytes; the slow way, for what is not on the path of a base tick. */
static size_t put_u64(uint8_t *out, uint64_t value)
{
    uint8_t digits[20];
    size_t n = 0;
    do {
        digits[sizeof digits - ++n] = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    memcpy(out, digits + sizeof digits - n, n);
    return n;
}

static inline uint64_t millionths(double price)
{
    return (uint64_t)(price * (double)MICROS + 0.5);
}

size_t fws_price_text(uint8_t *out, double price)
{
    return put_price(out, millionths(price));
}

static inline uint64_t rotate(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

/* xoshiro256++ of Blackman and Vigna (2019). */
static inline uint64_t draw(uint64_t s[4])
{
    uint64_t result = rotate(s[0] + s[3], 23) + s[0];
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate(s[3], 45);
    return result;
}

/* splitmix64, as the authors of xoshiro advise for its seed: never all zeros. */
static void seed_draws(uint64_t s[4], uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += 0x9E3779B97F4A7C15ULL);
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
        s[i] = z ^ z >> 31;
    }
}

static __attribute__((noinline)) void cache_ts(fws_ticks *ticks, uint64_t ts_ns)
{
    static const char key[] = ",\"ts\":", seq_key[] = ",\"seq\":";
    uint64_t ms = ts_ns / MS_NS;
    uint8_t *end = ticks->ts_text;
    memcpy(end, key, sizeof key - 1);
    end += sizeof key - 1;
    end += put_u64(end, ms);
    if (ticks->fields != FWS_TICK_BASE) {
        memcpy(end, seq_key, sizeof seq_key - 1);
        end += sizeof seq_key - 1;
    } else {
        *end++ = '}';
    }
    ticks->ts_size = (uint32_t)(end - ticks->ts_text);
    ticks->ts_ms = (int64_t)ms;
    ticks->ms_ends_ns = (ms + 1) * MS_NS;
}

void fws_ticks_init(fws_ticks *ticks, uint64_t seed, enum fws_tick_format format,
                    enum fws_tick_fields fields)
{
    memset(ticks, 0, sizeof *ticks);
    ticks->format = format;
    ticks->fields = fields;
    for (int i = 0; i < FWS_TICK_SYMBOLS; i++)
        ticks->price[i] = symbols[i].start;
    seed_draws(ticks->random, seed);
    ticks->vector = fws_tick_vector_available();
    cache_ts(ticks, 0);
}

void fws_ticks_set_format(fws_ticks *ticks, enum fws_tick_format format)
{
    ticks->format = format;
}

static inline unsigned symbol_of(uint64_t random)
{
    return (unsigned)((random >> 32) * FWS_TICK_SYMBOLS >> 32);
}

/* One step of the walk of one symbol; gives its price in millionths. */
static inline uint64_t walk(double prices[FWS_TICK_SYMBOLS], unsigned symbol, int32_t step)
{
    double price = prices[symbol];
    price += price * ((double)step * STEP) + REVERSION * (symbols[symbol].start - price);
    price = price > PRICE_FLOOR ? price : PRICE_FLOOR;
    price = price < PRICE_CEILING ? price : PRICE_CEILING;
    prices[symbol] = price;
    return millionths(price);
}

/* One comparison finds both ends of the cached millisecond: below its start the difference is too
 * large, at its end and past it the subtraction wraps. */
static inline void use_ts(fws_ticks *ticks, uint64_t ts_ns)
{
    if (ticks->ms_ends_ns - ts_ns - 1 >= MS_NS)
        cache_ts(ticks, ts_ns);
}

/* RFC 6455 5.2: below 126 the length is the second byte. */
static inline size_t finish(uint8_t *out, const uint8_t *end)
{
    out[1] = (uint8_t)(end - out - 2);
    return (size_t)(end - out);
}

struct quote {
    uint64_t bid, ask, volume; /* millionths */
};

/* The volume's bits are those of splitmix64's finish: they follow from the tick alone. */
static inline struct quote quote_of(uint64_t micros, uint64_t seq)
{
    uint64_t half = micros / HALF_SPREAD + 1, most = (uint64_t)(PRICE_CEILING * MICROS);
    uint64_t mixed = (micros + seq * 0x9E3779B97F4A7C15ULL) * 0xBF58476D1CE4E5B9ULL;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBULL;
    return (struct quote){
        .bid = micros - half, /* the floor is 100 millionths */
        .ask = micros + half < most ? micros + half : most,
        .volume = (1 + ((mixed >> 32) * VOLUMES >> 32)) * THOUSANDTH,
    };
}

/* As finish(), also of a payload from 126 bytes on: it moves behind the longer header. */
static size_t finish_long(uint8_t *out, const uint8_t *end)
{
    size_t size = (size_t)(end - out - 2);
    if (size < 126)
        return finish(out, end);
    memmove(out + 4, out + 2, size);
    out[1] = 126;
    out[2] = (uint8_t)(size >> 8);
    out[3] = (uint8_t)size;
    return 4 + size;
}

static __attribute__((noinline)) size_t put_quote(uint8_t *out, uint8_t *end, uint64_t micros,
                                                  uint64_t seq)
{
    struct quote quote = quote_of(micros, seq);
    memcpy(end, ",\"bid\":", 7);
    end += 7 + put_price(end + 7, quote.bid);
    memcpy(end, ",\"ask\":", 7);
    end += 7 + put_price(end + 7, quote.ask);
    memcpy(end, ",\"volume\":", 10);
    end += 10 + put_price(end + 10, quote.volume);
    *end++ = '}';
    return finish_long(out, end);
}

static __attribute__((noinline)) size_t put_seq(const fws_ticks *ticks, uint8_t *out, uint8_t *end,
                                                uint64_t micros, uint64_t ts_ns, uint64_t seq)
{
    end += put_u64(end, seq);
    memcpy(end, ",\"tsNs\":", 8);
    end += 8;
    if (ts_ns < MS_NS) {
        end += put_u64(end, ts_ns);
    } else {
        size_t digits = ticks->ts_size - 13; /* without ,"ts": and ,"seq": */
        memcpy(end, ticks->ts_text + 6, 16);
        put_le64(end + digits, six_digits((uint32_t)(ts_ns + MS_NS - ticks->ms_ends_ns)));
        end += digits + 6;
    }
    if (ticks->fields == FWS_TICK_QUOTE)
        return put_quote(out, end, micros, seq);
    *end++ = '}';
    return finish(out, end);
}

static inline void put_number(uint8_t *out, uint64_t micros)
{
    double number = (double)micros / (double)MICROS;
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    put_le64(out, bits);
}

static __attribute__((noinline)) size_t put_binary_quote(uint8_t *out, uint64_t micros,
                                                         uint64_t seq)
{
    struct quote quote = quote_of(micros, seq);
    out[1] = 60;
    put_number(out + 38, quote.bid);
    put_number(out + 46, quote.ask);
    put_number(out + 54, quote.volume);
    return 62;
}

static inline size_t put_binary(const fws_ticks *ticks, uint8_t *out, unsigned symbol,
                                uint64_t micros, uint64_t ts_ns, uint64_t seq)
{
    out[0] = FIN | FWS_BINARY;
    out[1] = 20;
    put_le64(out + 2, symbol); /* four bytes too many, which the price overwrites */
    put_number(out + 6, micros);
    put_le64(out + 14, (uint64_t)ticks->ts_ms);
    if (ticks->fields == FWS_TICK_BASE)
        return 22;
    out[1] = 36;
    put_le64(out + 22, seq);
    put_le64(out + 30, ts_ns);
    return ticks->fields == FWS_TICK_QUOTE ? put_binary_quote(out, micros, seq) : 38;
}

static inline size_t put(const fws_ticks *ticks, uint8_t *out, unsigned symbol, uint64_t micros,
                         uint64_t ts_ns, uint64_t seq)
{
    if (ticks->format == FWS_TICK_BINARY)
        return put_binary(ticks, out, symbol, micros, ts_ns, seq);
    uint8_t *end = out + symbols[symbol].size;
    memcpy(out, symbols[symbol].text, sizeof symbols[symbol].text);
    end += put_price(end, micros);
    memcpy(end, ticks->ts_text, sizeof ticks->ts_text);
    end += ticks->ts_size;
    if (ticks->fields != FWS_TICK_BASE)
        return put_seq(ticks, out, end, micros, ts_ns, seq);
    return finish(out, end);
}

/* Nothing but tail calls, so that the hot path saves no registers. */
size_t fws_tick_write(fws_ticks *ticks, uint8_t *out, uint64_t ts_ns, uint64_t seq)
{
    uint64_t random = draw(ticks->random);
    unsigned symbol = symbol_of(random);
    ticks->symbol[0] = (uint8_t)symbol;
    uint64_t micros = walk(ticks->price, symbol, (int32_t)(uint32_t)random);
    use_ts(ticks, ts_ns);
    return put(ticks, out, symbol, micros, ts_ns, seq);
}

const uint8_t *fws_tick_symbol(unsigned symbol, size_t *n)
{
    static const size_t before = 13, behind = 10; /* header and {"symbol":", then ","price": */
    *n = symbols[symbol].size - before - behind;
    return symbols[symbol].text + before;
}

/* Blocks. */

/* Copies, which stay in registers. */
static void walk_block(fws_ticks *ticks, uint64_t *micros, uint32_t n)
{
    uint64_t random[4];
    double prices[FWS_TICK_SYMBOLS];
    memcpy(random, ticks->random, sizeof random);
    memcpy(prices, ticks->price, sizeof prices);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t drawn = draw(random);
        ticks->symbol[i] = (uint8_t)symbol_of(drawn);
        micros[i] = walk(prices, ticks->symbol[i], (int32_t)(uint32_t)drawn);
    }
    memcpy(ticks->random, random, sizeof random);
    memcpy(ticks->price, prices, sizeof prices);
}

static void set_lines(const fws_ticks *ticks, fws_line lines[FWS_TICK_SYMBOLS])
{
    for (int i = 0; i < FWS_TICK_SYMBOLS; i++) {
        memcpy(lines[i].text, symbols[i].text, sizeof symbols[i].text);
        memcpy(lines[i].text + FWS_LINE_TAIL, ticks->ts_text, FWS_LINE_BYTES - FWS_LINE_TAIL);
        lines[i].kept =
            ((1ULL << symbols[i].size) - 1) | ((1ULL << ticks->ts_size) - 1) << FWS_LINE_TAIL;
    }
}

size_t fws_tick_block(fws_ticks *ticks, uint8_t *out, uint32_t *end, uint32_t start, uint32_t n,
                      uint64_t ts_ns, uint64_t seq)
{
    const uint8_t *symbol = ticks->symbol;
    uint64_t micros[FWS_TICK_BLOCK];
    size_t size = 0;
    walk_block(ticks, micros, n);
    use_ts(ticks, ts_ns);
    if (ticks->vector && ticks->format == FWS_TICK_JSON && ticks->fields == FWS_TICK_BASE) {
        fws_line lines[FWS_TICK_SYMBOLS];
        set_lines(ticks, lines);
        return fws_tick_vector_write(lines, symbol, micros, n, out, end, start);
    }
    for (uint32_t i = 0; i < n; i++) {
        size += put(ticks, out + size, symbol[i], micros[i], ts_ns, seq + i);
        end[i] = start + (uint32_t)size;
    }
    return size;
}
