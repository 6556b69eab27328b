/* RFC 6455 sections 5.4 to 5.6, 7 and 8.1, RFC 7692 7.2.2: messages from frames.
 *
 * Layer 2: no I/O. Joins fragments, inflates, validates UTF-8, limits sizes at the header,
 * decodes control frames. It answers nothing: what is due (a pong, a close) is
 * the engine's to send.
 *
 * Memory: a message that lies whole in the caller's bytes is handed out in place;
 * one that spans calls or fragments grows a buffer with the bytes received (never
 * with bytes declared), which goes to the caller with the message.
 */
#ifndef FWS_MESSAGE_H
#define FWS_MESSAGE_H

#include "wire/deflate.h"
#include "wire/frame.h"
#include "wire/status.h"

typedef struct fws_limits {
    uint64_t max_message_size; /* bytes of payload, all fragments together; of a compressed
                                  message before and after it is inflated */
    uint32_t max_fragments;    /* frames of one message, 1 up */
} fws_limits;

typedef struct fws_message {
    const uint8_t *data; /* never NULL. owned: until that is freed; else until the caller's
                            bytes change or the reader is used again */
    size_t len;
    uint8_t *owned; /* not NULL: data lies in it, and free(owned) is the caller's */
    uint16_t code;  /* CLOSE: the peer's code, 1005 when its frame was empty; else 0 */
    uint8_t opcode; /* TEXT, BINARY, CLOSE, PING or PONG */
} fws_message;      /* CLOSE: data, len are the reason, valid UTF-8 */

typedef struct fws_reader {
    fws_parser parser;
    fws_deflate *codec; /* the caller's; NULL: compression was not negotiated */
    uint8_t *buffer;    /* the message so far, NULL while there is none */
    size_t have, capacity;
    uint32_t fragments; /* frames of the current message, 0: none begun */
    uint32_t utf8;      /* state of fws_utf8_feed() */
    uint8_t opcode;     /* of the current message */
    bool compressed;    /* the current message is */
    uint8_t control_have;
    uint8_t control[FWS_CONTROL_MAX]; /* a control frame that spans calls */
} fws_reader;

void fws_reader_init(fws_reader *reader, enum fws_role role);

/* Takes compressed messages from here on (RFC 7692 6: RSV1 on the first frame of one). */
void fws_reader_inflate(fws_reader *reader, fws_deflate *codec);

/* Frees what the reader pins; it may be initialised again. */
void fws_reader_clear(fws_reader *reader);

/* Takes bytes from *data (moving *data and *n forward, unmasking in place) up to the
 * end of the next message or control frame.
 * Returns 1 with *out filled; 0 when all bytes were taken and nothing is whole yet;
 * FWS_E_PROTOCOL, FWS_E_UTF8 (at the first byte that cannot be UTF-8, before the
 * message ends), FWS_E_TOO_BIG (at the header that declares too much, with
 * unsigned arithmetic that cannot wrap; a compressed message, which may be a little larger
 * than what it holds: in the middle of inflating), FWS_E_FRAGMENTS, FWS_E_DATA, FWS_E_NOMEM. A
 * close frame with a one-byte payload or a code that must not appear on the wire (RFC 6455 7.4: 0-999, 1004-1006,
 * 1015-2999, 5000 up) is FWS_E_PROTOCOL, a reason that is not UTF-8 is FWS_E_UTF8.
 * After an error only fws_reader_clear() may follow; what comes after a CLOSE is the
 * caller's to ignore (RFC 6455 5.5.1). */
int fws_reader_next(fws_reader *reader, const fws_limits *limits, uint8_t **data, size_t *n,
                    fws_message *out);

/* Whether a close code may be sent or received in a Close frame: RFC 6455 7.4, IANA registry. */
static inline bool fws_close_code_valid(uint16_t code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014)
           || (code >= 3000 && code <= 4999);
}

#endif
