/* RFC 6455 section 5: frame headers and the incremental frame parser.
 *
 * Layer 1: no I/O, no allocation. Knows headers and where payload bytes lie;
 * refuses to know messages, UTF-8 and what a close code means (message.h).
 */
#ifndef FWS_FRAME_H
#define FWS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fws_opcode {
    FWS_CONTINUATION = 0x0,
    FWS_TEXT = 0x1,
    FWS_BINARY = 0x2,
    FWS_CLOSE = 0x8,
    FWS_PING = 0x9,
    FWS_PONG = 0xA
};

enum fws_role { FWS_SERVER = 0, FWS_CLIENT = 1 }; /* who we are */

#define FWS_HEADER_MAX 14                    /* 2 + 8 + 4 */
#define FWS_CONTROL_MAX 125                  /* RFC 6455 5.5 */
#define FWS_REASON_MAX (FWS_CONTROL_MAX - 2) /* bytes, in a Close behind its code (5.5.1) */
#define FWS_RSV1 4u                          /* as rsv: the message is compressed (RFC 7692 6) */

typedef struct fws_header {
    uint64_t length; /* of the payload, 0..2^63-1 */
    uint8_t opcode;
    uint8_t fin;    /* 0 or 1 */
    uint8_t rsv;    /* RSV1 = 4, RSV2 = 2, RSV3 = 1 */
    uint8_t masked; /* 0 or 1; the key's value never means "no" */
    uint8_t key[4];
} fws_header;

/* Size of the header of a frame with that payload length, in 2..14. */
size_t fws_header_size(uint64_t length, bool masked);

/* Writes a header with the shortest length form; key NULL means unmasked.
 * rsv as in fws_header. out holds FWS_HEADER_MAX bytes. Returns the bytes written. */
size_t fws_header_encode(uint8_t *out, unsigned opcode, bool fin, unsigned rsv, uint64_t length,
                         const uint8_t key[4]);

/* Decodes the header at data[0..n). Returns its size (2..14), 0 when it is not
 * whole yet, or FWS_E_PROTOCOL as soon as the bytes there cannot be legal: reserved
 * opcode, length not in its shortest form, top bit of a 64-bit length, control
 * frame fragmented or longer than 125 (RFC 6455 5.2, 5.5). Does not judge rsv
 * and masked: that depends on the role. */
int fws_header_decode(const uint8_t *data, size_t n, fws_header *header);

typedef struct fws_parser {
    fws_header header;               /* of the current frame */
    uint64_t remaining;              /* payload bytes of it still to come */
    uint8_t partial[FWS_HEADER_MAX]; /* header bytes from earlier calls */
    uint8_t have;                    /* how many of them */
    uint8_t phase;                   /* of the masking key */
    uint8_t role;                    /* enum fws_role */
    uint8_t rsv_allowed;             /* RSV bits that an extension gave a meaning */
    uint8_t in_frame;                /* a header was taken and its frame is not at its end */
} fws_parser;

enum fws_piece {
    FWS_PIECE_MORE = 0,    /* everything was taken; call again with more */
    FWS_PIECE_HEADER = 1,  /* parser->header is a new frame's; check limits now */
    FWS_PIECE_PAYLOAD = 2, /* *piece, *piece_n: unmasked payload, in place */
    FWS_PIECE_END = 3      /* the frame is whole */
};

void fws_parser_init(fws_parser *parser, enum fws_role role);

/* Takes bytes from *data (moving *data, *n forward) up to the next thing worth
 * telling, and says which in its result (enum fws_piece), or FWS_E_PROTOCOL: what
 * fws_header_decode says, an RSV bit that is not allowed, a frame without mask to a
 * server, a masked one to a client (RFC 6455 5.1, 5.2). Every frame yields HEADER,
 * then PAYLOAD zero or more times (none is empty), then END; END of an empty frame
 * comes without further input. Payload is unmasked where it lies in *data. Never
 * reads past *n. After an error the parser is not to be used again. */
int fws_parser_next(fws_parser *parser, uint8_t **data, size_t *n, uint8_t **piece,
                    size_t *piece_n);

#endif
