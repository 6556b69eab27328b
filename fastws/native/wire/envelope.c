#include "wire/envelope.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "wire/frame.h"
#include "wire/utf8.h"

#define ONES 0x0101010101010101ULL
#define HIGHS 0x8080808080808080ULL

/* JSON strings (RFC 8259 7): what must be escaped is ", \ and what is below a space. */

/* By character: what stands behind the backslash, 'u' for four digits; 0: it is not escaped. */
static const uint8_t escapes[256] = {
    [0] = 'u',  [1] = 'u',    [2] = 'u',    [3] = 'u',    [4] = 'u',   [5] = 'u',    [6] = 'u',
    [7] = 'u',  ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', [11] = 'u',  ['\f'] = 'f', ['\r'] = 'r',
    [14] = 'u', [15] = 'u',   [16] = 'u',   [17] = 'u',   [18] = 'u',  [19] = 'u',   [20] = 'u',
    [21] = 'u', [22] = 'u',   [23] = 'u',   [24] = 'u',   [25] = 'u',  [26] = 'u',   [27] = 'u',
    [28] = 'u', [29] = 'u',   [30] = 'u',   [31] = 'u',   ['"'] = '"', ['\\'] = '\\'};

static uint64_t has_zero(uint64_t word)
{
    return (word - ONES) & ~word & HIGHS;
}

/* Not 0: one of eight bytes has to be escaped. */
static uint64_t has_escape(uint64_t word)
{
    uint64_t control = (word - ONES * 0x20) & ~word & HIGHS;
    return control | has_zero(word ^ (ONES * '"')) | has_zero(word ^ (ONES * '\\'));
}

/* How many bytes of data[0..n) come before the first one that has to be escaped. */
static size_t plain_run(const uint8_t *data, size_t n)
{
    size_t at = 0;
    uint64_t word;
    for (; n - at >= sizeof word; at += sizeof word) {
        memcpy(&word, data + at, sizeof word);
        if (has_escape(word) != 0)
            break;
    }
    while (at < n && escapes[data[at]] == 0)
        at++;
    return at;
}

static size_t string_size(const uint8_t *data, size_t n)
{
    size_t size = n + 2;
    for (size_t at = plain_run(data, n); at < n; at += 1 + plain_run(data + at + 1, n - at - 1))
        size += escapes[data[at]] == 'u' ? 5 : 1;
    return size;
}

static uint8_t *put(uint8_t *out, const void *data, size_t n)
{
    if (n > 0)
        memcpy(out, data, n);
    return out + n;
}

static uint8_t *escape_write(uint8_t *out, uint8_t character)
{
    static const char digits[] = "0123456789abcdef";
    *out++ = '\\';
    *out++ = escapes[character];
    if (escapes[character] != 'u')
        return out;
    *out++ = '0';
    *out++ = '0';
    *out++ = (uint8_t)digits[character >> 4];
    *out++ = (uint8_t)digits[character & 15];
    return out;
}

static uint8_t *string_write(uint8_t *out, const uint8_t *data, size_t n)
{
    *out++ = '"';
    for (size_t at = 0; at < n; at++) {
        size_t run = plain_run(data + at, n - at);
        out = put(out, data + at, run);
        at += run;
        if (at < n)
            out = escape_write(out, data[at]);
    }
    *out++ = '"';
    return out;
}

/* Numbers. */

static size_t decimal_size(uint64_t number)
{
    size_t size = 1;
    while (number >= 10) {
        number /= 10;
        size++;
    }
    return size;
}

static uint8_t *decimal_write(uint8_t *out, uint64_t number)
{
    uint8_t *end = out + decimal_size(number), *at = end;
    do
        *--at = (uint8_t)('0' + number % 10);
    while ((number /= 10) > 0);
    return end;
}

static uint8_t *u64_write(uint8_t *out, uint64_t number)
{
    for (int i = 0; i < 8; i++)
        *out++ = (uint8_t)(number >> 8 * i);
    return out;
}

/* Messages. */

#define SEQ "{\"seq\":"
#define KEY ",\"key\":"
#define DATA ",\"data\":"
#define PUT(out, literal) put(out, literal, sizeof(literal) - 1)

static bool says_key(const fws_enclosed *message)
{
    return message->key_n > 0
           && fws_utf8_feed(FWS_UTF8_ACCEPT, message->key, message->key_n) == FWS_UTF8_ACCEPT;
}

static size_t payload_size(const fws_enclosed *message)
{
    if (message->content == FWS_CONTENT_TEXT)
        return string_size(message->data, message->n);
    return message->content == FWS_CONTENT_JSON && message->n == 0 ? 4 : message->n;
}

static uint8_t *payload_write(uint8_t *out, const fws_enclosed *message)
{
    if (message->content == FWS_CONTENT_TEXT)
        return string_write(out, message->data, message->n);
    if (message->content == FWS_CONTENT_JSON && message->n == 0)
        return PUT(out, "null");
    return put(out, message->data, message->n);
}

size_t fws_enclosed_size(const fws_enclosed *message)
{
    size_t size = payload_size(message);
    if (!message->envelope)
        return size;
    if (message->content == FWS_CONTENT_BINARY)
        return 8 + size;
    size += sizeof SEQ DATA "}" - 1 + decimal_size(message->seq);
    if (says_key(message))
        size += sizeof KEY - 1 + string_size(message->key, message->key_n);
    return size;
}

uint8_t *fws_enclosed_write(uint8_t *out, const fws_enclosed *message)
{
    if (!message->envelope)
        return payload_write(out, message);
    if (message->content == FWS_CONTENT_BINARY)
        return payload_write(u64_write(out, message->seq), message);
    out = decimal_write(PUT(out, SEQ), message->seq);
    if (says_key(message))
        out = string_write(PUT(out, KEY), message->key, message->key_n);
    out = payload_write(PUT(out, DATA), message);
    *out++ = '}';
    return out;
}

/* Notices. */

size_t fws_began_write(uint8_t *out, uint64_t epoch, int64_t seq, int recovered)
{
    const char *more = recovered < 0   ? ""
                       : recovered > 0 ? ",\"recovered\":true"
                                       : ",\"recovered\":false";
    return (size_t)snprintf((char *)out, FWS_NOTICE_MAX,
                            "{\"epoch\":\"%" PRIx64 "\",\"seq\":%" PRId64 "%s}", epoch, seq, more);
}

size_t fws_gap_write(uint8_t *out, uint64_t first, uint64_t last, const char *why)
{
    return (size_t)snprintf((char *)out, FWS_NOTICE_MAX,
                            "{\"gap\":[%" PRIu64 ",%" PRIu64 "],\"reason\":\"%s\"}", first, last, why);
}

size_t fws_gap_frame(uint8_t *out, uint64_t first, uint64_t last, const char *why)
{
    uint8_t text[FWS_NOTICE_MAX];
    size_t n = fws_gap_write(text, first, last, why);
    size_t head_n = fws_header_encode(out, FWS_TEXT, true, 0, n, NULL);
    memcpy(out + head_n, text, n);
    return head_n + n;
}
