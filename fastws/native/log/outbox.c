#include "log/outbox.h"

#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"

#define PONG_ROOM (FWS_HEADER_MAX + FWS_CONTROL_MAX)
#define PONGS_WAITING (64 * PONG_ROOM) /* bytes past which the last pong is replaced */

static void fill(fws_outbox *outbox, fws_entry *entry, const uint8_t *head, size_t head_n,
                 const uint8_t *body, size_t body_n)
{
    entry->n = (uint32_t)(head_n + body_n);
    outbox->bytes += entry->n;
    if (head_n > 0)
        memcpy(entry->data, head, head_n);
    if (body_n > 0)
        memcpy(entry->data + head_n, body, body_n);
}

/* The entry behind which one that overtakes data belongs; NULL: it goes first. */
static fws_entry *urgent_place(const fws_outbox *outbox)
{
    if (outbox->urgent != NULL)
        return outbox->urgent;
    return outbox->first != NULL && outbox->first->sent > 0 ? outbox->first : NULL;
}

fws_entry *fws_outbox_push(fws_outbox *outbox, uint64_t eseq, enum fws_entry_kind kind,
                           uint8_t opcode, const uint8_t *head, size_t head_n, const uint8_t *body,
                           size_t body_n)
{
    size_t n = head_n + body_n, room = opcode == FWS_PONG && n < PONG_ROOM ? PONG_ROOM : n;
    fws_entry *ahead = eseq == 0 ? urgent_place(outbox) : outbox->last;
    if (n > UINT32_MAX)
        return NULL;
    if (opcode == FWS_PONG && outbox->bytes > PONGS_WAITING && n <= PONG_ROOM && ahead != NULL
        && ahead->opcode == FWS_PONG && ahead->sent == 0) {
        outbox->bytes -= ahead->n;
        fill(outbox, ahead, head, head_n, body, body_n);
        return ahead;
    }
    fws_entry *entry = malloc(sizeof *entry + room);
    if (entry == NULL)
        return NULL;
    fws_entry **link = ahead == NULL ? &outbox->first : &ahead->next;
    *entry = (fws_entry){.next = *link, .eseq = eseq, .kind = (uint8_t)kind, .opcode = opcode};
    fill(outbox, entry, head, head_n, body, body_n);
    *link = entry;
    if (entry->next == NULL)
        outbox->last = entry;
    if (eseq == 0)
        outbox->urgent = entry;
    return entry;
}

void fws_outbox_pop(fws_outbox *outbox)
{
    fws_entry *entry = outbox->first;
    outbox->first = entry->next;
    if (outbox->first == NULL)
        outbox->last = NULL;
    if (outbox->urgent == entry)
        outbox->urgent = NULL;
    free(entry);
}

static bool stays(const fws_entry *entry)
{
    return entry->sent > 0 || entry->kind == FWS_ENTRY_CLOSE
           || (entry->kind == FWS_ENTRY_BYTES && entry->eseq == 0);
}

void fws_outbox_drop_unsent(fws_outbox *outbox)
{
    fws_entry **link = &outbox->first, *entry;
    outbox->last = outbox->urgent = NULL;
    while ((entry = *link) != NULL) {
        if (stays(entry)) {
            outbox->last = entry;
            if (entry->eseq == 0)
                outbox->urgent = entry;
            link = &entry->next;
        } else {
            *link = entry->next;
            outbox->bytes -= entry->n;
            free(entry);
        }
    }
}

void fws_outbox_clear(fws_outbox *outbox)
{
    while (outbox->first != NULL)
        fws_outbox_pop(outbox);
    outbox->bytes = 0;
}
