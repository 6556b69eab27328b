#include "bench/tick_check.h"

#include "wire/frame.h"

#include <string.h>

/* What is left of a payload; the take_ functions move its front. */
struct rest {
    const uint8_t *at, *end;
};

static bool take(struct rest *rest, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(rest->end - rest->at) < n || memcmp(rest->at, text, n) != 0)
        return false;
    rest->at += n;
    return true;
}

/* Digits in a row, at most 20; how many there were. */
static size_t take_digits(struct rest *rest)
{
    const uint8_t *from = rest->at;
    while (rest->at < rest->end && rest->at - from <= 20 && *rest->at >= '0' && *rest->at <= '9')
        rest->at++;
    return (size_t)(rest->at - from);
}

/* A JSON integer (RFC 8259 6: no leading zero) of least..most digits that fits. */
static bool take_integer(struct rest *rest, size_t least, size_t most, uint64_t *value)
{
    const uint8_t *from = rest->at;
    size_t n = take_digits(rest);
    if (n < least || n > most || (n > 1 && *from == '0'))
        return false;
    *value = 0;
    for (; from < rest->at; from++)
        if (__builtin_mul_overflow(*value, 10U, value)
            || __builtin_add_overflow(*value, (unsigned)(*from - '0'), value))
            return false;
    return true;
}

static const char *take_price(struct rest *rest, uint64_t *micros)
{
    uint64_t whole, part = 0, unit = 1000000;
    if (!take_integer(rest, 1, 15, &whole))
        return "price is not a plain decimal";
    if (take(rest, ".")) {
        const uint8_t *from = rest->at;
        size_t places = take_digits(rest);
        if (places < 1 || places > 6)
            return "price has not 1 to 6 places behind its point";
        if (rest->at[-1] == '0')
            return "price has a trailing zero";
        for (; from < rest->at; from++)
            part += (unsigned)(*from - '0') * (unit /= 10);
    }
    *micros = whole < UINT64_MAX / 1000000 ? whole * 1000000 + part : UINT64_MAX;
    return *micros == 0 ? "price is not positive" : NULL;
}

static bool take_symbol(struct rest *rest)
{
    static const char *const known[] = {"BTC\"", "ETH\"", "SOL\"", "DOGE\"", "XRP\""};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (take(rest, known[i]))
            return true;
    return false;
}

/* What may follow tsNs: bid, ask and volume; keys that are not known. */
static const char *check_rest(struct rest *rest, bool *more)
{
    uint64_t bid, ask, volume;
    if (take(rest, ",\"bid\":")) {
        if (take_price(rest, &bid) != NULL || !take(rest, ",\"ask\":")
            || take_price(rest, &ask) != NULL || !take(rest, ",\"volume\":")
            || take_price(rest, &volume) != NULL)
            return "bid, ask and volume are not three plain decimals";
        if (bid >= ask)
            return "bid is not below ask";
        *more = true;
    }
    if (take(rest, ",\"")) {
        if (rest->end[-1] != '}')
            return "it does not end where it should";
        rest->at = rest->end - 1;
        *more = true;
    }
    return take(rest, "}") && rest->at == rest->end ? NULL : "it does not end where it should";
}

static const char *check_json(struct rest rest, uint64_t *ts_ns, uint64_t *seq, bool *has_seq)
{
    size_t size = (size_t)(rest.end - rest.at);
    uint64_t price, ts, number = 0, precise;
    if (!take(&rest, "{\"symbol\":\"") || !take_symbol(&rest))
        return "it does not start with a known symbol";
    if (!take(&rest, ",\"price\":"))
        return "price is not its second key";
    const char *wrong = take_price(&rest, &price);
    if (wrong != NULL)
        return wrong;
    if (!take(&rest, ",\"ts\":") || !take_integer(&rest, 13, 13, &ts))
        return "ts with 13 digits is not its third key";
    precise = ts * 1000000;
    bool numbered = take(&rest, ",\"seq\":"), more = numbered;
    if (numbered && !take_integer(&rest, 1, 20, &number))
        return "seq is not an unsigned integer of 64 bits";
    if (numbered && (!take(&rest, ",\"tsNs\":") || !take_integer(&rest, 19, 19, &precise)))
        return "tsNs with 19 digits does not follow seq";
    if (precise / 1000000 != ts)
        return "tsNs is not in the millisecond ts";
    if ((wrong = check_rest(&rest, &more)) != NULL)
        return wrong;
    if (!more && (size < 45 || size > 60))
        return "it has not 45 to 60 bytes";
    *ts_ns = precise;
    *has_seq = numbered;
    if (numbered)
        *seq = number;
    return NULL;
}

static uint64_t little_endian(const uint8_t *data, unsigned n)
{
    uint64_t value = 0;
    while (n-- > 0)
        value = value << 8 | data[n];
    return value;
}

static bool read_price(const uint8_t *data, double *price)
{
    uint64_t bits = little_endian(data, 8);
    memcpy(price, &bits, sizeof *price);
    return *price > 0 && *price <= __DBL_MAX__;
}

static const char *check_quote(const uint8_t *data)
{
    double bid, ask, volume;
    if (!read_price(data, &bid) || !read_price(data + 8, &ask) || !read_price(data + 16, &volume))
        return "bid, ask and volume are not finite and positive";
    return bid < ask ? NULL : "bid is not below ask";
}

static const char *check_binary(const uint8_t *data, size_t n, uint64_t *ts_ns, uint64_t *seq,
                                bool *has_seq)
{
    if (n < 20)
        return "a binary tick has 20 bytes at least";
    uint64_t ts = little_endian(data + 12, 8);
    double price;
    if (little_endian(data, 4) >= 5)
        return "its symbol is not below 5";
    if (!read_price(data + 4, &price))
        return "price is not finite and positive";
    if (ts < 1000000000000 || ts > 9999999999999)
        return "ts has not 13 digits";
    uint64_t precise = n >= 36 ? little_endian(data + 28, 8) : ts * 1000000;
    if (precise / 1000000 != ts)
        return "tsNs is not in the millisecond ts";
    const char *wrong = n >= 60 ? check_quote(data + 36) : NULL;
    if (wrong != NULL)
        return wrong;
    *ts_ns = precise;
    *has_seq = n >= 36;
    if (*has_seq)
        *seq = little_endian(data + 20, 8);
    return NULL;
}

const char *fws_tick_check(unsigned opcode, const uint8_t *data, size_t n, uint64_t *ts_ns,
                           uint64_t *seq, bool *has_seq)
{
    if (opcode == FWS_TEXT)
        return check_json((struct rest){data, data + n}, ts_ns, seq, has_seq);
    if (opcode == FWS_BINARY)
        return check_binary(data, n, ts_ns, seq, has_seq);
    return "it is neither text nor binary";
}
