/* What only this connection is sent: direct messages, control frames, replies, the 101
 * and HTTP responses. Layer 2: no I/O. Entries are made on demand and freed when sent.
 */
#ifndef FWS_OUTBOX_H
#define FWS_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fws_entry_kind {
    FWS_ENTRY_BYTES = 0, /* direct messages: in the order of their engine sequence; HTTP: 0 */
    FWS_ENTRY_CONTROL,   /* ping, pong: ahead of data, between frames */
    FWS_ENTRY_CLOSE      /* nothing leaves after it */
};

typedef struct fws_entry {
    struct fws_entry *next;
    uint64_t eseq; /* 0: ahead of everything */
    uint32_t n, sent;
    uint8_t kind;   /* enum fws_entry_kind */
    uint8_t opcode; /* of a control frame */
    uint8_t data[];
} fws_entry;

typedef struct fws_outbox {
    fws_entry *first, *last;
    fws_entry *urgent; /* the last one with eseq 0, NULL when there is none */
    size_t bytes;      /* not yet sent */
} fws_outbox;

/* Adds an entry of two pieces back to back (either may be empty). eseq 0 goes
 * behind a half-sent entry and other entries of 0, ahead of the rest; others go last. An
 * unsent pong is replaced by a newer one (RFC 6455 5.5.3), so that pings of a peer that
 * does not read cost no memory. The entry, whose bytes may still be changed, or NULL
 * when memory is out. */
fws_entry *fws_outbox_push(fws_outbox *outbox, uint64_t eseq, enum fws_entry_kind kind,
                           uint8_t opcode, const uint8_t *head, size_t head_n, const uint8_t *body,
                           size_t body_n);

/* Frees the first entry, which must be wholly sent. */
void fws_outbox_pop(fws_outbox *outbox);

/* Frees the entries that have not begun to leave, except HTTP answers (BYTES of eseq 0), which
 * the peer cannot read on without, and a Close. */
void fws_outbox_drop_unsent(fws_outbox *outbox);

void fws_outbox_clear(fws_outbox *outbox);

#endif
