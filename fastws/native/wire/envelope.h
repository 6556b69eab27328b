/* Messages of a topic with their numbers, for clients of others' making: JSON, or little-endian
 * bytes. Layer 1: no I/O, no allocation.
 *
 *     {"seq":41,"data":"a text"}           {"seq":41,"key":"BTC","data":{"as":"it was published"}}
 *     u64 seq, then the payload            {"epoch":"1f","seq":40,"recovered":true}
 *                                          {"gap":[42,99],"reason":"slow"}
 *
 * Without an envelope a text is a JSON string alone, JSON and bytes stand as they are. A key that is
 * not UTF-8 is left out: JSON cannot say it.
 */
#ifndef FWS_ENVELOPE_H
#define FWS_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the payloads of a topic are, and so how they stand in an envelope. */
enum fws_content {
    FWS_CONTENT_TEXT = 0, /* as a JSON string */
    FWS_CONTENT_JSON,     /* as they are, trusted; an empty one as null */
    FWS_CONTENT_BINARY    /* behind their number, 8 bytes */
};

typedef struct fws_enclosed {
    const uint8_t *data; /* UTF-8 but for FWS_CONTENT_BINARY, trusted */
    size_t n;
    const uint8_t *key; /* NULL: none */
    size_t key_n;
    uint64_t seq;
    uint8_t content; /* enum fws_content */
    bool envelope;
} fws_enclosed;

/* Bytes that fws_enclosed_write() writes. */
size_t fws_enclosed_size(const fws_enclosed *message);

/* Writes it, and returns the end. */
uint8_t *fws_enclosed_write(uint8_t *out, const fws_enclosed *message);

#define FWS_NOTICE_MAX 96u /* bytes of either of those below */
#define FWS_NOTICE_FRAME (FWS_NOTICE_MAX + 2)

/* What is said first: the number of the last message before those that follow, -1: there is none;
 * recovered: 1, 0, or -1: since was not asked for. Returns the size. */
size_t fws_began_write(uint8_t *out, uint64_t epoch, int64_t seq, int recovered);

/* Messages that were lost, both included, and why, in up to 16 letters. Returns the size. */
size_t fws_gap_write(uint8_t *out, uint64_t first, uint64_t last, const char *why);

/* The same as a frame: up to FWS_NOTICE_FRAME bytes. */
size_t fws_gap_frame(uint8_t *out, uint64_t first, uint64_t last, const char *why);

#endif
