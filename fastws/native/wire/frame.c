#include "wire/frame.h"

#include <string.h>

#include "wire/mask.h"
#include "wire/status.h"

static bool is_control(unsigned opcode)
{
    return (opcode & 0x8) != 0;
}

size_t fws_header_size(uint64_t length, bool masked)
{
    size_t size = length <= 125 ? 2 : length <= 65535 ? 4 : 10;
    return masked ? size + 4 : size;
}

static void store_be(uint8_t *out, uint64_t value, unsigned bytes)
{
    while (bytes-- > 0)
        *out++ = (uint8_t)(value >> (8 * bytes));
}

static uint64_t load_be(const uint8_t *data, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | data[i];
    return value;
}

size_t fws_header_encode(uint8_t *out, unsigned opcode, bool fin, unsigned rsv, uint64_t length,
                         const uint8_t key[4])
{
    size_t size = 2;
    uint8_t length7;

    if (length <= 125) {
        length7 = (uint8_t)length;
    } else if (length <= 65535) {
        length7 = 126;
        store_be(out + 2, length, 2);
        size = 4;
    } else {
        length7 = 127;
        store_be(out + 2, length, 8);
        size = 10;
    }
    out[0] = (uint8_t)((fin ? 0x80 : 0) | (rsv & 7) << 4 | (opcode & 0xF));
    out[1] = (uint8_t)((key ? 0x80 : 0) | length7);
    if (key) {
        memcpy(out + size, key, 4);
        size += 4;
    }
    return size;
}

static bool opcode_legal(unsigned opcode)
{
    return opcode <= FWS_BINARY || (opcode >= FWS_CLOSE && opcode <= FWS_PONG);
}

/* The 16 or 64 bits behind a length7 of 126 or 127, in the first of n bytes at data.
 * Returns the bytes they take, 0 when more are needed, or FWS_E_PROTOCOL. */
static int decode_long_length(const uint8_t *data, size_t n, unsigned length7, uint64_t *length)
{
    static const uint8_t zeros[6];

    if (length7 == 126) {
        if (n < 2)
            return 0;
        *length = load_be(data, 2);
        return *length > 125 ? 2 : FWS_E_PROTOCOL; /* the shortest form: RFC 6455 5.2 */
    }
    if (n >= 1 && data[0] & 0x80) /* the top bit must be 0: RFC 6455 5.2 */
        return FWS_E_PROTOCOL;
    if (n >= 6 && memcmp(data, zeros, 6) == 0) /* fits 16 bits */
        return FWS_E_PROTOCOL;
    if (n < 8)
        return 0;
    *length = load_be(data, 8);
    return 8;
}

int fws_header_decode(const uint8_t *data, size_t n, fws_header *header)
{
    if (n < 1)
        return 0;
    unsigned opcode = data[0] & 0xF;
    bool fin = data[0] & 0x80;
    if (!opcode_legal(opcode) || (is_control(opcode) && !fin)) /* RFC 6455 5.2, 5.5 */
        return FWS_E_PROTOCOL;
    if (n < 2)
        return 0;

    unsigned length7 = data[1] & 0x7F;
    uint64_t length = length7;
    size_t size = 2;
    if (length7 > 125) {
        if (is_control(opcode)) /* RFC 6455 5.5 */
            return FWS_E_PROTOCOL;
        int taken = decode_long_length(data + 2, n - 2, length7, &length);
        if (taken <= 0)
            return taken;
        size += (size_t)taken;
    }

    bool masked = data[1] & 0x80;
    if (masked) {
        if (n < size + 4)
            return 0;
        memcpy(header->key, data + size, 4);
        size += 4;
    }
    header->length = length;
    header->opcode = (uint8_t)opcode;
    header->fin = fin;
    header->rsv = data[0] >> 4 & 7;
    header->masked = masked;
    return (int)size;
}

void fws_parser_init(fws_parser *parser, enum fws_role role)
{
    memset(parser, 0, sizeof *parser);
    parser->role = (uint8_t)role;
}

/* fws_header_decode(), and what depends on the role and the extensions; that, too, at the
 * first byte that shows it. */
static int judge_header(fws_parser *parser, const uint8_t *data, size_t n)
{
    int size = fws_header_decode(data, n, &parser->header);

    if (n >= 1 && (data[0] >> 4 & 7 & ~parser->rsv_allowed)) /* RFC 6455 5.2 */
        return FWS_E_PROTOCOL;
    if (n >= 2 && (data[1] >> 7) != (parser->role == FWS_SERVER)) /* RFC 6455 5.1 */
        return FWS_E_PROTOCOL;
    return size;
}

static size_t header_size_from(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 2;
    unsigned length7 = data[1] & 0x7F;
    size_t size = length7 <= 125 ? 2 : length7 == 126 ? 4 : 10;
    return data[1] & 0x80 ? size + 4 : size;
}

/* The slow way, for a header cut by the end of an earlier call's bytes. */
static int complete_header(fws_parser *parser, uint8_t **data, size_t *n)
{
    int size = 0;

    while (size == 0 && *n > 0) {
        size_t take = header_size_from(parser->partial, parser->have) - parser->have;
        if (take > *n)
            take = *n;
        memcpy(parser->partial + parser->have, *data, take);
        parser->have = (uint8_t)(parser->have + take);
        *data += take;
        *n -= take;
        size = judge_header(parser, parser->partial, parser->have);
    }
    return size;
}

static int take_header(fws_parser *parser, uint8_t **data, size_t *n)
{
    int size;

    if (parser->have > 0) {
        size = complete_header(parser, data, n);
    } else {
        size = judge_header(parser, *data, *n);
        size_t taken = size > 0 ? (size_t)size : 0;
        if (size == 0) { /* fewer than FWS_HEADER_MAX, or it would be whole */
            memcpy(parser->partial, *data, *n);
            parser->have = (uint8_t)*n;
            taken = *n;
        }
        *data += taken;
        *n -= taken;
    }
    if (size <= 0)
        return size;
    parser->have = 0;
    parser->phase = 0;
    parser->remaining = parser->header.length;
    parser->in_frame = 1;
    return FWS_PIECE_HEADER;
}

int fws_parser_next(fws_parser *parser, uint8_t **data, size_t *n, uint8_t **piece, size_t *piece_n)
{
    if (!parser->in_frame)
        return *n > 0 ? take_header(parser, data, n) : FWS_PIECE_MORE;
    if (parser->remaining == 0) {
        parser->in_frame = 0;
        return FWS_PIECE_END;
    }
    if (*n == 0)
        return FWS_PIECE_MORE;

    size_t take = parser->remaining < *n ? (size_t)parser->remaining : *n;
    if (parser->header.masked)
        parser->phase = (uint8_t)fws_mask(*data, take, parser->header.key, parser->phase);
    *piece = *data;
    *piece_n = take;
    *data += take;
    *n -= take;
    parser->remaining -= take;
    return FWS_PIECE_PAYLOAD;
}
