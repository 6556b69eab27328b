#include "outbox.h"

#include <stdlib.h>
#include <string.h>

#include "frame.h"

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

/* The link behind which an entry that overtakes data belongs; *ahead is the last
 * entry in front of it, or NULL. */
static fws_entry **urgent_place(fws_outbox *outbox, fws_entry **ahead)
{
    fws_entry **link = &outbox->first;
    *ahead = NULL;
    while (*link != NULL && ((*link)->sent > 0 || (*link)->eseq == 0)) {
        *ahead = *link;
        link = &(*link)->next;
    }
    return link;
}

fws_entry *fws_outbox_push(fws_outbox *outbox, uint64_t eseq, enum fws_entry_kind kind,
                           uint8_t opcode, const uint8_t *head, size_t head_n,
                           const uint8_t *body, size_t body_n)
{
    size_t room = opcode == FWS_PONG ? PONG_ROOM : head_n + body_n;
    fws_entry *ahead = outbox->last, **link = ahead == NULL ? &outbox->first : &ahead->next;
    if (eseq == 0)
        link = urgent_place(outbox, &ahead);
    if (head_n + body_n > UINT32_MAX)
        return NULL;
    if (opcode == FWS_PONG && outbox->bytes > PONGS_WAITING && ahead != NULL
        && ahead->opcode == FWS_PONG && ahead->sent == 0) {
        outbox->bytes -= ahead->n;
        fill(outbox, ahead, head, head_n, body, body_n);
        return ahead;
    }
    fws_entry *entry = malloc(sizeof *entry + room);
    if (entry == NULL)
        return NULL;
    *entry = (fws_entry){.next = *link, .eseq = eseq, .kind = (uint8_t)kind, .opcode = opcode};
    fill(outbox, entry, head, head_n, body, body_n);
    *link = entry;
    if (entry->next == NULL)
        outbox->last = entry;
    return entry;
}

void fws_outbox_pop(fws_outbox *outbox)
{
    fws_entry *entry = outbox->first;
    outbox->first = entry->next;
    if (outbox->first == NULL)
        outbox->last = NULL;
    free(entry);
}

void fws_outbox_drop_unsent(fws_outbox *outbox)
{
    fws_entry *kept = outbox->first != NULL && outbox->first->sent > 0 ? outbox->first : NULL;
    fws_entry *entry = kept != NULL ? kept->next : outbox->first;
    while (entry != NULL) {
        fws_entry *next = entry->next;
        outbox->bytes -= entry->n;
        free(entry);
        entry = next;
    }
    if (kept != NULL)
        kept->next = NULL;
    outbox->first = outbox->last = kept;
}

void fws_outbox_clear(fws_outbox *outbox)
{
    while (outbox->first != NULL)
        fws_outbox_pop(outbox);
    outbox->bytes = 0;
}
