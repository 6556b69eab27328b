#include "wire/message.h"

#include <stdlib.h>
#include <string.h>

#include "wire/utf8.h"

#define FIRST_CAPACITY 256

void fws_reader_init(fws_reader *reader, enum fws_role role)
{
    memset(reader, 0, sizeof *reader); /* FWS_UTF8_ACCEPT, too; every whole text ends in it */
    fws_parser_init(&reader->parser, role);
}

void fws_reader_inflate(fws_reader *reader, fws_deflate *codec)
{
    reader->codec = codec;
    reader->parser.rsv_allowed = FWS_RSV1;
}

void fws_reader_clear(fws_reader *reader)
{
    free(reader->buffer);
    reader->buffer = NULL;
    reader->have = reader->capacity = 0;
}

static bool is_control(const fws_header *header)
{
    return header->opcode >= FWS_CLOSE;
}

/* Payload bytes that a message may have on the wire: one that does not shrink grows by the
 * headers of its blocks. */
static uint64_t wire_limit(const fws_reader *reader, const fws_limits *limits)
{
    uint64_t most = limits->max_message_size;
    return reader->compressed && most < UINT64_MAX / 2 ? most + most / 64 + 64 : most;
}

static int begin_frame(fws_reader *reader, const fws_limits *limits)
{
    const fws_header *header = &reader->parser.header;

    if (header->rsv != 0 /* RFC 7692 6: on the first frame of a message only */
        && (is_control(header) || header->opcode == FWS_CONTINUATION))
        return FWS_E_PROTOCOL;
    if (is_control(header)) {
        reader->control_have = 0;
        return FWS_OK;
    }
    if ((header->opcode == FWS_CONTINUATION) != (reader->fragments > 0)) /* RFC 6455 5.4 */
        return FWS_E_PROTOCOL;
    if (reader->fragments >= limits->max_fragments)
        return FWS_E_FRAGMENTS;
    if (reader->fragments == 0) {
        reader->opcode = header->opcode;
        reader->compressed = header->rsv != 0;
    }
    uint64_t most = wire_limit(reader, limits);
    if (reader->have > most || header->length > most - reader->have)
        return FWS_E_TOO_BIG;
    reader->fragments++;
    return FWS_OK;
}

static int append(fws_reader *reader, const fws_limits *limits, const uint8_t *piece, size_t n)
{
    size_t need = reader->have + n; /* both lie in memory: no wrap */

    if (need > reader->capacity) {
        uint64_t most = wire_limit(reader, limits);
        uint64_t capacity = reader->capacity > 0 ? reader->capacity : FIRST_CAPACITY / 2;
        capacity = capacity <= most / 2 ? capacity * 2 : most;
        if (capacity < need || capacity > SIZE_MAX)
            capacity = need;
        uint8_t *grown = realloc(reader->buffer, (size_t)capacity);
        if (grown == NULL)
            return FWS_E_NOMEM;
        reader->buffer = grown;
        reader->capacity = (size_t)capacity;
    }
    memcpy(reader->buffer + reader->have, piece, n);
    reader->have = need;
    return FWS_OK;
}

/* Sets *whole when the piece is all there is to be handed out, else gathers it. */
static int take_payload(fws_reader *reader, const fws_limits *limits, const uint8_t *piece,
                        size_t n, const uint8_t **whole)
{
    const fws_header *header = &reader->parser.header;
    bool undivided = n == header->length;

    if (is_control(header)) {
        if (undivided) {
            *whole = piece;
        } else {
            memcpy(reader->control + reader->control_have, piece, n);
            reader->control_have = (uint8_t)(reader->control_have + n);
        }
        return FWS_OK;
    }
    if (reader->opcode == FWS_TEXT && !reader->compressed) { /* RFC 6455 8.1 */
        reader->utf8 = fws_utf8_feed(reader->utf8, piece, n);
        if (reader->utf8 == FWS_UTF8_REJECT)
            return FWS_E_UTF8;
    }
    if (undivided && header->fin && reader->have == 0) {
        *whole = piece;
        return FWS_OK;
    }
    return append(reader, limits, piece, n);
}

/* RFC 6455 5.5.1, 7.1.5, 7.1.6 */
static int decode_close(fws_message *out)
{
    if (out->len == 0) {
        out->code = 1005;
        return FWS_OK;
    }
    if (out->len == 1)
        return FWS_E_PROTOCOL;
    out->code = (uint16_t)(out->data[0] << 8 | out->data[1]);
    out->data += 2;
    out->len -= 2;
    if (!fws_close_code_valid(out->code))
        return FWS_E_PROTOCOL;
    if (fws_utf8_feed(FWS_UTF8_ACCEPT, out->data, out->len) != FWS_UTF8_ACCEPT)
        return FWS_E_UTF8;
    return FWS_OK;
}

static int finish_control(fws_reader *reader, const uint8_t *whole, fws_message *out)
{
    const fws_header *header = &reader->parser.header;

    out->data = whole != NULL ? whole : reader->control;
    out->len = (size_t)header->length;
    out->owned = NULL;
    out->code = 0;
    out->opcode = header->opcode;
    int status = header->opcode == FWS_CLOSE ? decode_close(out) : FWS_OK;
    return status < 0 ? status : 1;
}

/* Puts what the message holds in the place of what came. The bytes gathered are freed. */
static int inflate_message(fws_reader *reader, const fws_limits *limits, fws_message *out)
{
    uint8_t *gathered = out->owned;
    size_t len = 0;
    int status = fws_inflate_message(reader->codec, out->data, out->len, limits->max_message_size,
                                     &out->owned, &len);
    free(gathered);
    if (status != FWS_OK)
        return status;
    out->data = out->owned;
    out->len = len;
    if (out->opcode == FWS_TEXT
        && fws_utf8_feed(FWS_UTF8_ACCEPT, out->data, len) != FWS_UTF8_ACCEPT) {
        free(out->owned);
        return FWS_E_UTF8;
    }
    return 1;
}

static int finish_message(fws_reader *reader, const fws_limits *limits, const uint8_t *whole,
                          const uint8_t *end, fws_message *out)
{
    if (reader->opcode == FWS_TEXT && reader->utf8 != FWS_UTF8_ACCEPT) /* cut in a character */
        return FWS_E_UTF8;
    out->opcode = reader->opcode;
    out->code = 0;
    out->owned = NULL;
    if (whole != NULL) {
        out->data = whole;
        out->len = (size_t)reader->parser.header.length;
    } else if (reader->buffer != NULL) {
        out->data = out->owned = reader->buffer;
        out->len = reader->have;
    } else { /* empty: an address nevertheless, so that nobody meets a NULL */
        out->data = end;
        out->len = 0;
    }
    reader->buffer = NULL;
    reader->have = reader->capacity = 0;
    reader->fragments = 0;
    return reader->compressed ? inflate_message(reader, limits, out) : 1;
}

int fws_reader_next(fws_reader *reader, const fws_limits *limits, uint8_t **data, size_t *n,
                    fws_message *out)
{
    const uint8_t *whole = NULL; /* its END follows within this call: no input is missing */
    int status = FWS_OK;

    while (status == FWS_OK) {
        uint8_t *piece = NULL;
        size_t piece_n = 0;
        int what = fws_parser_next(&reader->parser, data, n, &piece, &piece_n);

        switch (what) {
        case FWS_PIECE_HEADER:
            status = begin_frame(reader, limits);
            break;
        case FWS_PIECE_PAYLOAD:
            status = take_payload(reader, limits, piece, piece_n, &whole);
            break;
        case FWS_PIECE_END:
            if (is_control(&reader->parser.header))
                status = finish_control(reader, whole, out);
            else if (reader->parser.header.fin)
                status = finish_message(reader, limits, whole, *data, out);
            break;
        default: /* MORE, or an error */
            return what;
        }
    }
    return status;
}
