/* What only this connection is sent: direct messages, control frames, replies, the 101
 * and HTTP responses. Layer 2: no I/O. Blocks are made on demand and freed when sent.
 *
 * Two queues: control frames and HTTP responses, each in a block of its own, overtake direct
 * messages. Those keep their order, and small ones lie back to back in blocks that grow from
 * 256 bytes to 4 KiB, so that an empty one takes 10 bytes.
 */
#ifndef FWS_OUTBOX_H
#define FWS_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FWS_BLOCK_LEAST 256u  /* bytes of a queue's first block that messages may share */
#define FWS_BLOCK_MOST 4096u  /* and of the largest one */
#define FWS_BLOCK_ALONE 1024u /* a message larger than this has a block of its own size */

enum fws_entry_kind {
    FWS_ENTRY_BYTES = 0, /* direct messages: in the order of their engine sequence; HTTP: 0 */
    FWS_ENTRY_CONTROL,   /* ping, pong: ahead of data, between frames */
    FWS_ENTRY_CLOSE      /* nothing leaves after it */
};

typedef struct fws_mark {
    uint32_t end;  /* bytes of the block up to and including this message */
    uint32_t eseq; /* its engine sequence less the block's */
} fws_mark;

typedef struct fws_block {
    struct fws_block *next; /* of the last one of a queue: the first one */
    uint64_t eseq;          /* engine sequence of message 0; 0: it overtakes */
    uint32_t n, first;      /* messages; the first one that has not wholly left */
    uint32_t used, sent;    /* bytes of messages; of them, gone */
    uint32_t room;          /* bytes of data: messages, and from the end backwards their marks */
    uint8_t kind;           /* enum fws_entry_kind */
    uint8_t opcode;         /* of a control frame */
    uint8_t data[] __attribute__((aligned(8)));
} fws_block;

typedef struct fws_outbox {
    fws_block *urgent, *direct; /* the last block of each queue; NULL: it is empty */
    size_t bytes;               /* not yet sent */
    size_t allocated;           /* for its blocks */
} fws_outbox;

/* Bytes that the allocator takes for n: its own header, and rounding. */
static inline size_t fws_allocated(size_t n)
{
    return n == 0 ? 0 : (n + sizeof(size_t) + 15) & ~(size_t)15;
}

static inline bool fws_outbox_empty(const fws_outbox *outbox)
{
    return outbox->urgent == NULL && outbox->direct == NULL;
}

/* Adds a message of two pieces back to back (either may be empty, not both). eseq 0 goes
 * behind a half-sent message and others of 0, ahead of the rest; others go last. An
 * unsent pong is replaced by a newer one (RFC 6455 5.5.3), so that pings of a peer that
 * does not read cost no memory. Where its bytes lie, which may still be changed, or NULL
 * when memory is out. */
uint8_t *fws_outbox_push(fws_outbox *outbox, uint64_t eseq, enum fws_entry_kind kind,
                         uint8_t opcode, const uint8_t *head, size_t head_n, const uint8_t *body,
                         size_t body_n);

/* A place in the order of leaving. */
typedef struct fws_place {
    const fws_block *block; /* NULL: behind everything */
    uint32_t at;            /* the message of it that is next */
} fws_place;

/* Where the first message is that has not wholly left. */
fws_place fws_outbox_first(const fws_outbox *outbox);

/* Engine sequence of the message there; 0: it goes ahead of everything; UINT64_MAX: none is there. */
uint64_t fws_place_eseq(const fws_place *place);

/* The message there, which must be one, and those behind it that lie next to it and whose engine
 * sequence is at most `limit`; moves the place behind them. *data: their bytes that have not left,
 * and how many. */
uint32_t fws_outbox_take(const fws_outbox *outbox, fws_place *place, uint64_t limit,
                         const uint8_t **data);

/* Says that the next n bytes, which fws_outbox_take() gave at once, have left. True: the Close has,
 * wholly. */
bool fws_outbox_sent(fws_outbox *outbox, size_t n);

/* Frees what has not begun to leave, except HTTP answers (BYTES of eseq 0), which
 * the peer cannot read on without, and a Close. */
void fws_outbox_drop_unsent(fws_outbox *outbox);

void fws_outbox_clear(fws_outbox *outbox);

#endif
